"""Several detectors of one kind that work at the same time, for machines with more cores than stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import LifoQueue
from typing import TypeVar

from vidunmask.detectors import Detector, Landmarks
from vidunmask.types import ByteArray, Detection, FloatArray

T = TypeVar("T")
R = TypeVar("R")


class Crew:
    """A `Detector` that any number of threads may use at once: each call is done by one of ``size`` detectors.

    ``make`` makes one of them. They are equal, so it does not matter which of them does what.
    """

    def __init__(self, make: Callable[[], Detector], size: int) -> None:
        if size < 1:
            raise ValueError(f"a crew needs at least 1 detector, not {size}")
        members = [make() for _ in range(size)]
        self.size = size
        self.region_size = members[0].region_size
        self._any = members[0]
        self._idle: LifoQueue[Detector] = LifoQueue()
        for member in members:
            self._idle.put(member)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="vidunmask-detect")

    def detect(self, image: ByteArray, *, thorough: bool = False) -> list[Detection]:
        """See `Detector.detect`."""
        with self._member() as member:
            return member.detect(image, thorough=thorough)

    def region(self, face: Detection | FloatArray) -> FloatArray:
        """See `Detector.region`; it is arithmetic alone and keeps no state."""
        return self._any.region(face)

    def landmarks(self, region: ByteArray) -> Landmarks:
        """See `Detector.landmarks`."""
        with self._member() as member:
            return member.landmarks(region)

    def each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """``function`` of every item, in their order, several at a time. Not to be called by what it runs."""
        return list(self._threads.map(function, items))

    def begin(self, job: Callable[[], R]) -> Future[R]:
        """Begins a job beside; the result is asked for later."""
        return self._threads.submit(job)

    @contextmanager
    def _member(self) -> Iterator[Detector]:
        member = self._idle.get()
        try:
            yield member
        finally:
            self._idle.put(member)
