"""Small clips and frames made on the spot, with the traits that real files have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from vidunmask.flow import prefetch
from vidunmask.types import Frame
from vidunmask.video.info import VideoInfo
from vidunmask.video.orientation import orient
from vidunmask.video.reader import VideoReader
from vidunmask.video.writer import VideoWriter

FAST = {"crf": 30.0, "preset": "ultrafast"}


def picture(height: int, width: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """A smooth coloured picture (height, width, 3) uint8 that moves with ``shift``."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin((x + shift) / (7 + 3 * c) + seed) + np.cos((y - shift) / (9 + 2 * c) + c) for c in range(3)]
    return np.clip(127 + 50 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


def native(image: np.ndarray, pix_fmt: str, *, space: int = 1, full: bool = False) -> av.VideoFrame:
    """An av frame of ``image`` in ``pix_fmt``, tagged."""
    colour_range = 2 if full or pix_fmt.startswith("yuvj") else 1
    spaces = {1: "itu709", 5: "itu601", 6: "itu601", 9: "bt2020"}
    frame = av.VideoFrame.from_ndarray(image, "rgb24")
    if pix_fmt == "rgb24":
        return frame
    rgb = av.VideoFormat(pix_fmt).is_rgb
    if rgb:
        return frame.reformat(format=pix_fmt)
    frame = frame.reformat(format=pix_fmt, dst_colorspace=spaces[space], dst_color_range=colour_range)
    frame.colorspace, frame.color_range = space, colour_range
    return frame


def as_frame(raw: av.VideoFrame, **orientation: Any) -> Frame:
    """The library's frame around an av frame."""
    shown = orient((raw.height, raw.width), **orientation)
    return Frame(0, raw, 0, Fraction(1, 25), shown.display_size, shown.native_to_display)


def planes_of(raw: av.VideoFrame) -> list[np.ndarray]:
    """Copies of the planes (rows, bytes) without the padding at the end of the rows."""
    out = []
    for index, plane in enumerate(raw.planes):
        parts = [component for component in raw.format.components if component.plane == index]
        samples = 4 if raw.format.name in ("bgr0", "rgb0", "0rgb", "0bgr") else len(parts)
        row = plane.width * samples * (2 if parts[0].bits > 8 else 1)
        out.append(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, :row].copy())
    return out


def write_clip(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    time_base: Fraction = Fraction(1, 12800),
    pts: Sequence[int] | None = None,
    rate: Fraction = Fraction(25),
    aspect: Fraction | None = None,
    matrix: Sequence[int] | None = None,
    colour: tuple[int, int, int, int] = (1, 1, 1, 1),
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    audio: int = 0,
    sound_blocks: int = 22,
    subtitle: bool = False,
    attachment: bool = False,
    cover_attachment: bool = False,
    cover: bool = False,
    video: bool = True,
    chapters: bool = False,
    metadata: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Writes a clip; ``size`` is (height, width), ``colour`` range, primaries, transfer, matrix as in H.273."""
    height, width = size
    defaults = {"libx264": {"crf": "20", "preset": "ultrafast", "bf": "2"}, "libx265": {"x265-params": "log-level=error"}}
    with av.open(f"file:{path}", "w", container_options=container_options or {}) as out:
        out.metadata.update(metadata or {})
        stream: Any = None
        if video:
            stream = out.add_stream(codec, rate=rate, options={**defaults.get(codec, {}), **(options or {})})
            stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
            stream.codec_context.time_base = time_base
            stream.time_base = time_base
            stream.metadata.update(tags or {})
            context = stream.codec_context
            context.color_range, context.color_primaries, context.color_trc, context.colorspace = colour
            if aspect is not None:
                context.sample_aspect_ratio = aspect
            if matrix is not None:
                stream.set_display_matrix(list(matrix))
        tracks = []
        for index in range(audio):
            track = out.add_stream("flac" if path.suffix == ".mkv" else "aac", rate=44100)
            track.layout = "mono"
            track.metadata["language"] = ("eng", "deu", "fra")[index % 3]
            tracks.append(track)
        text = out.add_mux_stream("ass" if path.suffix == ".mkv" else "mov_text") if subtitle else None
        if attachment:
            out.add_attachment("face.ttf", "application/x-truetype-font", b"not really a font" * 40)
        if cover_attachment:
            jpeg = cv2.imencode(".jpg", picture(32, 32))[1].tobytes()
            out.add_attachment("cover.jpg", "image/jpeg", jpeg)
        art = None
        if cover:
            art = out.add_stream("mjpeg")
            art.width, art.height, art.pix_fmt = 32, 32, "yuvj420p"
            art.disposition = 1 << 10
        if chapters:
            half = frames * 20
            out.set_chapters(
                [
                    {"id": 1, "start": 0, "end": half, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}},
                    {"id": 2, "start": half, "end": 2 * half, "time_base": Fraction(1, 1000), "metadata": {"title": "two"}},
                ]
            )
        if art is not None:
            image = native(picture(32, 32), "yuvj420p", space=5)
            for packet in [*art.encode(image), *art.encode(None)]:
                out.mux(packet)
        if video:
            step = round(1 / (rate * time_base))
            times = list(pts) if pts is not None else [index * step for index in range(frames)]
            for index, time in enumerate(times):
                space = colour[3] if colour[3] in (1, 5, 6, 9) else 1
                raw = native(picture(height, width, shift=3 * index), pix_fmt, space=space, full=colour[0] == 2)
                raw.pts, raw.time_base = time, time_base
                out.mux(stream.encode(raw))
            out.mux(stream.encode(None))
        for index, track in enumerate(tracks):
            samples = (np.sin(np.arange(1024 * sound_blocks) * (0.02 + 0.01 * index)) * 8000).astype(np.int16)
            for block in range(sound_blocks):
                sound = av.AudioFrame.from_ndarray(samples[None, block * 1024 : (block + 1) * 1024], "s16", "mono")
                sound.sample_rate, sound.pts, sound.time_base = 44100, block * 1024, Fraction(1, 44100)
                out.mux(track.encode(sound))
            out.mux(track.encode(None))
        if text is not None:
            line = b"0,0,Default,,0,0,0,,hello" if path.suffix == ".mkv" else b"\x00\x05hello"
            packet = av.Packet(line)
            packet.stream, packet.pts, packet.dts, packet.duration = text, 40, 40, 200
            packet.time_base = Fraction(1, 1000)
            out.mux(packet)
    return path


def copy_clip(
    source: Path, target: Path, edit: Callable[[Frame], Frame] = lambda frame: frame, **options: object
) -> tuple[VideoReader, VideoWriter]:
    """Reads a clip and writes it again; returns reader and writer for what they have to say."""
    with VideoReader(source) as reader, VideoWriter(target, reader.info, **options) as writer:  # type: ignore[arg-type]
        for frame in prefetch(reader, 4):
            writer.write(edit(frame))
    return reader, writer


def info_of(path: Path) -> VideoInfo:
    """What the reader knows of a clip."""
    with VideoReader(path) as reader:
        return reader.info


def times_of(path: Path) -> list[Fraction]:
    """The times of all frames."""
    with VideoReader(path) as reader:
        return [frame.time for frame in reader]


def other_packets(path: Path) -> dict[int, list[tuple[Fraction | None, str]]]:
    """Time and hash of every packet that belongs to no video, by stream."""
    found: dict[int, list[tuple[Fraction | None, str]]] = {}
    with av.open(f"file:{path}") as container:
        for packet in container.demux():
            if packet.size and packet.stream.type != "video":
                time = None if packet.pts is None else packet.pts * packet.time_base
                found.setdefault(packet.stream.index, []).append((time, hashlib.md5(bytes(packet)).hexdigest()))
    return found


def feathered_disc(size: int, radius: int) -> np.ndarray:
    """(size, size) float32: one inside, zero at the border."""
    alpha = np.zeros((size, size), np.float32)
    cv2.circle(alpha, (size // 2, size // 2), radius, 1, -1)
    return cv2.GaussianBlur(alpha, (0, 0), 2)
