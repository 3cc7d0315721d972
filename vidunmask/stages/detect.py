"""Finds the faces of each frame: the detector every few frames, and from frame to frame by the landmarks themselves.

As in MediaPipe's face pipeline, the region in which landmarks are read comes from the landmarks of the frame before. That costs
as much as optical flow and does not drift, because each frame is measured on its own. Only where the landmarks are not to be
trusted, on masked profiles, is the head followed by the flow of the picture, and drawn gently to where the detector has it.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from vidunmask import geometry
from vidunmask.detectors import Detector
from vidunmask.detectors._crew import Crew
from vidunmask.flow import Beside, Hands
from vidunmask.stages.cuts import THUMBNAIL_SIDE, CutDetector
from vidunmask.stages.motion import head_motion
from vidunmask.stages.reading import CERTAIN, MIN_SCORE, View, look_again, meet, read_face
from vidunmask.stages.regions import angle_of, carried, disagree, each_once, same_face, turned
from vidunmask.stages.tiles import in_tiles, side_of_copy
from vidunmask.types import Detection, FloatArray, Frame, FrameFaces, SeenFace

T = TypeVar("T")
R = TypeVar("R")

_TRUSTED = 0.8  # of landmarks that need no flow
_HALF_TRUSTED = 0.4  # and of those that still say how the head leans
_DRAW = 0.2  # share of the way that a face followed by the flow goes to the detector's in each frame
_DRAW_FAR = 0.35  # and where the detector sees it elsewhere
_LEVEL = 0.4  # and of the way, at each pass, from how it leans to how the detector has it lean
_UPRIGHT = 0.5  # and, when it is met, to standing upright: one look at a profile is wrong by 8 degrees, as far as heads lean
_BELIEF = 0.2  # share of a frame's trust in that of the face: a single frame of a profile may seem sure and be wrong
_DOUBT = 0.6  # and where it is less: a head that begins to turn is turned before its landmarks go astray
_HELD_BYTES = 128 << 20  # of frames held back to follow faces into, and again of frames to come, whatever their number


def detect(
    frames: Iterable[Frame],
    detector: Detector,
    *,
    every: int = 3,
    max_side: int = 640,
    thorough_every: float = 1.0,
    look_back: int = 8,
    min_size: float = 20.0,
    tiles: bool = False,
) -> Iterator[FrameFaces[SeenFace]]:
    """Every frame with the faces seen in it, in order; see `FaceFinder` for the options."""
    finder = FaceFinder(
        detector,
        every=every,
        max_side=max_side,
        thorough_every=thorough_every,
        look_back=look_back,
        min_size=min_size,
        tiles=tiles,
    )
    ahead: deque[Frame] = deque()
    with closing(finder):
        for frame in frames:
            ahead.append(frame)
            if len(ahead) > min(finder.foresight, _HELD_BYTES // max(frame.nbytes, 1)):
                yield from finder.step(ahead.popleft(), ahead)
        while ahead:
            yield from finder.step(ahead.popleft(), ahead)
        yield from finder.flush()


@dataclass(frozen=True, slots=True, eq=False)
class _Followed:
    """A face with what is needed to look for it in the next frame."""

    seen: SeenFace
    velocity: FloatArray  # (2,) pixels a frame
    certain: bool = False  # whether it was ever beyond a doubt
    view: View | None = None  # what the landmarks were read from; None where the face was given
    trust: float = 1.0  # 0..1, of its landmarks over the last few frames


class FaceFinder:
    """Steps through frames and returns those whose faces are known for good.

    every: frames from one pass of the detector to the next; it also runs at the start, after a cut and when a face is lost.
    max_side: longer side of the copy the detector sees, in pixels. thorough_every: seconds; the first pass in each such period
    of the video's time is thorough, on a copy of twice the size. look_back: how many frames are held back, so that a face newly
    found can be followed to the frames before, where the detector had missed it or had not run; with 0 every frame is returned
    at once, for live use. min_size: least longer side of a detected box, in display pixels. tiles: whether thorough passes also
    search the tiles of a large picture, which takes seconds. searcher: a second detector of the same kind. With it the passes
    run in a thread beside, no frame waits for one, and what a pass found on an older frame is sought on the newest. ``every``
    and ``thorough_every`` may be changed at any time.
    With a `Crew` for a detector the faces of a frame are followed side by side, and `step` may be shown frames to come: their
    passes are begun ahead. What is found is the same. `close` ends the threads.

    Every pass also takes a second look at each face, with the detector on a small picture of the face and its surroundings.
    On five clips 95 % of YuNet's false alarms scored under 0.5 there, however high they scored in the frame.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        every: int = 3,
        max_side: int = 640,
        thorough_every: float = 1.0,
        look_back: int = 8,
        min_size: float = 20.0,
        tiles: bool = False,
        searcher: Detector | None = None,
    ) -> None:
        if look_back < 0:
            raise ValueError(f"look_back must be at least 0, not {look_back}")
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self._detector = detector
        self._searcher = searcher
        self._hands = Hands(detector.size) if isinstance(detector, Crew) else None
        self._begun: dict[int, tuple[bool, Future[list[Detection]]]] = {}  # passes ahead: frame to whether thorough, and result
        self._beside: Beside[tuple[int, list[Detection]]] = Beside()
        self._shot = 0  # number of the shot, to know what a pass beside was about
        self.every = every
        self.thorough_every = thorough_every
        self._max_side = max_side
        self._look_back = look_back
        self._min_size = min_size
        self._tiles = tiles
        self._cuts = CutDetector()
        self._followed: list[_Followed] = []
        self._held: list[FrameFaces[SeenFace]] = []
        self._since_pass = every  # the first frame gets a pass
        self._asked = False  # whether something has called for a pass that was not made yet
        self._last_thorough: int | None = None  # the period of the last thorough pass

    @property
    def foresight(self) -> int:
        """How many frames to come `step` has a use for."""
        return 2 * self.every if self._hands is not None and self._searcher is None else 0

    def step(self, frame: Frame, ahead: Sequence[Frame] = ()) -> list[FrameFaces[SeenFace]]:
        """The frames that are done, oldest first; ``frame`` may be among them. ``ahead`` are those that come after it."""
        from vidunmask.video import pixels

        thumbnail, _ = pixels.small_rgb(frame, THUMBNAIL_SIDE)
        cut = self._cuts.step(thumbnail)
        done: list[FrameFaces[SeenFace]] = []
        if cut:
            done, self._held = self._held, []  # nothing may be followed back across a cut
            self._followed = []
            self._last_thorough = None
            self._shot += 1
        followed = [face for face in self._each(lambda old: self._follow(frame, old), self._followed) if face is not None]
        lost = len(followed) < len(self._followed)
        self._since_pass += 1
        self._asked = self._asked or cut or lost
        due = self._asked or self._since_pass >= self.every
        found = self._search(frame) if due and self._searcher is None else self._found_beside(frame, due)
        if found is not None:
            followed, fresh = self._match(frame, followed, found)
            for new in fresh:
                self._follow_back(new)
            followed += fresh
            followed = [replace(face, certain=face.certain or face.seen.score >= CERTAIN) for face in followed]
        self._look_ahead(ahead)
        self._followed = each_once(followed, lambda face: face.seen)  # one may have slid onto another
        self._held.append(FrameFaces(frame, tuple(face.seen for face in self._followed), cut))
        if self._searcher is not None:
            # To follow a face costs as much as half a pass: in a hurry what is in doubt waits for the next one.
            self._followed = [face for face in self._followed if face.certain]
        while len(self._held) > min(self._look_back, max(1, _HELD_BYTES // max(frame.nbytes, 1))):
            done.append(self._held.pop(0))
        return done

    def flush(self) -> list[FrameFaces[SeenFace]]:
        """The frames still held, at the end of the stream."""
        held, self._held = self._held, []
        return held

    def _follow(self, frame: Frame, old: _Followed) -> _Followed | None:
        """The same face in the next frame, or None where it is not found again."""
        expected = old.seen.landmarks + old.velocity
        moved = self._moved(frame, old) if old.trust < _TRUSTED else None
        read = read_face(frame, self._detector, self._detector.region(expected if moved is None else moved))
        if read is None:
            return None
        seen, view = read
        trust = old.trust + (_BELIEF if seen.trust > old.trust else _DOUBT) * (seen.trust - old.trust)
        if min(trust, seen.trust) < _TRUSTED:
            moved = self._moved(frame, old) if moved is None else moved
            if moved is not None:
                seen = _drawn(seen, moved, min(trust, seen.trust), least=_DRAW)
        motion = seen.landmarks.mean(axis=0) - old.seen.landmarks.mean(axis=0)
        seen = replace(seen, trust=trust)
        return _Followed(seen, 0.5 * (old.velocity + motion), old.certain, view, trust)

    def _moved(self, frame: Frame, old: _Followed) -> FloatArray | None:
        """The face's landmarks where the flow of the picture carries them, or None where that is not clear."""
        from vidunmask.video import pixels

        if old.view is None:
            return None
        there = old.view.frame_to_picture.copy()
        there[:, 2] -= there[:, :2] @ old.velocity  # looks where the face should be by now
        after = pixels.read_crop(frame, there, self._detector.region_size)
        motion = head_motion(old.view.picture, after, geometry.apply(old.view.frame_to_picture, old.seen.landmarks))
        if motion is None:
            return None
        return geometry.apply(
            geometry.compose(geometry.compose(old.view.frame_to_picture, motion), geometry.invert(there)), old.seen.landmarks
        )

    def close(self) -> None:
        """Ends the threads, where there are any."""
        self._beside.close()
        if self._hands is not None:
            self._hands.close()

    def _search(self, frame: Frame) -> list[Detection]:
        """A pass of the detector over a frame, now."""
        self._since_pass, self._asked = 0, False
        thorough = self._is_thorough(frame)
        begun = self._begun.pop(frame.index, None)
        self._begun = {index: job for index, job in self._begun.items() if index > frame.index}
        if begun is not None and begun[0] == thorough:
            return begun[1].result()
        return self._pass(frame, self._detector, thorough)()

    def _look_ahead(self, ahead: Sequence[Frame]) -> None:
        """Begins the passes that will be due if nothing comes between; what turns out not to be due is not used."""
        if self._hands is None or not self.foresight:
            return
        last = self._last_thorough
        for frame in itertools.islice(ahead, max(0, self.every - self._since_pass - 1), None, self.every):
            period = self._period(frame)
            if frame.index not in self._begun:
                job = self._pass(frame, self._detector, period != last)
                self._begun[frame.index] = (period != last, self._hands.begin(job))
            last = period

    def _each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """``function`` of every item, in order; side by side where there are detectors enough."""
        if self._hands is None or len(items) < 2:
            return [function(item) for item in items]
        return self._hands.each(function, items)

    def _found_beside(self, frame: Frame, due: bool) -> list[Detection] | None:
        """What a pass beside has found in the meantime, None where there is nothing new; starts the next one when it is due."""
        taken = self._beside.take()
        if due and not self._beside.busy and self._searcher is not None:
            self._since_pass, self._asked = 0, False
            shot, job = self._shot, self._pass(frame, self._searcher, self._is_thorough(frame))
            self._beside.start(lambda: (shot, job()))
        return taken[1] if taken is not None and taken[0] == self._shot else None

    def _period(self, frame: Frame) -> int:
        """Which of the periods a frame lies in whose first passes are thorough.

        By the video's time, so that a run which begins in its midst searches the same frames thoroughly.
        """
        return math.floor(float(frame.time) / max(self.thorough_every, 1e-6) + 1e-6)

    def _is_thorough(self, frame: Frame) -> bool:
        """Whether the pass that is made on a frame now is a thorough one."""
        before, self._last_thorough = self._last_thorough, self._period(frame)
        return self._last_thorough != before

    def _pass(self, frame: Frame, detector: Detector, thorough: bool) -> Callable[[], list[Detection]]:
        """A pass of the detector, still to be run, on a copy of the frame."""
        from vidunmask.video import pixels

        small, frame_to_small = pixels.small_rgb(frame, self._max_side * (2 if thorough else 1))
        small_to_frame = geometry.invert(frame_to_small)
        large_side = side_of_copy(frame.display_size) if self._tiles and thorough else 0
        large, frame_to_large = pixels.small_rgb(frame, large_side) if large_side > max(small.shape) else (None, None)

        def job() -> list[Detection]:
            found = [carried(face, small_to_frame) for face in detector.detect(small, thorough=thorough)]
            if large is not None and frame_to_large is not None:
                tiled = [carried(face, geometry.invert(frame_to_large)) for face in in_tiles(large, detector)]
                found += [face for face in tiled if not any(same_face(face.box, other.box) for other in found)]
            return found

        return job

    def _match(
        self, frame: Frame, followed: list[_Followed], detections: list[Detection]
    ) -> tuple[list[_Followed], list[_Followed]]:
        """The followed faces, confirmed where the detector found them, and the faces that are new."""
        matches: dict[int, Detection] = {}
        unknown: list[Detection] = []
        for detection in detections:
            known = next((i for i, face in enumerate(followed) if same_face(face.seen.box, detection.box)), None)
            if known is not None:
                matches.setdefault(known, detection)
            elif max(detection.box[2:] - detection.box[:2]) >= self._min_size:
                unknown.append(detection)
        met = self._each(lambda detection: meet(frame, self._detector, detection), unknown)
        pairs = [(face, matches.get(i)) for i, face in enumerate(followed)]
        checked = self._each(lambda pair: self._check(frame, *pair), pairs)
        return [face for face in checked if face is not None], [_newly(*face) for face in met if face is not None]

    def _check(self, frame: Frame, face: _Followed, detection: Detection | None) -> _Followed | None:
        """A followed face with the score of a second look, or of the detection found there if that is lower.

        None where both find nothing: what was followed is no face, or no longer one. Where the followed region has drifted off
        the detection, the landmarks are read again from there.
        """
        seen = face.seen
        region = self._detector.region(seen.landmarks)
        beyond_doubt = detection is not None and detection.score >= 0.8 and seen.score >= CERTAIN
        look = seen.score if beyond_doubt else look_again(frame, self._detector, region)
        if detection is None:
            return replace(face, seen=replace(seen, score=look)) if look >= MIN_SCORE else None
        there = self._detector.region(detection)
        if disagree(region, there, self._detector.region_size):
            # The detector does not know of a quarter turn, and the landmarks do.
            turns = round((angle_of(there) - angle_of(region)) / (math.pi / 2)) % 4
            again = read_face(frame, self._detector, turned(there, self._detector.region_size, turns))
            if again is not None and again[0].score >= min(seen.score, CERTAIN):
                anew, view = again
                trust = min(face.trust, anew.trust)
                seen = anew if trust >= _TRUSTED else _drawn(anew, seen.landmarks, trust, least=_DRAW_FAR)
                face = replace(face, view=view)
        seen = _levelled(seen, -angle_of(there), _LEVEL * _distrust(face.trust))
        score = max(MIN_SCORE, min(look, detection.score))
        return replace(face, seen=replace(seen, score=score, detected=True, trust=face.trust))

    def _follow_back(self, face: _Followed) -> None:
        """Adds a newly found face to the held frames, from the latest back to where it is no longer seen."""
        latest = face
        for i in range(len(self._held) - 1, -1, -1):
            held = self._held[i]
            earlier = self._follow(held.frame, latest)
            if earlier is None or any(same_face(other.box, earlier.seen.box) for other in held.faces):
                return
            self._held[i] = replace(held, faces=(*held.faces, earlier.seen))
            latest = earlier


def _newly(seen: SeenFace, view: View) -> _Followed:
    seen = _levelled(seen, 0.0, _UPRIGHT * _distrust(seen.trust))
    return _Followed(seen, np.zeros(2), view=view, trust=seen.trust)


def _drawn(seen: SeenFace, followed: FloatArray, trust: float, *, least: float) -> SeenFace:
    """A face between where it was followed to, landmarks (68, 2), and where it was seen: the more it is trusted, the nearer."""
    share = least + (1 - least) * max(trust - 0.3, 0.0) / 0.7
    landmarks = followed + share * (seen.landmarks - followed)
    return replace(seen, landmarks=landmarks, box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]))


def _distrust(trust: float) -> float:
    """How far (0..1) landmarks are so little trusted that they say nothing of how the head leans."""
    return max(0.0, 1 - trust / _HALF_TRUSTED)


def _levelled(seen: SeenFace, lean: float, share: float) -> SeenFace:
    """A face turned about its middle by a ``share`` of the way to a ``lean``, radians clockwise, but for whole quarters."""
    if share == 0:
        return seen
    by = lean + angle_of(geometry.align(seen.landmarks))
    by -= math.pi / 2 * round(by / (math.pi / 2))
    cos, sin = math.cos(share * by), math.sin(share * by)
    middle = seen.landmarks.mean(axis=0)
    landmarks = (seen.landmarks - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle
    return replace(seen, landmarks=landmarks, box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]))
