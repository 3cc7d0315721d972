"""Does this face wear a mask? A decision per track, with hysteresis, over time.

Only a worn mask is removed. What decides is how much of the lower face the segmentation covers, weighted towards the mouth:
a mask under the chin covers the chin and leaves the mouth free, a mask below the nose covers the mouth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidunmask import geometry
from vidunmask.errors import UsageError
from vidunmask.networks.looks import doubt
from vidunmask.types import ByteArray, FloatArray

MOUTH_SHARE = 0.7  # of the weight; the chin has the rest, so that a chin mask alone stays below every sensible threshold
CHEEKS_SAY = 1.75  # how much a covered share of the cheeks counts: a fifth of them keeps a mask that was worn
_MOUTH = (31, 35, 54, 55, 57, 59, 48)  # dlib indices: nose wings, mouth corners, lower lip
_CHEEKS = (2, 3, 48, 54, 13, 14, 30)  # jaw beside the nose, mouth corners, tip of the nose
_LEAST = 0.002  # of the crop: a mouth or chin smaller than this is none
TRUSTED = 0.5  # of the landmarks
_SMALL = 2.0  # crops enlarged by more show faces of less than about 70 px
UNSURE = 0.7  # `looks.doubt` of a small face's mask from which on it only goes on ...
MOST_UNSURE = 0.4  # ... counted as so much covered: between the thresholds
_ASIDE = (0.0, -0.25, -0.125, 0.125, 0.25)  # of the crop's side; the eyes lie as far apart
_CHIN = (48, 54, 11, 10, 9, 8, 7, 6, 5)  # mouth corners and the lower jaw


@dataclass(frozen=True, slots=True, eq=False)
class LowerFace:
    """Where on a crop a worn mask must lie."""

    front: FloatArray  # (S, S) float32 weights that sum to 1: mouth and chin
    cheeks: FloatArray  # (S, S) float32 weights that sum to 1: beside and above the mouth, jaw to jaw
    region: ByteArray  # (S, S) 0/1: nose to chin, jaw to jaw
    aside: tuple[int, ...] = (0,)  # pixels to the right by which all of that may be off
    small: bool = False  # whether the segmenter sees too little of the face to be taken at its word

    def covered(self, probability: FloatArray) -> float:
        """The share 0..1 of the lower face under a mask, for its probability (S, S).

        A hand before the mouth hides the mask there, but not on both cheeks, where a mask under the chin never is. So either
        zone can vouch for it.

        Of small faces, collars, sleeves and beards beside the mouth are half taken for masks. So what is in doubt there keeps a
        mask that was worn and begins none: in every 20th of 500 frames of a crowd 38 of 41 faces edited by mistake are left
        alone for it, and 3 of 40 masks, on faces of 15 to 25 pixels.
        """
        share = max(self._covered(_moved(probability, -shift)) for shift in self.aside)
        if self.small and share > MOST_UNSURE and float(doubt(torch.from_numpy(probability)[None])) >= UNSURE:
            return MOST_UNSURE
        return share

    def _covered(self, probability: FloatArray) -> float:
        cheeks = min(1.0, CHEEKS_SAY * float((self.cheeks * probability).sum()))
        return max(float((self.front * probability).sum()), cheeks)


def is_small(frame_to_crop: FloatArray) -> bool:
    """Whether a face is small in its frame, by the transform (2, 3) of its crop."""
    return geometry.scale_of(frame_to_crop) > _SMALL


def lower_face(landmarks: FloatArray, size: int, *, trust: float = 1.0, small: bool = False) -> LowerFace:
    """The zones of a crop with landmarks (68, 2) in crop pixels, of a face that is ``small`` in its frame or not.

    On a profile, whose landmarks are not trusted, the mask is looked for in front of and behind them too: they are those of a
    mean face about the eyes, nose and mouth that the detector guesses under the mask. Where the landmarks leave no face to
    speak of (seen from behind, half out of the picture) the canonical face stands in.
    """
    import cv2

    def polygon(points: FloatArray, indices: Sequence[int]) -> FloatArray:
        canvas = np.zeros((size, size), np.uint8)
        cv2.fillConvexPoly(canvas, cv2.convexHull(np.round(points[list(indices)]).astype(np.int32)), 1)
        return canvas.astype(np.float32)

    for points in (landmarks, geometry.TEMPLATE68 * (size / geometry.CROP_SIZE)):
        mouth, cheeks = polygon(points, _MOUTH), polygon(points, _CHEEKS)
        chin = np.clip(polygon(points, _CHIN) - mouth, 0, 1)
        if min(mouth.sum(), chin.sum(), cheeks.sum()) >= _LEAST * size * size:
            break
    front = MOUTH_SHARE * mouth / mouth.sum() + (1 - MOUTH_SHARE) * chin / chin.sum()
    region = polygon(points, (*range(2, 15), 30)).astype(np.uint8)
    aside = tuple(round(by * size) for by in _ASIDE) if trust < TRUSTED else (0,)
    region = np.maximum.reduce([_moved(region, shift) for shift in aside])
    return LowerFace(front.astype(np.float32), (cheeks / cheeks.sum()).astype(np.float32), region, aside, small)


def _moved(picture: npt.NDArray[Any], by: int) -> npt.NDArray[Any]:
    """A picture (S, S) moved by pixels to the right, 0 where it was not."""
    moved = np.zeros_like(picture)
    size = picture.shape[1]
    moved[:, max(by, 0) : size + min(by, 0)] = picture[:, max(-by, 0) : size - max(by, 0)]
    return moved


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a mask counts as worn. Shares of the lower face, times in seconds."""

    start: float = 0.55  # covered to begin
    stop: float = 0.35  # covered to go on
    persistence: float = 0.2  # the decision is made on the median over this time before and after
    ramp: float = 0.15  # how long a fade in or out takes

    def __post_init__(self) -> None:
        if not 0 < self.stop <= self.start <= 1:
            raise UsageError(f"wearing thresholds start {self.start}, stop {self.stop}: need 0 < stop <= start <= 1")
        if self.persistence < 0 or self.ramp < 0:
            raise UsageError(f"wearing times {self.persistence}, {self.ramp}: must not be negative")


@dataclass(frozen=True, slots=True)
class WearingPast:
    """What one track's decision remembers."""

    covered: tuple[tuple[float, float], ...] = ()  # (seconds, share covered)
    worn: tuple[tuple[float, bool], ...] = ()  # (seconds, decided)


class MaskWearing:
    """The decision for one track, fed frame by frame.

    ``ahead`` lets it look into the window of a file: the median is then centred and the fade lies around the change rather than
    after it. With None for it (live) both use the past alone. ``past`` goes on from what another one remembered.
    """

    def __init__(self, thresholds: Thresholds | None = None, *, past: WearingPast | None = None) -> None:
        self.thresholds = thresholds or Thresholds()
        past = past or WearingPast()
        self._covered: deque[tuple[float, float]] = deque(past.covered)
        self._worn: deque[tuple[float, bool]] = deque(past.worn)
        self._before: bool | None = None
        self._given: tuple[tuple[float, bool], ...] = ()

    @property
    def past(self) -> WearingPast:
        """What is remembered of the steps so far."""
        return WearingPast(tuple(self._covered), tuple(self._worn))

    def begin(self, *, worn: bool, decisions: Sequence[tuple[float, bool]] = ()) -> None:
        """Sets what was decided before the first frame, and for the frames up to some time: (seconds, worn) in order."""
        self._before = worn
        self._given = tuple(decisions)

    def _given_at(self, time: float) -> bool | None:
        if not self._given or time > self._given[-1][0] + 1e-6:
            return None
        return next((worn for at, worn in reversed(self._given) if at <= time + 1e-6), self._before)

    def step(self, time: float, covered: float, ahead: Sequence[tuple[float, float]] | None = None) -> float:
        """The opacity 0..1 of the edit at ``time`` seconds, for a share ``covered`` 0..1 of the lower face.

        ``ahead`` holds (time, covered) of the next frames of the same track, in order, none of them behind a reset: none on
        its last frame.
        """
        t = self.thresholds
        self._covered.append((time, covered))
        while self._covered[0][0] < time - t.persistence:
            self._covered.popleft()
        coming = ahead or ()
        samples = [*self._covered, *coming]
        worn = self._worn[-1][1] if self._worn else self._before
        decisions: list[tuple[float, bool]] = []
        for when in (time, *(when for when, _ in coming)):
            near = [share for at, share in samples if abs(at - when) <= t.persistence + 1e-6]
            middle = median(near)
            # A track's first frame has no history: halfway between the thresholds decides.
            bar = (t.start + t.stop) / 2 if worn is None else t.stop if worn else t.start
            given = self._given_at(when)
            worn = middle >= bar if given is None else given
            decisions.append((when, worn))
        self._worn.append(decisions[0])
        while self._worn[0][0] < time - t.ramp:
            self._worn.popleft()
        # With look-ahead the fade is centred on the change, so it looks half as far to each side.
        reach = t.ramp if ahead is None else t.ramp / 2
        near_worn = [on for at, on in [*self._worn, *decisions[1:]] if abs(at - time) <= reach + 1e-6]
        return float(np.mean(near_worn))
