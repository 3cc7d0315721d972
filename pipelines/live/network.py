"""Live pictures over the network, through an ffmpeg process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from vidunmask.errors import OutputError
from vidunmask.flow import Outlet
from vidunmask.pipelines.live.sinks import PATIENCE, QUEUE_BYTES
from vidunmask.pipelines.remove import SYNTHESIZED
from vidunmask.types import Frame
from vidunmask.video.info import VideoInfo
from vidunmask.video.urls import without_secrets

_STILL = 1.0  # seconds without a picture after which the last one is sent again


class NetworkStream:
    """Sends the pictures through an ffmpeg process to RTMP, RTSP, UDP, SRT or HTTP, or as an HLS playlist.

    While none come, in a pause or an outage, the last one is sent again and again: the far end would give up, and ffmpeg would
    make up for all of the time at once afterwards, which cost the pictures of the seconds that followed.
    """

    def __init__(self, url: str, like: VideoInfo) -> None:
        """Starts ffmpeg; raises DeviceError where there is none."""
        self.name, self._url = without_secrets(url), url
        self._like = like
        self._side = max(like.display_size)
        self._said: Any = TemporaryFile()  # noqa: SIM115 - lives as long as the process that writes to it
        self._process: Any = self._start()
        self._sent = 0
        self._outlet: Outlet[Frame | None] = Outlet(self._send, max_items=8, max_bytes=QUEUE_BYTES, tick=_STILL)

    def _start(self) -> Any:
        import subprocess

        import ffmpeg

        from vidunmask.video.ffmpeg import executable

        height, width = self._like.display_size
        rate = self._like.average_rate or Fraction(30)
        given = ffmpeg.input(
            "pipe:", format="rawvideo", pix_fmt="rgb24", video_size=(width, height), framerate=str(rate),
            use_wallclock_as_timestamps=1,
        )  # fmt: skip
        options: dict[str, Any] = {
            "vcodec": "libx264", "preset": "ultrafast", "tune": "zerolatency", "pix_fmt": "yuv420p",
            "vf": "pad=ceil(iw/2)*2:ceil(ih/2)*2", "g": max(1, round(2 * rate)), "crf": 23,
            "metadata": f"comment={SYNTHESIZED}", **stream_options(self._url),
        }  # fmt: skip
        # Of a relative path FFmpeg may take the beginning for a protocol, and with file: before it no old part is deleted.
        target = self._url if "://" in self._url else str(Path(self._url).absolute())
        graph = ffmpeg.output(given, target, **options).global_args("-nostats", "-v", "error", "-y")
        command = ffmpeg.compile(graph, cmd=executable())
        # A session of its own: Ctrl-C at the terminal must not reach it before its last pictures have.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said, start_new_session=True
        )

    @property
    def dropped(self) -> int:
        """Pictures that the line or the encoder was too slow for."""
        return self._outlet.dropped

    def push(self, frame: Frame) -> None:
        """Queues a picture."""
        if self._process.poll() is not None:
            raise self._failed()
        self._outlet.push(frame)

    def _send(self, frames: Iterator[Frame | None]) -> None:
        from vidunmask.video import pixels

        preview = pixels.Preview()
        image = memoryview(b"")
        for frame in frames:
            if frame is not None:
                # FFmpeg pads rows to its liking; what goes through the pipe must not be.
                image = np.ascontiguousarray(preview.rgb(frame, self._side)[0]).data
            try:
                self._process.stdin.write(image)
                self._process.stdin.flush()
            except (OSError, ValueError) as error:
                raise self._failed() from error
            self._sent += frame is not None

    def _failed(self) -> OutputError:
        reason = self._complaint()
        return OutputError(f"--stream {self.name}: ffmpeg gave up" + (f" ({reason})" if reason else ""))

    def _complaint(self) -> str:
        """The first error that ffmpeg has named, empty where there is none."""
        with contextlib.suppress(OSError, ValueError):
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").splitlines()
            return without_secrets(next((line for line in lines if line.strip()), ""))
        return ""

    def close(self) -> str:
        """Ends the stream; ffmpeg is killed where it does not end by itself."""
        import subprocess

        try:
            deadline = time.monotonic() + PATIENCE
            finished = self._outlet.close(PATIENCE)
            with contextlib.suppress(OSError, ValueError):
                if finished:
                    self._process.stdin.close()
            try:
                code = self._process.wait(max(0.1, deadline - time.monotonic()) if finished else 0.1)
            except subprocess.TimeoutExpired:
                return f"{self.name}: {self._sent} pictures sent, the far end did not take the last of them"
            if code != 0 and self._sent:
                raise self._failed()
            if self._sent and (reason := self._complaint()):  # a part of a playlist that cannot be written does not end it
                raise OutputError(f"--stream {self.name}: not all of it could be written ({reason})")
            return f"{self.name}: {self._sent} pictures sent" + (f", {self.dropped} lost" if self.dropped else "")
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._said.close()


def stream_options(url: str) -> dict[str, Any]:
    """ffmpeg's options for the protocol of a URL or the path of a playlist."""
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    if scheme in ("rtmp", "rtmps"):
        return {"format": "flv"}
    if scheme == "rtsp":
        return {"format": "rtsp", "rtsp_transport": "tcp"}
    if not scheme:
        return {"format": "hls", "hls_time": 2, "hls_list_size": 6, "hls_flags": "delete_segments"}
    if scheme in ("http", "https") and url.lower().endswith(".m3u8"):
        return {"format": "hls", "hls_time": 2, "hls_list_size": 6, "method": "PUT"}
    return {"format": "mpegts", "muxdelay": 0}
