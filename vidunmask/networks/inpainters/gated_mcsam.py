"""The paper's inpainting network (§3.2): a gated encoder-decoder with M-CSAMs between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.networks.layers import ChannelSpatialAttention, GatedConv2d, MultiScaleCSAM, PlainAttention

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"widths": (128, 256, 512, 512), "strides": (2, 2, 2, 2)},
    "compact": {
        "widths": (16, 40, 80, 224),
        "strides": (1, 2, 2, 2),
        "unshuffle": 2,
        "coordinates": True,
        "hide_masked": True,
    },
    "tiny": {"widths": (8, 8, 16, 16), "strides": (1, 2, 2, 2), "unshuffle": 2, "coordinates": True, "hide_masked": True},
}

NORMALISATIONS = ("none", "instance", "group")  # group: 8 groups of channels


class GatedMCSAM(nn.Module):
    """Fills the masked part of a face: image (B, 3, S, S) in 0..1 and mask (B, 1, S, S) in 0..1 to a raw fill (B, 3, S, S) in
    0..1.

    Four gated convolutions down, ``modules`` M-CSAMs, four gated convolutions up, with four skips by concatenation (Fig. 1).
    Each decoder layer convolves at the resolution of its skip and then doubles the size bilinearly.

    Preset ``paper`` has 44.0M parameters (the paper counts 44.7M, 1.5 % more): encoder widths 128-256-512-512 with 4 x 4
    kernels of stride 2, each decoder layer as wide as the encoder layer whose skip it takes, 3 x 3 kernels, and three M-CSAMs
    of 512 channels. Preset ``compact`` is made for CPUs and live use: most of its work lies at a sixteenth of the area.

    widths: channels of the four encoder layers. strides: of each, 1 or 2; S must be divisible by unshuffle times their product.
    unshuffle: space-to-depth factor in front, and depth-to-space behind. coordinates: adds x and y in -1..1 as input, since
    crops are aligned. hide_masked: replaces the masked pixels by mid-grey before the first layer, so that the look of a face
    mask cannot leak into the fill (the paper leaves them in; such a network is trained on masks of cloth, not on their shapes).
    attention=False is the ablation of Table 3. normalisation: of the features of the gated convolutions, one of NORMALISATIONS;
    the paper has none.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        strides: Sequence[int],
        unshuffle: int = 1,
        coordinates: bool = False,
        hide_masked: bool = False,
        modules: int = 3,
        dilations: Sequence[int] = (1, 2, 4, 8),
        attention: bool = True,
        normalisation: str = "none",
    ) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.coordinates = coordinates
        self.hide_masked = hide_masked
        self.multiple = unshuffle
        for stride in strides:
            self.multiple *= stride
        self.strides = tuple(strides)
        channels = 4 * unshuffle**2 + (2 if coordinates else 0)
        self.encoder = nn.ModuleList()
        for width, stride in zip(widths, strides, strict=True):
            normalise = _normalise(normalisation, width)
            self.encoder.append(
                GatedConv2d(channels, width, kernel=4 if stride == 2 else 3, stride=stride, normalise=normalise)
            )
            channels = width
        self.middle = nn.Sequential(
            *(
                MultiScaleCSAM(
                    channels, dilations, attention=ChannelSpatialAttention() if attention else PlainAttention(channels)
                )
                for _ in range(modules)
            )
        )
        self.decoder = nn.ModuleList()
        for width in reversed(widths):
            self.decoder.append(GatedConv2d(channels + width, width, kernel=3, normalise=_normalise(normalisation, width)))
            channels = width
        self.to_rgb = nn.Conv2d(channels, 3 * unshuffle**2, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x = 2 * image - 1
        if self.hide_masked:
            x = x * (1 - mask)
        x = torch.cat([x, mask], dim=1)  # (B, 4, S, S)
        x = F.pixel_unshuffle(x, self.unshuffle)
        if self.coordinates:
            x = torch.cat([x, _coordinates(x)], dim=1)
        skips = []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        x = self.middle(x)
        for layer, skip, stride in zip(self.decoder, reversed(skips), reversed(self.strides), strict=True):
            x = layer(torch.cat([x, skip], dim=1))
            if stride > 1:
                x = F.interpolate(x, scale_factor=float(stride), mode="bilinear", align_corners=False)
        x = F.pixel_shuffle(self.to_rgb(x), self.unshuffle)  # (B, 3, S, S)
        return 0.5 * torch.tanh(x) + 0.5


def _normalise(name: str, channels: int) -> nn.Module | None:
    if name not in NORMALISATIONS:
        raise ValueError(f"normalisation {name!r}: must be one of {', '.join(NORMALISATIONS)}")
    groups = {"none": 0, "instance": channels, "group": 8}[name]
    return nn.GroupNorm(groups, channels) if groups else None


def _coordinates(like: Tensor) -> Tensor:
    """x and y of each position in -1..1, (B, 2, H, W)."""
    batch, _, height, width = like.shape
    y = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype).view(1, 1, height, 1)
    x = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype).view(1, 1, 1, width)
    return torch.cat([x.expand(batch, 1, height, width), y.expand(batch, 1, height, width)], dim=1)


NETWORK = GatedMCSAM
