"""Decoding a run of frames from the midst of a video, the same frames as a reading from end to end would give."""

from __future__ import annotations

from pathlib import Path

import av
from av.error import FFmpegError

from vidunmask.types import Frame
from vidunmask.video.index import Span, SpanError
from vidunmask.video.reader import VideoReader


class SpanReader(VideoReader):
    """Iterates the frames of ``span``; their numbers and times are those of the whole video.

    Every frame is compared with the index: `SpanError` where the decoder gives out others. ``info`` is that of the whole
    video. Otherwise as `VideoReader`.
    """

    def __init__(self, path: str | Path, span: Span, *, threads: int = 0) -> None:
        super().__init__(path, threads=threads)
        self._span = span
        self._given = 0
        try:
            if span.first > 0 or (self._first is not None and self._first.pts != span.pts[0]):
                self._go_to_start()
        except (FFmpegError, OSError) as error:
            self.close()
            raise SpanError(f"{path}: cannot be read from its midst ({error})") from error
        except BaseException:
            self.close()
            raise

    def _next(self) -> Frame | None:
        if self._given == len(self._span.pts):
            return None
        expected = self._span.pts[self._given]
        frame = super()._next()
        if self._closed:
            return None
        if frame is None or frame.pts != expected:
            found = "ends" if frame is None else f"has pts {frame.pts}"
            raise SpanError(f"{self._path}: frame {self._span.first + self._given} should have pts {expected} but it {found}")
        self._given += 1
        if self._given == len(self._span.pts):
            self._conclude(broken=False)
        return frame

    def _go_to_start(self) -> None:
        """Seeks to ever earlier key frames until the decoder gives out the first frame of the span."""
        start = self._span.pts[0]
        for key in self._span.seeks:
            self._natives.close()
            self._container.seek(key, stream=self._stream, backward=True)
            if self._decoder is not None:
                self._decoder.flush_buffers()
            self._natives = self._decode()
            native = self._skip_to(start)
            if native is not None:
                self._first = native
                self._index = self._span.first
                self._damaged = self._concealed = 0  # what was damaged before the span is reported where it is shown
                return
        raise SpanError(f"{self._path}: frame {self._span.first} (pts {start}) cannot be reached from a key frame before it")

    def _skip_to(self, start: int) -> av.VideoFrame | None:
        for native in self._natives:
            if native.pts is not None and native.pts >= start:
                return native if native.pts == start else None
        return None

    def _conclude(self, *, broken: bool) -> None:
        """What was damaged in the span; whether the file is cut off is known from its index."""
        if self._damaged:
            self.warnings.append(f"{self._damaged} damaged packets were skipped")
        if self._concealed:
            self.warnings.append(f"{self._concealed} frames are damaged, the decoder patched them up")
        self._damaged = self._concealed = 0
