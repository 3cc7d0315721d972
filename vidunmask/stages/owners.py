"""Whose mask is it? Where heads are close together a crop shows the neighbour's mask too; each face may only lose its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidunmask import geometry
from vidunmask.types import FaceCrop, FloatArray

_CENTRE = geometry.TEMPLATE68[[30, 8]].mean(axis=0) / geometry.CROP_SIZE  # of a worn mask, between tip of the nose and chin
_NEARER = 0.8  # times as far from the neighbour's mask as from the own one: there a pixel is the neighbour's
_APART = 0.25  # of the crop's side, about the distance of the eyes: what lies closer together is one head found twice
_SURE = 0.5  # score of a face that may claim anything


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A face as far as it says what is its own."""

    frame_to_crop: FloatArray  # (2, 3) similarity, display pixels to crop pixels
    size: int  # side of the crop in pixels
    score: float  # 0..1


def shared_out(probabilities: Sequence[FloatArray], crops: Sequence[FaceCrop]) -> list[FloatArray]:
    """The mask probabilities (S, S) of all faces of a frame, 0 where a pixel belongs to another face.

    A pixel belongs to the face whose mask would be nearest, in units of the face's own size (a Voronoi diagram with weights).
    A face alone gets the very array that was given.
    """
    claims = [Claim(crop.frame_to_crop, len(crop.image), crop.score) for crop in crops]
    return [_own(probability, claim, claims) for probability, claim in zip(probabilities, claims, strict=True)]


def _own(probability: FloatArray, claim: Claim, claims: Sequence[Claim]) -> FloatArray:
    lost = taken(claim, claims, np.arange(len(probability), dtype=float))
    if lost is None or not lost.any():
        return probability
    return np.where(lost, 0, probability).astype(probability.dtype)


def taken(own: Claim, claims: Sequence[Claim], places: FloatArray) -> np.ndarray | None:
    """Which pixels (S, S) of a picture belong to another face of the frame; None if no one is near.

    ``places`` (S,) is where both its columns and its rows lie in the own crop, in pixels of that. ``claims`` are those of all
    faces of the frame, the own one among them.
    """
    centre = own.size * _CENTRE
    lost: np.ndarray | None = None
    for other in claims:
        if other is own or other.score < _SURE:
            continue
        theirs = other.size * _CENTRE
        across = geometry.compose(geometry.invert(own.frame_to_crop), other.frame_to_crop)  # own crop pixels to the other's
        back = geometry.invert(across)
        if min(_distance(across, centre, theirs) / other.size, _distance(back, theirs, centre) / own.size) < _APART:
            continue
        there = geometry.apply(back, theirs)
        if np.abs(there - own.size / 2).max() > 2 * own.size:  # far outside of the crop
            continue
        units = geometry.scale_of(across) * (own.size / other.size)
        # Squares of distances are sums of what the column and what the row contributes.
        far = (units * (places[:, None] - there)) ** 2  # (S, 2) x, y
        x, y = (far - (_NEARER * (places[:, None] - centre)) ** 2).T
        theirs_of_these = y[:, None] + x < 0
        lost = theirs_of_these if lost is None else lost | theirs_of_these
    return lost


def _distance(a_to_b: FloatArray, a: FloatArray, b: FloatArray) -> float:
    return float(np.linalg.norm(geometry.apply(a_to_b, a) - b))
