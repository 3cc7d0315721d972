"""The canonical face, and the similarity transforms between frames and crops. Pure numpy.

A transform is a (2, 3) matrix named ``a_to_b``; it maps column vectors ``(x, y, 1)`` with pixel centres at integers.
"""

from __future__ import annotations

import numpy as np

from vidunmask.types import FloatArray

CROP_SIZE = 256  # side of a crop in pixels, the size of the paper's images (§4.1)


def apply(a_to_b: FloatArray, points: FloatArray) -> FloatArray:
    """Maps points (..., 2) from a to b."""
    return points @ a_to_b[:, :2].T + a_to_b[:, 2]


def compose(a_to_b: FloatArray, b_to_c: FloatArray) -> FloatArray:
    """The transform a_to_c (2, 3): first ``a_to_b``, then ``b_to_c``."""
    linear = b_to_c[:, :2] @ a_to_b
    linear[:, 2] += b_to_c[:, 2]
    return linear


def invert(a_to_b: FloatArray) -> FloatArray:
    """The transform b_to_a (2, 3) of an invertible a_to_b."""
    linear = np.linalg.inv(a_to_b[:, :2])
    return np.concatenate([linear, -(linear @ a_to_b[:, 2:])], axis=1)


def scale_of(a_to_b: FloatArray) -> float:
    """How many pixels of b a pixel of a becomes, in length (square root of the area ratio)."""
    return float(np.sqrt(abs(np.linalg.det(a_to_b[:, :2]))))


def similarity(source: FloatArray, target: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """The similarity (2, 3) that maps source points (N, 2) to target points (N, 2) with the least weighted squared error.

    Rotation, uniform scale and translation, no reflection (Umeyama, PAMI 13(4), 1991, eq. 40-42; in the plane the closed form
    is a complex regression). ``weights`` (N,) defaults to ones. Raises ValueError where the source points coincide.
    """
    w = np.ones(len(source)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    source_mean, target_mean = w @ source, w @ target
    a, b = source - source_mean, target - target_mean
    power = float(w @ (a * a).sum(axis=1))
    if power <= 1e-12:
        raise ValueError("the source points coincide, no similarity can be fitted")
    real = float(w @ (a * b).sum(axis=1)) / power
    imag = float(w @ (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])) / power
    linear = np.array([[real, -imag], [imag, real]])
    return np.concatenate([linear, (target_mean - linear @ source_mean)[:, None]], axis=1)


def similarity_parameters(matrix: FloatArray, size: int = CROP_SIZE) -> FloatArray:
    """(4,) what smoothing works on: crop centre x, y in frame pixels, log2 of the scale, angle in radians.

    Centre and log-scale move smoothly while the raw matrix's translation mixes all of them.
    """
    centre = apply(invert(matrix), np.array([(size - 1) / 2, (size - 1) / 2]))
    return np.array([*centre, np.log2(scale_of(matrix)), np.arctan2(matrix[1, 0], matrix[0, 0])])


def similarity_from_parameters(parameters: FloatArray, size: int = CROP_SIZE) -> FloatArray:
    """Inverse of `similarity_parameters`: the (2, 3) frame_to_crop."""
    x, y, log_scale, angle = parameters
    cos, sin = 2**log_scale * np.cos(angle), 2**log_scale * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    centre = np.array([(size - 1) / 2, (size - 1) / 2])
    return np.concatenate([linear, (centre - linear @ np.array([x, y]))[:, None]], axis=1)
