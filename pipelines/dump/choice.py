"""Which frames of a run are written out. Imports nothing heavy."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from vidunmask.errors import UsageError

DEFAULT = "0:250:10"
_FRAMES = "such as 100, 100:200 or 100:200:5 (STOP is not included), several separated by commas"
_TIME = "such as 3.2:4 or 3.2:4:0.1 (START:STOP[:STEP] in seconds from the first frame)"


class FrameChoice:
    """Frames by number, as ``START:STOP[:STEP]`` like Python's ranges, from 0; several separated by commas.

    START may be left out for the first frame and STOP for the last. Raises UsageError for what is no range or an empty one.
    """

    def __init__(self, text: str, *, flag: str = "--frames") -> None:
        self.text = f"{flag} {text}"
        self._ranges = [self._range(part.strip(), text, flag) for part in text.split(",")]

    @staticmethod
    def _range(part: str, text: str, flag: str) -> range:
        if re.fullmatch(r"\d+", part):
            return range(int(part), int(part) + 1)
        match = re.fullmatch(r"(-?\d*):(-?\d*)(?::(-?\d+))?", part)
        if match is None:
            negative = "frames are counted from 0; " if re.fullmatch(r"-\d+", part) else ""
            raise UsageError(f"{flag} {text}: {negative}give frames {_FRAMES}")
        start, stop, step = int(match[1] or 0), int(match[2]) if match[2] else None, int(match[3] or 1)
        if start < 0 or (stop is not None and stop < 0) or step < 1:
            raise UsageError(f"{flag} {text}: frames are counted from 0 and a step is at least 1; give {_FRAMES}")
        if stop is not None and stop <= start:
            raise UsageError(f"{flag} {text}: {start}:{stop} holds no frame; give START before STOP, {_FRAMES}")
        return range(start, 2**62 if stop is None else stop, step)

    def is_cut_short(self, seconds: Fraction) -> bool:
        """Whether a video whose last frame stands at ``seconds`` lacks an end that somebody asked for."""
        return self.last < 2**60 and not self.text.endswith(f" {DEFAULT}")

    @property
    def first(self) -> int:
        """The first chosen frame."""
        return min(frames.start for frames in self._ranges)

    @property
    def last(self) -> int:
        """The last chosen frame, very large where there is no end."""
        return max(frames[-1] for frames in self._ranges)

    def wants(self, index: int, seconds: Fraction) -> bool:
        """Whether a frame is chosen; called for each frame in order, ``seconds`` from the first one."""
        return any(index in frames for frames in self._ranges)

    def is_over(self, index: int, seconds: Fraction) -> bool:
        """Whether no later frame can be chosen."""
        return index >= self.last

    def begins_after(self, frames: int | None, seconds: Fraction | None) -> str | None:
        """Why a video of so many frames and seconds has none of the chosen frames; None where it may have some."""
        if frames is not None and self.first >= frames:
            return f"has {frames} frames, the last is {frames - 1}"
        return None

    def expected(self, frames: int | None, rate: Fraction | None) -> int | None:
        """How many frames have to be gone through, as far as that is known."""
        ends = [end for end in (frames, self.last + 1 if self.last < 2**60 else None) if end is not None]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True)
class _Span:
    start: Fraction
    stop: Fraction
    step: Fraction | None


class TimeChoice:
    """Frames by time, as ``START:STOP[:STEP]`` in seconds from the first frame.

    With STEP the first frame at or after START, START + STEP and so on; without it every frame from START to before STOP.
    Raises UsageError for what is no such range or an empty one.
    """

    def __init__(self, text: str) -> None:
        self.text = f"--time {text}"
        number = r"(\d+(?:\.\d*)?|\.\d+)"
        match = re.fullmatch(rf"{number}:{number}(?::{number})?", text.strip())
        if match is None:
            raise UsageError(f"--time {text}: give a span of time {_TIME}")
        start, stop = Fraction(match[1]), Fraction(match[2])
        step = Fraction(match[3]) if match[3] else None
        if stop <= start or step == 0:
            raise UsageError(f"--time {text}: {match[1]}:{match[2]} holds no frame; give a span {_TIME}")
        self._span = _Span(start, stop, step)
        self._due = start

    def is_cut_short(self, seconds: Fraction) -> bool:
        """Whether a video whose last frame stands at ``seconds`` lacks an end that somebody asked for."""
        return self._span.stop - seconds > Fraction(1, 4)  # the last frame is shown for a while

    def wants(self, index: int, seconds: Fraction) -> bool:
        """Whether a frame is chosen; called for each frame in order, ``seconds`` from the first one."""
        if not self._due <= seconds < self._span.stop:
            return False
        if self._span.step is not None:
            self._due = self._span.start + self._span.step * (1 + (seconds - self._span.start) // self._span.step)
        return True

    def is_over(self, index: int, seconds: Fraction) -> bool:
        """Whether no later frame can be chosen."""
        return max(seconds, self._due) >= self._span.stop

    def begins_after(self, frames: int | None, seconds: Fraction | None) -> str | None:
        """Why a video of so many frames and seconds has none of the chosen frames; None where it may have some."""
        if seconds is not None and self._span.start >= seconds:
            return f"lasts {float(seconds):.2f} s"
        return None

    def expected(self, frames: int | None, rate: Fraction | None) -> int | None:
        """How many frames have to be gone through, as far as that is known."""
        ends = [end for end in (frames, math.ceil(self._span.stop * rate) + 1 if rate else None) if end is not None]
        return min(ends, default=None)


Choice = FrameChoice | TimeChoice


def choose(frames: str | None, time: str | None) -> Choice:
    """The choice that the options make. Raises UsageError where they exclude each other or hold no frame."""
    if frames is not None and time is not None:
        raise UsageError("--frames and --time exclude each other; give one of them")
    if time is not None:
        return TimeChoice(time)
    return FrameChoice(DEFAULT if frames is None else frames)
