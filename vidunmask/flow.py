"""Overlap between stages: the only threads of the library.

A stage is a generator that pulls from the one before it. `prefetch` lets the stages before it run ahead in a thread of their
own, by a bounded number of items and bytes. An error there is raised here; closing here stops there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")

_PATIENCE = 1.0  # seconds that a source gets to end; FFmpeg may hold its thread until a timeout, and hears of nothing before


class _Channel(Generic[T]):
    """A bounded queue between one producer thread and one consumer, with an end, an error and a way to give up."""

    def __init__(self, max_items: int, max_bytes: int | None, *, newest_wins: bool = False) -> None:
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._newest_wins = newest_wins
        self._changed = threading.Condition()
        self._ended = self._cancelled = False
        self._error: BaseException | None = None
        self.dropped = 0

    def produce(self, iterable: Iterable[T]) -> None:
        """Pulls everything through the queue; the body of the producer thread."""
        try:
            iterator = iter(iterable)
            try:
                # Room is awaited before the next item is made: an item in the producer's hand would be one over the bound.
                while self._wait_for_room():
                    try:
                        item = next(iterator)
                    except StopIteration:
                        break
                    if not self._put(item):
                        break
                    del item  # the queue, not this thread, decides how long it lives
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
        except BaseException as error:  # handed to the consumer, whatever it is
            with self._changed:
                self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._has_room())
            return not self._cancelled

    def _has_room(self) -> bool:
        if self._newest_wins or not self._items:
            return True
        return len(self._items) < self._max_items and (self._max_bytes is None or self._bytes < self._max_bytes)

    def _put(self, item: T) -> bool:
        with self._changed:
            if self._cancelled:
                return False
            if self._newest_wins:
                self._items.clear()
                self._bytes = 0
            size = int(getattr(item, "nbytes", 0))
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def offer(self, item: T) -> None:
        """Queues an item at once; where there is no room the oldest is dropped for it."""
        with self._changed:
            while not self._has_room():
                self._bytes -= self._items.popleft()[1]
                self.dropped += 1
        self._put(item)

    def end(self) -> None:
        """No more items will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def consume(self, tick: float | None = None) -> Iterator[T | None]:
        """Items as they come, then the producer's error if there was one; None after every ``tick`` seconds without one."""
        while True:
            with self._changed:
                waiting = not self._changed.wait_for(lambda: self._items or self._ended or self._cancelled, tick)
            if waiting:  # yielded outside of the lock
                yield None
                continue
            with self._changed:
                if not self._items:
                    if self._error is not None:
                        error, self._error = self._error, None
                        raise error
                    return
                item, size = self._items.popleft()
                self._bytes -= size
                self._changed.notify_all()
            yield item
            del item

    def wait_for_end(self, timeout: float | None) -> bool:
        """Waits until the producer is done; whether it is after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, timeout)

    def cancel(self) -> None:
        """Ends it for the consumer, makes the producer stop at the next opportunity and drops what is queued."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()


def prefetch(iterable: Iterable[T], max_items: int, *, max_bytes: int | None = None) -> Iterator[T]:
    """The items of ``iterable``, made ahead in another thread by at most ``max_items`` and about ``max_bytes``.

    Bytes are counted by ``item.nbytes`` (0 where an item has none); one item may always be queued, however large. Items that
    were made before an error are given out before it is raised. The thread starts with the first ``next``; it has ended, and
    has closed the iterable, when this generator is closed, exhausted or collected. Raises ValueError for ``max_items`` < 1.
    """
    if max_items < 1:
        raise ValueError(f"max_items must be at least 1, got {max_items}")
    return cast(Iterator[T], _run(iterable, _Channel[T](max_items, max_bytes)))


def ticking(iterable: Iterable[T], seconds: float, *, stop: Callable[[], None] | None = None) -> Generator[T | None]:
    """The items of ``iterable``, made in another thread one ahead, and None whenever ``seconds`` pass without one.

    For a loop that has to look after something else too, such as a window, while the items are slow to come or do not come.
    ``stop`` is called first where this ends, for whatever reason: it makes a source that may wait for long give up.
    """
    return _run(iterable, _Channel[T](1, None), seconds, stop)


def aside(job: Callable[[], T]) -> T:
    """What ``job`` returns, which another thread does: a Ctrl-C ends the wait for it soon, and the job goes on by itself then.

    For a call that may last and that no signal reaches. Raises the job's error.
    """
    with closing(cast(Generator[T], _run((job() for _ in range(1)), _Channel[T](1, None), patience=_PATIENCE))) as results:
        return next(results)


def _run(
    iterable: Iterable[T],
    channel: _Channel[T],
    tick: float | None = None,
    stop: Callable[[], None] | None = None,
    patience: float | None = None,
) -> Generator[T | None]:
    # A daemon, so that a source that never returns cannot keep the process alive once the main thread is done.
    thread = _thread(channel.produce, iterable)
    del iterable  # only the producer holds it now
    try:
        thread.start()
        yield from channel.consume(tick)
    finally:
        channel.cancel()
        if stop is not None:
            stop()
        _join(thread, channel, patience)


def _thread(target: Callable[..., None], *args: object) -> threading.Thread:
    """Not yet started, in the context variables of whoever makes it, as an asyncio task would be."""
    return threading.Thread(target=copy_context().run, args=(target, *args), name="vidunmask-flow", daemon=True)


def _join(thread: threading.Thread, channel: _Channel[T], patience: float | None) -> None:
    """Waits for the end of a producer, to the end even where a Ctrl-C comes meanwhile, which is raised then.

    A thread that is left in a network's forward aborts the whole process when the interpreter goes. After ``patience``
    seconds one is left all the same.
    """
    try:
        _wait_for(thread, channel, patience)
    except BaseException:
        _wait_for(thread, channel, patience)
        raise


def _wait_for(thread: threading.Thread, channel: _Channel[T], patience: float | None) -> None:
    """Waits for the end of a producer; one that a Ctrl-C caught on its way in gets a moment to be there."""
    for _ in range(100):
        if thread.ident is not None:
            # Not by the thread alone: up to Python 3.12 one whose join a Ctrl-C ends counts as gone while it runs on.
            if channel.wait_for_end(patience):
                thread.join()
            return
        time.sleep(0.005)


class Latest(Generic[T]):
    """Always the newest of ``items``, which run at their own speed in another thread; those that were overtaken are dropped.

    At most ``limit`` are given out of which `done` has not been said yet: with more frames on their way than there are stages
    at work, each only waits longer (Little's law: the number on the way is rate times latency). A source that does not end
    within a second of its end here is left to itself.
    """

    def __init__(self, items: Iterable[T], limit: int) -> None:
        self._channel = _Channel[T](1, None, newest_wins=True)
        self._newest = cast(Generator[T], _run(items, self._channel, patience=_PATIENCE))
        self._places = threading.Semaphore(limit)

    def __iter__(self) -> Iterator[T]:
        with closing(self._newest):
            while self._places.acquire():
                item = next(self._newest, None)
                if item is None:
                    return
                yield item
                del item

    def done(self) -> None:
        """An item has come out at the other end of the stages."""
        self._places.release()

    def stop(self) -> None:
        """Ends it, whichever thread waits for the next item; to be called before the stages are closed, who would wait too."""
        self._channel.cancel()
        self._places.release()


class Outlet(Generic[T]):
    """Takes items and hands them to a consumer that runs in a thread of its own, so that a slow one holds nobody up.

    ``consume`` gets an iterator that ends when `close` is called, and gives None, which T must allow then, after every ``tick``
    seconds without an item. At most ``max_items`` and about ``max_bytes`` wait; beyond that the oldest are dropped and counted.
    The thread starts here.
    """

    def __init__(
        self,
        consume: Callable[[Iterator[T]], None],
        *,
        max_items: int = 8,
        max_bytes: int | None = None,
        tick: float | None = None,
    ) -> None:
        self._channel = _Channel[T](max_items, max_bytes)
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._thread = _thread(self._work, consume, tick)
        self._thread.start()

    def _work(self, consume: Callable[[Iterator[T]], None], tick: float | None) -> None:
        try:
            consume(cast(Iterator[T], self._channel.consume(tick)))
        except BaseException as error:  # handed to whoever pushes or closes
            self._error = error
        finally:
            self._channel.cancel()
            self._done.set()

    @property
    def dropped(self) -> int:
        """How many items the consumer was too slow for."""
        return self._channel.dropped

    def push(self, item: T) -> None:
        """Hands an item over without waiting. Raises the consumer's error, once, where it has failed."""
        self.check()
        self._channel.offer(item)

    def close(self, timeout: float | None = None) -> bool:
        """Lets the consumer finish what waits; False where it has not after ``timeout`` seconds. Raises its error, once.

        After a Ctrl-C meanwhile what waits is dropped; without ``timeout`` the consumer comes to its end all the same.
        """
        try:
            self._channel.end()
            if self._done.wait(timeout):
                self._thread.join()
        except BaseException:
            self._channel.cancel()
            if timeout is None:
                self._done.wait()
            raise
        self.check()
        return self._done.is_set()

    def check(self) -> None:
        """Raises the consumer's error, once, where it has failed."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error


class Beside(Generic[T]):
    """Does one job at a time in a thread of its own, while whoever gave it goes on and asks for the result later.

    Where the system knows priorities of threads the job runs at a lower one: what is waited for comes first.
    """

    def __init__(self) -> None:
        self._outlet: Outlet[Callable[[], T]] | None = None
        self._results: deque[T] = deque(maxlen=1)
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether a job is under way, or done and its result not taken."""
        return self._busy

    def start(self, job: Callable[[], T]) -> None:
        """Begins a job. Raises ValueError while another one is `busy`, or the error of one that failed."""
        if self._busy:
            raise ValueError("a job is under way already")
        if self._outlet is None:
            self._outlet = Outlet(self._work)
        self._busy = True
        self._outlet.push(partial(copy_context().run, job))

    def _work(self, jobs: Iterator[Callable[[], T]]) -> None:
        if sys.platform == "linux":  # elsewhere a priority is the whole process's
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + 5)
        for job in jobs:
            self._results.append(job())

    def take(self) -> T | None:
        """The result of the job if it is done, else None. Raises its error where it failed."""
        if self._results:
            self._busy = False
            return self._results.popleft()
        if self._outlet is not None:
            self._outlet.check()
        return None

    def close(self) -> None:
        """Waits for the job under way and ends the thread; its result is dropped, and so is its error."""
        if self._outlet is not None:
            with contextlib.suppress(Exception):
                self._outlet.close()
            self._outlet = None


class Hands:
    """A few threads that do jobs side by side, until `close`."""

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="vidunmask-flow")

    def each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """``function`` of every item, in their order. Not to be called by what it runs. Raises the error of the first that
        failed."""
        contexts = [copy_context() for _ in items]  # one cannot be entered twice at a time
        return list(self._threads.map(lambda context, item: context.run(function, item), contexts, items))

    def begin(self, job: Callable[[], R]) -> Future[R]:
        """Begins a job; its result, or its error, is asked for later."""
        return self._threads.submit(copy_context().run, job)

    def close(self) -> None:
        """Waits for the jobs under way and ends the threads; what has not begun is dropped."""
        self._threads.shutdown(cancel_futures=True)


def tap(iterable: Iterable[T], callback: Callable[[T], None]) -> Iterator[T]:
    """The items unchanged, each shown to ``callback`` first; for progress bars and dumps."""
    for item in iterable:
        callback(item)
        yield item
