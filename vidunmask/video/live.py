"""Pictures as they happen: the base of every live source.

A live source gives `Frame`s in their native pixel format like the reader, but their pts count microseconds of the wall clock
since the source was opened. So the age of a frame is known at any time, and a recording gets its times from the world.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
from av.error import ExitError, FFmpegError

from vidunmask.errors import InputError
from vidunmask.types import Frame
from vidunmask.video.formats import nearest_supported
from vidunmask.video.info import Colour, HdrMetadata, VideoInfo
from vidunmask.video.orientation import orient
from vidunmask.video.reader import upright

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 1_000_000)
_PAUSES = (0.5, 1.0, 2.0, 5.0)  # seconds before the first, second ... attempt to get a lost source back
JUMP = 2.0  # seconds of pts at once that are a new clock rather than a gap

Captured = tuple[float, av.VideoFrame]  # seconds of the monotonic clock at which the picture arrived, and the picture


class LiveSource:
    """Iterates frames as they happen, once; opened when made, closed through ``with``.

    ``name`` is what messages call it; ``info`` describes the first picture, to which later ones are scaled and converted.
    With ``reconnect`` a source that is lost is opened again, for as long as it takes; ``waiting`` then says why. Iterating
    raises InputError where the source is lost otherwise, and ends where a stream or file ends. `stop` may be called
    from any thread: the iteration ends at the next picture, or after the timeout at the latest.
    """

    def __init__(self, name: str, *, reconnect: bool = False) -> None:
        self.name = name
        self.warnings: list[str] = []
        self.captured = 0  # pictures so far
        self.waiting: str | None = None
        self._reconnect = reconnect
        self._stopped = threading.Event()
        self._epoch = time.monotonic()
        self._last_pts = -1
        self._pictures = self._open()
        try:
            self._first: Captured | None = next(self._pictures, None)
        except FFmpegError as error:
            raise InputError(f"{name}: gives no picture ({reason_of(error)})") from error
        if self._first is None:
            raise InputError(f"{name}: ended before its first picture")
        self.info = self._describe(self._first[1])
        self._size = self.info.size  # of the last picture, as it came

    def _open(self) -> Generator[Captured]:
        """Opens the source, raising InputError, and gives the pictures it has from now on; ends with the source."""
        raise NotImplementedError

    def _rate(self) -> Fraction | None:
        """Pictures a second as the source promises them; asked once it is open."""
        return None

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        size = (first.height, first.width)
        shown = orient(size)
        return VideoInfo(
            path="", container="live", stream_index=0, codec="", size=size,
            display_size=shown.display_size, native_to_display=shown.native_to_display, display_matrix=None,
            sample_aspect=None, pix_fmt=nearest_supported(first.format.name), colour=colour_of(first),
            hdr=HdrMetadata(None, None), time_base=TIME_BASE, average_rate=self._rate(), frames=None, duration=None,
            bit_rate=None, field_order=0,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        with contextlib.suppress(ValueError):  # another thread still waits for a picture, and closes it when it returns
            self._pictures.close()

    def stop(self) -> None:
        """Ends the iteration soon, whichever thread runs it."""
        self._stopped.set()

    def age(self, frame: Frame) -> float:
        """Seconds since a frame of this source was captured."""
        return time.monotonic() - self._epoch - float(frame.time)

    def __iter__(self) -> Iterator[Frame]:
        try:
            while not self._stopped.is_set():
                try:
                    yield from self._frames()
                    lost = None if self._ends() else f"{self.name}: the stream ended"
                except InputError as error:
                    if not self._reconnect:
                        raise
                    lost = str(error)
                if lost is None or self._stopped.is_set() or not self._reconnect or not self._get_back(lost):
                    return
        finally:
            self._pictures.close()

    def _ends(self) -> bool:
        """Whether the end of the pictures is the end of the source, not its loss."""
        return False

    def _frames(self) -> Iterator[Frame]:
        first, self._first = self._first, None
        if first is not None and self._ends():
            # Of what happens by itself the first picture is old by now, since networks were loaded in the meantime.
            yield self._frame(time.monotonic(), first[1])
        del first
        while not self._stopped.is_set():
            try:
                picture = next(self._pictures, None)
            except FFmpegError as error:
                raise InputError(f"{self.name}: {reason_of(error)}") from error
            if picture is None:
                return
            yield self._frame(*picture)
            del picture

    def _get_back(self, lost: str) -> bool:
        """Tries to open the source again until it is there or `stop` is called; false too where it has ended meanwhile."""
        log.warning("%s; trying to get it back", lost)
        attempt, ended = 0, self._ends()
        while not self._stopped.is_set():
            self.waiting = lost
            if self._stopped.wait(_PAUSES[min(attempt, len(_PAUSES) - 1)]):
                break
            attempt += 1
            try:
                self._pictures = self._open()
            except InputError as error:
                lost = str(error)
                log.debug("%s", lost)
                continue
            self.waiting = None
            if self._ends() and not ended:  # what is left of a playlist was live, and has been seen
                return False
            log.warning("%s: is back", self.name)
            return True
        return False

    def _frame(self, captured: float, native: av.VideoFrame) -> Frame:
        native = self._conform(native)
        # strictly increasing, as encoders want it
        pts = self._last_pts = max(self._last_pts + 1, round((captured - self._epoch) * 1_000_000))
        native.pts, native.time_base = pts, TIME_BASE
        frame = Frame(self.captured, native, pts, TIME_BASE, self.info.display_size, self.info.native_to_display)
        self.captured += 1
        return frame

    def _conform(self, native: av.VideoFrame) -> av.VideoFrame:
        """The picture in the size and format of the first one."""
        height, width = self.info.size
        if (native.height, native.width) != self._size:
            self._size = native.height, native.width
            how = "scaled" if native.height * width == native.width * height else "stretched"
            log.warning("%s: gives %dx%d now, %s to %dx%d as at first", self.name, *self._size[::-1], how, width, height)
        if (native.height, native.width, native.format.name) == (height, width, self.info.pix_fmt):
            return upright(native)
        keep = native.color_range or None
        return native.reformat(
            width, height, self.info.pix_fmt, interpolation="BICUBIC", src_color_range=keep, dst_color_range=keep
        )


def colour_of(first: av.VideoFrame) -> Colour:
    """The colour tags of a picture."""
    return Colour(
        range=int(first.color_range),
        primaries=int(getattr(first, "color_primaries", 2)),
        transfer=int(getattr(first, "color_trc", 2)),
        space=int(first.colorspace),
    )


def reason_of(error: BaseException) -> str:
    """Why FFmpeg failed, in a few words."""
    if isinstance(error, ExitError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
