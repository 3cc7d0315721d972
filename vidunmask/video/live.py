"""Pictures as they happen: the base of every live source, network streams, and files played at their own pace.

A live source gives `Frame`s in their native pixel format like the reader, but their pts count microseconds of the wall clock
since the source was opened. So the age of a frame is known at any time, and a recording gets its times from the world.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.error import EOFError as AvEOFError
from av.error import ExitError, FFmpegError, ProtocolNotFoundError

from vidunmask.errors import InputError
from vidunmask.types import Frame
from vidunmask.video.formats import nearest_supported
from vidunmask.video.info import Colour, HdrMetadata, VideoInfo
from vidunmask.video.orientation import orient
from vidunmask.video.reader import VideoReader

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 1_000_000)
_PAUSES = (0.5, 1.0, 2.0, 5.0)  # seconds before the first, second ... attempt to get a lost source back
_JUMP = 2.0  # seconds of pts at once that are a new clock rather than a gap
_GIVE_UP_AFTER = 300  # damaged packets in a row

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
            raise InputError(f"{name}: gives no picture ({_reason(error)})") from error
        if self._first is None:
            raise InputError(f"{name}: ended before its first picture")
        self.info = self._describe(self._first[1])

    def _open(self) -> Iterator[Captured]:
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
        close = getattr(self._pictures, "close", None)
        if close is not None:
            close()

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
                if lost is None or not self._reconnect or not self._get_back(lost):
                    return
        finally:
            close = getattr(self._pictures, "close", None)
            if close is not None:
                close()

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
                raise InputError(f"{self.name}: {_reason(error)}") from error
            if picture is None:
                return
            yield self._frame(*picture)
            del picture

    def _get_back(self, lost: str) -> bool:
        """Tries to open the source again until it is there or `stop` is called."""
        log.warning("%s; trying to get it back", lost)
        attempt = 0
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
        upside_down = any(plane.line_size < 0 for plane in native.planes)
        if (native.height, native.width, native.format.name) == (height, width, self.info.pix_fmt) and not upside_down:
            return native
        keep = native.color_range or None
        return native.reformat(
            width, height, self.info.pix_fmt, interpolation="BICUBIC", src_color_range=keep, dst_color_range=keep
        )


class PacketSource(LiveSource):
    """What FFmpeg opens and demuxes: cameras and network streams.

    timeout: seconds without a picture after which the source counts as lost. paced: whether pictures that come ahead of their
    own clock are held back until they are due, as where a server sends a whole segment at once. endless: whether the source
    can only be lost, not end.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        format: str | None = None,
        options: dict[str, str] | None = None,
        timeout: float = 5.0,
        reconnect: bool = False,
        paced: bool = False,
        endless: bool = False,
    ) -> None:
        self._endless = endless
        self._url, self._format, self._options = url, format, options or {}
        self._timeout = timeout
        self._paced = paced
        self._promised: Fraction | None = None
        super().__init__(name, reconnect=reconnect)

    def _rate(self) -> Fraction | None:
        return self._promised

    def _open(self) -> Iterator[Captured]:
        try:
            container = av.open(
                self._url, format=self._format, options=self._options, timeout=(2 * self._timeout, self._timeout),
                metadata_errors="replace",
            )  # fmt: skip
        except ProtocolNotFoundError as error:
            scheme = self._url.split("://", 1)[0]
            raise InputError(
                f"{self.name}: the FFmpeg within PyAV was built without {scheme}; let an ffmpeg that knows it "
                f"pass the stream on (ffmpeg -i {self._url} -c copy -f mpegts udp://127.0.0.1:5000), and take that with "
                "--source udp://127.0.0.1:5000"
            ) from error
        except (FFmpegError, OSError, ValueError) as error:
            raise InputError(f"{self.name}: cannot be opened ({_reason(error)})") from error
        try:
            stream: Any = next((s for s in container.streams.video if s.codec_context is not None), None)
            if stream is None:
                raise InputError(f"{self.name}: holds no video that can be decoded")
            # Threads over whole frames would hold pictures back, one for each thread.
            stream.thread_type = "SLICE"
            self._promised = stream.average_rate or stream.guessed_rate or None
        except BaseException:
            container.close()
            raise
        return self._pictures_of(container, stream)

    def _pictures_of(self, container: Any, stream: Any) -> Iterator[Captured]:
        damaged = 0
        due: tuple[float, float] | None = None  # clock and pts, in seconds, of the picture that sets the pace
        try:
            packets = self._packets(container, stream)
            for packet in packets:
                arrived = time.monotonic()
                try:
                    natives = packet.decode()
                    damaged = 0
                except AvEOFError:
                    return
                except FFmpegError as error:  # a stream is joined between two key frames
                    damaged += 1
                    if damaged > _GIVE_UP_AFTER:
                        raise InputError(f"{self.name}: nothing but damaged pictures ({_reason(error)})") from error
                    continue
                for native in natives:
                    if self._paced and native.time is not None:
                        if due is None or not -_JUMP < native.time - due[1] - (arrived - due[0]) < 10 * _JUMP:
                            due = (arrived, native.time)
                        if self._stopped.wait(max(0.0, due[0] + native.time - due[1] - time.monotonic())):
                            return
                        arrived = time.monotonic()
                    yield arrived, native
            if self._endless and not self._stopped.is_set():
                raise InputError(f"{self.name}: gives no more pictures; it may have been unplugged")
        finally:
            container.close()

    def _packets(self, container: Any, stream: Any) -> Iterator[av.Packet]:
        """Packets as they arrive; where a device says 'not yet' it is asked again until the timeout."""
        asked = time.monotonic()
        packets = container.demux(stream)
        while not self._stopped.is_set():
            try:
                packet = next(packets, None)
            except (BlockingIOError, av.error.BlockingIOError):
                if time.monotonic() - asked > self._timeout:
                    raise InputError(f"{self.name}: no picture for {self._timeout:g} s") from None
                self._stopped.wait(0.003)
                packets = container.demux(stream)
                continue
            except ExitError as error:
                raise InputError(f"{self.name}: no picture for {self._timeout:g} s, the stream has stalled") from error
            if packet is None:
                return
            yield packet
            asked = time.monotonic()


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

    def _open(self) -> Iterator[Captured]:
        reader = VideoReader(self._path, threads=1)
        self._like = reader.info
        self.warnings = reader.warnings
        return self._play(reader)

    def _play(self, reader: VideoReader) -> Iterator[Captured]:
        began: float | None = None  # the clock when pts 0 was due
        while True:
            last = 0.0
            with reader:
                for frame in reader:
                    at = float(frame.time)
                    if began is None:
                        yield time.monotonic(), frame.native
                        began = time.monotonic() - at  # the clock runs from when the second picture is asked for
                        continue
                    # a machine that slept, or is far too slow to decode, goes on from where it is
                    began = max(began, time.monotonic() - at - _JUMP)
                    if self._stopped.wait(max(0.0, began + at - time.monotonic())):
                        return
                    yield time.monotonic(), frame.native
                    last = at
            if not self._loop:
                return
            began = (began or 0.0) + last + 1 / float(reader.info.average_rate or 25)
            reader = VideoReader(self._path, threads=1)


def colour_of(first: av.VideoFrame) -> Colour:
    """The colour tags of a picture."""
    return Colour(
        range=int(first.color_range),
        primaries=int(getattr(first, "color_primaries", 2)),
        transfer=int(getattr(first, "color_trc", 2)),
        space=int(first.colorspace),
    )


def open_stream(url: str, *, timeout: float = 5.0, reconnect: bool = False) -> LiveSource:
    """A network stream (RTSP, RTMP, HTTP with HLS, UDP and whatever PyAV's FFmpeg knows). Raises InputError."""
    scheme = url.split("://", 1)[0].lower()
    options = {"flags": "low_delay"}  # not fflags nobuffer, which throws away what was read to know the stream
    if scheme == "rtsp":
        options["rtsp_transport"] = "tcp"
    # These come as fast as the line carries them, the others as they are shot.
    paced = scheme in ("http", "https", "hls")
    return PacketSource(url, url, options=options, timeout=timeout, reconnect=reconnect, paced=paced)


def open_file(path: Path, *, loop: bool = False) -> LiveSource:
    """A file at its own pace. Raises InputError."""
    return FileSource(path, loop=loop)


def _reason(error: BaseException) -> str:
    if isinstance(error, ExitError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
