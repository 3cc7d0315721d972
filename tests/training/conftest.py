"""Made-up packs of faces, tiny networks and random VGG weights: what training and measuring need to run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_masked_faces import head_landmarks
from vidunmask import geometry
from vidunmask.training.pack import MARGIN, SIDE

COUNT = 20


@pytest.fixture(scope="session")
def faces_pack(tmp_path_factory):
    """Twenty val faces: skin of several tones on a smooth ground, some turned, in two tiers; one without colour."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("faces") / "pack"
    folder.mkdir()
    images = np.zeros((COUNT, SIDE, SIDE, 3), np.uint8)
    landmarks = np.zeros((COUNT, 68, 2), np.float32)
    y, x = np.mgrid[:SIDE, :SIDE]
    for index in range(COUNT):
        landmarks[index] = head_landmarks(yaw=35.0 if index % 5 == 4 else 0.0).numpy() + MARGIN
        skin = np.array([224, 180, 150]) * (1.0, 0.75, 0.45)[index % 3]
        face = ((x - SIDE / 2) / 85) ** 2 + ((y - SIDE / 2) / 115) ** 2 < 1
        ground = np.stack([80 + 60 * np.sin(x / 40 + index), 90 + 50 * np.cos(y / 50), 100 + 0 * x], axis=2)
        picture = np.where(face[..., None], skin, ground) + random.normal(0, 4, (SIDE, SIDE, 3))
        images[index] = np.clip(picture, 0, 255)
    images[7] = images[7].mean(axis=2, keepdims=True)
    np.save(folder / "images.npy", images)
    np.savez(
        folder / "faces.npz",
        landmarks=landmarks,
        photo_to_pack=np.tile(np.array([[1.0, 0, MARGIN], [0, 1.0, MARGIN]]), (COUNT, 1, 1)).astype(np.float32),
        photo_size=np.full((COUNT, 2), 256),
        photo=np.array([f"{i:02d}.png" for i in range(COUNT)]),
        split=np.array(["val"] * COUNT),
        tier=np.array(["A", "B"] * (COUNT // 2)),
        source=np.array(["made", "made", "found", "found"] * (COUNT // 4)),
    )
    return folder


@pytest.fixture(scope="session")
def split_pack(faces_pack, tmp_path_factory):
    """Of those faces eight to train on and four of val; not to be written to."""
    folder = tmp_path_factory.mktemp("split") / "pack"
    folder.mkdir()
    table = dict(np.load(faces_pack / "faces.npz"))
    table = {name: values[:12] for name, values in table.items()}
    table["split"] = np.array(["train"] * 8 + ["val"] * 4)
    np.savez(folder / "faces.npz", **table)
    np.save(folder / "images.npy", np.load(faces_pack / "images.npy")[:12])
    return folder


@dataclass(frozen=True)
class Networks:
    """Files of tiny networks with fresh weights."""

    segmenter: Path
    inpainter: Path


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    from vidunmask.networks import weights

    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    for kind, network in (("segmenter", "unet"), ("inpainter", "gated_mcsam")):
        arguments = weights.presets(kind, network)["tiny"]
        state = weights.build(kind, network, arguments).state_dict()
        made = {"kind": kind, "network": network, "arguments": arguments, "provenance": {"made_by": "a test"}}
        weights.save(folder / f"{kind}.safetensors", state, **made)
    return Networks(folder / "segmenter.safetensors", folder / "inpainter.safetensors")


@pytest.fixture(scope="session")
def alexnet_files(tmp_path_factory):
    """A folder with what LPIPS needs, made up: AlexNet's convolutions and linear weights."""
    from torchvision.models import alexnet

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("alexnet")
    torch.save(alexnet(weights=None).features.state_dict(prefix="features."), folder / "alexnet.pth")
    linear = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate((64, 192, 384, 256, 256))}
    torch.save(linear, folder / "lpips_alex.pth")
    return folder


@pytest.fixture
def pack(tmp_path):
    """Eight faces to train on and four of val: coarse noise about the canonical landmarks."""
    count = 12
    random = np.random.default_rng(0)
    folder = tmp_path / "pack"
    folder.mkdir()
    coarse = random.integers(60, 220, (count, 9, 9, 3), dtype=np.uint8)
    np.save(folder / "images.npy", coarse.repeat(SIDE // 9, 1).repeat(SIDE // 9, 2))
    landmarks = geometry.TEMPLATE68 + MARGIN + random.normal(0, 1, (count, 68, 2))
    transform = np.array([[1.0, 0, MARGIN], [0, 1.0, MARGIN]])
    np.savez(
        folder / "faces.npz",
        landmarks=landmarks.astype(np.float32),
        photo_to_pack=np.tile(transform, (count, 1, 1)).astype(np.float32),
        photo_size=np.full((count, 2), 256),
        photo=np.array([f"{i}.png" for i in range(count)]),
        split=np.array(["train"] * 8 + ["val"] * 4),
        tier=np.array(["A", "B"] * 6),
        source=np.array(["made"] * count),
    )
    return folder


@pytest.fixture(scope="session")
def vgg(tmp_path_factory):
    """VGG-16's convolutions with random weights."""
    from torchvision.models import vgg16

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.save({k: v.half() for k, v in vgg16(weights=None).features.state_dict(prefix="features.").items()}, path)
    return path
