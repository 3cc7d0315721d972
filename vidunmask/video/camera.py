"""Cameras: which there are, and how one is opened, by FFmpeg's device demuxers or else by OpenCV."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError

from vidunmask.errors import InputError, UsageError
from vidunmask.flow import aside
from vidunmask.video.live import Captured, LiveSource
from vidunmask.video.live_files import FileSource
from vidunmask.video.live_streams import PacketSource, open_stream

BACKENDS = ("auto", "ffmpeg", "opencv")
_SYSFS = Path("/sys/class/video4linux")
# What a camera names a format, for V4L2's `input_format`; compressed ones are codecs there.
_CODECS = {"mjpeg": "mjpeg", "mjpg": "mjpeg", "h264": "h264", "hevc": "hevc"}
_FOURCC = {
    "mjpeg": "MJPG",
    "mjpg": "MJPG",
    "yuyv422": "YUYV",
    "yuyv": "YUYV",
    "uyvy422": "UYVY",
    "nv12": "NV12",
    "h264": "H264",
}


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of this machine."""

    index: int
    device: str  # what opens it, such as /dev/video0
    name: str  # what its maker calls it


@dataclass(frozen=True, slots=True)
class Mode:
    """What a camera is asked for; None leaves it to the camera."""

    size: tuple[int, int] | None = None  # (height, width)
    rate: Fraction | None = None  # pictures a second
    pix_fmt: str | None = None  # FFmpeg's name, or mjpeg or h264 for cameras that compress

    def __str__(self) -> str:
        parts = [f"{self.size[1]}x{self.size[0]}" if self.size else "", self.pix_fmt or ""]
        parts.append(f"{float(self.rate):g} pictures/s" if self.rate else "")
        return " ".join(part for part in parts if part) or "its own mode"


def device_format() -> str:
    """FFmpeg's device demuxer of this system."""
    return {"darwin": "avfoundation", "win32": "dshow"}.get(sys.platform, "v4l2")


def cameras() -> list[Camera]:
    """The cameras of this machine, in the order of their indices; empty where there are none."""
    if device_format() == "v4l2":
        return _v4l2_cameras(_SYSFS)
    try:
        found = av.enumerate_input_devices(device_format())
    except (FFmpegError, ValueError):  # built without it
        return []
    named = [(device.name, device.description) for device in found if "audio" not in str(getattr(device, "media_types", ""))]
    if device_format() == "dshow":
        return [Camera(i, f"video={name}", description or name) for i, (name, description) in enumerate(named)]
    return [Camera(i, name, description or name) for i, (name, description) in enumerate(named)]


def _v4l2_cameras(folder: Path) -> list[Camera]:
    found = []
    for entry in folder.glob("video*") if folder.is_dir() else ():
        number = entry.name.removeprefix("video")
        # a camera has further nodes, for metadata; the first one has the pictures
        first = not (entry / "index").exists() or (entry / "index").read_text().strip() == "0"
        if number.isdigit() and first:
            name = (entry / "name").read_text(errors="replace").strip() if (entry / "name").exists() else entry.name
            found.append(Camera(int(number), f"/dev/video{number}", name))
    return sorted(found, key=lambda camera: camera.index)


def open_source(
    source: str,
    *,
    mode: Mode | None = None,
    backend: str = "auto",
    timeout: float = 5.0,
    reconnect: bool = False,
    loop: bool = False,
) -> LiveSource:
    """The live source that ``source`` names: a camera's index or device, a URL, or a file.

    Raises InputError where it cannot be opened, UsageError where ``loop``, ``reconnect`` or a mode is asked of what has none.
    """
    if _is_url(source):
        _none_of("a network stream", mode=mode, loop=loop)
        return aside(lambda: open_stream(source, timeout=timeout, reconnect=reconnect))
    path = file_of(source)
    if path is None:
        _none_of("a camera", loop=loop)
        return open_camera(source, mode=mode, backend=backend, timeout=timeout, reconnect=reconnect)
    if not path.exists():
        raise InputError(f"{source}: no such camera, stream or file; vidunmask live --list shows the cameras")
    _none_of("a file", mode=mode, reconnect=reconnect)
    return FileSource(path, loop=loop)


def file_of(source: str) -> Path | None:
    """The file that a source names, None where it is a camera or a stream."""
    return None if _is_url(source) or is_camera(source) else Path(source.removeprefix("file://"))


def _is_url(source: str) -> bool:
    return "://" in source and not source.startswith("file://")


def is_camera(source: str) -> bool:
    """Whether a source names a camera: an index, a device file or DirectShow's ``video=NAME``."""
    return source.isdigit() or source.startswith(("/dev/", "video="))


def _none_of(what: str, *, mode: Mode | None = None, loop: bool = False, reconnect: bool = False) -> None:
    if loop:
        raise UsageError(f"--loop: {what} cannot be played again; it is for files")
    if reconnect:
        raise UsageError(f"--reconnect: {what} cannot be lost; it is for cameras and streams")
    if mode is not None and mode != Mode():
        raise UsageError(f"--size, --rate and --input-format: {what} has its own; they are for cameras")


def open_camera(
    source: str, *, mode: Mode | None = None, backend: str = "auto", timeout: float = 5.0, reconnect: bool = False
) -> LiveSource:
    """The camera of an index or device, by FFmpeg and where that fails by OpenCV; ``backend`` allows only one of them.

    Raises InputError with the reasons of both.
    """
    mode = mode or Mode()
    name = f"camera {source}" if source.isdigit() else source
    reasons: list[str] = []
    if backend in ("auto", "ffmpeg"):
        try:
            url, format = device_url(source), device_format()
            return PacketSource(
                name,
                url,
                format=format,
                options=device_options(format, mode),
                timeout=timeout,
                reconnect=reconnect,
                endless=True,
            )
        except InputError as error:
            reasons.append(str(error))
    if backend in ("auto", "opencv"):
        try:
            return OpenCVSource(name, source, mode=mode, reconnect=reconnect)
        except InputError as error:
            reasons.append(str(error).removeprefix(f"{name}: ") if reasons else str(error))
    raise InputError(f"{'; '.join(reasons)}; asked for {mode}; vidunmask live --list shows the cameras")


def device_url(source: str) -> str:
    """What FFmpeg opens for a camera's index or device."""
    if not source.isdigit():
        return source
    if device_format() == "v4l2":
        return f"/dev/video{source}"
    if device_format() == "avfoundation":
        return source
    there = cameras()
    if int(source) >= len(there):
        raise InputError(f"camera {source}: there are {len(there)} cameras")
    return there[int(source)].device


def device_options(format: str, mode: Mode) -> dict[str, str]:
    """FFmpeg's options of a device demuxer for a mode (ffmpeg-devices documentation)."""
    options = {"fflags": "nobuffer"}
    if mode.size is not None:
        options["video_size"] = f"{mode.size[1]}x{mode.size[0]}"
    if mode.rate is not None:
        options["framerate"] = str(mode.rate)
    elif format == "avfoundation":
        options["framerate"] = "30"  # its default of 29.97 is refused by most cameras
    if mode.pix_fmt is not None:
        if format == "v4l2":
            options["input_format"] = _CODECS.get(mode.pix_fmt, mode.pix_fmt)
        elif mode.pix_fmt in _CODECS:
            options["vcodec"] = _CODECS[mode.pix_fmt]
        else:
            options["pixel_format"] = mode.pix_fmt
    if format == "dshow":
        options["rtbufsize"] = "64M"
    return options


class OpenCVSource(LiveSource):
    """A camera through OpenCV, which knows some that FFmpeg does not; its pictures have been turned into BGR already."""

    def __init__(self, name: str, source: str, *, mode: Mode, reconnect: bool = False) -> None:
        self._device: int | str = int(source) if source.isdigit() else source
        self._mode = mode
        self._promised: Fraction | None = None
        super().__init__(name, reconnect=reconnect)

    def _rate(self) -> Fraction | None:
        return self._promised

    def _open(self) -> Generator[Captured]:
        import cv2

        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            capture = cv2.VideoCapture(self._device)
        except cv2.error as error:
            raise InputError(f"{self.name}: OpenCV cannot open it either ({error})") from error
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            capture.release()
            raise InputError(f"{self.name}: OpenCV cannot open it either")
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if self._mode.pix_fmt is not None:
            fourcc = _FOURCC.get(self._mode.pix_fmt, self._mode.pix_fmt.upper()[:4].ljust(4))
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
        if self._mode.size is not None:
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._mode.size[0])
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._mode.size[1])
        if self._mode.rate is not None:
            capture.set(cv2.CAP_PROP_FPS, float(self._mode.rate))
        rate = capture.get(cv2.CAP_PROP_FPS)
        self._promised = Fraction(rate).limit_denominator(1001) if rate and 1 <= rate <= 1000 else None
        return self._read(capture)

    def _read(self, capture: object) -> Generator[Captured]:
        try:
            while not self._stopped.is_set():
                there, image = capture.read()  # type: ignore[attr-defined]
                if not there:
                    raise InputError(f"{self.name}: gives no more pictures; it may have been unplugged")
                yield time.monotonic(), av.VideoFrame.from_ndarray(image, format="bgr24")
        finally:
            capture.release()  # type: ignore[attr-defined]
