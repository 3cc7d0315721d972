"""Where two segments meet: whether they agree about the faces there, and which face of one is which of the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidunmask import geometry
from vidunmask.pipelines.report import TrackReport
from vidunmask.types import Fill, KnownFace

_NEAR = 0.35  # of a face's size: centres this close are one face
_ALIKE = math.log(1.5)  # greatest difference of sizes
_STEP = 0.3  # of opacity: a smaller one between two frames is the pace of a fade


Decision = tuple[int, float, bool]  # track, seconds, whether its mask is worn


@dataclass(frozen=True, slots=True)
class FaceAt:
    """A face in one frame: its track in its own segment, where it is, and how much of the fill is laid over it."""

    track: int
    crop: tuple[float, ...]  # frame_to_crop, row by row
    side: int  # of the crop
    time: float  # seconds
    opacity: float

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> FaceAt:
        """The face as JSON kept it."""
        return cls(**{**raw, "crop": tuple(raw["crop"])})

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the crop in display pixels."""
        x, y = geometry.apply(geometry.invert(self._transform), np.full((1, 2), (self.side - 1) / 2))[0]
        return float(x), float(y)

    @property
    def size(self) -> float:
        """Side of the face in display pixels, about."""
        return 0.4 * self.side / geometry.scale_of(self._transform)

    def known(self, decisions: Sequence[Decision] = ()) -> KnownFace:
        """The face for the run that goes on behind this frame; the canonical face stands for its landmarks.

        ``decisions`` are those of all tracks about later frames.
        """
        template = geometry.TEMPLATE68 * (self.side / geometry.CROP_SIZE)
        landmarks = geometry.apply(geometry.invert(self._transform), template)
        own = tuple((time, worn) for track, time, worn in decisions if track == self.track)
        return KnownFace(self.track, landmarks, self.time, is_worn(self.opacity), own)

    @property
    def _transform(self) -> np.ndarray:
        return np.array(self.crop).reshape(2, 3)


def is_worn(opacity: float) -> bool:
    """What was decided of a face: the opacity is the mean of the decisions around it."""
    return opacity > 0.5


def face_at(fill: Fill, seconds: float) -> FaceAt:
    """Where the face of a fill is."""
    crop = tuple(round(float(value), 6) for value in fill.frame_to_crop.reshape(6))
    return FaceAt(fill.track_id, crop, len(fill.crop), seconds, round(float(fill.opacity), 4))


def pairs(before: Sequence[FaceAt], after: Sequence[FaceAt]) -> list[tuple[FaceAt, FaceAt]]:
    """The faces of one frame as two segments see it, joined; the nearest first, each used once."""
    candidates = []
    for i, a in enumerate(before):
        for j, b in enumerate(after):
            distance = math.dist(a.centre, b.centre) / max(a.size, b.size)
            if distance < _NEAR and abs(math.log(a.size / b.size)) < _ALIKE:
                candidates.append((distance, i, j))
    joined, used_a, used_b = [], set(), set()
    for _, i, j in sorted(candidates):
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            joined.append((before[i], after[j]))
    return joined


def agree(before: Sequence[FaceAt], after: Sequence[FaceAt]) -> bool:
    """Whether two segments edit the same faces of the frame at their joint, as far as anyone would see."""
    joined = pairs(before, after)
    known_a, known_b = {id(a) for a, _ in joined}, {id(b) for _, b in joined}
    alone = [face for face in before if id(face) not in known_a] + [face for face in after if id(face) not in known_b]
    same = all(abs(a.opacity - b.opacity) <= _STEP for a, b in joined)
    return same and all(face.opacity <= _STEP for face in alone)


def join_tracks(parts: Sequence[tuple[Sequence[TrackReport], Sequence[FaceAt], Sequence[FaceAt]]]) -> tuple[TrackReport, ...]:
    """The tracks of a whole video from those of its segments, each with the faces before its first and in its last frame.

    A face that two segments see at their joint is one track.
    """
    merged: dict[int, TrackReport] = {}
    earlier: Mapping[int, int] = {}  # a track of the segment before to its number in the whole
    tail: Sequence[FaceAt] = ()
    for tracks, head, next_tail in parts:
        same = {b.track: earlier[a.track] for a, b in pairs(tail, head) if a.track in earlier}
        numbers: dict[int, int] = {}
        for track in tracks:
            number = same.get(track.track_id, len(merged))
            numbers[track.track_id] = number
            merged[number] = _merged(merged.get(number), track, number)
        earlier, tail = numbers, next_tail
    return tuple(merged[number] for number in sorted(merged))


def _merged(old: TrackReport | None, new: TrackReport, number: int) -> TrackReport:
    if old is None:
        return TrackReport(number, new.first_frame, new.last_frame, new.frames, new.frames_edited, new.confidence)
    frames = old.frames + new.frames
    confidence = round((old.confidence * old.frames + new.confidence * new.frames) / frames, 4)
    return TrackReport(number, old.first_frame, new.last_frame, frames, old.frames_edited + new.frames_edited, confidence)
