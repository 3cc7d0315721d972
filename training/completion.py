"""What a training step needs of an inpainting network beside its fill, and what the networks of other papers share.

Our own inpainter gives a fill and nothing else. Some of its rivals have a coarse result or features in the middle that their
losses look at; `Rival.complete` gives all of it, and `Trainable` makes both kinds look alike to the training program.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Completion:
    """What a network makes of a batch of masked faces."""

    fill: Tensor  # (B, 3, S, S) raw, nominally 0..1; a network without a bounded last layer may leave the range
    coarse: Tensor | None = None  # (B, 3, S, S) result of a first stage
    features: tuple[Tensor, ...] = ()  # each (B, C, h, w), for losses that compare features


class Rival(nn.Module):
    """An inpainting network of another paper: image (B, 3, S, S) in 0..1 and mask (B, 1, S, S), 1 = hole, to a raw fill
    (B, 3, S, S) in 0..1, like our inpainter.

    unshuffle: space-to-depth factor in front and depth-to-space behind. coordinates: x and y in -1..1 as further input. Both
    are off in the papers; the small presets have them, as our own small inpainter does, so that a race between small networks
    compares the methods and not these two. S must be divisible by ``multiple``.
    """

    def __init__(self, *, stride: int, unshuffle: int, coordinates: bool) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.coordinates = coordinates
        self.multiple = unshuffle * stride
        self.colours = 3 * unshuffle**2  # channels of a picture, and of a mask, behind space-to-depth
        self.masks = unshuffle**2
        self.places = 2 if coordinates else 0

    def complete(self, image: Tensor, mask: Tensor) -> Completion:
        """The fill and what the losses need beside it."""
        raise NotImplementedError

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.complete(image, mask).fill.clamp(0, 1)

    def enter(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The known pixels in -1..1 with 0 in the hole, (B, 3 r², h, w) for unshuffle r; the mask (B, r², h, w); and the
        coordinates (B, 2 or 0, h, w)."""
        known = F.pixel_unshuffle((2 * image - 1) * (1 - mask), self.unshuffle)
        hole = F.pixel_unshuffle(mask, self.unshuffle)
        batch, _, height, width = known.shape
        if not self.coordinates:
            return known, hole, known.new_zeros(batch, 0, height, width)
        y = torch.linspace(-1, 1, height, device=known.device, dtype=known.dtype).view(1, 1, height, 1)
        x = torch.linspace(-1, 1, width, device=known.device, dtype=known.dtype).view(1, 1, 1, width)
        shape = (batch, 1, height, width)
        return known, hole, torch.cat([x.expand(shape), y.expand(shape)], dim=1)

    def leave(self, x: Tensor) -> Tensor:
        """A picture in -1..1, (B, 3 r², h, w), as (B, 3, S, S) in 0..1."""
        return 0.5 * F.pixel_shuffle(x, self.unshuffle) + 0.5


class Trainable(nn.Module):
    """Any inpainting network as the training program calls it: image and mask to a `Completion`.

    It adds no parameters and no state; checkpoints hold the network itself.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, mask: Tensor) -> Completion:
        if isinstance(self.network, Rival):
            return self.network.complete(image, mask)
        return Completion(fill=self.network(image, mask))


def shrink_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The share of hole (B, 1, h, w) in each cell of a grid over the mask (B, C, H, W)."""
    return F.adaptive_avg_pool2d(mask.float().mean(dim=1, keepdim=True), size)


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Switches autocast off for the body, for sums and similarities over whole pictures."""
    if x.is_meta:  # where only operations are counted; autocast does not know the device
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)
