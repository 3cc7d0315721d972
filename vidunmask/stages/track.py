"""Gives the faces of successive frames identities, fills gaps, and holds short false alarms back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vidunmask.types import FloatArray, Frame, FrameFaces, KnownFace, SeenFace, TrackedFace

START = 0.6  # score from which a detected face starts a track


def track(seen: Iterable[FrameFaces[SeenFace]], tracker: Tracker) -> Iterator[FrameFaces[TrackedFace]]:
    """Every frame with its tracked faces, in order, at most the tracker's look-ahead later."""
    for frame_faces in seen:
        yield from tracker.step(frame_faces)
    yield from tracker.flush()


@dataclass(eq=False)
class _Track:
    """One identity. ``entries`` of the slots still in the window refer to it by number."""

    number: int
    last: SeenFace
    last_time: float
    last_slot: int  # running number of the slot it was last seen in
    first_slot: int
    first_time: float
    best_score: float
    sightings: int = 1
    velocity: FloatArray = field(default_factory=lambda: np.zeros(2))  # pixels a second
    confirmed: bool = False
    ended: bool = False
    emitted_slot: int | None = None  # slot in which it was last given out


@dataclass(eq=False)
class _Slot:
    """One frame of the window with what is believed of its faces so far."""

    number: int
    frame: Frame
    cut: bool
    time: float
    entries: dict[int, TrackedFace] = field(default_factory=dict)


class Tracker:
    """Joins the faces of frames to tracks. It knows time only by the frames' own stamps.

    A track starts where a detected face scores at least ``start`` (and takes in the weaker sightings just before), and goes on
    while it scores at least ``keep``. A gap of up to ``max_gap`` seconds is filled by interpolation, as far as it lies in the
    window of ``look_ahead`` seconds. A track that lasts less than ``min_duration`` seconds is taken for a false alarm, unless
    it fills its whole shot. A cut ends all tracks. ``max_frames`` and ``max_bytes`` bound the window whatever the time stamps
    and the size of the frames; a window that is shorter for that fills shorter gaps, and a track that is seen in all of it has
    lasted long enough.

    With ``look_ahead=0`` each frame is returned at once: no track is held back, and a lost face is carried on along its motion
    for ``coast`` seconds instead of being filled in afterwards.

    ``known`` are faces followed up to the frame before the first: their tracks go on, however little they score.
    """

    def __init__(
        self,
        *,
        start: float = START,
        keep: float = 0.3,
        max_gap: float = 0.5,
        look_ahead: float = 0.5,
        min_duration: float = 0.15,
        coast: float = 0.15,
        max_frames: int = 32,
        max_bytes: int = 256 << 20,
        known: Sequence[KnownFace] = (),
    ) -> None:
        if not 0 <= keep <= start <= 1:
            raise ValueError(f"thresholds must satisfy 0 <= keep <= start <= 1, not keep={keep}, start={start}")
        if min(max_gap, look_ahead, min_duration, coast) < 0 or max_frames < 1:
            raise ValueError("durations must not be negative and max_frames must be at least 1")
        self._start = start
        self._keep = keep
        self._max_gap = max_gap
        self._look_ahead = look_ahead
        self._min_duration = min(min_duration, look_ahead)
        self._coast = coast
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._bytes = 0  # of the frames in the window
        self._tracks = {face.track_id: _known(face, start) for face in known}
        self._window: deque[_Slot] = deque()
        self._next_track = 1 + max(self._tracks, default=-1)
        self._next_slot = 0
        self._shot_start = 0  # slot in which the current shot began

    def step(self, seen: FrameFaces[SeenFace]) -> list[FrameFaces[TrackedFace]]:
        """Takes the next frame; returns the frames that leave the window, oldest first."""
        slot = _Slot(self._next_slot, seen.frame, seen.cut, float(seen.frame.time))
        self._next_slot += 1
        done: list[FrameFaces[TrackedFace]] = []
        if seen.cut:
            done = self._end_shot()
            self._shot_start = slot.number
        self._window.append(slot)
        self._bytes += slot.frame.nbytes
        faces = [face for face in seen.faces if face.score >= self._keep]
        pairs = _associate([t for t in self._tracks.values() if not t.ended], faces, slot.time)
        for old, face in pairs:
            self._continue(old, face, slot)
        taken = {id(face) for _, face in pairs}
        for face in faces:
            if id(face) not in taken:
                self._begin(face, slot)
        for old in self._tracks.values():
            too_long = slot.time - old.last_time > self._max_gap or slot.number - old.last_slot > self._max_frames
            old.ended = old.ended or too_long
        while self._window and (slot.time - self._window[0].time >= self._look_ahead or self._is_full()):
            self._judge_early()
            done.append(self._release())
        return done

    def flush(self) -> list[FrameFaces[TrackedFace]]:
        """The frames still in the window, at the end of the stream."""
        return self._end_shot()

    def _is_full(self) -> bool:
        return len(self._window) > self._max_frames or (self._bytes > self._max_bytes and len(self._window) > 1)

    def _end_shot(self) -> list[FrameFaces[TrackedFace]]:
        """Ends all tracks and empties the window."""
        last_slot = self._next_slot - 1 if not self._window else self._window[-1].number
        for old in self._tracks.values():
            # a shot shorter than the least duration may still show a face from end to end
            whole_shot = old.first_slot == self._shot_start and old.last_slot == last_slot
            if whole_shot and old.best_score >= self._start:
                old.confirmed = True
            old.ended = True
        done = [self._release() for _ in range(len(self._window))]
        self._tracks.clear()
        return done

    def _begin(self, face: SeenFace, slot: _Slot) -> None:
        new = _Track(self._next_track, face, slot.time, slot.number, slot.number, slot.time, _proof(face))
        self._next_track += 1
        self._tracks[new.number] = new
        self._judge(new, slot)
        slot.entries[new.number] = as_tracked(new.number, face)

    def _continue(self, old: _Track, face: SeenFace, slot: _Slot) -> None:
        """Adds a sighting to a track, with the frames in between where it was missed."""
        jumped = _is_jump(old, face, slot.time)
        if not jumped:
            self._fill_gap(old, face, slot)
        dt = slot.time - old.last_time
        if dt > 0:
            motion = (_centre(face) - _centre(old.last)) / dt
            old.velocity = np.zeros(2) if jumped else 0.5 * (old.velocity + motion)
        old.last, old.last_time, old.last_slot = face, slot.time, slot.number
        old.best_score = max(old.best_score, _proof(face))
        old.sightings += 1
        self._judge(old, slot)
        slot.entries[old.number] = replace(as_tracked(old.number, face), reset=jumped)

    def _judge(self, old: _Track, slot: _Slot) -> None:
        """Confirms a track once it is both certain enough and old enough."""
        old_enough = slot.time - old.first_time >= self._min_duration
        old.confirmed = old.confirmed or (old.best_score >= self._start and old_enough)

    def _judge_early(self) -> None:
        """Confirms the tracks that would lose their first frame, where the window is too short to wait for their duration."""
        first, last = self._window[0].number, self._window[-1].number
        for old in self._tracks.values():
            throughout = old.first_slot == first and old.last_slot == last and old.sightings == last - first + 1
            old.confirmed = old.confirmed or (throughout and last > first and old.best_score >= self._start)

    def _fill_gap(self, old: _Track, face: SeenFace, slot: _Slot) -> None:
        """Interpolates the frames of the window between a track's last sighting and this one."""
        span = slot.time - old.last_time
        for between in self._window:
            if not old.last_slot < between.number < slot.number or span <= 0:
                continue
            at = min(max((between.time - old.last_time) / span, 0.0), 1.0)
            landmarks = (1 - at) * old.last.landmarks + at * face.landmarks
            box = (1 - at) * old.last.box + at * face.box
            trust = min(old.last.trust, face.trust)
            filled = SeenFace(box, landmarks, min(old.last.score, face.score), detected=False, trust=trust)
            between.entries[old.number] = as_tracked(old.number, filled)

    def _release(self) -> FrameFaces[TrackedFace]:
        """Takes the oldest frame out of the window with the faces of confirmed tracks."""
        slot = self._window.popleft()
        self._bytes -= slot.frame.nbytes
        faces = []
        for old in self._tracks.values():
            entry = slot.entries.get(old.number) or self._coasting(old, slot)
            if not old.confirmed or entry is None:
                continue
            continues = old.emitted_slot == slot.number - 1
            old.emitted_slot = slot.number
            faces.append(entry if continues else replace(entry, reset=True))
        spent = [n for n, old in self._tracks.items() if old.ended and old.last_slot <= slot.number]
        for number in spent:
            del self._tracks[number]
        return FrameFaces(slot.frame, tuple(faces), slot.cut)

    def _coasting(self, old: _Track, slot: _Slot) -> TrackedFace | None:
        """Where a track's face should be now that it is missed, while it is worth guessing."""
        missed = slot.time - old.last_time
        if old.ended or slot.number <= old.last_slot or not 0 <= missed <= self._coast:
            return None
        # a face that is lost has often stopped or turned, so the motion fades
        shift = old.velocity * missed * (1 - 0.5 * missed / max(self._coast, 1e-6))
        box = old.last.box + np.tile(shift, 2)
        guess = SeenFace(box, old.last.landmarks + shift, old.last.score, detected=False, trust=old.last.trust)
        return as_tracked(old.number, guess)


def as_tracked(number: int, face: SeenFace) -> TrackedFace:
    """A sighting as part of the track of that number."""
    return TrackedFace(number, face.box, face.landmarks, face.score, face.detected, reset=False, trust=face.trust)


def _known(face: KnownFace, score: float) -> _Track:
    """The track of a face that was followed before the first frame."""
    box = np.concatenate([face.landmarks.min(axis=0), face.landmarks.max(axis=0)])
    seen = SeenFace(box, face.landmarks, score, detected=True)
    return _Track(face.track_id, seen, face.time, -1, -1, face.time, score, confirmed=True)


def _proof(face: SeenFace) -> float:
    """The score as far as it tells that this is a face; one that is only followed has not been told from all else again."""
    return face.score if face.detected else 0.0


def _centre(face: SeenFace) -> FloatArray:
    return (face.box[:2] + face.box[2:]) / 2


def _size(face: SeenFace) -> float:
    """Side of the square with the box's area."""
    width, height = face.box[2:] - face.box[:2]
    return math.sqrt(max(width * height, 1e-6))


def _associate(tracks: list[_Track], faces: list[SeenFace], time: float) -> list[tuple[_Track, SeenFace]]:
    """Pairs of a track and the face that continues it; the cheapest pair first, each used once."""
    costs = [
        (cost, i, j)
        for i, old in enumerate(tracks)
        for j, face in enumerate(faces)
        if (cost := _cost(old, face, time)) is not None
    ]
    pairs: list[tuple[_Track, SeenFace]] = []
    used_tracks: set[int] = set()
    used_faces: set[int] = set()
    for _, i, j in sorted(costs):
        if i not in used_tracks and j not in used_faces:
            used_tracks.add(i)
            used_faces.add(j)
            pairs.append((tracks[i], faces[j]))
    return pairs


def _cost(old: _Track, face: SeenFace, time: float) -> float | None:
    """How ill a face continues a track, from overlap, distance and size; None where it cannot be the same face."""
    missed = max(time - old.last_time, 0.0)
    before, now = _size(old.last), _size(face)
    shift = old.velocity * min(missed, 0.2)
    distance = float(np.hypot(*(_centre(face) - _centre(old.last) - shift))) / max(before, now)
    growth = abs(math.log(now / before))
    # the longer it was out of sight, the farther it may have gone
    if distance > 0.6 + 1.5 * missed or growth > math.log(1.6) + missed:
        return None
    box = old.last.box + np.tile(shift, 2)
    shared = np.prod(np.maximum(np.minimum(box[2:], face.box[2:]) - np.maximum(box[:2], face.box[:2]), 0))
    union = before**2 + now**2 - shared
    return float(1 - shared / union + 0.5 * distance + 0.5 * growth)


def _is_jump(old: _Track, face: SeenFace, time: float) -> bool:
    """Whether the face moved as no head moves: by 0.6 of its size more than foreseen, by half its scale or by 45 degrees.

    A change of shot that shows the same person in about the same place looks like that.
    """
    missed = max(time - old.last_time, 0.0)
    if missed > 0.1:  # over a gap, distance says nothing
        return False
    size = _size(old.last)
    unforeseen = float(np.hypot(*(_centre(face) - _centre(old.last) - old.velocity * missed))) / size
    a, b = _eye_line(old.last), _eye_line(face)
    turn = abs(math.atan2(a[0] * b[1] - a[1] * b[0], a @ b))
    return bool(unforeseen > 0.6 or abs(math.log(_size(face) / size)) > math.log(1.5) or turn > math.radians(45))


def _eye_line(face: SeenFace) -> FloatArray:
    return np.asarray(face.landmarks[42:48].mean(axis=0) - face.landmarks[36:42].mean(axis=0))
