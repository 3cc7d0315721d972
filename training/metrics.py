"""Picture and mask metrics (§4.3), each for a batch: one figure an image."""

from __future__ import annotations

import torch
from torch import Tensor

from vidunmask.training.completion import full_precision


def l1(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference (B,) of images (B, 3, H, W) in 0..1, over the region ``weight`` (B, 1, H, W) where given."""
    return mean_over((a - b).abs(), weight)


def psnr(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of images (B, 3, H, W) in 0..1, over the region ``weight`` where given."""
    return decibels(mean_over((a - b).square(), weight))


def decibels(squared_error: Tensor) -> Tensor:
    """PSNR of mean squared errors of values in 0..1; 100 dB at most."""
    return -10 * torch.log10(squared_error.clamp_min(1e-10))


def ssim(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Structural similarity (B,), eq. 11-14: the mean of `ssim_map`, over the region ``weight`` (B, 1, H, W) where given."""
    return mean_over(ssim_map(a, b), None if weight is None else within_window(weight))


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity about every pixel, with Wang et al.'s window: Gaussian, 11 x 11, sigma 1.5; c3 = c2 / 2.

    Images (B, 3, H, W) in 0..1, to (B, 1, H - 10, W - 10): each channel by itself, then the mean. As in the original, positions
    whose window leaves the picture do not count; `within_window` cuts a weight to match.
    """
    across, down = (_band(side, a) for side in (a.shape[3], a.shape[2]))
    # One product with a banded matrix for each axis: many times faster on a CPU than a convolution of single channels.
    with full_precision(a):  # variances are small differences: in bfloat16 more than 1 comes out
        mean_a, mean_b, square_a, square_b, product = (down.T @ (x @ across) for x in (a, b, a * a, b * b, a * b))
    c1, c2 = 0.01**2, 0.03**2
    both = mean_a * mean_b
    means = mean_a.square() + mean_b.square()
    variances = square_a + square_b - means  # of a and of b together
    luminance = (2 * both + c1) / (means + c1)
    structure = (2 * (product - both) + c2) / (variances + c2)  # contrast times structure, since c3 = c2 / 2
    return (luminance * structure).mean(1, keepdim=True)


def within_window(weight: Tensor) -> Tensor:
    """The part of a weight (B, 1, H, W) that `ssim_map` has figures for."""
    return weight[:, :, 5:-5, 5:-5]


def _band(side: int, like: Tensor) -> Tensor:
    """(side, side - 10): multiplying by it slides the Gaussian window along an axis."""
    offsets = torch.arange(11, dtype=like.dtype, device=like.device) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    band = like.new_zeros(side, side - 10)
    for offset, value in enumerate(line / line.sum()):
        band.diagonal(-offset).fill_(value)
    return band


def iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (B,) of masks (B, 1, H, W), thresholded at 0.5; 1 where both are empty."""
    a, b = predicted > 0.5, truth > 0.5
    union = (a | b).flatten(1).sum(1)
    return torch.where(union > 0, (a & b).flatten(1).sum(1) / union.clamp_min(1), 1.0)


def mean_over(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean (B,) of values (B, C, H, W), over the region ``weight`` (B, 1, H, W) where given."""
    if weight is None:
        return values.flatten(1).mean(1)
    return (values * weight).flatten(1).sum(1) / (values.shape[1] * weight.flatten(1).sum(1)).clamp_min(1e-6)
