"""The canonical face, and the similarity transforms between frames and crops. Pure numpy.

A transform is a (2, 3) matrix named ``a_to_b``; it maps column vectors ``(x, y, 1)`` with pixel centres at integers.
"""

from __future__ import annotations

import numpy as np

from vidunmask.types import FloatArray

CROP_SIZE = 256  # side of a crop in pixels, the size of the paper's images (§4.1)

# The mean of 6,761 frontal faces, 68 points in dlib's order as FaceMesh places them, made symmetric, scaled so that the eyes
# lie 64 px apart about (127.5, 104): the chin then stands at 219, and a scarf's worth of neck lies below it.
TEMPLATE68: FloatArray = np.array(
    [
        # jaw, from the picture's left to its right
        [56.2, 105.4], [56.7, 119.9], [57.8, 135.0], [60.3, 151.1], [64.6, 168.3], [71.0, 182.1], [88.0, 201.4], [104.6, 213.5],
        [127.5, 218.9],
        [150.4, 213.5], [167.0, 201.4], [184.0, 182.1], [190.4, 168.3], [194.7, 151.1], [197.2, 135.0],
        [198.3, 119.9], [198.8, 105.4],
        # brows
        [69.1, 89.1], [75.3, 84.0], [85.0, 81.3], [97.8, 82.3], [112.5, 84.7],
        [142.5, 84.7], [157.2, 82.3], [170.0, 81.3], [179.7, 84.0], [185.9, 89.1],
        # nose: bridge, then nostrils
        [127.5, 101.7], [127.5, 117.2], [127.5, 131.1], [127.5, 139.7],
        [114.2, 147.3], [119.3, 150.7], [127.5, 151.6], [135.7, 150.7], [140.8, 147.3],
        # eyes
        [83.0, 103.8], [89.2, 100.0], [99.1, 99.6], [110.0, 106.3], [100.8, 107.1], [90.9, 107.2],
        [145.0, 106.3], [155.9, 99.6], [165.8, 100.0], [172.0, 103.8], [164.1, 107.2], [154.2, 107.1],
        # mouth: outer, inner
        [99.1, 169.1], [111.4, 164.9], [119.2, 163.6], [127.5, 165.1], [135.8, 163.6], [143.6, 164.9], [155.9, 169.1],
        [143.2, 181.3], [135.9, 184.0], [127.5, 185.0], [119.1, 184.0], [111.8, 181.3],
        [101.4, 169.5], [120.4, 170.1], [127.5, 170.5], [134.6, 170.1], [153.6, 169.5],
        [134.5, 174.7], [127.5, 175.3], [120.5, 174.7],
    ]
)  # (68, 2), pixels of a 256 x 256 crop  # fmt: skip

# How large a profile is laid into the crop, against the canonical face: a mask in profile stands out before the face, and where
# that lies is less sure. Of 6 masked profiles whose mask was lost at 1, all but the one that is cut off are found at 0.78; at
# 0.7 jackets and foliage before the face pass for masks.
PROFILE_SCALE = 0.78
_TURNING = (0.4, 0.6, 1.0)  # trust in the landmarks, and how far towards that scale a face then goes: heads on their way to
_TOWARDS = (1.0, 0.4, 0.0)  # profile lose their ear loops in larger crops

# How much each point counts when a crop is fitted. A mask moves the eyes by 0.017 of their distance and the jaw by 0.085, so
# the upper face decides; the jaw has a say only because it keeps the scale of turned faces, whose eyes draw together.
_WEIGHTS68: FloatArray = np.repeat([0.25, 0.7, 1.0, 0.15, 1.0, 0.05], [17, 10, 4, 5, 12, 20])


def align(landmarks: FloatArray, *, size: int = CROP_SIZE) -> FloatArray:
    """The frame_to_crop (2, 3) that lays a face over `TEMPLATE68`.

    landmarks: (68, 2) dlib order, frame pixels. size: side of the crop in pixels; the template is scaled with it.
    Raises ValueError where the landmarks coincide.
    """
    to_crop = similarity(np.asarray(landmarks, float), TEMPLATE68, _WEIGHTS68)
    return resize(to_crop, size)


def profile_scale(trust: float) -> float:
    """How large a face is laid into the crop, 1 for the canonical face, by how far its landmarks are trusted (0..1)."""
    return float(PROFILE_SCALE ** np.interp(trust, _TURNING, _TOWARDS))


def resize(frame_to_crop: FloatArray, size: int) -> FloatArray:
    """The transform of the same picture area to a crop of ``size`` pixels instead of `CROP_SIZE`."""
    factor = size / CROP_SIZE
    # pixel centres lie at integers, so the corner at -0.5 stays in place, not the centre of the first pixel
    scaled = frame_to_crop * factor
    scaled[:, 2] += (factor - 1) / 2
    return scaled


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


def similarity_parameters(matrix: FloatArray) -> FloatArray:
    """(4,) what smoothing works on: crop centre x, y in frame pixels, log2 of the scale, angle in radians.

    Centre and log-scale move smoothly while the raw matrix's translation mixes all of them.
    """
    centre = apply(invert(matrix), np.full(2, (CROP_SIZE - 1) / 2))
    return np.array([*centre, np.log2(scale_of(matrix)), np.arctan2(matrix[1, 0], matrix[0, 0])])


def similarity_from_parameters(parameters: FloatArray) -> FloatArray:
    """Inverse of `similarity_parameters`: the (2, 3) frame_to_crop."""
    x, y, log_scale, angle = parameters
    cos, sin = 2**log_scale * np.cos(angle), 2**log_scale * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    centre = np.full(2, (CROP_SIZE - 1) / 2)
    return np.concatenate([linear, (centre - linear @ np.array([x, y]))[:, None]], axis=1)
