"""What is known of a video before its frames are read."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction

from vidunmask.types import FloatArray

TOP_FIRST, BOTTOM_FIRST = 2, 3  # AVFieldOrder


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour tags as numbers of ITU-T H.273; 2 is unspecified (0 for the range)."""

    range: int = 0  # 1 limited, 2 full
    primaries: int = 2
    transfer: int = 2
    space: int = 2  # the YUV matrix


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """Static HDR10 metadata, as encoders want it written, and what else goes with the frames, by its name."""

    mastering_display: str | None  # G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min), chromaticity in 1/50000, luminance in 1/10000 cd/m2
    content_light: str | None  # MaxCLL,MaxFALL in cd/m2
    with_frames: frozenset[str] = frozenset()  # metadata of Dolby Vision or HDR10+, closed captions


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of a container."""

    index: int
    kind: str  # video, audio, subtitle, data, attachment or unknown
    codec: str
    language: str | None
    is_cover: bool  # a picture attached to the file, not a video

    def __str__(self) -> str:
        language = f", {self.language}" if self.language else ""
        return f"stream {self.index} ({self.kind} {self.codec}{language})"


@dataclass(frozen=True, slots=True, eq=False)
class VideoInfo:
    """A video file and the stream of it that is edited; sizes are (height, width), times exact."""

    path: str  # a file, or a URL that FFmpeg opens; empty where there is nothing to copy from, as for a camera
    container: str  # FFmpeg's name of the demuxer
    stream_index: int
    codec: str
    size: tuple[int, int]  # stored
    display_size: tuple[int, int]  # upright, square pixels
    native_to_display: FloatArray  # (2, 3)
    display_matrix: tuple[int, ...] | None  # nine integers, libavutil/display.h
    sample_aspect: Fraction | None
    pix_fmt: str  # of the frames that the reader gives out
    colour: Colour
    hdr: HdrMetadata
    time_base: Fraction  # seconds
    average_rate: Fraction | None  # frames per second
    frames: int | None  # what the container says; only ever an estimate
    duration: Fraction | None  # seconds, of the stream or else of the container
    bit_rate: int | None  # bits per second
    field_order: int  # AVFieldOrder: 0 unknown, 1 progressive, 2.. interlaced
    streams: tuple[StreamInfo, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)  # of the video stream
    disposition: int = 0
    # Seconds added to all times since the clock was set back, once, twice and so on, as far as the reader has come.
    jumps: list[Fraction] = field(default_factory=list)

    @property
    def frames_estimate(self) -> int | None:
        """Number of frames by the header, or else by duration and rate; None where neither is known."""
        if self.frames:
            return self.frames
        if self.duration and self.average_rate:
            return max(1, round(self.duration * self.average_rate))
        return None

    @property
    def interlaced(self) -> bool:
        """Whether the stream is tagged as interlaced."""
        return self.field_order >= TOP_FIRST


def parse_mastering_display(data: bytes) -> str | None:
    """AVMasteringDisplayMetadata (libavutil/mastering_display_metadata.h) in the notation of `HdrMetadata`.

    The struct is ten AVRationals (three primaries x y in the order R G B, white point x y, least and greatest luminance) and
    two flags. None where either flag is unset, since encoders take the whole or nothing.
    """
    if len(data) < 88:
        return None
    numbers = struct.unpack("20i2i", data[:88])
    if not (numbers[20] and numbers[21]) or any(denominator == 0 for denominator in numbers[1:20:2]):
        return None
    values = [Fraction(numbers[i], numbers[i + 1]) for i in range(0, 20, 2)]
    red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y = (round(v * 50000) for v in values[:8])
    least, greatest = (round(v * 10000) for v in values[8:])
    return f"G({green_x},{green_y})B({blue_x},{blue_y})R({red_x},{red_y})WP({white_x},{white_y})L({greatest},{least})"


def parse_content_light(data: bytes) -> str | None:
    """AVContentLightMetadata (two unsigned integers) as ``MaxCLL,MaxFALL``; None where both are zero."""
    if len(data) < 8:
        return None
    most, average = struct.unpack("2I", data[:8])
    return f"{most},{average}" if most or average else None
