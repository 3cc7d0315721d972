"""Tasks spread over processes: results as they come, nothing left behind however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from vidunmask.errors import VidunmaskError

Task = TypeVar("Task")
Result = TypeVar("Result")
# A task and a function to call with the number of items done since the last call, to a result. Must survive pickling.
Make = Callable[[Task, Callable[[int], None]], Result]


def spread(make: Make[Task, Result], tasks: Sequence[Task], *, jobs: int, progress: Callable[[int], None]) -> Iterator[Result]:
    """The results of all tasks in the order in which they are done, by ``jobs`` processes; by this one where that is 1.

    ``progress`` is called here with the number of items done since the last call. An error of a task is raised here. However
    the iteration ends, the processes end with it; they also end by themselves when this process is killed.
    """
    if jobs <= 1:
        for task in tasks:
            yield make(task, progress)
        return
    pool: _Pool[Task, Result] = _Pool(make, min(jobs, len(tasks)))
    try:
        yield from pool.run(tasks, progress)
    finally:
        pool.close()


class _Pool(Generic[Task, Result]):
    def __init__(self, make: Make[Task, Result], jobs: int) -> None:
        # spawn, since torch's and OpenCV's threads do not survive a fork
        context = multiprocessing.get_context("spawn")
        self._workers: dict[Connection, BaseProcess] = {}
        with _ctrl_c_ignored():
            for _ in range(jobs):
                ours, theirs = context.Pipe()
                worker = context.Process(target=_work, args=(theirs, make), daemon=True)
                worker.start()
                theirs.close()
                self._workers[ours] = worker

    def run(self, tasks: Sequence[Task], progress: Callable[[int], None]) -> Iterator[Result]:
        waiting = list(reversed(tasks))
        for pipe in self._workers:
            pipe.send(waiting.pop())
        left = len(tasks)
        while left:
            ready = connection.wait(list(self._workers))
            for pipe in (pipe for pipe in self._workers if pipe in ready):
                what, value = self._receive(pipe)
                if what == "step":
                    progress(value)
                elif what == "error":
                    raise value
                else:
                    left -= 1
                    if waiting:
                        pipe.send(waiting.pop())
                    yield value

    def _receive(self, pipe: Connection) -> tuple[str, Any]:
        try:
            return pipe.recv()
        except (EOFError, ConnectionResetError):
            worker = self._workers[pipe]
            worker.join(5)
            code = worker.exitcode
            why = "killed, perhaps for want of memory" if code == -9 else f"exit code {code}"
            raise VidunmaskError(
                f"a worker process ended unexpectedly ({why}); what is finished is kept, run the same command again, "
                "with fewer --jobs if it recurs"
            ) from None

    def close(self) -> None:
        for pipe, worker in self._workers.items():
            worker.terminate()
            pipe.close()
        for worker in self._workers.values():
            worker.join(10)
            if worker.is_alive():
                worker.kill()
                worker.join()


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """A process started in the body ignores Ctrl-C from its first moment on, before it could say so itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(pipe: Connection, make: Make[Task, Result]) -> None:
    """The life of a worker: Ctrl-C is the parent's business, and so is SIGTERM, which simply ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            result = make(task, lambda count: pipe.send(("step", count)))
        except VidunmaskError as error:
            pipe.send(("error", error))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            pipe.send(("error", RuntimeError(f"{type(error).__name__}: {error} ({where.filename}:{where.lineno}) in a worker")))
        else:
            pipe.send(("done", result))


def _end_with_parent() -> None:
    """Ends the process as soon as its parent is gone: a worker whose parent was killed would otherwise finish its task."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
