"""Smaller pictures, for comparisons that 256 x 256 would make too long."""

from __future__ import annotations

import argparse

from torch import Tensor
from torch.nn import functional as F

from vidunmask import geometry
from vidunmask.errors import UsageError

SIZES = (256, 128, 64)


def add_size(parser: argparse.ArgumentParser) -> None:
    """``--size``, for a program that trains or measures."""
    parser.add_argument(
        "--size",
        type=int,
        default=geometry.CROP_SIZE,
        metavar="PIXELS",
        help=f"side of the pictures, one of {', '.join(map(str, SIZES))}; the program unmasks at 256, smaller ones are for "
        "comparisons (default: %(default)s)",
    )


def check_size(size: int) -> None:
    """Raises UsageError for a size that is not offered."""
    if size not in SIZES:
        raise UsageError(f"--size {size}: must be one of {', '.join(map(str, SIZES))}")


def shrink(picture: Tensor, size: int) -> Tensor:
    """Pictures (B, C, S, S) to (B, C, size, size) by the mean of the pixels; ``size`` divides S."""
    return picture if picture.shape[-1] == size else F.avg_pool2d(picture, picture.shape[-1] // size)


def shrink_hole(mask: Tensor, size: int) -> Tensor:
    """Binary masks (B, 1, S, S) to (B, 1, size, size): a pixel is hole where any of its pixels was."""
    return mask if mask.shape[-1] == size else F.max_pool2d(mask, mask.shape[-1] // size)
