"""A made-up pack of faces and random VGG weights: what the training programs need to run."""

import numpy as np
import pytest
import torch

from vidunmask import geometry
from vidunmask.training.pack import MARGIN, SIDE

COUNT = 12


@pytest.fixture
def pack(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "pack"
    folder.mkdir()
    coarse = random.integers(60, 220, (COUNT, 9, 9, 3), dtype=np.uint8)
    np.save(folder / "images.npy", coarse.repeat(SIDE // 9, 1).repeat(SIDE // 9, 2))
    landmarks = geometry.TEMPLATE68 + MARGIN + random.normal(0, 1, (COUNT, 68, 2))
    transform = np.array([[1.0, 0, MARGIN], [0, 1.0, MARGIN]])
    np.savez(
        folder / "faces.npz",
        landmarks=landmarks.astype(np.float32),
        photo_to_pack=np.tile(transform, (COUNT, 1, 1)).astype(np.float32),
        photo_size=np.full((COUNT, 2), 256),
        photo=np.array([f"{i}.png" for i in range(COUNT)]),
        split=np.array(["train"] * 8 + ["val"] * 4),
        tier=np.array(["A", "B"] * 6),
        source=np.array(["made"] * COUNT),
    )
    return folder


@pytest.fixture
def vgg(tmp_path):
    from torchvision.models import vgg16

    torch.manual_seed(1)
    path = tmp_path / "vgg.pth"
    torch.save({k: v.half() for k, v in vgg16(weights=None).features.state_dict(prefix="features.").items()}, path)
    return path
