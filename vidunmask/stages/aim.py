"""Lays the crops of turned heads where their masks are.

The landmarks of a head in profile are a guess: the mesh collapses there, and what stands in for it is the mean face in a box
that sways. A crop laid by them often cuts the mask off, and what the segmenter does not see it cannot find. So a turned head is
looked at once in a wider crop, and where that shows a mask beyond the crop, the crop is laid so that it holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np

from vidunmask import geometry
from vidunmask.stages import wearing
from vidunmask.stages.crop import placement
from vidunmask.stages.memory import TrackMemory
from vidunmask.stages.owners import Claim, taken
from vidunmask.types import ByteArray, FloatArray, FrameFaces, TrackedFace

TRUSTED = 0.8  # landmarks that are trusted more are those of a head that is not turned far ...
_BESIDE = 0.1  # ... unless the tip of the nose lies so near an end of the jaw, of its width
_ZOOM = 0.6  # of the wider view against the crop
_LEAST = 600  # pixels of the wider view; a smaller patch is no mask that is worn
_MARGIN = 14  # pixels of the crop that stay free about the mask ...
_MARGIN_OF_PROFILES = 38  # ... and so many where the segmenter is at its weakest
_PROFILE = (0.1, 0.3)  # trust below and above which a head counts as one or not
_LEAST_SCALE = 0.7  # a mask too large for the crop makes a profile so much smaller in it, not more
_EVERY_OF_SMALL = 3  # frames; in a crowd looks add up, and nobody sees a small face's crop lag by two frames
_ASIDE = 48  # pixels of the crop; no mask moves a face further aside
_LOWEST = 190  # and its canonical chin no further up: scarves and gaiters go on below the face
_FARTHEST = 110  # pixels of the crop: a patch further from where masks lie is somebody else's
_MASK = geometry.TEMPLATE68[[30, 8]].mean(axis=0)  # where they lie, between tip of the nose and chin


class Looker(Protocol):
    """Who can tell where masks are: `unmask.Unmasker`."""

    def glance(self, images: Sequence[ByteArray]) -> FloatArray:
        """Probabilities (N, S, S) of a mask, for crops (S, S, 3) uint8 RGB."""


def aim(tracked: Iterable[FrameFaces[TrackedFace]], looker: Looker, *, every: int = 1) -> Iterator[FrameFaces[TrackedFace]]:
    """Every frame with its turned heads aimed so that `crop` holds their masks; other faces as they were.

    ``every``: frames of a track from one look to the next, of small faces at least three; in between the last move is made
    again.
    """
    aimer = Aimer(looker, every=every)
    for item in tracked:
        yield aimer.step(item)


class Aimer:
    """The same, frame by frame; see `aim`."""

    def __init__(self, looker: Looker, *, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self._looker = looker
        self._every = every
        self._moves: TrackMemory[list[tuple[int, FloatArray | None]]] = TrackMemory(list)

    def step(self, item: FrameFaces[TrackedFace]) -> FrameFaces[TrackedFace]:
        """Takes the next frame and returns it."""
        index = item.frame.index
        turned = [place for place, face in enumerate(item.faces) if is_turned(face)]
        if not turned:
            return item
        crops = [_crop_of(face) for face in item.faces]
        moves: dict[int, FloatArray | None] = {}
        due = []
        for place in turned:
            face = item.faces[place]
            last = self._moves.of(face.track_id, index, reset=face.reset)
            every = max(self._every, _EVERY_OF_SMALL) if wearing.is_small(crops[place]) else self._every
            if last and index - last[0][0] < every:
                moves[place] = last[0][1]
            else:
                due.append(place)
        for place, move in zip(due, self._look(item, crops, due), strict=True):
            face = item.faces[place]
            self._moves.of(face.track_id, index, reset=True).append((index, move))
            moves[place] = move
        self._moves.prune(index)
        faces = [
            face if (move := moves.get(place)) is None else _moved(face, crops[place], move)
            for place, face in enumerate(item.faces)
        ]
        return replace(item, faces=tuple(faces))

    def _look(
        self, item: FrameFaces[TrackedFace], crops: Sequence[FloatArray], places: Sequence[int]
    ) -> list[FloatArray | None]:
        """For each of the faces at ``places`` its move, see `_move`; ``crops`` are the frame_to_crop of all of the frame."""
        from vidunmask.video import pixels

        if not places:
            return []
        size = geometry.CROP_SIZE
        wide = [pixels.read_crop(item.frame, geometry.compose(crops[place], _CROP_TO_WIDE), size) for place in places]
        probabilities = self._looker.glance(wide)
        claims = [Claim(to_crop, size, face.score) for to_crop, face in zip(crops, item.faces, strict=True)]
        moves = []
        for place, probability in zip(places, probabilities, strict=True):
            mask = probability > 0.5
            lost = taken(claims[place], claims, _WIDE_PLACES)
            if lost is not None:
                mask &= ~lost
            moves.append(_move(mask, trust=item.faces[place].trust))
        return moves


_CROP_TO_WIDE = np.array([[_ZOOM, 0, 0], [0, _ZOOM, 0]]) + np.array([0, 0, (1 - _ZOOM) * (geometry.CROP_SIZE - 1) / 2])
_WIDE_TO_CROP = geometry.invert(_CROP_TO_WIDE)
# Where in the crop the columns and the rows of the wider view lie.
_WIDE_PLACES = _WIDE_TO_CROP[0, 0] * np.arange(geometry.CROP_SIZE) + _WIDE_TO_CROP[0, 2]


def is_turned(face: TrackedFace) -> bool:
    """Whether a face looks so far aside that its landmarks may not say where its mask is."""
    if face.trust < TRUSTED:
        return True
    points = geometry.apply(_crop_of(face), face.landmarks)
    first, last = points[:17, 0].min(), points[:17, 0].max()
    along = (points[30, 0] - first) / max(last - first, 1e-6)
    return bool(not _BESIDE <= along <= 1 - _BESIDE)


def _crop_of(face: TrackedFace) -> FloatArray:
    """The frame_to_crop (2, 3) of a face on its own, as `crop` would lay it without its past."""
    return geometry.similarity_from_parameters(placement(face))


def _move(mask: np.ndarray, *, trust: float) -> FloatArray | None:
    """The crop_to_crop (2, 3) that brings a mask, found in the wider view (S, S), into the crop; None where it lies there.

    It is the least shift that does so, after the least shrinking about the middle of the mask.
    """
    count, _, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    best: tuple[int, FloatArray] | None = None
    for x, y, width, height, area, centre in (
        (*stats[number], geometry.apply(_WIDE_TO_CROP, centres[number])) for number in range(1, count)
    ):
        near = np.hypot(*(centre - _MASK)) < _FARTHEST
        if near and area >= _LEAST and (best is None or area > best[0]):
            corners = np.array([[x - 0.5, y - 0.5], [x + width - 0.5, y + height - 0.5]])
            best = area, geometry.apply(_WIDE_TO_CROP, corners)
    if best is None:
        return None
    low, high = best[1]
    margin = float(np.interp(trust, _PROFILE, (_MARGIN_OF_PROFILES, _MARGIN)))
    least, most = margin - 0.5, geometry.CROP_SIZE - 0.5 - margin
    least_scale = trust + (1 - trust) * _LEAST_SCALE
    scale = float(np.clip((most - least) / (high - low).max(), least_scale, 1))
    middle = (low + high) / 2
    low, high = middle + scale * (low - middle), middle + scale * (high - middle)
    fits = high - low <= most - least
    # a mask that is larger than the crop even so has its middle in the crop's
    shift = np.where(fits, np.maximum(least - low, 0) + np.minimum(most - high, 0), (least + most - low - high) / 2)
    chin = (1 - scale) * middle[1] + scale * geometry.TEMPLATE68[8, 1]
    shift = np.clip(shift, [-_ASIDE, min(0.0, _LOWEST - chin)], [_ASIDE, np.inf])
    if scale == 1 and not shift.any():
        return None
    return np.array([[scale, 0, 0], [0, scale, 0]]) + np.array([0, 0, 1]) * ((1 - scale) * middle + shift)[:, None]


def _moved(face: TrackedFace, to_crop: FloatArray, move: FloatArray) -> TrackedFace:
    """The face with ``aimed`` where its landmarks have to be for its crop to be laid by ``move`` (2, 3), crop_to_crop.

    Whether the mask is worn is still judged by where the face was seen, in profile with some room to either side: a collar that
    is taken for a mask must not vouch for itself. Landmarks that are trusted by half are given no such room and are moved.
    """
    there = geometry.compose(geometry.compose(to_crop, geometry.invert(move)), geometry.invert(to_crop))
    landmarks = geometry.apply(there, face.landmarks)
    if face.trust < wearing.TRUSTED:
        return replace(face, aimed=landmarks)
    return replace(face, landmarks=landmarks, box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]))
