"""Display matrices and sample aspect ratios as affine maps from stored pixels to the upright, square-pixelled picture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vidunmask.types import FloatArray

_SANE_ASPECT = (Fraction(1, 8), Fraction(8))  # beyond this a header is broken, not a picture anamorphic


@dataclass(frozen=True, slots=True, eq=False)
class Orientation:
    """How the stored picture is shown."""

    display_size: tuple[int, int]  # (height, width)
    native_to_display: FloatArray  # (2, 3)
    turn: FloatArray  # (2, 2) signed permutation, native axes to display axes
    exact: bool  # False where the matrix holds a turn that is no multiple of 90 degrees and was left out


def orient(size: tuple[int, int], *, matrix: tuple[int, ...] | None = None, aspect: Fraction | None = None) -> Orientation:
    """The orientation of a picture of ``size`` (height, width).

    ``matrix`` is a display matrix of nine integers (libavutil/display.h: p' = a p + c q, q' = b p + d q, 16.16 fixed point);
    its translation is ignored, as players do. ``aspect`` is the sample aspect ratio; the shorter side of a sample is
    stretched, so that no stored pixel is lost.
    """
    height, width = size
    turn, exact = _snap(matrix)
    stretch_x, stretch_y = 1.0, 1.0
    if aspect is not None and _SANE_ASPECT[0] <= aspect <= _SANE_ASPECT[1]:
        stretch_x, stretch_y = max(1.0, float(aspect)), max(1.0, float(1 / aspect))
    square = np.array([max(1, round(width * stretch_x)), max(1, round(height * stretch_y))], dtype=float)
    scale = square / [width, height]
    # Pixel centres lie at integers: an edge at -0.5 maps to an edge at -0.5.
    linear = turn * scale
    far = np.minimum(turn @ square, 0)  # where the turn puts the far corner on a negative axis, shift it back
    translation = linear @ np.array([0.5, 0.5]) - 0.5 - far
    shown = np.abs(turn) @ square
    return Orientation((int(shown[1]), int(shown[0])), np.concatenate([linear, translation[:, None]], axis=1), turn, exact)


def _snap(matrix: tuple[int, ...] | None) -> tuple[FloatArray, bool]:
    """The signed permutation (2, 2) of a display matrix and whether the matrix is one."""
    if matrix is None:
        return np.eye(2), True
    linear = np.array([[matrix[0], matrix[3]], [matrix[1], matrix[4]]], dtype=float) / 65536
    size = float(np.sqrt(abs(np.linalg.det(linear))))
    if size < 1e-6:
        return np.eye(2), False
    snapped = np.rint(linear / size)
    if not (np.abs(snapped).sum(axis=0) == 1).all() or not (np.abs(snapped).sum(axis=1) == 1).all():
        return np.eye(2), False
    return snapped, bool(np.abs(linear / size - snapped).max() < 0.02)


def matrix_of_exif(orientation: int) -> tuple[int, ...] | None:
    """The display matrix of an EXIF orientation tag 1..8 (EXIF 2.32, 4.6.4 A), None where nothing turns."""
    turns = {
        2: (-1, 0, 0, 1),
        3: (-1, 0, 0, -1),
        4: (1, 0, 0, -1),
        5: (0, 1, 1, 0),
        6: (0, 1, -1, 0),
        7: (0, -1, -1, 0),
        8: (0, -1, 1, 0),
    }
    if orientation not in turns:
        return None
    a, b, c, d = (value * 65536 for value in turns[orientation])
    return (a, b, 0, c, d, 0, 0, 0, 1 << 30)
