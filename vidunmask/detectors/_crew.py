"""Several detectors of one kind that work at the same time, for machines with more cores than stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import LifoQueue

from vidunmask.detectors import Detector, Landmarks
from vidunmask.types import ByteArray, Detection, FloatArray


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

    @contextmanager
    def _member(self) -> Iterator[Detector]:
        member = self._idle.get()
        try:
            yield member
        finally:
            self._idle.put(member)
