"""Masks grown and shrunk by a square, as one pass along rows and one along columns."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Each pixel the largest within ``radius`` rows and columns of it; (B, C, H, W), shape kept."""
    side = 2 * radius + 1
    return F.max_pool2d(F.max_pool2d(mask, (side, 1), 1, (radius, 0)), (1, side), 1, (0, radius))


def erode(mask: Tensor, radius: int) -> Tensor:
    """Each pixel the smallest within ``radius`` rows and columns of it; (B, C, H, W), shape kept."""
    return -dilate(-mask, radius)
