"""Images and time of a run."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any


class Clock:
    """Counts images against the budgets, measures the rate, and says when to stop.

    minutes: of this start of the program; ``paced``, of the whole run, whose only budget they then are.
    """

    def __init__(self, *, images: int, total_images: int, minutes: float, paced: bool = False) -> None:
        self.images, self.total_images, self.minutes, self.paced = images, total_images, minutes, paced
        self.before = 0.0  # seconds of the run before this start of the program
        self.start, self.start_images = time.monotonic(), images
        self.waited = 0.0  # seconds spent on waiting for data
        self._last = (self.start, images, 0.0)  # when a line was last written, at how many images, waited till then
        self.interrupted = 0  # the signal by which somebody wants an end
        self._before: dict[int, Any] = {}  # what signals did before

    def listen(self) -> None:
        """Lets Ctrl-C, SIGTERM and a closed terminal end the run after the step in hand, with a checkpoint."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.interrupted = number

        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup
            numbers.append(signal.SIGHUP)
        for number in numbers:
            self._before[number] = signal.signal(number, stop)

    def close(self) -> None:
        """Gives the signals back, for what follows in the same program."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    @property
    def over(self) -> bool:
        """Whether a budget is spent or somebody wants an end."""
        if self.paced:
            return self.interrupted > 0 or self.progress >= 1
        return self.images >= self.total_images or self.interrupted > 0 or self.elapsed >= 60 * self.minutes

    @property
    def progress(self) -> float:
        """The share 0..1 of the run's time that is spent, where it is paced by time."""
        return min(1.0, (self.before + self.elapsed) / (60 * self.minutes))

    @property
    def elapsed(self) -> float:
        """Seconds since the program started."""
        return time.monotonic() - self.start

    def due(self, every: int, batch: int) -> bool:
        """Whether the batch just counted crossed a multiple of ``every`` images."""
        return self.images // every != (self.images - batch) // every

    def skip(self) -> None:
        """Begins the measurement of the rate anew, after an evaluation for instance."""
        self._last = (time.monotonic(), self.images, self.waited)

    def rate(self) -> tuple[float, float]:
        """Images a second since the last call or `skip`, and the share of the time that was spent on waiting for data."""
        then, images, waited = self._last
        seconds = max(time.monotonic() - then, 1e-6)
        self.skip()
        return (self.images - images) / seconds, (self.waited - waited) / seconds

    def line(self, means: dict[str, float], rate: float, waiting: float) -> str:
        """One line of progress with mean losses, rate, time left and the share of time that the data took."""
        left = (
            (1 - self.progress) * 60 * self.minutes
            if self.paced
            else min((self.total_images - self.images) / max(rate, 1e-6), 60 * self.minutes - self.elapsed)
        )
        losses = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        return f"{self.images:>8d} images  {rate * 3600:6.0f}/h  left {left / 60:5.1f} min  data {waiting:3.0%}  {losses}"
