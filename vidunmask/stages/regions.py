"""Where faces lie: the transforms that lay one into a detector's region (2, 3), and boxes xyxy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from vidunmask import geometry
from vidunmask.types import Detection, FloatArray, SeenFace

T = TypeVar("T")


def turned(frame_to_region: FloatArray, size: int, turns: int) -> FloatArray:
    """The frame_to_region (2, 3) of the same place with the picture turned by so many quarters, anticlockwise."""
    cos, sin = round(math.cos(turns * math.pi / 2)), round(math.sin(turns * math.pi / 2))
    linear = np.array([[cos, sin], [-sin, cos]])
    middle = np.full(2, (size - 1) / 2)
    return geometry.compose(frame_to_region, np.concatenate([linear, (middle - linear @ middle)[:, None]], axis=1))


def angle_of(frame_to_region: FloatArray) -> float:
    """By how much (radians) a region is turned against the frame."""
    return math.atan2(frame_to_region[1, 0], frame_to_region[0, 0])


def disagree(a: FloatArray, b: FloatArray, size: int) -> bool:
    """Whether two frame_to_region differ in centre by 0.2 of the region, or in scale by a third."""
    a_to_b = geometry.compose(geometry.invert(a), b)
    middle = np.full(2, (size - 1) / 2)
    shift = float(np.hypot(*(geometry.apply(a_to_b, middle) - middle))) / size
    return shift > 0.2 or abs(np.log(geometry.scale_of(a_to_b))) > np.log(4 / 3)


def same_face(a: FloatArray, b: FloatArray) -> bool:
    """Whether two boxes (4,) lie on one face; a detector's box and that of the landmarks differ in what they include."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    areas = np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])
    return bool(shared > 0.5 * min(areas) and max(areas) < 6 * min(areas))


def each_once(faces: Iterable[T], seen: Callable[[T], Detection | SeenFace]) -> list[T]:
    """The faces without those that lie on another one, best first: of two the better score stays."""
    kept: list[T] = []
    for face in sorted(faces, key=lambda face: -seen(face).score):
        if not any(same_face(seen(face).box, seen(other).box) for other in kept):
            kept.append(face)
    return kept


def carried(detection: Detection, a_to_b: FloatArray) -> Detection:
    """A detection in other coordinates; the transform has no rotation."""
    box = geometry.apply(a_to_b, detection.box.reshape(2, 2)).reshape(4)
    return replace(detection, box=box, landmarks=geometry.apply(a_to_b, detection.landmarks))
