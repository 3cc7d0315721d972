"""Ways to fill a hole: networks by their weights, and two trivial ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidunmask.errors import UsageError
from vidunmask.networks import weights
from vidunmask.training.methods import load as load_inpainter
from vidunmask.training.morphology import dilate

GROW = 3  # px by which a mask is widened before it is filled; the pipeline takes 9 and fades the fill out over the outer 5

Fill = Callable[[Tensor, Tensor], Tensor]  # image (B, 3, S, S) and mask (B, 1, S, S) to a fill (B, 3, S, S)


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """A way to fill holes, with what a report says of it."""

    name: str
    fill: Fill
    weights: str | None  # the file, None for what has none
    sha256: str | None
    parameters: int


def telea(image: Tensor, mask: Tensor) -> Tensor:
    """OpenCV's inpainting after Telea (2004) with a radius of 5 px."""
    import cv2

    fills = []
    for picture, hole in zip(image.cpu(), mask.cpu(), strict=True):
        pixels = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        filled = cv2.inpaint(pixels, (hole[0].numpy() > 0.5).astype(np.uint8), 5, cv2.INPAINT_TELEA)
        fills.append(torch.from_numpy(filled).permute(2, 0, 1).float() / 255)
    return torch.stack(fills).to(image.device)


def mean_colour(image: Tensor, mask: Tensor) -> Tensor:
    """The mean colour of what is seen of the central face."""
    seen = (1 - mask).clone()
    seen[:, :, : image.shape[2] // 4] = 0
    seen[:, :, :, : image.shape[3] // 4] = 0
    seen[:, :, :, -image.shape[3] // 4 :] = 0
    mean = (image * seen).sum(dim=(2, 3), keepdim=True) / seen.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    return mean.expand_as(image)


def widen(mask: Tensor, radius: int = GROW) -> Tensor:
    """The binary mask grown by ``radius`` pixels."""
    return dilate((mask > 0.5).float(), radius)


BASELINES: dict[str, tuple[str, Fill]] = {"telea": ("Telea", telea), "mean-colour": ("mean colour", mean_colour)}


def load_methods(names: Sequence[str], *, device: torch.device) -> list[Method]:
    """The methods of ``--methods``: each a baseline, weights (a shipped name or a file), or NAME=WEIGHTS for another name.

    Raises UsageError for a name given twice and WeightsError for weights that cannot be used.
    """
    methods: list[Method] = []
    for given in names:
        if given in BASELINES:
            name, fill = BASELINES[given]
            methods.append(Method(name, fill, None, None, 0))
            continue
        name, _, path = given.rpartition("=")
        network = load_inpainter(path, device=device)
        card = weights.read_card(path)
        count = sum(parameter.numel() for parameter in network.parameters())
        methods.append(Method(name or Path(path).stem, network, str(card.path.name), card.sha256, count))
    twice = sorted({method.name for method in methods if sum(other.name == method.name for other in methods) > 1})
    if twice:
        raise UsageError(f"--methods: {twice[0]!r} stands for more than one; tell them apart with NAME=WEIGHTS")
    if not methods:
        raise UsageError("--methods: name at least one")
    return methods
