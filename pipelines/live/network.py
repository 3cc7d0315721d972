"""Live pictures over the network, through an ffmpeg process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from fractions import Fraction
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from vidunmask.errors import OutputError
from vidunmask.flow import Outlet
from vidunmask.pipelines.live.sinks import PATIENCE, QUEUE_BYTES
from vidunmask.pipelines.remove import SYNTHESIZED
from vidunmask.types import Frame
from vidunmask.video.info import VideoInfo


class NetworkStream:
    """Sends the pictures through an ffmpeg process to RTMP, RTSP, UDP, SRT or HTTP, or as an HLS playlist."""

    def __init__(self, url: str, like: VideoInfo) -> None:
        """Starts ffmpeg; raises DeviceError where there is none."""
        self.name = self._url = url
        self._like = like
        self._side = max(like.display_size)
        self._said: Any = TemporaryFile()  # noqa: SIM115 - lives as long as the process that writes to it
        self._process: Any = self._start()
        self._sent = 0
        self._outlet: Outlet[Frame] = Outlet(self._send, max_items=8, max_bytes=QUEUE_BYTES)

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
        graph = ffmpeg.output(given, self._url, **options).global_args("-nostats", "-v", "error", "-y")
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

    def _send(self, frames: Iterator[Frame]) -> None:
        from vidunmask.video import pixels

        preview = pixels.Preview()
        for frame in frames:
            image, _ = preview.rgb(frame, self._side)
            try:
                # FFmpeg pads rows to its liking; what goes through the pipe must not be.
                self._process.stdin.write(np.ascontiguousarray(image).data)
                self._process.stdin.flush()
            except (OSError, ValueError) as error:
                raise self._failed() from error
            self._sent += 1

    def _failed(self) -> OutputError:
        with contextlib.suppress(OSError, ValueError):
            self._said.seek(0)
            lines = [line for line in self._said.read().decode(errors="replace").strip().splitlines() if line]
            if lines:
                return OutputError(f"--stream {self._url}: ffmpeg gave up ({lines[0]})")
        return OutputError(f"--stream {self._url}: ffmpeg gave up")

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
