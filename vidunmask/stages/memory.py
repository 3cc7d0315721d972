"""What a stage remembers of each track, and when it forgets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")


class TrackMemory(Generic[S]):
    """One state per track, dropped when the track has been away for more than ``patience`` frames.

    A long video has any number of tracks and only a few at a time, so memory must not grow with the number seen. Frames count
    that a stage has told of, by `of` or `prune`: a slow live run drops any number between two.
    """

    def __init__(self, make: Callable[[], S], *, patience: int = 30) -> None:
        self._make = make
        self._patience = patience
        self._states: dict[int, tuple[int, S]] = {}  # the count of frames when it was last asked for, and the state
        self._frame = -1
        self._count = 0

    def of(self, track_id: int, frame_index: int, *, reset: bool = False) -> S:
        """The state of a track at a frame; a new one on ``reset``, for a new track and for one that was away too long."""
        self._go_to(frame_index)
        last, state = self._states.get(track_id, (-1, None))
        if state is None or reset or self._count - last > self._patience:
            state = self._make()
        self._states[track_id] = (self._count, state)
        return state

    def drop(self, track_id: int) -> None:
        """Forgets a track now."""
        self._states.pop(track_id, None)

    def prune(self, frame_index: int) -> None:
        """Forgets the tracks that have been away too long."""
        self._go_to(frame_index)
        gone = [track for track, (last, _) in self._states.items() if self._count - last > self._patience]
        for track in gone:
            del self._states[track]

    def _go_to(self, frame_index: int) -> None:
        if frame_index != self._frame:
            self._frame = frame_index
            self._count += 1

    def __len__(self) -> int:
        return len(self._states)
