"""Picture and mask metrics (§4.3), each for a batch: one figure an image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def l1(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference (B,) of images (B, 3, H, W) in 0..1, over the region ``weight`` (B, 1, H, W) where given."""
    return _mean((a - b).abs(), weight)


def psnr(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of images (B, 3, H, W) in 0..1, over the region ``weight`` where given."""
    return -10 * torch.log10(_mean((a - b).square(), weight).clamp_min(1e-10))


def ssim(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Structural similarity (B,), eq. 11-14 with Wang et al.'s window: Gaussian, 11 x 11, sigma 1.5; c3 = c2 / 2.

    Images (B, 3, H, W) in 0..1; each channel by itself, then the mean. As in the original, positions whose window leaves the
    picture do not count.
    """
    offsets = torch.arange(11, dtype=a.dtype, device=a.device) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line = line / line.sum()
    channels = a.shape[1]

    def blur(x: Tensor) -> Tensor:
        x = F.conv2d(x, line.view(1, 1, 11, 1).expand(channels, 1, 11, 1), groups=channels)
        return F.conv2d(x, line.view(1, 1, 1, 11).expand(channels, 1, 1, 11), groups=channels)

    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)  # contrast times structure, since c3 = c2 / 2
    return _mean(luminance * structure, None if weight is None else weight[:, :, 5:-5, 5:-5])


def iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (B,) of masks (B, 1, H, W), thresholded at 0.5; 1 where both are empty."""
    a, b = predicted > 0.5, truth > 0.5
    union = (a | b).flatten(1).sum(1)
    return torch.where(union > 0, (a & b).flatten(1).sum(1) / union.clamp_min(1), 1.0)


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return values.flatten(1).mean(1)
    return (values * weight).flatten(1).sum(1) / (values.shape[1] * weight.flatten(1).sum(1)).clamp_min(1e-6)
