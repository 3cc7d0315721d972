"""The losses of §3.2 as pure functions, and the frozen VGG-16 whose features two of them compare.

Local supervision (the paper's contribution, Table 2) is not in the losses: it is a matter of what they are given, the composed
image of eq. 1 or the raw output of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.errors import WeightsError
from vidunmask.training import metrics
from vidunmask.training.completion import full_precision

Weights = Path | str | None  # a file, or None for torchvision's own


def compose(image: Tensor, fill: Tensor, mask: Tensor) -> Tensor:
    """Eq. 1: the fill where the mask (B, 1, H, W) is 1, the image (B, 3, H, W) elsewhere."""
    return torch.lerp(image, fill, mask)


def reconstruction(fake: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """Eq. 7: L1 distance, averaged over the positions that ``weight`` (B, 1, H, W) selects.

    Dividing by the selected area instead of the whole picture keeps the balance with the other terms the same for small and
    large masks (EdgeConnect, whose weights 1, 0.1, 250 and 0.1 the paper took over, does the same).
    """
    return ((fake - real).abs() * weight).sum() / (fake.shape[1] * weight.sum()).clamp_min(1.0)


def dissimilarity(fake: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """1 - SSIM of images (B, 3, H, W) in 0..1, averaged over the positions that ``weight`` (B, 1, H, W) selects.

    Not a term of the paper; Zhao et al., Loss functions for image restoration with neural networks, 2017, eq. 9. Where windows
    of 11 pixels leave the picture, nothing is compared.
    """
    inner = metrics.within_window(weight)
    similar = metrics.ssim_map(fake, real)
    return ((1 - similar) * inner).sum() / inner.sum().clamp_min(1.0)


def perceptual(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Eq. 8: for each layer the L2 distance of the features (B, C, H, W), as root mean square, summed over layers."""
    return torch.stack(
        [((a - b).float().square().mean(dim=(1, 2, 3)) + 1e-8).sqrt().mean() for a, b in zip(fake, real, strict=True)]
    ).sum()


def gram(features: Tensor) -> Tensor:
    """Gram matrices (B, C, C) of features (B, C, H, W), divided by C*H*W."""
    places = features.float().permute(0, 2, 3, 1).flatten(1, 2)  # (B, H*W, C), a view where channels come last
    with full_precision(places):
        product: Tensor = _WithItself.apply(places)  # type: ignore[no-untyped-call]
        return product / (places.shape[1] * places.shape[2])


class _WithItself(torch.autograd.Function):
    """``x.transpose(1, 2) @ x`` for (B, N, C), whose gradient takes one product instead of two of that size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.transpose(1, 2) @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        with full_precision(x):
            return x @ (gradient + gradient.transpose(1, 2))


def style(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Eq. 9: mean L1 distance of the Gram matrices, summed over layers."""
    return torch.stack([(gram(a) - gram(b)).abs().mean() for a, b in zip(fake, real, strict=True)]).sum()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """Generator side of the relativistic average LSGAN (Jolicoeur-Martineau 2018, appendix D.2) for critic outputs of any
    shape.

    The paper cites this loss, but eq. 6 as printed rewards the generator for the reverse of what it describes (both signs are
    turned); the cited loss is used.
    """
    return ((fake - real.mean() - 1) ** 2).mean() + ((real - fake.mean() + 1) ** 2).mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator side of the relativistic average LSGAN; see `relativistic_generator`."""
    return ((real - fake.mean() - 1) ** 2).mean() + ((fake - real.mean() + 1) ** 2).mean()


class VGGFeatures(nn.Module):
    """Activations of VGG-16 after relu1_2, relu2_2, relu3_3 (and relu4_3 with ``blocks`` 4) for images (B, 3, H, W) in 0..1;
    frozen.

    weights: a file with torchvision's key names (``features.N.weight``, any precision). None downloads torchvision's ImageNet
    weights into torch's cache.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Weights = None, *, blocks: int = 3) -> None:
        super().__init__()
        from torchvision.models import VGG16_Weights, vgg16

        if weights is None:
            try:
                features = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features
            except OSError as error:
                url = VGG16_Weights.IMAGENET1K_V1.url
                raise WeightsError(
                    f"VGG-16 could not be downloaded ({error}); fetch {url} and pass it with --vgg FILE"
                ) from error
        else:
            with torch.device("meta"):  # else all 138M weights are drawn at random and thrown away
                features = vgg16(weights=None).features
            features.to_empty(device="cpu")
            try:
                state = torch.load(weights, map_location="cpu", weights_only=True)
                state = {key.removeprefix("features."): value for key, value in state.items() if "classifier" not in key}
                features.load_state_dict(state)
            except OSError as error:
                raise WeightsError(f"--vgg {weights}: cannot be read ({error})") from error
            except (RuntimeError, EOFError, UnpicklingError) as error:
                raise WeightsError(f"--vgg {weights}: holds no VGG-16 as torchvision saves it, or is damaged") from error
        layers = list(features.children())
        self.slices = nn.ModuleList(nn.Sequential(*layers[a:b]) for a, b in ((0, 4), (4, 9), (9, 16), (16, 23))[:blocks])
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        x = (image - self.mean) / self.std
        outputs = []
        for part in self.slices:
            x = part(x)
            outputs.append(x)
        return outputs


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbours (B, C, H, W), down plus across."""
    down, across = image[:, :, 1:] - image[:, :, :-1], image[:, :, :, 1:] - image[:, :, :, :-1]
    return down.abs().mean() + across.abs().mean()


def shrink(image: Tensor, factor: float) -> Tensor:
    """The image (B, C, H, W) at ``factor`` of its size, antialiased; 1 returns it as it is."""
    if factor == 1:
        return image
    if factor == 0.5:
        return F.avg_pool2d(image, 2)
    return F.interpolate(image, scale_factor=factor, mode="bilinear", antialias=True, align_corners=False)


def look(fake: Tensor, real: Tensor, *, scale: float, close_ups: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What the features of a step are taken from: both pictures (B, C, H, W) at ``scale`` of their size, or a close-up.

    A close-up is a window of ``scale`` times the sides at full size, so that it costs the same. Pictures at half size are blind
    to the finest detail: a network trained on them alone lays a grid of two pixels' period over the skin, which its sub-pixel
    output makes easy. ``close_ups`` is the share of steps that look closely, 0..1; the place is drawn from ``generator``.
    """
    if scale == 1 or close_ups == 0 or float(torch.rand(1, generator=generator)) >= close_ups:
        return shrink(fake, scale), shrink(real, scale)
    height, width = (max(16, round(side * scale / 16) * 16) for side in fake.shape[2:])
    top, left = (
        int(torch.randint(0, max(0, whole - part) + 1, (1,), generator=generator))
        for whole, part in zip(fake.shape[2:], (height, width), strict=True)
    )
    return tuple(x[:, :, top : top + height, left : left + width] for x in (fake, real))  # type: ignore[return-value]
