"""One video from parts that were encoded apart, with everything else of its source as `writer` copies it.

Each part is encoded by an encoder of its own with the same parameters, so it begins with a key frame and refers to nothing
outside. The encoder that the joined file opens for its header must therefore describe them all.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from vidunmask.errors import OutputError
from vidunmask.types import Frame
from vidunmask.video import atomic
from vidunmask.video.encoders import EncoderPlan, configure
from vidunmask.video.index import FrameIndex, SpanError, decoding_delay
from vidunmask.video.info import VideoInfo
from vidunmask.video.packets import EncodedPacket
from vidunmask.video.writer import VideoWriter, encodable

_SIDE_DATA = ("matroska_block_additional", "new_extradata")  # what a packet of these bytes alone could not carry


class SegmentEncoder:
    """Encodes a part of a video as `VideoWriter` would the whole; ``container`` is the muxer that will hold it."""

    def __init__(self, like: VideoInfo, plan: EncoderPlan, container: str) -> None:
        self._like = like
        self._plan = plan
        # Nothing is ever written to this container; it sets up the encoder the way the joined file will.
        self._output: Any = av.open(io.BytesIO(), "w", format=container)
        self._stream: Any = self._output.add_stream(plan.name, rate=like.average_rate or 25)
        configure(self._stream.codec_context, plan, like, like.time_base)
        self._order: list[int] = []

    def encode(self, frame: Frame, *, key: bool = False) -> list[EncodedPacket]:
        """The packets that are ready; ``key`` makes the frame a key frame. Raises `OutputError` where the encoder fails."""
        native = encodable(frame, self._like, self._plan)
        if key:
            native.pict_type = 1  # AV_PICTURE_TYPE_I
        return self._packets(native)

    def flush(self) -> list[EncodedPacket]:
        """The packets that the encoder still holds."""
        return self._packets(None)

    @property
    def delay(self) -> int:
        """By how many frames decoding runs ahead of presentation in what was encoded so far."""
        return decoding_delay(self._order)

    @property
    def headers(self) -> bytes:
        """What the encoder puts into the header of a container; empty before the first frame."""
        return bytes(self._stream.codec_context.extradata or b"")

    def _packets(self, native: av.VideoFrame | None) -> list[EncodedPacket]:
        try:
            packets = [self._plain(packet) for packet in self._stream.encode(native)]
        except (FFmpegError, OSError) as error:
            raise OutputError(f"{self._like.path}: the encoder {self._plan.name} failed ({error})") from error
        self._order.extend(packet.pts for packet in packets)
        return packets

    def _plain(self, packet: av.Packet) -> EncodedPacket:
        for kind in _SIDE_DATA:
            if packet.has_sidedata(kind):  # type: ignore[arg-type]
                raise SpanError(f"{self._like.path}: {self._plan.name} keeps {kind} beside its packets")
        if packet.pts is None:
            raise SpanError(f"{self._like.path}: {self._plan.name} gives packets without a time")
        ticks = packet.time_base / self._like.time_base
        pts, dts, duration = (round((value or 0) * ticks) for value in (packet.pts, packet.dts, packet.duration))
        return EncodedPacket(pts, dts, duration, packet.is_keyframe, bytes(packet))


class JoinedWriter(VideoWriter):
    """A `VideoWriter` that is given packets instead of frames.

    ``index`` holds the times of all frames; decoding times are made anew from them, with ``delay`` frames of run-up, so that
    they fit across the joints. ``headers`` replaces what the encoder would put into the container's header. ``inspect`` is
    called with the finished file before it takes its place, and may raise.
    """

    def join(
        self,
        packets: Iterable[EncodedPacket],
        index: FrameIndex,
        *,
        delay: int,
        headers: bytes | None = None,
        inspect: Callable[[Path], None] | None = None,
    ) -> None:
        """Writes all packets of the video, in the order of decoding. Raises `OutputError` where a frame is missing."""
        self._begin_at(int(index.pts[0]))
        self.inspection = inspect
        context = self._stream.codec_context
        try:
            context.open()
            if headers is not None:
                context.extradata = headers
            self._joined(packets, index, delay)
        except (FFmpegError, OSError) as error:
            raise atomic.write_error(self._target, error) from error

    def encoder_headers(self) -> bytes:
        """What the encoder puts into the header; for comparison with `SegmentEncoder.headers`."""
        encoder = SegmentEncoder(self._like, self.plan, self._format)
        encoder._stream.codec_context.open()
        return encoder.headers

    @property
    def container(self) -> str:
        """FFmpeg's name of the muxer."""
        return self._format

    def _joined(self, packets: Iterable[EncodedPacket], index: FrameIndex, delay: int) -> None:
        count = len(index.pts)
        for packet, dts in zip(packets, _decoding_times(index, delay), strict=False):
            out: Any = av.Packet(packet.data)
            out.pts, out.dts = packet.pts + self._shift, min(dts, packet.pts) + self._shift
            out.duration, out.time_base = packet.duration, self._like.time_base
            out.is_keyframe, out.stream = packet.is_key, self._stream
            self._expected.times.append(float(packet.pts * self._like.time_base))
            self._mux(out)
        if self._expected.count != count:
            raise OutputError(f"{self._target}: its parts hold {self._expected.count} of {count} frames; nothing was kept")

    def _flush(self) -> None:
        """Nothing: the encoder was given no frame."""


def _decoding_times(index: FrameIndex, delay: int) -> Iterator[int]:
    """A decoding time for each packet: that of the frame ``delay`` earlier; the first ones keep their distances."""
    pts = index.pts
    count = len(pts)
    run_up = int(pts[min(delay, count - 1)] - pts[0])
    for i in range(count):
        yield int(pts[i - delay]) if i >= delay else int(pts[i]) - run_up
