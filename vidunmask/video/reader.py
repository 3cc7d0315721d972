"""Decoding a video file to native frames with exact times."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.error import EOFError as AvEOFError
from av.error import FFmpegError
from av.stream import Discard

from vidunmask.errors import InputError
from vidunmask.types import Frame
from vidunmask.video.formats import nearest_supported
from vidunmask.video.info import (
    BOTTOM_FIRST,
    TOP_FIRST,
    Colour,
    HdrMetadata,
    StreamInfo,
    VideoInfo,
    parse_content_light,
    parse_mastering_display,
)
from vidunmask.video.orientation import orient
from vidunmask.video.truncation import promised_size

_ATTACHED_PICTURE = 1 << 10  # AV_DISPOSITION_ATTACHED_PIC
_GIVE_UP_AFTER = 200  # demuxer errors in a row without a packet between them
_UNTIMED, _REORDERED = 1000, 32  # packets without a time at the start of a file, and those behind them, that are looked at
_WITH_FRAMES = {
    "DOVI_METADATA": "metadata of Dolby Vision", "DOVI_RPU_BUFFER": "metadata of Dolby Vision",
    "DYNAMIC_HDR_PLUS": "metadata of HDR10+", "A53_CC": "closed captions",
}  # fmt: skip
_BROADCAST = ("mpegts", "mpeg")  # containers for lines with losses, of whose damaged packets something can often be shown
_JUMP = Fraction(1)  # seconds backwards that are a jump of the clock rather than jitter
_STANDS_STILL = 3  # frames in a row with one time: a clock that stands, not one frame too many
_FASTEST = 240  # frames per second that are believed of a video whose frames say nothing of it
_HALF_TURN = Fraction(1 << 32, 90000)  # seconds; the clocks of broadcasts begin anew after twice as many


class VideoReader:
    """Iterates the frames of the main video stream of ``path``, once, in the order of presentation.

    Frames stay in their native pixel format; a format that `formats` cannot describe is converted to the nearest that it can.
    A picture that changes its size or format on the way is scaled and converted to the first one's, as ffmpeg does, and
    damaged packets are left out. ``warnings`` says so, once each, and is complete when the last frame was read.

    Raises `InputError` where the file cannot be read or holds no video. Threads: one thread may iterate while another closes.
    """

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        """Opens ``path`` and decodes the first frame; ``threads`` of the decoder, 0 for as many as there are cores."""
        self.warnings: list[str] = []
        self._path = str(path)
        self._lock = threading.Lock()
        self._closed = False
        self._damaged = self._concealed = self._restamped = self._hidden = self._index = 0
        self._last_pts: int | None = None
        self._same: tuple[int | None, int] = None, 0  # the file's time of the last frame, and of how many in a row
        self._clock = 0  # the latest time by the file itself: the frames may be ahead of one that stands still
        self._opens: bool | None = None  # whether the first packet says it is a key frame
        self._last_end = 0
        self._shift = 0  # added to pts after the clock jumped backwards
        self._container = open_input(path)
        try:
            self._stream = _main_video(self._container, self._path)
            self._stream.thread_type = "AUTO"
            self._stream.thread_count = threads
            self._decoder = _decoder_with_alpha(self._stream, threads)
            for stream in self._container.streams:
                if stream.index != self._stream.index:
                    stream.discard = Discard.all
            self._time_base = self._stream.time_base or Fraction(1, 90000)
            rate = _rate_of(self._stream)
            self._step = max(1, round(1 / (rate * self._time_base))) if rate else 1
            plausible = rate if rate and rate <= _FASTEST else Fraction(25)
            self._pace = max(1, round(1 / (plausible * self._time_base)))
            self._natives = self._decode()
            self._first = next(self._natives, None)
            if self._first is None:
                raise InputError(f"{self._path}: no frame of its video stream ({_codec(self._stream)}) can be decoded")
            if not _is_url(path) and (promised := promised_size(Path(path)) or 0) > (there := Path(path).stat().st_size):
                self.warnings.append(f"the file is cut off: only {there} of its {promised} bytes are there")
            # libvpx, which gives transparency, marks no key frames, and begins with one; CineForm marks only its packets
            if not (self._first.key_frame or self._opens) and not self._hidden and self._decoder is None:
                self.warnings.append("the video does not start with a key frame, its first frames may be missing")
            self.info = self._describe(self._first, rate)
            self._pix_fmt = self.info.pix_fmt
            if self._first.format.name != self._pix_fmt:
                self.warnings.append(f"pixel format {self._first.format.name} is edited and written as {self._pix_fmt}")
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the iteration and closes the file; waits for a frame that another thread is decoding."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._first = None
                self._natives.close()
                self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        with self._lock:
            if self._closed:
                return None
            native = self._first or next(self._natives, None)
            self._first = None
            if native is None:
                return None
            pts = self._stamp(native.pts)
            self._last_end = pts + (native.duration or 0)
            native = self._conform(native)
            native.pts, native.time_base = pts, self._time_base
            frame = Frame(self._index, native, pts, self._time_base, self.info.display_size, self.info.native_to_display)
            self._index += 1
            return frame

    def _decode(self) -> Generator[av.VideoFrame, None, None]:
        """Frames as the decoder gives them out, past whatever is damaged."""
        errors_in_a_row = 0
        order: list[int] = []  # decoding times of the frames that have not come out, where they have no others
        ordered = is_only_ordered(self._container, self._stream)
        packets = self._container.demux(self._stream)
        while errors_in_a_row < _GIVE_UP_AFTER:
            try:
                packet = next(packets)
                errors_in_a_row = 0
            except StopIteration:
                break
            except (FFmpegError, OSError):  # the demuxer may find the next packet, or fail for good
                errors_in_a_row += 1
                packets = self._container.demux(self._stream)
                continue
            if packet.is_corrupt and self._container.format.name not in _BROADCAST:
                self._damaged += 1  # by the end of the file; a decoder with threads would lose what it still holds, too
                continue
            if ordered and packet.size and packet.dts is not None:
                order.append(packet.dts)
            self._opens = packet.is_keyframe if self._opens is None else self._opens
            self._hidden += bool(packet.is_discard)  # before the start that an edit list sets: decoded, not shown
            try:
                natives = packet.decode() if self._decoder is None else self._decoder.decode(packet if packet.size else None)
            except AvEOFError:
                continue
            except FFmpegError:
                self._damaged += 1
                del order[-1:]
                continue
            for native in natives:
                if order:
                    native.pts = min(order)
                    order.remove(native.pts)
                self._concealed += bool(native.is_corrupt)
                yield native
        self._conclude(broken=errors_in_a_row > 0)

    def _conclude(self, *, broken: bool) -> None:
        seen = self._index
        if self._damaged:
            self.warnings.append(f"{self._damaged} damaged packets were skipped")
        if self._concealed:
            self.warnings.append(f"{self._concealed} frames are damaged, the decoder patched them up")
        if self._restamped:
            self.warnings.append(f"{self._restamped} frames had no, repeated or backward timestamps, which were repaired")
        # Elsewhere the number of frames is a guess, or counts repetitions that are stored as nothing.
        promised = max(0, len(self._stream.index_entries) - self._hidden) if "mp4" in self._container.format.name else 0
        if broken or (promised and seen < promised - self._damaged) or self._ends_early():
            of = f" of {promised}" if promised else ""
            self.warnings.append(f"the file seems cut off or damaged: {seen}{of} frames could be read")

    def _ends_early(self) -> bool:
        """Whether the video, and all that goes with it, ends well before the end that the header of a Matroska file gives."""
        length = self._container.duration
        if "matroska" not in self._container.format.name or not length or self._last_pts is None:
            return False
        longest = Fraction(length, 1_000_000)  # from zero as FFmpeg writes it, wherever the file begins
        last, leeway = self._last_end * self._time_base, max(Fraction(1), longest / 50)
        return longest - last > leeway and (len(self._container.streams) == 1 or longest - self._end_of_all(last) > leeway)

    def _end_of_all(self, last: Fraction) -> Fraction:
        """When the last packet of any stream begins, which is not before ``last``."""
        with contextlib.suppress(FFmpegError, OSError), open_input(self._path) as container:
            container.seek(int(last * 1_000_000))
            for packet in container.demux():
                if packet.pts is not None:
                    last = max(last, packet.pts * packet.time_base)
        return last

    def _stamp(self, pts: int | None) -> int:
        """A pts greater than the last one: the frame's own wherever that is possible.

        A frame with the time of the one before comes right after it; where one time goes on and on, as where a file knows
        none, the frames keep the video's rate, or 25 a second where that cannot be.
        """
        last = self._last_pts
        self._same = pts, self._same[1] + 1 if pts == self._same[0] else 1
        if pts is None:
            stamped = self._untimed_start() if last is None else last + self._step
            self._restamped += 1
        else:
            stamped = pts + self._shift
            if last is not None and is_set_back(self._container.format.name, (stamped - self._clock) * self._time_base):
                self._restamped += 1
                self._shift += last + self._step - stamped
                self.info.jumps.append(self._shift * self._time_base)
                stamped = last + self._step
            elif last is not None and stamped <= last:
                self._restamped += 1
                self._last_pts = last + (self._pace if self._same[1] >= _STANDS_STILL else 1)
                self._clock = max(self._clock, stamped)
                return self._last_pts
        self._last_pts = self._clock = stamped
        return stamped

    def _untimed_start(self) -> int:
        """When a video begins whose first frames have no time, as those before zero in Matroska: counted back from others."""
        times: list[int] = []
        untimed = 0
        if not _is_url(self._path):
            with contextlib.suppress(FFmpegError, OSError), open_input(self._path) as container:
                for packet in packets_of(container, self._stream.index):
                    if packet.pts is not None:
                        times.append(packet.pts)
                    elif not times or "matroska" in container.format.name:  # where all others have one
                        untimed += 1
                    if len(times) == _REORDERED or untimed > _UNTIMED:
                        break
        return min(times) - untimed * self._step if times else 0

    def _conform(self, native: av.VideoFrame) -> av.VideoFrame:
        """The frame in the size and format of the first one."""
        height, width = self.info.size
        same_size = (native.width, native.height) == (width, height)
        if same_size and native.format.name == self._pix_fmt:
            return upright(native)
        if not same_size:
            self._warn_once(
                f"the picture changes its size from {width}x{height} to {native.width}x{native.height}; "
                f"such frames are scaled to the first size"
            )
        elif native.format.name != self._pix_fmt and nearest_supported(native.format.name) != self._pix_fmt:
            self._warn_once(f"the pixel format changes to {native.format.name}; such frames are converted to {self._pix_fmt}")
        return native.reformat(
            width, height, self._pix_fmt, interpolation="BICUBIC",
            src_color_range=native.color_range or None, dst_color_range=native.color_range or None,
        )  # fmt: skip

    def _warn_once(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def _describe(self, first: av.VideoFrame, rate: Fraction | None) -> VideoInfo:
        stream, context = self._stream, self._stream.codec_context
        side_data = _side_data(first)
        matrix = side_data.get("DISPLAYMATRIX")
        display_matrix = struct.unpack("9i", matrix[:36]) if matrix and len(matrix) >= 36 else None
        aspect = stream.sample_aspect_ratio or None
        size = (first.height, first.width)
        orientation = orient(size, matrix=display_matrix, aspect=aspect)
        if not orientation.exact:
            self.warnings.append("the display matrix turns by no multiple of 90 degrees; it is kept, faces are sought unturned")
        duration: Fraction | None = None
        if stream.duration is not None:
            duration = stream.duration * self._time_base
        elif self._container.duration is not None:
            duration = Fraction(self._container.duration, 1_000_000)
        field_order = int(getattr(context, "field_order", 0))
        if not field_order and first.interlaced_frame:  # as in DV, which is lower field first (IEC 61834-2)
            field_order = BOTTOM_FIRST if _codec(stream) == "dvvideo" else TOP_FIRST
        return VideoInfo(
            path=self._path,
            container=self._container.format.name,
            stream_index=stream.index,
            codec=_codec(stream),
            size=size,
            display_size=orientation.display_size,
            native_to_display=orientation.native_to_display,
            display_matrix=display_matrix,
            sample_aspect=aspect,
            pix_fmt=nearest_supported(first.format.name),
            colour=Colour(
                range=int(first.color_range),
                primaries=int(getattr(first, "color_primaries", context.color_primaries)),
                transfer=int(getattr(first, "color_trc", context.color_trc)),
                space=int(first.colorspace),
            ),
            hdr=HdrMetadata(
                parse_mastering_display(side_data.get("MASTERING_DISPLAY_METADATA", b"")),
                parse_content_light(side_data.get("CONTENT_LIGHT_LEVEL", b"")),
                frozenset(name for kind, name in _WITH_FRAMES.items() if kind in side_data),
            ),
            time_base=self._time_base,
            average_rate=rate or None,
            frames=stream.frames or None,
            duration=duration if duration and duration > 0 else None,
            bit_rate=context.bit_rate or self._container.bit_rate or None,
            field_order=field_order,
            streams=tuple(_stream_info(other) for other in self._container.streams),
            metadata=dict(stream.metadata),
            disposition=int(stream.disposition),
        )


def _side_data(frame: av.VideoFrame) -> dict[str, bytes]:
    """What the decoder attached to a frame, by the name of its type.

    In PyAV a frame whose side data were looked at holds itself, and through its picture all that the decoder had allocated,
    until Python's collector of cycles comes by: every opening of a 1080p file left 6.5 MB for minutes. A tiny copy has the same
    data and holds nothing else.
    """
    with contextlib.suppress(FFmpegError, ValueError):  # a format that the scaler does not know
        frame = frame.reformat(16, 16, "gray")
    attached: Any = None
    while attached is None:
        try:
            attached = frame.side_data
        except ValueError as error:  # "31 is not a valid Type": FFmpeg knows more of them (EXIF, views) than PyAV
            frame = _filtered(frame, "sidedata", f"mode=delete:type={str(error).split()[0]}")
    # Iterating gives the data in PyAV 18 and their types in 19.
    entries = (entry if hasattr(entry, "type") else attached[entry] for entry in attached)
    return {data.type.name: bytes(data) for data in entries}


def upright(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame with rows in the order of the picture, which some decoders store from the last to the first."""
    return _filtered(frame, "copy") if any(plane.line_size < 0 for plane in frame.planes) else frame


def _filtered(frame: av.VideoFrame, name: str, options: str = "") -> av.VideoFrame:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add(name, options), graph.add("buffersink")).configure()
    graph.push(frame)
    made = graph.pull()
    assert isinstance(made, av.VideoFrame)
    return made


# PyAV 18 refuses tags that are not UTF-8 unless told otherwise; from 19 on it replaces what it cannot read, and has no option.
_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_input(path: str | Path) -> av.container.InputContainer:
    """Opens a file or URL for reading; raises `InputError` with the reason."""
    if not _is_url(path):
        file = Path(path)
        if not file.exists():
            raise InputError(f"{path}: no such file")
        if file.is_dir():
            raise InputError(f"{path}: is a folder, not a video file")
        if file.is_file() and file.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
    try:
        return av.open(ffmpeg_name(path), **_LENIENT)
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: not a video that FFmpeg can read ({reason})") from error


def is_only_ordered(container: av.container.InputContainer, stream: Any) -> bool:
    """Whether a stream has an order and no times of presentation, as H.264 in AVI and ASF: those of FFmpeg are late."""
    return container.format.name in ("avi", "asf") and _codec(stream) in ("h264", "hevc")


def is_set_back(container: str, seconds: Fraction) -> bool:
    """Whether a clock that goes on by ``seconds`` was set back.

    In broadcasts FFmpeg takes a fall of more than a minute for the end of a turn, and adds the whole turn of 26.5 hours.
    """
    return seconds < -_JUMP or (container in _BROADCAST and seconds > _HALF_TURN)


def packets_of(container: av.container.InputContainer, index: int) -> Iterator[Any]:
    """The packets of one stream that hold something, with the ``pts`` that `VideoReader` gives; other streams are not read."""
    stream = container.streams[index]
    for other in container.streams:
        if other.index != index:
            other.discard = Discard.all
    ordered = is_only_ordered(container, stream)
    for packet in container.demux(stream):
        if packet.size:
            if ordered:
                packet.pts = packet.dts
            yield packet


def ffmpeg_name(path: str | Path) -> str:
    """The name by which FFmpeg finds a file whatever its name: ``a:b.mp4`` would be taken for protocol ``a``."""
    return str(path) if _is_url(path) else f"file:{path}"


def _is_url(path: str | Path) -> bool:
    return isinstance(path, str) and "://" in path


def _rate_of(stream: Any) -> Fraction | None:
    """Frames per second as the container counts them, or as the stream has them where that is out of all proportion: a file
    whose frames have all one time lasts for nearly nothing."""
    average, guessed = stream.average_rate, stream.guessed_rate
    return (guessed if average and guessed and average > 8 * guessed else average or guessed) or None


def _main_video(container: av.container.InputContainer, path: str) -> Any:
    """The video stream that a player would show: the default one, or else the largest; cover art does not count."""
    real = [stream for stream in container.streams.video if not is_cover(stream)]
    if not real:
        kinds = sorted({"cover art" if stream.type == "video" else stream.type for stream in container.streams})
        raise InputError(f"{path}: holds no video stream, only {', '.join(kinds) or 'nothing'}")
    decodable = [stream for stream in real if stream.codec_context is not None]
    if not decodable:
        raise InputError(f"{path}: this FFmpeg has no decoder for its video stream")
    return max(decodable, key=lambda s: (int(s.disposition) & 1, s.codec_context.width * s.codec_context.height, -s.index))


def _decoder_with_alpha(stream: Any, threads: int) -> Any | None:
    """FFmpeg's own VP8 and VP9 decoders ignore the transparency of WebM, libvpx does not; None where it is not needed."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(_codec(stream))
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if tags.get("alpha_mode") != "1" or name is None or name not in av.codecs_available:
        return None
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.thread_count = threads
    return decoder


def is_cover(stream: Any) -> bool:
    """Whether a stream is a picture attached to the file, not a video."""
    return stream.type == "video" and bool(int(stream.disposition) & _ATTACHED_PICTURE)


def _stream_info(stream: Any) -> StreamInfo:
    language = stream.metadata.get("language")
    return StreamInfo(stream.index, stream.type or "unknown", _codec(stream), language, is_cover(stream))


def _codec(stream: Any) -> str:
    context = stream.codec_context
    return context.codec.canonical_name if context is not None else "unknown codec"
