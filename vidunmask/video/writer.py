"""Encoding native frames into a file that is otherwise like its source."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.error import FFmpegError

from vidunmask.errors import OutputError, UsageError
from vidunmask.types import Frame
from vidunmask.video import atomic
from vidunmask.video.animations import loop_options, palettised
from vidunmask.video.encoders import EncoderPlan, colour_of, configure, plan_encoder
from vidunmask.video.info import Colour, VideoInfo
from vidunmask.video.reader import ffmpeg_name
from vidunmask.video.streams import QUICKTIME, StreamCopier, clean_metadata, stream_metadata
from vidunmask.video.verify import Expected, count_stream_tags, verify

_DEFAULT = 1  # AV_DISPOSITION_DEFAULT
# Muxers without a table of codecs name only their default one.
_MORE_CODECS = {
    "mpegts": {"h264", "hevc", "mpeg1video", "mpeg4"},
    "mpeg": {"mpeg1video", "mpeg2video"},
    "mxf": {"h264", "prores", "dnxhd"},
}
# What the mp4 muxer writes as iTunes tags; anything else it drops unless all tags are written the QuickTime way.
_ITUNES_KEYS = {
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping", "lyrics",
    "description", "synopsis", "show", "episode_id", "network", "keywords", "creation_time", "track", "disc", "compilation",
    "episode_sort", "season_number", "media_type", "hd_video", "gapless_playback", "timecode",
}  # fmt: skip


class VideoWriter:
    """Writes frames to ``path`` with everything else as in the file that ``like`` describes; used through ``with``.

    Times, size, aspect, rotation and colour are those of the source, its other streams are copied, and what the target cannot
    hold is named in ``warnings``. The file is written under another name beside the target and moved there, verified, when the
    block ends well; after any exception nothing stands at the target.

    The constructor checks target, container and encoder and raises `UsageError`, `OutputError` or `DeviceError` before any
    work. `write` raises `OutputError` where the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        like: VideoInfo,
        *,
        codec: str | None = None,
        crf: float | None = None,
        preset: str | None = None,
        pix_fmt: str | None = None,
        overwrite: bool = False,
        metadata: dict[str, str] | None = None,
        faststart: bool = False,
    ) -> None:
        """Options: encoder, quality, speed and pixel format as in `encoders`; ``metadata`` is added to the container's."""
        self.warnings: list[str] = []
        self._like = like
        self._overwrite = overwrite
        self._metadata = dict(metadata or {})
        self._faststart = faststart
        self._target = atomic.check_target(path, source=like.path or None, overwrite=overwrite)
        self._format, supported = container_of(self._target)
        self.plan: EncoderPlan = plan_encoder(
            like, supported, self._target.suffix.lstrip(".").lower(), codec=codec, crf=crf, preset=preset, pix_fmt=pix_fmt
        )
        self.warnings.extend(self.plan.warnings)
        self._temporary: Path | None = None
        self._output: Any = None
        self._stream: Any = None
        self._copier: StreamCopier | None = None
        self._expected = Expected()
        self._shift = 0  # ticks added to every pts
        # A last look at the finished and verified file before it takes its place; may put another there, or raise.
        self.inspection: Callable[[Path], None] | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._abort()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._abort()

    def write(self, frame: Frame) -> None:
        """Encodes one frame; frames come in the order of their pts and have the size of ``like``.

        Raises ValueError for a frame of another size, RuntimeError outside of ``with``, `OutputError` where writing fails.
        """
        if self._output is None or self._copier is None:
            raise RuntimeError("VideoWriter.write outside of its with block")
        native = encodable(frame, self._like, self.plan)
        self._begin_at(frame.pts)
        native.pts = frame.pts + self._shift
        self._expected.times.append(float(frame.pts * frame.time_base))
        self._encode(native)

    def _begin_at(self, pts: int) -> None:
        """Sets, by the first pts, what is added to all."""
        assert self._copier is not None
        if self._expected.count == 0 and ((pts < 0 and self._format in QUICKTIME) or (pts != 0 and self._format == "avi")):
            # Players hide what lies before zero in QuickTime's containers; sound may, it is the encoder's run-up. AVI begins
            # with its first frame, whenever that is: a later start would become a gap behind it.
            self._shift = -pts
            self._copier.shift = self._shift * self._like.time_base
        if self._expected.count == 0 and self.plan.tick:  # by which the encoder rounds, and the others move with it
            start = (pts + self._shift) * self._like.time_base
            self._copier.shift += math.floor(start / self.plan.tick + Fraction(1, 2)) * self.plan.tick - start

    def _open(self) -> None:
        like = self._like
        self._temporary = atomic.reserve(self._target)
        self._copier = StreamCopier(like, self.warnings)
        tags = _joined(self._copier.metadata, self._metadata)
        self._expected.tags, self._expected.mark = tags, self._metadata
        try:
            self._output = av.open(
                ffmpeg_name(self._temporary), "w", format=self._format, container_options=self._container_options(tags)
            )
            self._output.metadata.update(tags)
            self._copier.add_streams(self._output, self._add_video)
            self._expected.stream_tags = count_stream_tags(self._output.streams)
        except (FFmpegError, OSError) as error:
            raise atomic.write_error(self._target, error) from error

    def _add_video(self) -> None:
        like, time_base = self._like, self._like.time_base
        stream = self._output.add_stream(self.plan.name, rate=like.average_rate or 25)
        configure(stream.codec_context, self.plan, like, time_base)
        stream.time_base = 1 / like.average_rate if self._format == "avi" and like.average_rate else time_base
        own = clean_metadata(like.metadata, {"alpha_mode"})  # which the muxer says anew
        stream.metadata.update(stream_metadata(own, self._format))
        # QuickTime's muxer makes the first video the default one where none is: not always the one that is shown and edited.
        several = sum(other.kind == "video" and not other.is_cover for other in like.streams) > 1
        stream.disposition = like.disposition | (_DEFAULT if several else 0)
        if like.display_matrix is not None:
            if hasattr(stream, "set_display_matrix"):  # PyAV 18
                stream.set_display_matrix(like.display_matrix)
            else:
                self.warnings.append("the rotation of the picture is lost: writing it needs PyAV 18 or newer")
        self._stream = stream

    def _container_options(self, tags: dict[str, str]) -> dict[str, str]:
        if self._format == "avi":
            return {"avoid_negative_ts": "disabled"}  # of sound; the picture would move with it, its first frame would not
        if self._format not in QUICKTIME:
            return loop_options(self._like.path, self._format)
        flags = ["+faststart"] if self._faststart else []
        others = [key for key in tags if key.lower() not in _ITUNES_KEYS]
        if others and not any(stream.is_cover for stream in self._like.streams):  # or else the cover would be lost
            flags.append("+use_metadata_tags")
        options = {"movflags": "".join(flags)} if flags else {}
        ticks = self._like.time_base.denominator
        if ticks < 1 << 31:
            options["video_track_timescale"] = str(ticks)
            # Edit lists count in this unit: a start that is no whole number of them would shift every pts.
            rates = [48000, 44100] if self._like.streams else []
            movie = ticks
            for rate in rates:
                if math.lcm(movie, rate) < 1 << 31:
                    movie = math.lcm(movie, rate)
            options["movie_timescale"] = str(movie)
        return options

    def _encode(self, native: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(native):
                self._mux(packet)
        except (FFmpegError, OSError) as error:
            raise atomic.write_error(self._target, error) from error

    def _mux(self, packet: av.Packet) -> None:
        """Writes a packet of the video after those of other streams that are due before it."""
        assert self._copier is not None
        if packet.dts is not None:
            self._copier.copy_until(packet.dts * packet.time_base)
        self._output.mux_one(packet)

    def _flush(self) -> None:
        """Writes what the encoder still holds."""
        self._encode(None)

    def _finish(self) -> None:
        assert self._copier is not None
        assert self._temporary is not None
        if self._expected.count == 0:
            raise OutputError(f"{self._target}: no frame was written")
        self._flush()
        try:
            self._copier.copy_until(None)
            self._output.close()
        except (FFmpegError, OSError) as error:
            raise atomic.write_error(self._target, error) from error
        self._output = None
        self._copier.close()
        self._expected.chapters = self._copier.chapters
        verify(self._temporary, self._target, self._like, self._expected, self.warnings)
        if self.inspection is not None:
            self.inspection(self._temporary)
        atomic.commit(self._temporary, self._target, overwrite=self._overwrite)

    def _abort(self) -> None:
        """Lets go of everything; whatever was not committed is removed."""
        if self._copier is not None:
            self._copier.close()
            self._copier = None
        output, self._output, self._stream = self._output, None, None
        if output is not None:
            with contextlib.suppress(FFmpegError, OSError, ValueError):
                output.close()
        if self._temporary is not None:
            atomic.discard(self._temporary)
            self._temporary = None


def container_of(target: Path) -> tuple[str, set[str]]:
    """FFmpeg's muxer for the extension of ``target`` and the codecs it holds; opens nothing."""
    try:
        with av.open(ffmpeg_name(target), "w") as probe:
            if probe.format.no_file:  # playlists and the like, which would appear piece by piece
                raise UsageError(f"{target}: a video cannot be a single {target.suffix}; use .mp4, .mkv, .mov or .webm")
            return probe.format.name, set(probe.supported_codecs) | _MORE_CODECS.get(probe.format.name, set())
    except (FFmpegError, ValueError) as error:
        extension = target.suffix or "without an extension"
        raise UsageError(f"{target}: no container is known for {extension}; use .mp4, .mkv, .mov or .webm") from error


def _joined(tags: dict[str, str], added: dict[str, str]) -> dict[str, str]:
    """Tags with more of them; one that is there already, in whatever case of letters, keeps its text before the new."""
    joined = dict(tags)
    for key, value in added.items():
        there = next((known for known in joined if known.lower() == key.lower()), None)
        joined[there or key] = f"{joined[there]}; {value}" if there and value not in joined[there] else value
    return joined


def encodable(frame: Frame, like: VideoInfo, plan: EncoderPlan) -> av.VideoFrame:
    """The frame as the encoder of ``plan`` takes it. Raises ValueError for one of another size than ``like``."""
    native = frame.native
    if (native.height, native.width) != like.size:
        raise ValueError(f"frame {frame.index} is {native.width}x{native.height}, the video {like.size[::-1]}")
    if native.format.name != plan.pix_fmt:
        native = _converted(native, plan.pix_fmt, colour_of(like, plan.pix_fmt))
    native.pts, native.time_base = frame.pts, frame.time_base
    native.pict_type = 0  # the decoder's picture types would be taken as orders by the encoder
    return native


def _converted(native: av.VideoFrame, pix_fmt: str, colour: Colour) -> av.VideoFrame:
    """The frame in another format with the range and matrix of ``colour``."""
    if pix_fmt == "pal8":
        return palettised(native)
    before, after = native.color_range or None, colour.range or None
    return native.reformat(format=pix_fmt, dst_colorspace=colour.space, src_color_range=before, dst_color_range=after)
