"""Whose mask is it? Where heads are close together a crop shows the neighbour's mask too; each face may only lose its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidunmask import geometry
from vidunmask.types import FaceCrop, FloatArray

_CENTRE = geometry.TEMPLATE68[[30, 8]].mean(axis=0) / geometry.CROP_SIZE  # of a worn mask, between tip of the nose and chin
_NEARER = 0.8  # times as far from the neighbour's mask as from the own one: there a pixel is the neighbour's
_APART = 0.25  # of the crop's side, about the distance of the eyes: what lies closer together is one head found twice
_SURE = 0.5  # score of a face that may claim anything


def shared_out(probabilities: Sequence[FloatArray], crops: Sequence[FaceCrop]) -> list[FloatArray]:
    """The mask probabilities (S, S) of all faces of a frame, 0 where a pixel belongs to another face.

    A pixel belongs to the face whose mask would be nearest, in units of the face's own size (a Voronoi diagram with weights).
    A face alone gets the very array that was given.
    """
    return [
        _own(probability, crop, [other for other in crops if other is not crop and other.score >= _SURE])
        for probability, crop in zip(probabilities, crops, strict=True)
    ]


def _own(probability: FloatArray, crop: FaceCrop, others: Sequence[FaceCrop]) -> FloatArray:
    size = len(probability)
    centre = size * _CENTRE
    taken: np.ndarray | None = None
    for other in others:
        theirs = len(other.image) * _CENTRE
        across = geometry.compose(geometry.invert(crop.frame_to_crop), other.frame_to_crop)  # own crop pixels to the other's
        back = geometry.invert(across)
        if min(_distance(across, centre, theirs) / len(other.image), _distance(back, theirs, centre) / size) < _APART:
            continue
        corners = geometry.apply(back, np.array([theirs]))[0]
        if np.abs(corners - size / 2).max() > 2 * size:  # far outside of the crop
            continue
        y, x = np.mgrid[:size, :size].astype(np.float32)
        own = np.hypot(x - centre[0], y - centre[1])
        scale = geometry.scale_of(across)
        there = scale * np.hypot(x - corners[0], y - corners[1]) * (size / len(other.image))
        mine = there >= _NEARER * own
        taken = ~mine if taken is None else taken | ~mine
    if taken is None or not taken.any():
        return probability
    return np.where(taken, 0, probability).astype(probability.dtype)


def _distance(a_to_b: FloatArray, a: FloatArray, b: FloatArray) -> float:
    return float(np.linalg.norm(geometry.apply(a_to_b, a[None])[0] - b))
