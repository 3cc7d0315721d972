"""Where pictures go beside the window: a recording, a virtual camera, single pictures; network streams are in `network`.

Each has a thread of its own and a short queue. A sink that is too slow loses pictures, it never holds the others up.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from vidunmask.errors import DeviceError, OutputError, VidunmaskError
from vidunmask.flow import Outlet
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.remove import provenance
from vidunmask.types import Frame
from vidunmask.video import atomic
from vidunmask.video.info import VideoInfo

log = logging.getLogger(__name__)

QUEUE_BYTES = 96 << 20
PATIENCE = 8.0  # seconds that a stream or a virtual camera gets to finish


class Sink(Protocol):
    """Takes finished pictures."""

    name: str

    @property
    def dropped(self) -> int:
        """Pictures it was too slow for."""
        ...

    def push(self, frame: Frame) -> None:
        """Takes a picture without waiting; raises a VidunmaskError where the sink has failed."""
        ...

    def close(self) -> str:
        """Finishes; returns what came of it, in one line, or raises a VidunmaskError."""
        ...


class Recorder:
    """Writes a file with the times of the wall clock, counted from its first picture; the file appears when it is closed."""

    def __init__(self, path: Path, like: VideoInfo, config: Config) -> None:
        """Checks target and encoder; raises UsageError, OutputError or DeviceError."""
        from vidunmask.video.animations import ENCODERS
        from vidunmask.video.writer import VideoWriter, container_of

        crf, preset = config.crf, config.preset
        if config.codec is None and container_of(path)[0] not in ENCODERS:
            # What a file to file run takes would cost more than the networks do.
            crf, preset = 20 if crf is None else crf, preset or "ultrafast"
        self._writer = VideoWriter(
            path, like, codec=config.codec, crf=crf, preset=preset, pix_fmt=config.pix_fmt,
            overwrite=config.overwrite, metadata=provenance(),
        )  # fmt: skip
        self.name = str(path)
        self._written = 0
        self._length = 0.0
        self._outlet: Outlet[Frame] = Outlet(self._write, max_items=60, max_bytes=QUEUE_BYTES)

    @property
    def dropped(self) -> int:
        """Pictures that the encoder was too slow for."""
        return self._outlet.dropped

    def push(self, frame: Frame) -> None:
        """Queues a picture."""
        self._outlet.push(frame)

    def _write(self, frames: Iterator[Frame]) -> None:
        first = next(frames, None)
        if first is None:
            return
        start = first.pts
        with self._writer as writer:
            frame: Frame | None = first
            while frame is not None:
                writer.write(replace(frame, pts=frame.pts - start))
                self._written += 1
                self._length = float((frame.pts - start) * frame.time_base)
                frame = next(frames, None)

    def close(self) -> str:
        """Finishes the file and puts it in its place."""
        self._outlet.close()
        if not self._written:
            return f"{self.name}: nothing was recorded, no picture had come"
        for warning in self._writer.warnings:
            log.info("%s", warning)
        lost = f", {self.dropped} pictures lost to a slow encoder" if self.dropped else ""
        return f"{self.name}: {self._written} pictures, {self._length:.1f} s recorded{lost}"


class VirtualCamera:
    """Feeds a virtual camera, so that other programs see the pictures as those of a camera (pyvirtualcam)."""

    def __init__(self, device: str, like: VideoInfo) -> None:
        """Opens it, the first one for ``auto``; raises DeviceError with the remedy where there is none."""
        try:
            import pyvirtualcam
        except ImportError as error:
            raise DeviceError("--virtual-camera: needs pyvirtualcam; pip install 'vidunmask[live]'") from error
        height, width = like.display_size
        try:
            self._camera: Any = pyvirtualcam.Camera(
                width=width, height=height, fps=float(like.average_rate or 30), fmt=pyvirtualcam.PixelFormat.RGB,
                device=None if device == "auto" else device,
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            raise DeviceError(
                f"--virtual-camera {device}: cannot be opened ({_one_line(error).split('.')[0]}); "
                "on Linux load v4l2loopback (modprobe v4l2loopback exclusive_caps=1), elsewhere install OBS"
            ) from error
        self.name = f"virtual camera {self._camera.device}"
        self._side = max(like.display_size)
        self._sent = 0
        self._outlet: Outlet[Frame] = Outlet(self._send, max_items=1)

    @property
    def dropped(self) -> int:
        """Pictures that the device was too slow for."""
        return self._outlet.dropped

    def push(self, frame: Frame) -> None:
        """Shows a picture next."""
        self._outlet.push(frame)

    def _send(self, frames: Iterator[Frame]) -> None:
        from vidunmask.video import pixels

        preview = pixels.Preview()
        for frame in frames:
            image, _ = preview.rgb(frame, self._side)
            try:
                self._camera.send(image)
            except (RuntimeError, OSError, ValueError) as error:
                raise OutputError(f"{self.name}: takes no more pictures ({_one_line(error)})") from error
            self._sent += 1

    def close(self) -> str:
        """Takes the camera away."""
        try:
            self._outlet.close(PATIENCE)
        finally:
            self._camera.close()
        return f"{self.name}: {self._sent} pictures"


class Pictures:
    """Saves single pictures as PNG, in the folder that is given, under the time of day. One that fails spoils no other."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder
        self._saved = 0
        self._failures: deque[VidunmaskError] = deque()
        self._outlet: Outlet[Frame] = Outlet(self._save_all, max_items=4, max_bytes=QUEUE_BYTES)

    @property
    def dropped(self) -> int:
        """Pictures that were not saved."""
        return self._outlet.dropped

    def push(self, frame: Frame) -> None:
        """Nothing: only what somebody asks for is saved."""

    def save(self, frame: Frame) -> None:
        """Saves a picture soon."""
        self._outlet.push(frame)

    def failures(self) -> Iterator[VidunmaskError]:
        """Why pictures could not be saved, each once."""
        while self._failures:
            yield self._failures.popleft()

    def _save_all(self, frames: Iterator[Frame]) -> None:
        for frame in frames:
            try:
                self._save(frame)
            except VidunmaskError as error:
                self._failures.append(error)
            else:
                self._saved += 1

    def _save(self, frame: Frame) -> None:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        from vidunmask.video import pixels

        image, _ = pixels.small_rgb(frame, max(frame.display_size))
        tags = PngInfo()
        for key, value in provenance().items():
            tags.add_text(key, value)
        path = fresh_name(self._folder, ".png")
        with atomic.replacing(path, overwrite=False) as temporary:
            Image.fromarray(image).save(temporary, format="PNG", pnginfo=tags)
        log.info("%s: saved", path)

    def close(self) -> str:
        """Waits for the pictures under way; raises why the first one failed that nobody has asked about."""
        self._outlet.close()
        for error in self.failures():
            raise error
        return f"{self.name}: {self._saved} pictures saved" if self._saved else ""


def fresh_name(folder: Path, suffix: str) -> Path:
    """A path in ``folder`` that does not exist, named by the time of day."""
    stem = f"vidunmask-{datetime.now():%Y%m%d-%H%M%S}"
    path = folder / f"{stem}{suffix}"
    number = 2
    while path.exists():
        path = folder / f"{stem}-{number}{suffix}"
        number += 1
    return path


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class Sinks:
    """All sinks of a run. One that fails is named and left out, the others go on; `close` finishes every one.

    window: whether there is a window beside them, so that the run goes on even without any.
    """

    def __init__(self, *, window: bool = False) -> None:
        self._window = window
        self._sinks: list[Sink] = []
        self.failed: list[VidunmaskError] = []
        self.outcomes: list[str] = []

    def __len__(self) -> int:
        return len(self._sinks)

    def __contains__(self, sink: Sink) -> bool:
        """Whether a sink still gets the pictures."""
        return sink in self._sinks

    def add(self, sink: Sink) -> None:
        """From now on this one gets the pictures too."""
        self._sinks.append(sink)

    def push(self, frame: Frame) -> None:
        """Hands a picture to all."""
        for sink in list(self._sinks):
            try:
                sink.push(frame)
            except VidunmaskError as error:
                self._give_up(sink, error)

    def _give_up(self, sink: Sink, error: VidunmaskError) -> None:
        self._sinks.remove(sink)
        self.note(error)
        with contextlib.suppress(VidunmaskError):
            sink.close()

    def note(self, error: VidunmaskError) -> None:
        """Names something that failed, now and by the exit code at the end."""
        if self._window or self._sinks:  # else the error ends the run, and is said then
            log.warning("%s", error)
        self.failed.append(error)

    def finish(self, sink: Sink) -> bool:
        """Closes one and notes what came of it; whether that is what was wanted."""
        if sink not in self._sinks:
            return False
        self._sinks.remove(sink)
        try:
            outcome = sink.close()
        except VidunmaskError as error:
            self.note(error)
            return False
        if outcome:
            self.outcomes.append(outcome)
        return True

    def close(self) -> None:
        """Closes all, in the order in which they were added, also where one ends in an error nobody foresaw or a Ctrl-C."""
        with contextlib.ExitStack() as stack:
            for sink in reversed(self._sinks):
                stack.callback(self.finish, sink)
