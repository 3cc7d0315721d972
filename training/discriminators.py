"""The two critics of §3.2: one sees pixels, the other VGG features; and that of GatedConv. All judge patches and give a map of
scores."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Sequential):
    """The 70 x 70 patch discriminator of pix2pix (Isola et al. 2017, §6.1.2): (B, 3, H, W) to scores (B, 1, ~H/8, ~W/8).

    Spectral normalisation stands in place of batch normalisation, whose statistics mix the real and the fake batch.
    width: channels of the first layer, 64 in pix2pix.
    """

    def __init__(self, *, channels: int = 3, width: int = 64) -> None:
        layers: list[nn.Module] = []
        sizes = (channels, width, 2 * width, 4 * width, 8 * width)
        for index, (a, b) in enumerate(pairwise(sizes)):
            layers += [spectral_norm(nn.Conv2d(a, b, 4, stride=2 if index < 3 else 1, padding=1)), nn.LeakyReLU(0.2)]
        super().__init__(*layers, spectral_norm(nn.Conv2d(sizes[-1], 1, 4, padding=1)))


class FeaturePatchDiscriminator(nn.Sequential):
    """The feature patch discriminator of CSA (Liu et al. 2019, §3.4): VGG relu3_3 features (B, 256, h, w) to scores (B, 1,
    ~h/2, ~w/2)."""

    def __init__(self, *, channels: int = 256, width: int = 128) -> None:
        super().__init__(
            spectral_norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 1, 3, padding=1)),
        )


class SNPatchDiscriminator(nn.Sequential):
    """SN-PatchGAN (Yu et al. 2019, §3.3): six 5 x 5 layers of stride 2, (B, C, H, W) to features (B, 4 * width, H/64, W/64),
    each of which is a score.

    width: channels of the first layer, 64 in the paper.
    """

    def __init__(self, *, channels: int = 4, width: int = 64) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise((channels, width, 2 * width, *(4 * width,) * 4)):
            layers += [spectral_norm(nn.Conv2d(a, b, 5, stride=2, padding=2)), nn.LeakyReLU(0.2)]
        super().__init__(*layers[:-1])
