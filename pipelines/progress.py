"""The progress bar. The library knows it only as a function of frames done and frames expected."""

from __future__ import annotations

import contextlib
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from vidunmask.pipelines.options import one_line, say

if TYPE_CHECKING:
    from tqdm import tqdm

_GONE = contextlib.suppress(OSError, ValueError)  # a closed pipe, terminal or file


class ProgressBar:
    """Frames, frames per second and time left, on stderr; one line a half-minute where stderr is no terminal.

    Nothing is shown before the first frame, so that an error before any work stands alone on its line; a ``quiet`` one shows
    nothing but what is said. Where nobody reads stderr any longer the run goes on; its exit code still tells.
    """

    def __init__(self, *, unit: str = "frame", quiet: bool = False) -> None:
        self._unit = unit
        self._quiet = quiet
        self._bar: tqdm | None = None

    def __call__(self, done: int, expected: int | None) -> None:
        """Shows ``done`` of ``expected`` frames; an estimate that turns out too small is raised."""
        if self._quiet or sys.stderr is None:  # as where whoever started the program has closed it
            return
        total = None if expected is None else max(expected, done)
        with _GONE:
            if self._bar is None:
                self._bar = self._open(total)
            if self._bar.total != total:
                self._bar.total = total
            self._bar.update(done - self._bar.n)

    def _open(self, total: int | None) -> tqdm:
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        return tqdm(
            total=total,
            unit=self._unit,
            file=sys.stderr,
            mininterval=0.2 if terminal else 30.0,
            dynamic_ncols=terminal,
            leave=True,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} {rate_fmt}, {remaining} left",
        )

    def say(self, message: str) -> None:
        """Prints a line, above the bar where there is one."""
        if self._bar is None:
            say(message)
            return
        with _GONE:
            self._bar.write(one_line(message), file=sys.stderr)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            with _GONE:
                self._bar.close()
