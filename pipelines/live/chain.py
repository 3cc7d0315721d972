"""The chain of the house for pictures as they happen: no look-ahead, newest first, stages beside each other."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

from vidunmask import detectors, geometry
from vidunmask.flow import Latest, prefetch, tap
from vidunmask.pipelines.build import Parts
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.live.pace import Level
from vidunmask.pipelines.report import Stopwatch
from vidunmask.stages.aim import aim
from vidunmask.stages.blend import TemporalBlender, blend
from vidunmask.stages.crop import crop
from vidunmask.stages.detect import FaceFinder
from vidunmask.stages.track import Tracker, track
from vidunmask.stages.unmask import FillsAgain, unmask
from vidunmask.types import ByteArray, Fill, Frame, FrameFaces, SeenFace
from vidunmask.video.pixels import Preview

# Which stages share a thread, in the order of the chain.
THREADS = {
    "detect": ("detect", "track", "aim", "crop"),
    "segment": ("segment",),
    "inpaint": ("inpaint",),
    "blend": ("blend",),
    "show": ("show",),
}
AIM_EVERY = 3  # frames from one look for the mask of a turned head to the next; each costs a run of the segmenter


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """A finished picture with what the window may want to show of it."""

    frame: Frame
    faces: tuple[Fill, ...]
    before: ByteArray | None  # (h, w, 3) RGB


class Chain:
    """The stages over a live source. Every one gives a frame back before it takes the next, and what costs much has a thread
    of its own, so that the rate is that of the slowest part and the latency the sum of all.

    No more frames are on their way than there are cores (``places``); `done` says that one has come out. One more only waits,
    and makes the others wait: two busy cores gave 10.3 pictures a second either way, after 244 ms (p95 353) with three on their
    way and after 151 ms (p95 255) with two; one core gave 17 a second, after 190 ms with three and after 77 with one.
    """

    def __init__(self, frames: Iterable[Frame], parts: Parts, config: Config, level: Level, watch: Stopwatch) -> None:
        self._parts, self._config, self._watch = parts, config, watch
        # Passes of the detector run beside, on a detector of their own, since one serves one thread.
        searcher = detectors.create(config.detector, device=parts.device.split(":")[0])
        self._finder = FaceFinder(
            parts.detector, every=level.every, thorough_every=level.thorough_every, look_back=0, searcher=searcher
        )
        self._again = FillsAgain(level.inpaint_every)
        self.places = max(1, min(3, cores()))
        self._newest = Latest(frames, self.places)

    def done(self) -> None:
        """A picture has been shown."""
        self._newest.done()

    def stop(self) -> None:
        """To be called before `outputs` is closed."""
        self._newest.stop()

    def change(self, level: Level) -> None:
        """Spends what ``level`` says from the next frame on."""
        self._finder.every, self._finder.thorough_every = level.every, level.thorough_every
        self._again.every = level.inpaint_every

    def outputs(self, before: Callable[[], int]) -> Generator[Output]:
        """The finished pictures, each with a copy of what it was before, of at most so many pixels as ``before()`` says."""
        config, watch = self._config, self._watch
        seen = watch.stage("detect", _seen(watch.stage("wait", self._newest), self._finder))
        tracked = watch.stage("track", track(seen, Tracker(look_ahead=0)))
        tracked = watch.stage("aim", aim(tracked, self._parts.unmasker, every=AIM_EVERY))
        crops = watch.stage("wait", prefetch(watch.stage("crop", crop(tracked, look_ahead=0)), 1))
        unmasked = unmask(
            crops, self._parts.unmasker, min_faces=1, max_frames=1, look_ahead=0, temporal=config.temporal, again=self._again,
            seam=lambda items: watch.stage("wait", prefetch(watch.stage("segment", items), 1)),
        )  # fmt: skip
        fills = watch.stage("wait", prefetch(watch.stage("inpaint", unmasked), 1))
        blender = TemporalBlender(strength=TemporalBlender.STRENGTH if config.temporal else 0.0)
        yield from watch.stage("blend", _blended(fills, blender, before))


def _seen(frames: Iterator[Frame], finder: FaceFinder) -> Iterator[FrameFaces[SeenFace]]:
    try:
        for frame in frames:
            yield from finder.step(frame)
    finally:
        finder.close()


def _blended(fills: Iterable[FrameFaces[Fill]], blender: TemporalBlender, before: Callable[[], int]) -> Iterator[Output]:
    preview = Preview()
    known: deque[tuple[tuple[Fill, ...], ByteArray | None]] = deque()

    def keep(item: FrameFaces[Fill]) -> None:
        side = before()
        known.append((item.faces, preview.rgb(item.frame, side)[0] if side else None))

    for frame in blend(tap(fills, keep), blender):
        yield Output(frame, *known.popleft())


def warm_up(parts: Parts) -> None:
    """Runs every network once, since the first call of each takes several times as long as the others."""
    import numpy as np

    face = np.zeros((geometry.CROP_SIZE, geometry.CROP_SIZE, 3), np.uint8)
    parts.unmasker.segment([face])
    parts.unmasker.inpaint([face], [np.ones(face.shape[:2], np.float32)])
    size = parts.detector.region_size
    parts.detector.landmarks(np.zeros((size, size, 3), np.uint8))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def sharing_cores() -> Iterator[None]:
    """Leaves cores to the stages that run beside each other: half to torch, a quarter to OpenCV; as it was afterwards.

    On two cores a call that splits itself over both waits for whichever one another stage holds: a face then took 40 times as
    long.
    """
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(max(1, min(before[0], 8, cores() // 2)))
    cv2.setNumThreads(max(1, min(4, cores() // 4)))
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
