"""What live mode can be told beside the chain's own `Config`. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidunmask.errors import UsageError
from vidunmask.video.urls import without_secrets

BACKENDS = ("auto", "ffmpeg", "opencv")
STREAM_SCHEMES = ("rtmp", "rtmps", "rtsp", "udp", "tcp", "srt", "http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig:
    """The options of a live run; the command line's flags have the same names with dashes.

    Raises UsageError where a value cannot be used; the message names the flag, the value and what would be valid.
    """

    source: str = "0"
    size: tuple[int, int] | None = None  # (height, width) to ask a camera for
    rate: Fraction | None = None  # pictures a second to ask a camera for
    input_format: str | None = None
    backend: str = "auto"
    timeout: float = 5.0  # seconds
    reconnect: bool = False
    loop: bool = False
    window: bool = True
    split: bool = False
    overlay: bool = False
    record: Path | None = None
    stream: str | None = None
    virtual_camera: str | None = None  # a device, or "auto" for the first one
    folder: Path = Path()  # for pictures and recordings that a key makes
    fixed: bool = False  # never trade quality for the rate
    duration: float | None = None  # seconds
    stats: Path | None = None
    stats_every: float = 10.0  # seconds

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(f"--backend {self.backend!r}: must be one of {', '.join(BACKENDS)}")
        for flag, value, low, high in (
            ("--timeout", self.timeout, 0.1, 600),
            ("--duration", self.duration, 0.1, 1e7),
            ("--stats-every", self.stats_every, 0.1, 3600),
            ("--rate", self.rate, 1, 1000),
        ):
            if value is not None and not low <= value <= high:
                raise UsageError(f"{flag} {float(value):g}: must lie from {low:g} to {high:g}")
        if self.size is not None and not all(16 <= side <= 16384 for side in self.size):
            raise UsageError(f"--size {self.size[1]}x{self.size[0]}: both sides must lie from 16 to 16384")
        for flag, name in (("--source", self.source), ("--virtual-camera", self.virtual_camera)):
            if name is not None and not name.strip():
                raise UsageError(f"{flag} {name!r}: must not be empty")
        if self.stream is not None:
            _check_stream(self.stream)
        if not self.folder.is_dir():
            raise UsageError(f"--folder {self.folder}: there is no such folder; make it first")
        if not (self.window or self.record or self.stream or self.virtual_camera or self.stats):
            raise UsageError("--no-window: nothing would come out; add --record, --stream, --virtual-camera or --stats")


def _check_stream(url: str) -> None:
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    if scheme in STREAM_SCHEMES or (not scheme and url.lower().endswith(".m3u8")):
        if not scheme and ":" in Path(url).name:
            raise UsageError(f"--stream {url}: players take ':' in the names of its parts for a protocol; choose another name")
        return
    known = ", ".join(f"{name}://" for name in STREAM_SCHEMES)
    raise UsageError(f"--stream {without_secrets(url)}: must begin with one of {known}, or be a playlist FILE.m3u8 (HLS)")


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of ``640x480``; raises ValueError."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
    if match is None:
        raise ValueError(text)
    return int(match[2]), int(match[1])


def rate_of(text: str) -> Fraction:
    """Pictures a second, of ``30``, ``29.97`` or ``30000/1001``; raises ValueError."""
    try:
        return Fraction(text)
    except ZeroDivisionError as error:
        raise ValueError(text) from error
