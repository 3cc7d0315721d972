"""What needs an ffmpeg process: sound and subtitles that a container cannot hold, converted before the run.

PyAV does everything else. Subtitles are the reason: it can neither encode nor filter them.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from vidunmask.errors import DeviceError, InputError
from vidunmask.video.info import StreamInfo, VideoInfo
from vidunmask.video.reader import VideoReader, ffmpeg_name, open_input
from vidunmask.video.streams import is_made_by_muxer, language_for, refusal
from vidunmask.video.writer import container_of

_SOUND = {"webm": "libopus", "ogg": "libopus", "avi": "libmp3lame"}  # elsewhere AAC
_SUBTITLES = {"mp4": "mov_text", "mov": "mov_text", "ipod": "mov_text", "webm": "webvtt", "matroska": "subrip"}
_PLACEHOLDER = {"webm": "libvpx", "ogg": "libtheora"}  # a video codec that the container holds; elsewhere MPEG-4


def executable() -> str:
    """The ffmpeg program: the system's, else imageio-ffmpeg's. Raises DeviceError where there is neither."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise DeviceError("--convert-streams: needs the program ffmpeg, which is not installed") from error


def convert_streams(info: VideoInfo, target: Path, folder: Path) -> tuple[VideoInfo, list[str], list[str]]:
    """Makes in ``folder`` a file whose streams the container of ``target`` can hold, for `VideoWriter` to copy from.

    Returns the info to give to the writer (``info`` itself where nothing had to be converted), what was converted, and what
    was left out because ffmpeg cannot convert it either (pictures as subtitles, attachments). The edited video is replaced by
    a placeholder of one frame that keeps the order of the streams. Raises InputError where ffmpeg fails, DeviceError where it
    is missing.
    """
    container, _ = container_of(target)
    codecs, left_out = _plan(info, container)
    converted = [f"{stream} is converted to {codec}" for stream, codec in codecs if codec not in ("copy", "placeholder")]
    if not converted:
        return info, [], []
    path = folder / f"streams{target.suffix}"
    _run(info.path, path, container, codecs)
    with VideoReader(path) as reader:
        made = reader.info
    like = replace(info, path=str(path), container=made.container, stream_index=made.stream_index, streams=made.streams)
    return like, converted, left_out


def _plan(info: VideoInfo, container: str) -> tuple[list[tuple[StreamInfo, str]], list[str]]:
    """For every stream to keep what becomes of it: copy, placeholder or an encoder's name; and a line for every other."""
    keep: list[tuple[StreamInfo, str]] = []
    left_out: list[str] = []
    with open_input(info.path) as source:
        has_chapters = bool(source.chapters())
        for known, stream in zip(info.streams, source.streams, strict=True):
            if known.index == info.stream_index:
                keep.append((known, "placeholder"))
                continue
            reason = refusal(container, stream)
            if reason is None:
                keep.append((known, "copy"))
            elif known.kind == "audio" and stream.codec_context is not None:
                keep.append((known, _SOUND.get(container, "aac")))
            elif known.kind == "subtitle" and _is_text(stream) and container in _SUBTITLES:
                keep.append((known, _SUBTITLES[container]))
            elif not is_made_by_muxer(info, stream, has_chapters=has_chapters):
                left_out.append(f"{known} was left out: a {container} file can neither hold nor convert it ({reason})")
    return keep, left_out


def _is_text(stream: object) -> bool:
    """Whether a subtitle stream is text; AV_CODEC_PROP_TEXT_SUB, which pictures (PGS, DVD) have not."""
    context = getattr(stream, "codec_context", None)
    return context is not None and bool(context.codec.properties & (1 << 17))


def _run(source: str, path: Path, container: str, codecs: list[tuple[StreamInfo, str]]) -> None:
    import ffmpeg

    given = ffmpeg.input(ffmpeg_name(source), copyts=None)
    # Not the video cut to one frame: -frames on one stream ends the others with it.
    placeholder = ffmpeg.input("color=size=16x16:rate=25:duration=0.04", format="lavfi")
    # ffmpeg-python numbers the inputs by their first use.
    main = 1 if codecs[0][1] == "placeholder" else 0
    options: dict[str, str | int | None] = {"format": container, "c": "copy", "copyts": None, "strict": "experimental"}
    options |= {"map_metadata": main, "map_chapters": main}
    if container in ("mp4", "mov", "ipod"):
        options["movflags"] = "use_metadata_tags"
    for position, (stream, codec) in enumerate(codecs):
        if stream.language and codec != "placeholder":
            options |= {f"metadata:s:{position}": f"language={language_for(container, stream.language)}"}
        if codec == "placeholder":
            options[f"c:{position}"] = _PLACEHOLDER.get(container, "mpeg4")
        elif codec != "copy":
            options[f"c:{position}"] = codec
    streams = [placeholder["v"] if codec == "placeholder" else given[str(stream.index)] for stream, codec in codecs]
    graph = ffmpeg.output(*streams, ffmpeg_name(path), **options)
    process = graph.global_args("-nostdin", "-v", "error").run_async(cmd=executable(), pipe_stdout=True, pipe_stderr=True)
    try:
        _, said = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise InputError(f"{source}: ffmpeg could not convert its streams ({lines[0]}); try without --convert-streams")
