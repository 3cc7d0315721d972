"""How fast and how late live mode is, and what it does when the machine cannot keep up."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from vidunmask.errors import OutputError
from vidunmask.pipelines import checks

_MOST = 10_000  # milliseconds; later than this counts as this


class Latencies:
    """Any number of latencies in constant memory: a histogram of whole milliseconds."""

    def __init__(self) -> None:
        self._counts = np.zeros(_MOST + 1, np.int64)

    def add(self, seconds: float) -> None:
        """Counts one."""
        self._counts[min(_MOST, max(0, round(seconds * 1000)))] += 1

    def percentile(self, share: float) -> float:
        """The latency in milliseconds that a ``share`` 0..1 of them does not exceed; 0 where there are none."""
        total = int(self._counts.sum())
        if total == 0:
            return 0.0
        return float(np.searchsorted(np.cumsum(self._counts), share * total))

    def clear(self) -> None:
        """Forgets all."""
        self._counts[:] = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """What the last seconds were like."""

    captured: float = 0.0  # pictures a second from the source
    shown: float = 0.0  # pictures a second that came out
    p50: float = 0.0  # milliseconds from capture to display
    p95: float = 0.0
    busy: float = 0.0  # 0..1, of the busiest thread
    full: float = 0.0  # share of the places in the chain that were taken: 0 for none, about 1 where pictures wait for one


class Meter:
    """Rates and latencies over the last ``span`` seconds, and over the whole run.

    places: how many pictures the chain lets be on their way at once.
    """

    def __init__(self, *, span: float = 3.0, places: int = 1) -> None:
        self._span, self._places = span, places
        self._shown: deque[tuple[float, float]] = deque()  # clock, latency in seconds
        self._captured: deque[tuple[float, int]] = deque()  # clock, pictures so far
        self._worked: deque[tuple[float, dict[str, float]]] = deque()  # clock, seconds of work by thread
        self.total = Latencies()
        self.shown = 0

    def show(self, now: float, latency: float) -> None:
        """A picture was shown at ``now``, ``latency`` seconds after its capture."""
        self.shown += 1
        self.total.add(latency)
        self._shown.append((now, latency))

    def look(self, now: float, captured: int, worked: Mapping[str, float]) -> Pace:
        """The pace at ``now``, given the pictures captured and the seconds worked by each thread so far."""
        self._captured.append((now, captured))
        self._worked.append((now, dict(worked)))
        for marks in (self._shown, self._captured, self._worked):
            while len(marks) > 1 and marks[0][0] < now - self._span:
                marks.popleft()  # type: ignore[attr-defined]
        span = now - self._captured[0][0]
        if span <= 0 or not self._shown:
            return Pace()
        latencies = np.array([latency for at, latency in self._shown if at >= now - self._span]) * 1000
        shown = sum(at > self._captured[0][0] for at, _ in self._shown)
        first = self._worked[0][1]
        busy = max((seconds - first.get(name, 0.0) for name, seconds in worked.items()), default=0.0) / span
        full = float(latencies.sum()) / 1000 / span / self._places  # Little's law
        stuck = len(latencies) == 0 and captured > self._captured[0][1]
        return Pace(
            captured=(captured - self._captured[0][1]) / span,
            shown=shown / span,
            p50=float(np.percentile(latencies, 50)) if len(latencies) else 0.0,
            p95=float(np.percentile(latencies, 95)) if len(latencies) else 0.0,
            busy=min(1.0, busy),
            full=1.0 if stuck else full,
        )


@dataclass(frozen=True, slots=True)
class Level:
    """What is spent on a picture."""

    every: int  # frames from one pass of the detector to the next
    thorough_every: float  # seconds between thorough passes
    inpaint_every: int  # frames of a face from one run of the inpainter to the next

    def __str__(self) -> str:
        often = {1: "every picture", 2: "every second picture", 3: "every third picture"}.get(self.inpaint_every, "")
        return f"detection every {self.every} pictures, inpainting {often or f'every {self.inpaint_every} pictures'}"


def levels(every: int) -> tuple[Level, ...]:
    """What can be given up, in that order, from a detector's pass ``every`` so many frames.

    Crops stay at the size that the networks were trained at: at 192 pixels the shipped inpainter draws mouths where noses
    belong, at 160 the segmenter no longer sees the mask.
    """
    return (
        Level(every, 4.0, 1),
        Level(2 * every, 15.0, 1),
        Level(2 * every, 15.0, 2),
        Level(4 * every, 60.0, 3),
        Level(8 * every, 60.0, 6),
    )


class Governor:
    """Goes down a level when pictures are lost for two seconds, and up again when there has been room for a while.

    Pictures that come several at once overtake one another, however fast the machine is; only those count as lost that found
    the chain full. A step up that has to be taken back soon doubles the time before the next attempt, one that
    lasts resets it.
    """

    BEHIND = 0.92  # share of the source's pictures that has to come out
    FULL = 0.35  # share of the places from which the chain counts as full: 0.1 at most in bursts, 0.4 to 1.6 where it is slow
    ROOM = 0.6  # share of its time that the busiest thread may work for a step up
    PATIENCE = 10.0  # seconds of room before a step up, the first time

    def __init__(self, steps: tuple[Level, ...]) -> None:
        self._steps = steps
        self.at = 0
        self._behind_since: float | None = None
        self._room_since: float | None = None
        self._changed = float("-inf")
        self._rose: float | None = None  # when it last went up, as long as that is on trial
        self._patience = self.PATIENCE

    @property
    def level(self) -> Level:
        """What is spent now."""
        return self._steps[self.at]

    @property
    def reason(self) -> str:
        """Why it has just changed, in a few words."""
        if self._rose is None:
            return "to keep up"
        return "there is room again" if self.at else "everything again"

    def step(self, now: float, pace: Pace) -> Level | None:
        """The level to change to, None to stay; to be asked about once a second."""
        if now - self._changed < 3.0:  # the pace still shows the time before
            return None
        behind = pace.shown < self.BEHIND * pace.captured and pace.full >= self.FULL
        room = pace.captured > 0 and not behind and pace.busy < self.ROOM
        self._behind_since = (self._behind_since or now) if behind else None
        self._room_since = (self._room_since or now) if room else None
        if self._rose is not None and now - self._rose >= 2 * self.PATIENCE:
            self._patience, self._rose = self.PATIENCE, None
        if self._behind_since is not None and now - self._behind_since >= 2.0 and self.at + 1 < len(self._steps):
            if self._rose is not None:
                self._patience, self._rose = min(2 * self._patience, 600.0), None
            return self._change(now, self.at + 1)
        if self._room_since is not None and now - self._room_since >= self._patience and self.at > 0:
            self._rose = now
            return self._change(now, self.at - 1)
        return None

    def _change(self, now: float, to: int) -> Level:
        self.at, self._changed = to, now
        self._behind_since = self._room_since = None
        return self.level


class Stats:
    """Writes a CSV line every so many seconds: what a long run is judged by."""

    COLUMNS = "seconds,captured,shown,rate,p50_ms,p95_ms,rss_mb,faces,level"

    def __init__(self, file: TextIO, every: float) -> None:
        """Raises OutputError where the file cannot be written."""
        self._file, self._every = file, every
        self._start = self._due = self._since = 0.0
        self._latencies = Latencies()
        self._count = self._before = 0
        self._state = (0.0, 0, 0, 0)  # of the last picture: seconds, captured, level, faces
        self._put(self.COLUMNS)

    @classmethod
    def open(cls, path: Path, every: float, *, overwrite: bool = False) -> closing[Stats]:
        """Raises OutputError where the file cannot be written, or exists and may not be replaced."""
        return closing(cls(checks.open_new("--stats", path, overwrite=overwrite), every))

    def start(self, now: float) -> None:
        """The first picture is there."""
        self._start = self._since = now
        self._due = now + self._every

    def add(self, latency: float) -> None:
        """Counts a picture."""
        self._latencies.add(latency)
        self._count += 1

    def write_when_due(self, now: float, captured: int, level: int, faces: int) -> None:
        """Writes a line where the time has come, one for all that a pause has left out. Raises OutputError, once."""
        self._state = (now, captured, level, faces)
        if now >= self._due:
            self._write()
            self._due += self._every * ((now - self._due) // self._every + 1)

    def _write(self) -> None:
        now, captured, level, faces = self._state
        rate = (self._count - self._before) / max(now - self._since, 1e-3)
        p50, p95 = (self._latencies.percentile(share) for share in (0.5, 0.95))
        self._put(
            f"{now - self._start:.1f},{captured},{self._count},{rate:.2f},{p50:.0f},{p95:.0f},"
            f"{resident_bytes() / 1e6:.1f},{faces},{level}"
        )
        self._latencies.clear()
        self._since, self._before = now, self._count

    def _put(self, line: str) -> None:
        try:
            self._file.write(line + "\n")
        except OSError as error:
            with contextlib.suppress(OSError):  # it tries once more
                self._file.close()
            raise OutputError(f"--stats {self._file.name}: cannot be written ({error.strerror or error})") from error

    def close(self) -> None:
        """Writes the line of what is left and closes the file, where it can be written."""
        if self._file.closed:
            return
        with self._file:
            if self._count > self._before:
                self._write()


def resident_bytes() -> int:
    """What this process holds in memory now, 0 where that cannot be told."""
    try:
        if sys.platform == "linux":
            import os

            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    except (ImportError, OSError, ValueError):
        return 0
