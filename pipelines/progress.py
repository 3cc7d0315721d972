"""The progress bar. The library knows it only as a function of frames done and frames expected."""

from __future__ import annotations

import sys
from types import TracebackType


class ProgressBar:
    """Frames, frames per second and time left, on stderr; one line a half-minute where stderr is no terminal."""

    def __init__(self, *, unit: str = "frame") -> None:
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=None,
            unit=unit,
            file=sys.stderr,
            mininterval=0.2 if terminal else 30.0,
            dynamic_ncols=terminal,
            leave=True,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} {rate_fmt}, {remaining} left",
        )

    def __call__(self, done: int, expected: int | None) -> None:
        """Shows ``done`` of ``expected`` frames; an estimate that turns out too small is raised."""
        total = None if expected is None else max(expected, done)
        if self._bar.total != total:
            self._bar.total = total
        self._bar.update(done - self._bar.n)

    def say(self, message: str) -> None:
        """Prints a line above the bar."""
        self._bar.write(message, file=sys.stderr)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()
