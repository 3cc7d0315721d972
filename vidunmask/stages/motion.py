"""How a head moved from one picture to the next, by the features of the picture itself; and pictures moved along a flow."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from vidunmask import geometry
from vidunmask.types import ByteArray, FloatArray

_MOST_POINTS = 80
_LEAST_POINTS = 8  # of those that agree
_REACH = (31, 31)  # px, window of the flow on each of the pyramid's levels
_LEVELS = 3
_RETURN = 1.0  # px by which a point followed there and back may miss


def head_motion(before: ByteArray, after: ByteArray, landmarks: FloatArray) -> FloatArray | None:
    """The similarity (2, 3) that takes the head in ``before`` to where it is in ``after``, or None where none can be told.

    Both pictures are (S, S, 3) RGB and show the same area; landmarks (68, 2) are pixels of ``before``. Corners within the
    landmarks' ellipse are followed by pyramidal Lucas-Kanade, there and back, and the similarity most of them agree on is
    fitted to those.
    """
    first, second = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (before, after))
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    within = np.zeros(first.shape, np.uint8)
    centre, half = (low + high) / 2, (high - low) / 2
    cv2.ellipse(within, (tuple(map(float, centre)), tuple(map(float, 2.1 * half)), 0.0), 255, -1)
    corners = cv2.goodFeaturesToTrack(first, _MOST_POINTS, 0.02, 5, mask=within)
    if corners is None or len(corners) < _LEAST_POINTS:
        return None
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, np.empty(0), winSize=_REACH, maxLevel=_LEVELS)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(second, first, there, np.empty(0), winSize=_REACH, maxLevel=_LEVELS)
    sure = (found[:, 0] > 0) & (found_back[:, 0] > 0) & (np.abs(back - corners).max(axis=(1, 2)) < _RETURN)
    if int(sure.sum()) < _LEAST_POINTS:
        return None
    moved, agree = cv2.estimateAffinePartial2D(corners[sure], there[sure], ransacReprojThreshold=2.0)
    if moved is None or int(agree.sum()) < max(_LEAST_POINTS, 0.4 * int(sure.sum())):
        return None
    motion = cast(FloatArray, moved)
    return motion if abs(np.log(geometry.scale_of(motion))) < 0.2 else None


def along(flow: FloatArray, picture: npt.NDArray[Any], *, interpolation: int = cv2.INTER_LINEAR) -> npt.NDArray[Any]:
    """A picture (S, S) or (S, S, C) moved along a dense ``flow`` (S, S, 2): where each pixel of the result comes from, less
    where it is. Beyond the edge stands what stands at the edge."""
    return cv2.remap(picture, _grid(len(flow)) + flow, None, interpolation, borderMode=cv2.BORDER_REPLICATE)


def enlarged(flow: FloatArray, size: int) -> FloatArray:
    """A dense flow (F, F, 2) as one of a picture that is ``size`` pixels wide."""
    return cv2.resize(flow, (size, size), interpolation=cv2.INTER_LINEAR) * (size / len(flow))


@lru_cache(maxsize=4)
def _grid(size: int) -> FloatArray:
    """The coordinates (S, S, 2) float32 of a picture's own pixels."""
    x, y = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    return np.stack([x, y], axis=2)
