"""The paper's segmentation network (§3.1): a modified U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.networks.layers import ConvBlock

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"widths": (64, 128, 256, 512, 512)},
    "compact": {"widths": (16, 32, 64, 96, 128), "unshuffle": 2, "refine": 8},
    "tiny": {"widths": (8, 8, 8, 16, 16), "unshuffle": 2, "refine": 4},
}


class UNet(nn.Module):
    """Finds the face mask: image (B, 3, S, S) in 0..1 to logits (B, 1, S, S), positive where a mask covers the picture.

    Four encoder blocks of max-pooling and two convolutional blocks, four decoder blocks of bilinear up-sampling and two
    convolutional blocks, skips by concatenation. The paper's closing sigmoid is left to the loss and to the caller, where it is
    numerically safe.

    widths: channels of the entry block and of the four encoder blocks. unshuffle: space-to-depth factor in front and
    depth-to-space behind. refine: channels of two thin layers that see the picture at full size again and correct the logits;
    what an unshuffled network gets wrong is the last half pixel along the mask's edge. 0 leaves them out, as the paper does.
    S must be divisible by 16 * unshuffle.
    """

    def __init__(self, *, widths: Sequence[int], unshuffle: int = 1, refine: int = 0) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.multiple = unshuffle * 2 ** (len(widths) - 1)
        self.enter = _pair(3 * unshuffle**2, widths[0])
        self.encoder = nn.ModuleList(_pair(a, b) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(
            _pair(deep + shallow, shallow) for shallow, deep in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.to_logits = nn.Conv2d(widths[0], unshuffle**2, 1)
        self.refine = _refiner(3 + widths[0] // unshuffle**2, refine) if refine else None

    def forward(self, image: Tensor) -> Tensor:
        x = F.pixel_unshuffle(2 * image - 1, self.unshuffle)
        x = self.enter(x)
        skips = []
        for block in self.encoder:
            skips.append(x)
            x = block(F.max_pool2d(x, 2))
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], dim=1))
        logits = F.pixel_shuffle(self.to_logits(x), self.unshuffle)  # (B, 1, S, S)
        if self.refine is not None:
            features = F.pixel_shuffle(x, self.unshuffle)  # (B, widths[0] / unshuffle**2, S, S)
            logits = logits + self.refine(torch.cat([2 * image - 1, features], dim=1))
        return logits


def _pair(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(ConvBlock(channels_in, channels_out), ConvBlock(channels_out, channels_out))


def _refiner(channels_in: int, channels: int) -> nn.Sequential:
    last = nn.Conv2d(channels, 1, 1)
    nn.init.zeros_(last.weight)  # starts as no correction
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    return nn.Sequential(ConvBlock(channels_in, channels), ConvBlock(channels, channels), last)


NETWORK = UNet
