"""A video file as a live source: played at its own pace, once or again and again."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from vidunmask.video.info import VideoInfo
from vidunmask.video.live import JUMP, TIME_BASE, Captured, LiveSource
from vidunmask.video.reader import VideoReader


class FileSource(LiveSource):
    """A video file played at its own pace, again and again with ``loop``."""

    def __init__(self, path: str | Path, *, loop: bool = False) -> None:
        self._path, self._loop = str(path), loop
        self._like: VideoInfo | None = None
        super().__init__(self._path)

    def _ends(self) -> bool:
        return True

    def _rate(self) -> Fraction | None:
        return self._like.average_rate if self._like else None

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        assert self._like is not None
        return replace(self._like, path="", container="live", streams=(), time_base=TIME_BASE, metadata={}, frames=None)

    def _open(self) -> Generator[Captured]:
        reader = VideoReader(self._path, threads=1)
        self._like = reader.info
        self.warnings = reader.warnings
        return self._play(reader)

    def _play(self, reader: VideoReader) -> Generator[Captured]:
        began: float | None = None  # the clock when the first picture of this turn was due
        while True:
            start, last = None, 0.0
            with reader:
                for frame in reader:
                    start = frame.time if start is None else start
                    at = float(frame.time - start)
                    if began is None:
                        yield time.monotonic(), frame.native
                        began = time.monotonic()  # the clock runs from when the second picture is asked for
                        continue
                    # a machine that slept, or is far too slow to decode, goes on from where it is
                    began = max(began, time.monotonic() - at - JUMP)
                    if self._stopped.wait(max(0.0, began + at - time.monotonic())):
                        return
                    yield time.monotonic(), frame.native
                    last = at
            if not self._loop:
                return
            began = (began or 0.0) + last + 1 / float(reader.info.average_rate or 25)
            reader = VideoReader(self._path, threads=1)
