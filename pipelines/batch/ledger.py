"""What a batch knows of its files, kept as ``batch.json`` beside the results, and the folder of its unfinished work."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any

from vidunmask import __version__
from vidunmask.errors import OutputError

WORK = ".vidunmask-work"
NAME = "batch.json"
_MADE_BY = "vidunmask batch"
_JOURNAL = "journal.jsonl"
_FEW, _SELDOM = 200, 5.0  # entries that are written every time, and seconds between for more

DONE, SKIPPED, FAILED, STOPPED, WAITING = "done", "skipped", "failed", "interrupted", "waiting"


@dataclass(slots=True, kw_only=True)
class Entry:
    """One file of a batch."""

    input: str  # absolute
    output: str  # relative to the folder of the results
    status: str = WAITING
    input_size: int = 0
    input_mtime_ns: int = 0
    options: str = ""  # digest of everything that decides the result
    output_size: int = 0
    output_mtime_ns: int = 0
    frames: int = 0
    frames_edited: int = 0
    faces: int = 0
    frames_copied: int = 0  # passed through without encoding
    segments: int = 0  # 0 for a file that was done in one go
    segments_done: int = 0
    seconds: float = 0.0  # of work
    message: str = ""
    exit_code: int = 0
    warnings: list[str] = field(default_factory=list)

    def same_input(self, stat: os.stat_result, options: str) -> bool:
        """Whether the file and the options are those of the entry."""
        return (self.input_size, self.input_mtime_ns, self.options) == (stat.st_size, stat.st_mtime_ns, options)

    def owns(self, output: Path) -> bool:
        """Whether a file is the result of this entry, and as it was when it was finished."""
        try:
            stat = output.stat()
        except OSError:
            return False
        finished = self.status in (DONE, SKIPPED) or self.output_size > 0
        return finished and (self.output_size, self.output_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


class Ledger:
    """The entries of all files that were ever given to the batches of one folder. Raises OutputError.

    What changes is first noted in a journal in the folder ``work``, which costs the same however many files there are, and is
    safe there from a crash before it is true: see `note`.
    """

    def __init__(self, folder: Path, work: Path) -> None:
        self.path = folder / NAME
        self.entries: dict[str, Entry] = {}
        self.damaged = False
        self._journal = work / _JOURNAL
        self._written = float("-inf")
        self._read()
        with contextlib.suppress(OSError):
            # Not splitlines, which would part names with U+2028 or U+0085 in them.
            for line in self._journal.read_text(encoding="utf-8", errors="surrogateescape").split("\n"):
                with contextlib.suppress(ValueError):  # the last line, where the power went
                    self._enter(json.loads(line), folder)

    def _read(self) -> None:
        try:
            raw = json.loads(self.path.read_text(encoding="utf-8", errors="surrogateescape"))
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be read ({error.strerror})") from error
        except ValueError:
            self.damaged = True
            return
        if not isinstance(raw, dict) or raw.get("made_by") != _MADE_BY:
            raise OutputError(f"{self.path}: is in the way, it was not made by vidunmask; choose another --out folder")
        for item in raw.get("files", ()):
            self._enter(item)

    def _enter(self, item: dict[str, Any], folder: Path | None = None) -> None:
        """Takes an entry; with the ``folder`` of the results only where its result is there: it may not have got that far."""
        known = {each.name for each in fields(Entry)}
        with contextlib.suppress(TypeError, AttributeError):
            entry = Entry(**{key: value for key, value in item.items() if key in known})
            if folder is None or entry.owns(folder / entry.output):
                self.entries[entry.input] = entry

    def note(self, entry: Entry) -> None:
        """Adds an entry to the journal, which reaches the disk before this returns."""
        from vidunmask.video import atomic

        try:
            with self._journal.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise atomic.write_error(self.path, error) from error

    @property
    def is_due(self) -> bool:
        """Whether the file should be written again in the midst of the work; a long one is not written every time."""
        return len(self.entries) <= _FEW or time.monotonic() - self._written > _SELDOM

    def write(self, *, state: str, options: Mapping[str, Any]) -> None:
        """Replaces the file in one step."""
        from vidunmask.video import atomic

        counts: dict[str, int] = {}
        for entry in self.entries.values():
            counts[entry.status] = counts.get(entry.status, 0) + 1
        whole = {
            "made_by": _MADE_BY,
            "version": __version__,
            "state": state,
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "counts": counts,
            "options": dict(options),
            "files": [asdict(entry) for entry in self.entries.values()],
        }
        text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
        with atomic.replacing(self.path, overwrite=True) as temporary:
            # A name that is no Unicode is kept as Python reads it.
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        self._journal.unlink(missing_ok=True)
        self._written = time.monotonic()


class Work:
    """The hidden folder of unfinished work; one batch at a time may use it."""

    def __init__(self, out: Path) -> None:
        self.path = out / WORK

    @contextlib.contextmanager
    def locked(self, *, keep: bool) -> Iterator[Work]:
        """Holds the folder for the body; where nothing unfinished is left in it, and ``keep`` is false, it goes away."""
        from vidunmask.video import atomic

        try:
            self.path.mkdir(exist_ok=True)
            lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise atomic.write_error(self.path, error) from error
        held = False
        try:
            # A batch that ended just now may have removed the file that was opened here.
            held = _lock(lock) and _stands(lock, self.path / "lock")
            if not held:
                raise OutputError(f"{self.path.parent}: another batch is at work there; wait for it or choose another --out")
            yield self
        finally:
            if held and not keep:
                with contextlib.suppress(OSError):
                    if {entry.name for entry in self.path.iterdir()} <= {"lock"}:
                        shutil.rmtree(self.path, ignore_errors=True)
            os.close(lock)

    def of(self, output: PurePath) -> Path:
        """The folder for the work on one result; made by whoever needs it."""
        return self.path / hashlib.sha256(output.as_posix().encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def clear(self, output: PurePath) -> None:
        """Removes what was kept for one result."""
        shutil.rmtree(self.of(output), ignore_errors=True)


def _stands(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Whether the lock was free; it is let go of when its process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows; two batches in one folder are not kept apart there
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def digest(values: Mapping[str, Any]) -> str:
    """A short digest of options or whatever else decides a result."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
