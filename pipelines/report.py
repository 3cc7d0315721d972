"""What a run did: faces, frames, time per stage, warnings. Collected beside the chain, written as JSON."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import platform
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from vidunmask import __version__
from vidunmask.errors import OutputError
from vidunmask.pipelines import checks
from vidunmask.types import Fill, FrameFaces

T = TypeVar("T")
_LIBRARIES = ("torch", "numpy", "cv2", "av")


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that decide a result, by module.

    They are asked of the modules, since OpenCV comes in packages of several names, with and without windows.
    """
    return {"python": platform.python_version(), **{name: importlib.import_module(name).__version__ for name in _LIBRARIES}}


@dataclass(frozen=True, slots=True)
class TrackReport:
    """One face over the frames in which it was followed."""

    track_id: int
    first_frame: int
    last_frame: int
    frames: int
    frames_edited: int
    confidence: float  # 0..1, mean certainty of the segmentation


@dataclass(frozen=True, slots=True)
class Failure:
    """A file of a folder that could not be done."""

    path: str
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The outcome of one run. For a folder the counts are sums, and ``files`` holds a report for every picture done."""

    input: str
    output: str
    frames: int
    frames_edited: int
    seconds: float  # wall clock, without loading the networks
    stages: Mapping[str, float]  # seconds of work by stage; stages overlap, so they may sum to more than `seconds`
    faces: tuple[TrackReport, ...]
    warnings: tuple[str, ...]
    device: str
    precision: str
    weights: Mapping[str, str]  # file name to SHA-256
    frames_copied: int = 0  # of a video, passed through without encoding
    files: tuple[RunReport, ...] = ()
    failures: tuple[Failure, ...] = ()
    version: str = __version__
    versions: Mapping[str, str] = field(default_factory=dict)  # of the libraries that decide the result

    @property
    def fps(self) -> float:
        """Frames per second of wall clock."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    @property
    def face_count(self) -> int:
        """Faces of the run, those of all ``files`` of a folder together."""
        return len(self.faces) + sum(report.face_count for report in self.files)

    def to_json(self) -> str:
        """The report as indented JSON; ``fps`` is added."""
        return json.dumps({**asdict(self), "fps": round(self.fps, 3)}, indent=2, ensure_ascii=False)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes `to_json` to a file. Raises OutputError where that fails or the file exists already."""
        try:
            with checks.open_new("--report", Path(path), overwrite=overwrite) as file:
                file.write(self.to_json() + "\n")
        except OSError as error:
            raise OutputError(f"--report {path}: cannot be written ({error.strerror or error})") from error


class Stopwatch:
    """Time per stage of a chain of generators, each without the time of the stages it pulls from.

    Stages in one thread nest, since asking the last for a frame asks all before it: the inner clock stops the outer one.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._local = threading.local()

    @contextlib.contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Counts the time of the body, less what inner `timing` blocks of the same thread count."""
        stack: list[str] = self._local.__dict__.setdefault("stack", [])
        self._lap(stack)
        stack.append(name)
        try:
            yield
        finally:
            self._lap(stack)
            stack.pop()

    def _lap(self, stack: list[str]) -> None:
        now = time.perf_counter()
        if stack:
            self.seconds[stack[-1]] = self.seconds.get(stack[-1], 0.0) + now - self._local.since
        self._local.since = now

    def stage(self, name: str, items: Iterable[T]) -> Generator[T]:
        """The same items; the time spent waiting for each is counted under ``name``. Closing it closes ``items``."""
        iterator = iter(items)
        try:
            while True:
                with self.timing(name):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()


@dataclass(slots=True)
class _Count:
    first: int
    last: int
    frames: int = 0
    edited: int = 0
    confidence: float = 0.0


class Tally:
    """Counts frames and faces as the fills of a run go by."""

    def __init__(self) -> None:
        self.frames = 0
        self.frames_edited = 0
        self._tracks: dict[int, _Count] = {}

    def watch(self, fills: Iterable[FrameFaces[Fill]]) -> Iterator[FrameFaces[Fill]]:
        """The same fills, counted."""
        for item in fills:
            self.frames += 1
            self.frames_edited += any(fill.opacity > 0 for fill in item.faces)
            for fill in item.faces:
                count = self._tracks.setdefault(fill.track_id, _Count(item.frame.index, item.frame.index))
                count.last = item.frame.index
                count.frames += 1
                count.edited += fill.opacity > 0
                count.confidence += fill.confidence
            yield item

    def faces(self) -> tuple[TrackReport, ...]:
        """One entry per track, by id."""
        return tuple(
            TrackReport(track, c.first, c.last, c.frames, c.edited, round(c.confidence / c.frames, 4))
            for track, c in sorted(self._tracks.items())
        )


_collecting: ContextVar[tuple[WarningLog, ...]] = ContextVar("collecting", default=())


class WarningLog(logging.Handler):
    """Keeps the library's warnings of a run, each once; of runs side by side in other threads it has none."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if self in _collecting.get() and message not in self.messages:
            self.messages.append(message)

    @classmethod
    @contextlib.contextmanager
    def collecting(cls) -> Iterator[WarningLog]:
        """Collects what ``vidunmask`` logs during the body, in this thread and in those that `flow` makes for it."""
        handler, logger = cls(), logging.getLogger("vidunmask")
        logger.addHandler(handler)
        before = _collecting.get()
        _collecting.set((*before, handler))
        try:
            yield handler
        finally:
            _collecting.set(before)
            logger.removeHandler(handler)
