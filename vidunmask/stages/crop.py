"""Cuts the aligned picture of each tracked face out of its frame, along a smoothed path."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator

from vidunmask import geometry
from vidunmask.stages.smoothing import CausalSmoother, Path
from vidunmask.types import FaceCrop, FloatArray, FrameFaces, TrackedFace

LOOK_AHEAD = 0.25  # seconds to each side over which a path is smoothed


def crop(
    tracked: Iterable[FrameFaces[TrackedFace]], *, look_ahead: float = LOOK_AHEAD, size: int = geometry.CROP_SIZE
) -> Iterator[FrameFaces[FaceCrop]]:
    """Every frame with its aligned crops, in order; see `CropCutter` for the options."""
    cutter = CropCutter(look_ahead=look_ahead, size=size)
    for frame_faces in tracked:
        yield from cutter.step(frame_faces)
    yield from cutter.flush()


class CropCutter:
    """Smooths the alignment of each track over time and reads the crops.

    look_ahead: seconds of frames held back, so that the smoothed path does not lag; with 0 frames are returned at once and a
    One-Euro filter smooths instead. size: side of the crops in pixels. max_frames and max_bytes bound the window
    whatever the time stamps and the size of the frames.
    """

    def __init__(
        self,
        *,
        look_ahead: float = LOOK_AHEAD,
        size: int = geometry.CROP_SIZE,
        max_frames: int = 16,
        max_bytes: int = 128 << 20,
    ) -> None:
        if look_ahead < 0 or max_frames < 1:
            raise ValueError(f"look_ahead must be at least 0 and max_frames 1, not {look_ahead} and {max_frames}")
        self._look_ahead = look_ahead
        self._size = size
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._bytes = 0  # of the frames in the window
        self._window: deque[tuple[FrameFaces[TrackedFace], list[Path]]] = deque()
        self._paths: dict[int, Path] = {}
        self._causal: dict[int, CausalSmoother] = {}

    def step(self, tracked: FrameFaces[TrackedFace]) -> list[FrameFaces[FaceCrop]]:
        """Takes the next frame; returns those that leave the window, oldest first."""
        now = float(tracked.frame.time)
        if self._look_ahead == 0:
            return [self._cut(tracked, self._filtered(tracked, now))]
        present = {face.track_id for face in tracked.faces}
        self._paths = {number: path for number, path in self._paths.items() if number in present}
        paths = []
        for face in tracked.faces:
            path = self._paths.get(face.track_id)
            if path is None or face.reset:
                path = self._paths[face.track_id] = Path()
            path.append(now, placement(face), weight=face.weight)
            paths.append(path)
        self._window.append((tracked, paths))
        self._bytes += tracked.nbytes
        done = []
        while self._window and (now - float(self._window[0][0].frame.time) >= self._look_ahead or self._is_full()):
            done.append(self._release())
        return done

    def _is_full(self) -> bool:
        return len(self._window) > self._max_frames or (self._bytes > self._max_bytes and len(self._window) > 1)

    def flush(self) -> list[FrameFaces[FaceCrop]]:
        """The frames still in the window, at the end of the stream."""
        return [self._release() for _ in range(len(self._window))]

    def _release(self) -> FrameFaces[FaceCrop]:
        """Takes the oldest frame out of the window and cuts its crops."""
        tracked, paths = self._window.popleft()
        self._bytes -= tracked.nbytes
        time = float(tracked.frame.time)
        smoothed = [path.smoothed(time, self._look_ahead) for path in paths]
        for path in paths:
            path.forget(time - 2 * self._look_ahead)
        return self._cut(tracked, smoothed)

    def _filtered(self, tracked: FrameFaces[TrackedFace], now: float) -> list[FloatArray]:
        """Parameters of each face, filtered with the past alone."""
        before, self._causal = self._causal, {}
        parameters = []
        for face in tracked.faces:
            known = before.get(face.track_id)
            smoother = CausalSmoother() if known is None or face.reset else known
            self._causal[face.track_id] = smoother
            parameters.append(smoother.step(now, placement(face), weight=face.weight))
        return parameters

    def _cut(self, tracked: FrameFaces[TrackedFace], parameters: list[FloatArray]) -> FrameFaces[FaceCrop]:
        from vidunmask.video import pixels

        crops = []
        for face, values in zip(tracked.faces, parameters, strict=True):
            frame_to_crop = geometry.resize(geometry.similarity_from_parameters(values), self._size)
            image = pixels.read_crop(tracked.frame, frame_to_crop, self._size)
            landmarks = geometry.apply(frame_to_crop, face.landmarks)
            crops.append(FaceCrop(face.track_id, image, frame_to_crop, landmarks, face.score, face.reset, face.trust))
        return FrameFaces(tracked.frame, tuple(crops), tracked.cut)


def placement(face: TrackedFace) -> FloatArray:
    """Where the crop of a face should lie on its own, (4,) `geometry.similarity_parameters`: a profile is laid in smaller."""
    parameters = geometry.similarity_parameters(geometry.align(face.landmarks if face.aimed is None else face.aimed))
    parameters[2] += math.log2(geometry.profile_scale(face.trust))
    return parameters
