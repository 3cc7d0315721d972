"""What a batch can be told, and what it tells. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field

from vidunmask.errors import UsageError, VidunmaskError
from vidunmask.pipelines.batch import ledger as books
from vidunmask.pipelines.batch.ledger import Entry
from vidunmask.pipelines.config import whole_number


class BatchError(VidunmaskError):
    """What ends a whole batch, with the exit code of its cause."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What a batch can be told beside the `Config` of each file. Raises UsageError for a value that cannot be used."""

    lists: tuple[str, ...] = ()
    jobs: int | None = None  # None: one, or as many as a cluster has room for
    segment_seconds: float = 60.0
    copy_untouched: bool = False
    keep_work: bool = False
    container: str | None = None  # extension for all videos
    ray: str | None = None  # address of a cluster

    def __post_init__(self) -> None:
        if self.jobs is not None:
            whole_number("--jobs", self.jobs, 1, 1024)
        seconds = self.segment_seconds
        if not isinstance(seconds, int | float) or not (seconds == 0 or 0.5 <= seconds <= 86400):
            raise UsageError(f"--segment {seconds}: must be 0 (never) or lie from 0.5 to 86400 seconds")
        if self.container is not None and not str(self.container).isalnum():
            raise UsageError(f"--container {self.container}: give an extension such as mp4 or mkv")


@dataclass(slots=True)
class BatchReport:
    """What came of a batch: its files in the order in which they were given."""

    entries: list[Entry] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> list[Entry]:
        """The files that could not be done."""
        return [entry for entry in self.entries if entry.status == books.FAILED]

    def count(self, status: str) -> int:
        """How many files ended so."""
        return sum(entry.status == status for entry in self.entries)


class Listener:
    """Hears how a batch goes; does nothing with it. To stop the batch, raise KeyboardInterrupt: other errors end a file."""

    def progress(self, done: int, expected: int | None) -> None:
        """Frames done and expected of all files that were begun."""

    def finished(self, entry: Entry, number: int, of: int) -> None:
        """A file has reached its end, good or bad."""

    def note(self, message: str) -> None:
        """Something worth a line."""
