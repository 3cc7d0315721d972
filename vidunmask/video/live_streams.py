"""Live pictures through FFmpeg's demuxers: network streams, and the cameras that it has devices for."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any

import av
from av.error import EOFError as AvEOFError
from av.error import ExitError, FFmpegError, ProtocolNotFoundError

from vidunmask.errors import InputError
from vidunmask.video.live import JUMP, Captured, LiveSource, reason_of
from vidunmask.video.urls import without_secrets

_GIVE_UP_AFTER = 300  # damaged packets in a row
_STRETCH = 0.2  # seconds after which it is seen whether pictures come faster than they were shot


class _Backlog:
    """What piled up while a stream was probed and the networks were loaded, and then comes all at once.

    It reaches no further than ``seconds``, those since the stream was asked for, behind the ``first`` picture, whose time is in
    seconds as well; where the sender was waited for it is less, and ends with the first stretch that comes at its own pace.
    """

    def __init__(self, first: float, seconds: float) -> None:
        self._first, self._end = first, first + seconds
        self._mark = time.monotonic(), first  # clock and time of a picture

    def holds(self, at: float, arrived: float) -> bool:
        """Whether a picture of that time belongs to it; to be asked about one after the other until one does not."""
        if not self._first <= at < self._end:
            return False
        took, length = arrived - self._mark[0], at - self._mark[1]
        if took >= _STRETCH:
            self._mark = arrived, at
            return length > 2 * took
        return True


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
        self._asked = 0.0  # clock when the stream was asked for
        self._whole = False  # whether a web server has all of it, as of a playlist that has ended
        super().__init__(name, reconnect=reconnect)

    def _rate(self) -> Fraction | None:
        return self._promised

    def _ends(self) -> bool:
        return self._whole

    def _open(self) -> Generator[Captured]:
        self._asked = time.monotonic()
        try:
            container = av.open(
                self._url, format=self._format, options=self._options, timeout=(2 * self._timeout, self._timeout),
                metadata_errors="replace",
            )  # fmt: skip
        except ProtocolNotFoundError as error:
            scheme = self._url.split("://", 1)[0]
            raise InputError(
                f"{self.name}: the FFmpeg within PyAV was built without {scheme}; let an ffmpeg that knows it "
                f"pass the stream on (ffmpeg -i {self.name} -c copy -f mpegts udp://127.0.0.1:5000), and take that with "
                "--source udp://127.0.0.1:5000"
            ) from error
        except (FFmpegError, OSError, ValueError) as error:
            raise InputError(f"{self.name}: cannot be opened ({reason_of(error)})") from error
        try:
            stream: Any = next((s for s in container.streams.video if s.codec_context is not None), None)
            if stream is None:
                raise InputError(f"{self.name}: holds no video that can be decoded")
            # Threads over whole frames would hold pictures back, one for each thread.
            stream.thread_type = "SLICE"
            self._promised = stream.average_rate or stream.guessed_rate or None
            self._whole = self._paced and bool(container.duration)
        except BaseException:
            container.close()
            raise
        return self._pictures_of(container, stream)

    def _pictures_of(self, container: Any, stream: Any) -> Generator[Captured]:
        damaged = 0
        first = True
        backlog: _Backlog | None = None
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
                        raise InputError(f"{self.name}: nothing but damaged pictures ({reason_of(error)})") from error
                    continue
                for native in natives:
                    if backlog is not None and native.time is not None:
                        if backlog.holds(native.time, arrived):
                            continue
                        backlog = None
                    if self._paced and native.time is not None:
                        if due is None or not -JUMP < native.time - due[1] - (arrived - due[0]) < 10 * JUMP:
                            due = (arrived, native.time)
                        if self._stopped.wait(max(0.0, due[0] + native.time - due[1] - time.monotonic())):
                            return
                        arrived = time.monotonic()
                    yield arrived, native
                    if first and native.time is not None:  # a while later: networks are loaded after the first picture
                        if self._paced:
                            due = time.monotonic(), native.time
                        else:
                            backlog = _Backlog(native.time, time.monotonic() - self._asked)
                    first = False
            if self._endless and not self._stopped.is_set():
                raise InputError(f"{self.name}: gives no more pictures; it may have been unplugged")
        finally:
            container.close()

    def _packets(self, container: Any, stream: Any) -> Iterator[av.Packet]:
        """Packets as they arrive; where a device says 'not yet', or only sound comes, others are awaited until the timeout."""
        asked = time.monotonic()
        packets = container.demux()
        while not self._stopped.is_set():
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.stream is stream:
                    yield packet
                    asked = time.monotonic()
                    continue
            except (BlockingIOError, av.error.BlockingIOError):
                self._stopped.wait(0.003)
                packets = container.demux()
            except ExitError as error:
                raise InputError(f"{self.name}: no picture for {self._timeout:g} s, the stream has stalled") from error
            if time.monotonic() - asked > self._timeout:
                raise InputError(f"{self.name}: no picture for {self._timeout:g} s")


def open_stream(url: str, *, timeout: float = 5.0, reconnect: bool = False) -> LiveSource:
    """A network stream (RTSP, RTMP, HTTP with HLS, UDP and whatever PyAV's FFmpeg knows). Raises InputError."""
    scheme = url.split("://", 1)[0].lower()
    options = {"flags": "low_delay"}  # not fflags nobuffer, which throws away what was read to know the stream
    if scheme == "rtsp":
        options["rtsp_transport"] = "tcp"
    if scheme in ("rtmp", "rtmps") or url.split("?", 1)[0].lower().endswith(".flv"):
        options["analyzeduration"] = "1000000"  # µs; FLV announces sound also where there is none, and FFmpeg looks for it
    # These come as fast as the line carries them, the others as they are shot.
    paced = scheme in ("http", "https", "hls")
    return PacketSource(without_secrets(url), url, options=options, timeout=timeout, reconnect=reconnect, paced=paced)
