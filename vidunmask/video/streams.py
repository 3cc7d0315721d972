"""Everything of a file but the edited video stream, carried over packet by packet.

The source is opened a second time for this. One demuxer for both would have to hold back, in memory and without bound, the
packets of whichever stream runs ahead of the decoder, its read-ahead and the encoder's delay; two read the same pages of the
disk cache.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Discard

from vidunmask.video import credentials
from vidunmask.video.info import VideoInfo
from vidunmask.video.reader import is_cover, is_set_back, open_input
from vidunmask.video.services import services_of

_TS_NONSTRICT = 1 << 17  # AVFMT_TS_NONSTRICT
_PATIENCE = 10  # seconds by which streams of a file may lag behind each other
_AWAITED, _HELD = 64, 1024  # packets of a video, and of all streams, that are read ahead to find its first decoding time
_NOTICED = Fraction(45, 1000)  # seconds by which sound comes early before people notice (ITU-R BT.1359)
QUICKTIME = ("mp4", "mov", "ipod", "3gp", "3g2", "ismv", "f4v")  # muxers that can say from when on a stream is shown
# Written by the muxer itself, or true of the input file only.
_CONTAINER_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
_STREAM_KEYS = {"encoder", "duration", "vendor_id", "bps", "number_of_frames", "number_of_bytes"}
# What FFmpeg's muxer has a stream type for; it writes everything else, and so that nothing finds it again.
_IN_TRANSPORT_STREAMS: dict[str, set[str]] = {
    "audio": {"mp1", "mp2", "mp3", "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "opus", "s302m", "pcm_bluray"},
    "subtitle": {"dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "arib_caption"},
    "attachment": set(),
}
_UNDESCRIBED = b"\0\0\0\x10stsd"  # what says what the samples of a track in MP4 are, and is empty (ISO/IEC 14496-12 §8.5.2)
_FIRST = {"mxf": "mpeg2video", "dv": "dvvideo"}  # muxers that want a video before anything else, and one that they take
_UNORDERED = re.compile(r"(\d+) channels")  # FFmpeg's name for a layout of channels in no known order
_STREAM_PREFIXES = ("_statistics_", "bps-", "duration-", "number_of_frames-", "number_of_bytes-")
# Of the languages with two codes in ISO 639-2, the one that FFmpeg's table of QuickTime's numbers does not know, and the other.
_QUICKTIME_LANGUAGES = {
    "bod": "tib", "cym": "wel", "cze": "ces", "deu": "ger", "ell": "gre", "eus": "baq", "fas": "per", "fre": "fra",
    "hye": "arm", "isl": "ice", "kat": "geo", "mkd": "mac", "msa": "may", "mya": "bur", "nld": "dut", "rum": "ron",
    "slo": "slk", "sqi": "alb", "zho": "chi",
}  # fmt: skip


class StreamCopier:
    """Copies the other streams of ``like.path`` into an output container, interleaved with the video by decoding time.

    A camera or a stream is no file to copy from: its path is empty, and the video stands alone.
    """

    def __init__(self, like: VideoInfo, warnings: list[str]) -> None:
        self._like = like
        self._warnings = warnings
        self._input = open_input(like.path) if like.path else None
        self._services = services_of(like.path) if like.container == "mpegts" else []
        self._targets: dict[int, Any] = {}
        self._last_dts: dict[int, int] = {}
        self._least: dict[int, int] = {}  # decoding time of the next packet of each stream, in the unit of the output
        self._may_stand = False  # whether packets may share a decoding time
        self._refused: dict[int, int] = {}
        self._read: dict[int, Fraction] = {}  # time of the last packet of each stream, as the source has it
        self._set_back: dict[int, int] = {}  # how often the clock of each stream was set back until then
        self._shown: set[int] = set()  # streams of which a packet is shown
        self._unshown: dict[int, int] = {}  # packets of a video that were left out before its first
        self._packets: Iterator[av.Packet] = iter(())
        self._pending: av.Packet | None = None
        self._output: Any = None
        self.chapters = 0
        self.shift = Fraction(0)  # seconds added to every time

    def add_streams(self, output: Any, add_video: Callable[[], None]) -> None:
        """Adds the streams to ``output`` in the order of the source, the edited one through ``add_video``."""
        self._output = output
        self._may_stand = bool(output.format.flags & _TS_NONSTRICT)
        if self._input is None:
            add_video()
            return
        if len(self._services) > 1:
            names = ", ".join(tags.get("service_name", "one without a name") for tags in self._services)
            self._warnings.append(f"{len(self._services)} services become one without a name: {names}")
        if credentials.video_holds_credentials(self._like.path):
            self._warnings.append(f"{credentials.NAME} are left out: they do not hold for the result")
        chapters = list(self._input.chapters())
        self.chapters = len(chapters)
        for stream in self._input.streams:
            if stream.index == self._like.stream_index:
                add_video()
                stream.discard = Discard.all
                continue
            target = None if is_made_by_muxer(self._like, stream, has_chapters=bool(chapters)) else self._add(stream)
            if target is None:
                stream.discard = Discard.all
            else:
                self._targets[stream.index] = target
        output.set_chapters(chapters)
        # Attachments travel in the header.
        copied = [stream for stream in self._input.streams if stream.index in self._targets and stream.type != "attachment"]
        if copied:
            self._packets = _with_decoding_times(self._input.demux(*copied))
        self._advance()

    def _add(self, stream: Any) -> Any | None:
        info = next((s for s in self._like.streams if s.index == stream.index), None)
        name = str(info) if info is not None else f"stream {stream.index} ({stream.type})"
        reason = refusal(self._output.format.name, stream)
        if reason is not None:
            self._warnings.append(f"{name} was left out: a {self._output.format.name} file cannot hold it ({reason})")
            return None
        if is_cover(stream) and self._output.format.name == "matroska":
            self._add_as_attachment(stream, name)
            return None
        target = _add_like(self._output, stream)
        target.metadata.update(stream_metadata(stream.metadata, self._output.format.name))
        target.disposition = int(stream.disposition)
        if stream.type == "video" and not is_cover(stream):
            self._warnings.append(f"{name} is a second video; it was copied as it is, masks and all")
        return target

    def _add_as_attachment(self, stream: Any, name: str) -> None:
        """Matroska keeps cover art among the attachments; its muxer would make a video track of one frame of it."""
        data = _first_packet(self._like.path, stream.index)
        kind = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png")}.get(stream.codec_context.name)
        if data is None or kind is None:
            self._warnings.append(f"{name} was left out: a Matroska file holds JPEG and PNG covers")
            return
        self._output.add_attachment(stream.metadata.get("filename", f"cover.{kind[0]}"), kind[1], data)

    def copy_until(self, time: Fraction | None) -> None:
        """Writes the packets that are due by ``time`` (seconds, decoding time), or all that are left for None.

        Raises whatever the output raises; errors of the input end the copying with a warning.
        """
        while self._pending is not None:
            packet = self._pending
            added = self._added(packet, time)
            dts = packet.dts if packet.dts is not None else packet.pts
            if added is None or (time is not None and dts is not None and dts * packet.time_base + added > time):
                return
            self._write(packet, added)
            self._advance()

    def _added(self, packet: Any, time: Fraction | None) -> Fraction | None:
        """What is added to the times of a packet: where its clock was set back, as much as to those of the video.

        None where the video, written until ``time``, has not come that far, unless it should have long ago.
        """
        index = packet.stream.index
        times = self._set_back.get(index, 0)
        jumps = self._like.jumps[:times]
        last = self._last_dts.get(index, 0) * packet.time_base
        if len(jumps) < times and time is not None and time < last + _PATIENCE:
            return None
        return self.shift + (jumps[-1] if jumps else 0)

    def _advance(self) -> None:
        self._pending = None
        while True:
            try:
                packet = next(self._packets)
            except StopIteration:
                return
            except (FFmpegError, OSError) as error:
                self._warnings.append(f"reading the other streams of the input ended early ({error.strerror})")
                return
            if packet.size and packet.stream.index in self._targets and not self._is_hidden(packet):
                self._pending = packet
                self._watch_clock(packet)
                return

    def _watch_clock(self, packet: Any) -> None:
        """Counts how often the clock of a stream was set back, as where several recordings stand in one file."""
        time, index = packet.dts if packet.dts is not None else packet.pts, packet.stream.index
        if time is not None:
            now = time * packet.time_base
            if is_set_back(self._like.container, now - self._read.get(index, now)):
                self._set_back[index] = self._set_back.get(index, 0) + 1
            self._read[index] = now

    def _is_hidden(self, packet: Any) -> bool:
        """Whether the source's edit list hides a packet and the output has none that would."""
        if "mp4" not in self._like.container:
            return False
        stream = packet.stream
        # Of a fragmented file, whose index counts no frames, FFmpeg takes sound to be hidden that is not.
        hidden = bool(packet.is_discard) and (stream.type == "video" or stream.frames > 0)
        if self._output.format.name in QUICKTIME:  # which hides what comes before the first that is shown, no later one
            if not hidden:
                self._shown.add(stream.index)
            return hidden and stream.index in self._shown and stream.type != "video"
        before_zero = packet.pts is not None and packet.pts * packet.time_base < -self._run_up(stream)
        if stream.type != "video":
            # One packet of sound that begins before zero and ends after it would move all streams by as much.
            return hidden or (stream.type == "audio" and before_zero)
        if stream.index in self._last_dts:
            return hidden and before_zero  # others may be needed to decode what is shown
        if hidden:
            self._unshown[stream.index] = self._unshown.get(stream.index, 0) + 1
        elif stream.index in self._unshown and not packet.is_keyframe:
            self._warnings.append(
                f"stream {stream.index} (video) loses its pictures before its first key frame: they build on "
                f"{self._unshown[stream.index]} that the input hides, and a {self._output.format.name} file cannot hide any"
            )
        return hidden

    def _run_up(self, stream: Any) -> Fraction:
        """Seconds of sound before zero that the output hides: Matroska does what the header of Opus says (RFC 7845 §5.1)."""
        header = (stream.codec_context.extradata or b"") if stream.type == "audio" and stream.codec_context is not None else b""
        if self._output.format.name not in ("matroska", "webm") or header[:8] != b"OpusHead":
            return Fraction(0)
        return Fraction(int.from_bytes(header[10:12], "little"), 48000)

    def _write(self, packet: av.Packet, added: Fraction) -> None:
        index = packet.stream.index
        last = self._last_dts.get(index)
        if added:
            ticks = round(added / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        if packet.dts is None and packet.pts is not None:
            packet.dts = packet.pts
            if packet.stream.type == "video" and last is not None:
                packet.dts = min(packet.pts, last + max(1, packet.duration or 0))
        if packet.dts is not None:
            if last is None and packet.stream.type == "audio" and self._is_before_picture(packet):
                return
            self._last_dts[index] = packet.dts
            self._push_on(packet)
        packet.stream = self._targets[index]
        try:
            self._output.mux_one(packet)
        except (av.error.InvalidDataError, av.error.ArgumentError):
            self._refused[index] = self._refused.get(index, 0) + 1

    def _is_before_picture(self, packet: Any) -> bool:
        """Whether the first packet of sound comes before the picture in an AVI file, whose streams all begin at once."""
        late = packet.dts * packet.time_base
        if self._output.format.name != "avi":
            return False
        if late > _NOTICED:
            self._warnings.append(
                f"stream {packet.stream.index} (audio) starts {float(late) * 1000:.0f} ms too early: "
                f"streams of an AVI file begin together"
            )
        return late < -(packet.duration or 0) * packet.time_base / 2

    def _push_on(self, packet: av.Packet) -> None:
        """Moves a packet as far behind the one before it as the output wants: muxers refuse to go back, and some to stand."""
        index = packet.stream.index
        self._output.start_encoding()  # the header is written by now or here, and decides the unit of times
        unit = self._targets[index].time_base
        ticks = packet.time_base / unit
        dts = math.floor(packet.dts * ticks + Fraction(1, 2))
        least = self._least.get(index, dts)
        if dts < least:
            packet.pts = None if packet.pts is None else max(least, math.floor(packet.pts * ticks + Fraction(1, 2)))
            packet.duration = round((packet.duration or 0) * ticks)
            packet.dts, packet.time_base = least, unit
        self._least[index] = max(dts, least) + (not self._may_stand)

    def close(self) -> None:
        """Closes the source and says what the output refused."""
        for index, count in self._refused.items():
            self._warnings.append(f"{count} packets of stream {index} are damaged and were left out")
        self._refused.clear()
        self._pending = None
        self._packets = iter(())
        if self._input is not None:
            self._input.close()

    @property
    def metadata(self) -> dict[str, str]:
        """The container's own tags, without those that only the input's muxer could know."""
        if self._input is None:
            return {}
        own = self._services[0] if len(self._services) == 1 else {}
        return own | clean_metadata(self._input.metadata, _CONTAINER_KEYS)


def is_made_by_muxer(like: VideoInfo, stream: Any, *, has_chapters: bool) -> bool:
    """QuickTime keeps chapter titles and time codes in tracks, which its muxer makes anew from chapters and metadata."""
    if stream.type != "data" or "mp4" not in like.container:
        return False
    has_timecode = "timecode" in stream.metadata or "timecode" in like.metadata
    return has_timecode or (
        has_chapters and stream.codec_context is None and "Subtitle" in stream.metadata.get("handler_name", "")
    )


def _with_decoding_times(packets: Iterator[Any]) -> Iterator[Any]:
    """The packets of all streams, with the first decoding times of a video that shows its frames in another order.

    Matroska has no decoding times, and FFmpeg makes some up only once it knows how far they run ahead. A time of presentation
    in their place would hold back the frames that are shown before it.
    """
    held: list[Any] = []
    untimed: dict[int, list[Any]] = {}  # the first packets of each video
    timed: set[int] = set()
    broken: Exception | None = None
    try:
        for packet in packets:
            index = packet.stream.index
            held.append(packet)
            if packet.stream.type == "video" and packet.size and index not in timed:
                first = untimed.setdefault(index, [])
                if packet.dts is None and packet.pts is not None and len(first) < _AWAITED:
                    first.append(packet)
                else:
                    _count_back(untimed.pop(index), packet.dts)
                    timed.add(index)
            if len(held) == _HELD:
                for first in untimed.values():
                    _count_back(first, None)
                timed.update(untimed)
                untimed.clear()
            if not untimed:
                yield from held
                held.clear()
    except (FFmpegError, OSError) as error:
        broken = error
    for first in untimed.values():
        _count_back(first, None)
    yield from held
    if broken is not None:
        raise broken


def _count_back(packets: list[Any], dts: int | None) -> None:
    """Gives packets the decoding times before ``dts``, or before all that is shown, one packet's duration apart."""
    if not packets:
        return
    step = max(1, packets[0].duration or 0)
    begin = min([packet.pts for packet in packets] + ([] if dts is None else [dts])) - step * len(packets)
    for position, packet in enumerate(packets):
        packet.dts = begin + step * position


def clean_metadata(tags: dict[str, str], drop: set[str] = _STREAM_KEYS, prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Tags without the keys in ``drop`` and those that begin with one of ``prefixes``, in any case of letters."""
    return {
        key: value for key, value in tags.items() if key.lower() not in drop and not key.lower().startswith(prefixes or ("\0",))
    }


def stream_metadata(tags: dict[str, str], container: str) -> dict[str, str]:
    """The tags of a stream that stay true of its copy, as the muxer ``container`` takes them."""
    kept = clean_metadata(tags, _STREAM_KEYS, _STREAM_PREFIXES)
    # What FFmpeg calls the title of a stream of QuickTime when it reads, and in other files that it makes of one.
    if name := next((key for key in kept if key.lower() == "name"), None):
        kept.setdefault("title", kept.pop(name))
    if "language" in kept:
        kept["language"] = language_for(container, kept["language"])
    return kept


def language_for(container: str, language: str) -> str:
    """The code of a language that the muxer ``container`` can write, wherever it knows one."""
    return _QUICKTIME_LANGUAGES.get(language, language) if container == "mov" else language


def _add_like(output: Any, stream: Any) -> Any:
    """A stream of ``output`` for the packets of ``stream``."""
    # For video PyAV would look for an encoder of the same name; the parameters alone are wanted.
    target = output.add_stream_from_template(stream, **({"opaque": True} if stream.type == "video" else {}))
    if unordered := _UNORDERED.fullmatch(stream.layout.name if stream.type == "audio" else ""):
        # AVI and Matroska do not say which channel is which, MP4 must: they get the usual order, if there is one.
        with contextlib.suppress(ValueError):
            target.codec_context.layout = f"{unordered[1]}c"
    return target


def refusal(container: str, stream: Any) -> str | None:
    """Why a container cannot hold a stream, found by writing a file that holds it alone; None where it can."""
    context = stream.codec_context
    codec = context.codec.canonical_name if context is not None else ""
    if container == "mpegts" and codec not in _IN_TRANSPORT_STREAMS.get(stream.type, (codec,)):
        return "it would be data of no known kind"
    if container == "avi" and codec == "h264" and bytes(context.extradata or b"")[:1] == b"\1":
        return "its parts have lengths before them instead of start codes"
    try:
        written = io.BytesIO()
        with av.open(written, "w", format=container) as trial:
            video: Any = trial.add_stream(_FIRST[container], rate=25) if container in _FIRST else None
            if video is not None:
                video.width, video.height, video.pix_fmt = 720, 576, "yuv420p"
            target = _add_like(trial, stream)
            trial.start_encoding()
            if stream.type == "data" or (stream.type == "audio" and context.name.startswith("pcm_")):
                # MP4's muxer looks at the channels when the file ends, and only at those of a stream with sound.
                packet = av.Packet(bytes(8 * stream.layout.nb_channels if stream.type == "audio" else 8))
                packet.pts = packet.dts = 0
                packet.stream = target
                trial.mux_one(packet)
            if video is not None:
                trial.mux([*video.encode(av.VideoFrame(720, 576, "yuv420p")), *video.encode()])
    except (FFmpegError, OSError, ValueError, TypeError) as error:
        return getattr(error, "strerror", None) or str(error).split(":")[0]
    return "nothing would say what it is" if _UNDESCRIBED in written.getvalue() else None


def _first_packet(path: str, stream_index: int) -> bytes | None:
    with open_input(path) as source:
        for packet in source.demux(source.streams[stream_index]):
            return bytes(packet) if packet.size else None
    return None
