"""Threads start late, end always, and hand every error over."""

import gc
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from vidunmask import flow
from vidunmask.flow import Beside, Latest, Outlet, aside, prefetch, tap, ticking


@dataclass
class Heavy:
    nbytes: int


def _flow_threads() -> int:
    return sum(thread.name == "vidunmask-flow" for thread in threading.enumerate())


def _interrupted() -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _no_thread_outlives_a_test() -> Iterator[None]:
    before = _flow_threads()
    yield
    gc.collect()
    assert _flow_threads() == before


def test_items_arrive_complete_and_in_order() -> None:
    assert list(prefetch(prefetch(range(500), 3), 2)) == list(range(500))


def test_nothing_runs_before_the_first_item_is_asked_for() -> None:
    started = []
    chain = prefetch(tap(range(3), started.append), 2)
    time.sleep(0.05)
    assert started == []
    assert next(chain) == 0
    chain.close()


def test_the_producer_runs_ahead_by_no_more_than_the_items_allowed() -> None:
    made = []
    chain = prefetch(tap(range(100), made.append), 4)
    next(chain)
    time.sleep(0.1)
    assert len(made) == 5  # one taken, four queued
    chain.close()


def test_bytes_bound_the_queue_and_one_item_always_fits() -> None:
    made: list[Heavy] = []
    chain = prefetch(tap((Heavy(100) for _ in range(50)), made.append), 40, max_bytes=250)
    next(chain)
    time.sleep(0.1)
    assert 3 <= len(made) <= 4
    chain.close()
    assert len(list(prefetch([Heavy(10**9)] * 3, 2, max_bytes=1))) == 3


def test_an_upstream_error_arrives_after_the_items_made_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("broken stage")

    chain = prefetch(prefetch(source(), 8), 8)
    assert [next(chain), next(chain)] == [1, 2]
    with pytest.raises(KeyError, match="broken stage"):
        next(chain)


def test_closing_early_stops_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    chain = prefetch(prefetch(source(), 2), 2)
    assert [next(chain), next(chain)] == [0, 1]
    chain.close()
    assert closed.is_set()
    assert _flow_threads() == 0


def test_an_error_in_the_consumer_stops_the_thread() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    with pytest.raises(ZeroDivisionError):
        [1 // (2 - item) for item in prefetch(source(), 3)]
    gc.collect()
    assert closed.wait(5)


def test_a_chain_that_is_dropped_without_closing_ends() -> None:
    chain = prefetch(iter(range(10**9)), 3)
    next(chain)
    del chain
    gc.collect()
    assert _flow_threads() == 0


def test_closing_while_the_producer_waits_for_room_does_not_hang() -> None:
    chain = prefetch(range(100), 1)
    next(chain)
    time.sleep(0.05)
    began = time.monotonic()
    chain.close()
    assert time.monotonic() - began < 2


def test_a_queue_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_items"):
        prefetch(range(3), 0)


def test_the_newest_item_wins_in_live_mode() -> None:
    def camera() -> Iterator[int]:
        for number in range(60):
            yield number
            time.sleep(0.002)

    seen = []
    newest = Latest(camera(), 1)
    for item in newest:
        seen.append(item)
        time.sleep(0.02)
        newest.done()
    assert seen[-1] == 59
    assert seen == sorted(seen)
    assert len(seen) < 40


def test_a_camera_error_reaches_the_live_consumer() -> None:
    def camera() -> Iterator[int]:
        yield 1
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(Latest(camera(), 2))


def test_an_interrupt_while_the_thread_starts_leaves_no_thread(monkeypatch):
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        next(prefetch(iter(range(100)), 2))
    assert threading.active_count() == before


def test_ticking_gives_none_while_nothing_comes() -> None:
    def slow() -> Iterator[int]:
        yield 1
        time.sleep(0.25)
        yield 2

    items = list(ticking(slow(), 0.05))
    assert [item for item in items if item is not None] == [1, 2]
    assert 2 <= items.count(None) <= 6


def test_an_outlet_never_waits_drops_the_oldest_and_finishes_what_it_has() -> None:
    taken: list[int] = []
    began, release = threading.Event(), threading.Event()

    def consume(items: Iterator[int]) -> None:
        for item in items:
            taken.append(item)
            began.set()
            release.wait(5)

    outlet: Outlet[int] = Outlet(consume, max_items=3)
    outlet.push(0)
    began.wait(5)
    for item in range(1, 20):
        outlet.push(item)
    release.set()
    assert outlet.close()
    assert taken == [0, 17, 18, 19]
    assert outlet.dropped == 16


def test_an_outlet_may_be_told_that_nothing_has_come_for_a_while() -> None:
    taken: list[int | None] = []
    silent = threading.Event()

    def consume(items: Iterator[int | None]) -> None:
        for item in items:
            taken.append(item)
            if item is None:
                silent.set()

    outlet: Outlet[int | None] = Outlet(consume, tick=0.01)
    outlet.push(0)
    assert silent.wait(5)
    outlet.push(1)
    assert outlet.close()
    assert [item for item in taken if item is not None] == [0, 1]


def test_an_error_in_an_outlet_reaches_whoever_pushes_or_closes_once() -> None:
    def fail(items: Iterator[int]) -> None:
        next(items)
        raise OSError("the disk is full")

    outlet: Outlet[int] = Outlet(fail)
    outlet.push(1)
    time.sleep(0.05)
    with pytest.raises(OSError, match="full"):
        outlet.push(2)
    outlet.push(3)
    assert outlet.close()


def test_an_outlet_that_does_not_end_is_given_up_after_a_while() -> None:
    release = threading.Event()
    outlet: Outlet[int] = Outlet(lambda items: [release.wait(5) for _ in items] and None)
    outlet.push(1)
    time.sleep(0.05)
    assert not outlet.close(0.05)
    release.set()
    assert outlet.close(5)


def test_an_interrupt_while_an_outlet_finishes_drops_what_waits_and_lets_it_come_to_its_end(monkeypatch) -> None:
    taken: list[int] = []
    release, finished = threading.Event(), threading.Event()

    def consume(items: Iterator[int]) -> None:
        for item in items:
            taken.append(item)
            release.wait(5)
        finished.set()

    outlet: Outlet[int] = Outlet(consume)
    for item in range(3):
        outlet.push(item)
    while not taken:
        time.sleep(0.001)
    cancel = outlet._channel.cancel
    with monkeypatch.context() as patch:
        patch.setattr(outlet._channel, "end", _interrupted)
        patch.setattr(outlet._channel, "cancel", lambda: cancel() or release.set())
        with pytest.raises(KeyboardInterrupt):
            outlet.close()
    assert finished.is_set()
    assert taken == [0]
    while _flow_threads():
        time.sleep(0.001)


def test_one_job_at_a_time_is_done_beside() -> None:
    beside: Beside[int] = Beside()
    release = threading.Event()
    assert beside.take() is None
    beside.start(lambda: release.wait(5) and 7)
    assert beside.busy
    assert beside.take() is None
    with pytest.raises(ValueError, match="under way"):
        beside.start(lambda: 8)
    release.set()
    deadline = time.monotonic() + 5
    while (result := beside.take()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert result == 7
    assert not beside.busy
    beside.start(lambda: 1 // 0)
    time.sleep(0.05)
    with pytest.raises(ZeroDivisionError):
        beside.take()
    beside.close()


def test_no_more_than_so_many_of_the_newest_are_on_their_way() -> None:
    entered: list[int] = []
    newest = Latest(iter(range(10**9)), 2)
    thread = threading.Thread(target=lambda: [entered.append(item) for item in newest])
    thread.start()
    for allowed in (2, 3):
        while len(entered) < allowed:
            time.sleep(0.001)
        time.sleep(0.05)
        assert len(entered) == allowed
        newest.done()
    newest.stop()
    thread.join()
    assert entered == sorted(entered)


@pytest.mark.parametrize("taken", [0, 1])
def test_a_source_that_does_not_answer_is_left_to_itself(monkeypatch, taken) -> None:
    monkeypatch.setattr(flow, "_PATIENCE", 0.01)
    asked, release, closed = threading.Event(), threading.Event(), threading.Event()

    def silent() -> Iterator[int]:
        try:
            yield from range(taken)
            asked.set()
            release.wait(30)
            yield taken
        finally:
            closed.set()

    newest = Latest(silent(), 2)
    items = ticking(prefetch(newest, 1), 0.01, stop=newest.stop)  # whoever asks the source is not the one who closes
    while not asked.is_set():
        next(items)
    items.close()
    assert not closed.is_set()
    release.set()
    while _flow_threads():
        time.sleep(0.001)
    assert closed.is_set()


def test_an_interrupt_ends_the_wait_for_a_job_aside(monkeypatch) -> None:
    monkeypatch.setattr(flow, "_PATIENCE", 0.01)
    begun, release = threading.Event(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(flow._Channel, "consume", lambda *_: begun.wait(30) and _interrupted())
        with pytest.raises(KeyboardInterrupt):
            aside(lambda: begun.set() or release.wait(30))
    assert _flow_threads() == 1
    release.set()
    while _flow_threads():
        time.sleep(0.001)
    assert aside(lambda: 2) == 2
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0)


def test_an_interrupt_while_it_waits_for_the_thread_leaves_no_thread():
    asked, release, gone = threading.Event(), threading.Event(), threading.Event()

    def network_at_work():
        yield 0
        asked.set()
        release.wait(5)
        gone.set()
        yield 1

    def interrupt():
        time.sleep(0.3)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)
        release.set()

    before = threading.active_count()
    items = prefetch(network_at_work(), 2)
    assert next(items) == 0
    assert asked.wait(5)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        items.close()
    assert gone.is_set()
    interrupter.join()
    assert threading.active_count() == before
