"""Who does the work: this process, processes beside it, or (in `cluster`) those of other machines.

All take tasks and give back events, so that whoever plans the work need not know. A worker loads the networks once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeAlias

from vidunmask.errors import VidunmaskError, unforeseen
from vidunmask.pipelines.batch.segments import Outcome, SegmentTask, run_segment
from vidunmask.pipelines.build import Parts, build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.report import RunReport

_TELL_EVERY = 0.5  # seconds between two words of a worker on how far it is
_GRACE = 15.0  # seconds for a worker to clean up


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file to do in one go, into a file that nobody else uses."""

    source: Path
    target: Path
    config: Config


Task: TypeAlias = "FileTask | SegmentTask"


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a task could not be done."""

    message: str
    exit_code: int
    in_parts: bool = False  # the video cannot be read in parts
    fatal: bool = False  # nothing else can be done either


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a task: frames done so far, its outcome, or that its worker was lost with it (None)."""

    key: int
    what: int | Outcome | RunReport | Failed | None


class Workers(Protocol):
    """Takes tasks while there is ``room`` and gives back events."""

    @property
    def room(self) -> int:
        """How many more tasks may be given now."""

    def submit(self, key: int, task: Task) -> None:
        """Gives a task to a worker that is free."""

    def wait(self) -> list[Event]:
        """Waits for something to happen; empty now and then, so that a signal is noticed."""

    def close(self) -> None:
        """Ends all work; what was under way is dropped."""


def perform(task: Task, parts: Parts, progress: Callable[[int], None]) -> Outcome | RunReport | Failed:
    """Does a task; every error that concerns it alone is its outcome."""
    from vidunmask.pipelines.remove import unmask
    from vidunmask.video.index import SpanError

    try:
        if isinstance(task, SegmentTask):
            return run_segment(task, parts, progress)
        config = replace(task.config, overwrite=True)  # the target is the batch's own
        return unmask(task.source, task.target, config=config, parts=parts, progress=lambda done, of: progress(done))
    except SpanError as error:
        return Failed(str(error), error.exit_code, in_parts=True)
    except VidunmaskError as error:
        return Failed(str(error), error.exit_code)
    except Exception as error:  # one file's surprise must not end the others
        return surprise(task.source, error)


def surprise(source: str | Path, error: Exception) -> Failed:
    """An error that nobody foresaw as the end of one file."""
    return Failed(f"{source}: {unforeseen(error)}", 1)


class Inline:
    """This process itself, one task at a time; ``progress`` hears of frames while `wait` works."""

    def __init__(self, config: Config, progress: Callable[[int, int], None]) -> None:
        self._config = config
        self._progress = progress
        self._parts: Parts | None = None
        self._task: tuple[int, Task] | None = None

    @property
    def room(self) -> int:
        return 0 if self._task else 1

    def submit(self, key: int, task: Task) -> None:
        self._task = (key, task)

    def wait(self) -> list[Event]:
        if self._task is None:
            return []
        key, task = self._task
        self._parts = self._parts or build(self._config)
        outcome = perform(task, self._parts, lambda done: self._progress(key, done))
        self._task = None
        return [Event(key, outcome)]

    def close(self) -> None:
        self._task = None


@dataclass(eq=False)
class _Worker:
    process: Any
    pipe: Any
    key: int | None = None


class Processes:
    """Processes of this machine, each with networks of its own. One that dies is replaced."""

    def __init__(self, config: Config, count: int) -> None:
        self._config = config
        self._context = get_context("spawn")  # torch and OpenCV have threads, which a fork would not carry over
        self._count = count
        self._workers = [self._start() for _ in range(count)]

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there, self._config, self._count), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here)

    @property
    def room(self) -> int:
        return sum(worker.key is None for worker in self._workers)

    def submit(self, key: int, task: Task) -> None:
        worker = next(worker for worker in self._workers if worker.key is None)
        worker.key = key
        with contextlib.suppress(OSError):  # a worker that is gone is noticed by `wait`
            worker.pipe.send(task)

    def wait(self) -> list[Event]:
        events: list[Event] = []
        ready = connection.wait([worker.pipe for worker in self._workers], timeout=0.5)
        for worker in [worker for worker in self._workers if worker.pipe in ready]:
            key = worker.key
            try:
                what = worker.pipe.recv()
            except (EOFError, OSError):
                self._replace(worker)
                what = None
            if not isinstance(what, int):
                worker.key = None
            if key is not None:
                events.append(Event(key, what))
        return events

    def _replace(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join(_GRACE)
        self._workers.remove(worker)
        self._workers.append(self._start())

    def close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()  # an idle one ends by that
            if worker.key is not None:
                worker.process.terminate()
        deadline = time.monotonic() + _GRACE
        for worker in self._workers:
            worker.process.join(max(0.1, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []


def _serve(pipe: Any, config: Config, workers: int) -> None:
    """The life of a worker process: it ends with the pipe, so that none outlives the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the first process decides
    signal.signal(signal.SIGTERM, _end)
    _share_cores(workers)
    parts: Parts | None = None
    told = 0.0

    def tell(done: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_EVERY:
            told = time.monotonic()
            pipe.send(done)

    with contextlib.suppress(EOFError, OSError):
        while True:
            task = pipe.recv()
            try:
                parts = parts or build(config)
            except VidunmaskError as error:
                pipe.send(Failed(str(error), error.exit_code, fatal=True))
                continue
            pipe.send(perform(task, parts, tell))


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # past `except Exception`, through every `with` and `finally`


def _share_cores(workers: int) -> None:
    """Gives each worker its share of the cores, unless the environment says how many threads to use."""
    import cv2
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // workers))
    cv2.setNumThreads(max(1, cores // workers))


class Queue:
    """Tasks that wait for a worker, and how often each was lost with one."""

    RETRIES = 2

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()
        self._lost: dict[int, int] = {}

    def add(self, key: int, *, first: bool = False) -> None:
        """Puts a task at the end, or before all others."""
        (self._waiting.appendleft if first else self._waiting.append)(key)

    def take(self) -> int | None:
        """The next task."""
        return self._waiting.popleft() if self._waiting else None

    def lost(self, key: int) -> bool:
        """Notes that a task's worker died; whether it is worth another try."""
        self._lost[key] = self._lost.get(key, 0) + 1
        return self._lost[key] <= self.RETRIES

    def drop(self, keys: set[int]) -> None:
        """Takes tasks out."""
        self._waiting = deque(key for key in self._waiting if key not in keys)
