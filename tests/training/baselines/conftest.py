"""A made-up pack with both splits, and VGG-16 with fresh weights."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def pack(faces_pack, tmp_path_factory):
    """Eight faces to train on and four to measure on."""
    folder = tmp_path_factory.mktemp("split") / "pack"
    folder.mkdir()
    table = dict(np.load(faces_pack / "faces.npz"))
    table = {name: values[:12] for name, values in table.items()}
    table["split"] = np.array(["train"] * 8 + ["val"] * 4)
    np.savez(folder / "faces.npz", **table)
    np.save(folder / "images.npy", np.load(faces_pack / "images.npy")[:12])
    return folder


@pytest.fixture(scope="session")
def vgg(tmp_path_factory):
    from torchvision.models import vgg16

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.save({k: v.half() for k, v in vgg16(weights=None).features.state_dict(prefix="features.").items()}, path)
    return path
