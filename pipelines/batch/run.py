"""The batch itself: which file is next, who works on it, what is written down."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from vidunmask.errors import OutputError, VidunmaskError
from vidunmask.pipelines import checks
from vidunmask.pipelines.batch import ledger as books
from vidunmask.pipelines.batch.encoding import check_encoding
from vidunmask.pipelines.batch.identity import digest_of, identity_of
from vidunmask.pipelines.batch.inputs import Named, collect, name_outputs
from vidunmask.pipelines.batch.job import Job
from vidunmask.pipelines.batch.ledger import Entry, Ledger, Work
from vidunmask.pipelines.batch.segments import SegmentTask
from vidunmask.pipelines.batch.terms import BatchError, BatchOptions, BatchReport, Listener
from vidunmask.pipelines.batch.workers import Event, Failed, Inline, Processes, Queue, Task, Workers, surprise
from vidunmask.pipelines.config import Config


def batch(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    config: Config | None = None,
    options: BatchOptions | None = None,
    listener: Listener | None = None,
) -> BatchReport:
    """Removes the masks from all videos and pictures that ``inputs`` name, into the folder ``out``, which is made.

    What is there from an earlier run of the same options is left alone, what was begun is gone on with, and a file that cannot
    be done does not stop the others: it is named in the report and in ``batch.json``. Raises a VidunmaskError, before any work,
    where nothing can be done. An exception that stops the batch carries a note on how far it came. More than one of
    ``options.jobs`` are processes that begin with the caller's script: call it under ``if __name__ == "__main__":`` there.
    """
    config, options, listener = config or Config(), options or BatchOptions(), listener or Listener()
    folder = Path(os.path.abspath(out))  # noqa: PTH100 - links stay as they were named
    words = [inputs] if isinstance(inputs, str | Path) else inputs
    found, strangers = collect([str(word) for word in words], lists=options.lists, out=folder)
    for line in checks.left_alone(strangers, what="neither video nor picture"):
        listener.note(line)
    check_encoding(config, options, [item.path for item in found])
    identity = identity_of(config, options)
    _make(folder)
    # The folder is locked before its books are read, so that they are not another batch's of this very moment.
    with Work(folder).locked(keep=options.keep_work) as work:
        book = Ledger(folder, work.path)
        if book.damaged:
            listener.note(f"{book.path}: is damaged and begun anew; results that stand there need --overwrite")
        before = {entry.input: entry.output for entry in book.entries.values()}
        named = name_outputs(found, container=options.container, before=before)
        return _Batch(named, folder, work, book, config, options, listener, identity).run()


def _make(folder: Path) -> None:
    from vidunmask.video import atomic

    if folder.exists() and not folder.is_dir():
        raise OutputError(f"--out {folder}: is a file; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise atomic.write_error(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"--out {folder}: no permission to write there")


class _Batch:
    """One run over all files."""

    def __init__(
        self,
        named: Sequence[Named],
        out: Path,
        work: Work,
        book: Ledger,
        config: Config,
        options: BatchOptions,
        listener: Listener,
        identity: dict[str, Any],
    ) -> None:
        self._out, self._work, self._book = out, work, book
        self._config, self._options, self._listener, self._identity = config, options, listener, identity
        self._digest = digest_of(config, options, identity)
        self._named = list(named)
        self._inputs = {os.path.realpath(item.path): item.path for item in named}
        self._entries: list[Entry] = []
        self._coming: list[tuple[Entry, bool]] = []  # files not begun yet, and whether their result may be replaced
        self._tasks: dict[int, tuple[Job, Task]] = {}  # by number; those that wait and those under way
        self._may_replace: dict[str, bool] = {}  # by input
        self._queue = Queue()
        self._next_key = 0
        self._done: dict[int, int] = {}  # frames by task under way
        self._frames_done = 0
        self._frames_expected: dict[str, int | None] = {}  # by input
        self._ended = 0

    def run(self) -> BatchReport:
        """All files, to the end."""
        began = time.perf_counter()
        report = BatchReport()
        for item in self._named:
            self._enter(item)
        report.entries = self._entries
        self._coming.reverse()
        state = "running"
        self._save(state)
        try:
            if self._coming:
                with self._workers() as workers:
                    self._work_off(workers)
            state = "failed" if report.failed else "done"
        except BaseException as error:
            state = books.STOPPED
            self._stop(error)
            raise
        finally:
            report.seconds = round(time.perf_counter() - began, 3)
            self._save(state, strict=state != books.STOPPED)
        return report

    def _enter(self, item: Named) -> None:
        """Writes a file into the book; it is skipped, cannot be done, or is to come."""
        old = self._book.entries.get(str(item.path))
        output = self._out / item.output
        entry = Entry(input=str(item.path), output=item.output.as_posix(), options=self._digest)
        owned = old is not None and old.output == entry.output and old.owns(output)
        try:
            stat = item.path.stat()
        except OSError:
            stat = None
        if old is not None and owned:
            entry.output_size, entry.output_mtime_ns = old.output_size, old.output_mtime_ns
        self._book.entries[entry.input] = entry
        self._entries.append(entry)
        if stat is None or item.problem:
            self._fail(entry, Failed(item.problem or f"{item.path}: {checks.missing(item.path)}", 3))
            return
        if (other := self._inputs.get(os.path.realpath(output), item.path)) != item.path:
            self._fail(entry, Failed(f"{output}: is the input {other}, which the result of {item.path} would replace", 2))
            return
        same = old is not None and old.same_input(stat, self._digest)
        entry.input_size, entry.input_mtime_ns = stat.st_size, stat.st_mtime_ns
        if old is not None and owned and same and old.status in (books.DONE, books.SKIPPED):
            for each in fields(Entry):
                setattr(entry, each.name, getattr(old, each.name))
            entry.status = books.SKIPPED
            self._end(entry)
        else:
            self._coming.append((entry, owned or self._config.overwrite))

    def _work_off(self, workers: Workers) -> None:
        while self._coming or self._tasks:
            while workers.room and (key := self._next()) is not None:
                workers.submit(key, self._tasks[key][1])
            for event in workers.wait():
                self._hear(event)

    def _next(self) -> int | None:
        """The number of the next task; begins further files until there is one."""
        while (key := self._queue.take()) is None and self._coming:
            entry, may_replace = self._coming.pop()
            self._begin(entry, may_replace)
        return key

    def _begin(self, entry: Entry, may_replace: bool) -> None:
        folder = self._work.of(Path(entry.output))
        job = Job(entry, out=self._out, folder=folder, config=self._config, options=self._options, identity=self._identity)
        self._may_replace[entry.input] = may_replace
        with self._failing(job):
            todo = job.begin(may_replace=may_replace)
            self._frames_expected[entry.input] = job.frames_expected
            self._frames_done += job.frames_before
            if job.frames_before:
                of = f"{entry.segments_done} of {entry.segments} segments"
                self._listener.note(f"{entry.input}: going on, {of} were done before")
            entry.status = books.STOPPED  # until it is done
            self._add(job, todo)
            self._finish_if_complete(job)

    def _add(self, job: Job, todo: Sequence[Task], *, first: bool = False) -> None:
        for task in todo:
            self._tasks[self._next_key] = (job, task)
            self._queue.add(self._next_key, first=first)
            self._next_key += 1

    def _hear(self, event: Event) -> None:
        known = self._tasks.get(event.key)
        if known is None:  # of a file that failed meanwhile
            return
        job, task = known
        if isinstance(event.what, int):
            self.progress(event.key, event.what)
            return
        self._done.pop(event.key, None)
        if event.what is None:
            if self._queue.lost(event.key):
                self._listener.note(f"{job.source}: a worker was lost, its part is done again")
                self._queue.add(event.key, first=True)
            else:
                tries = Queue.RETRIES + 1
                self._end_job(job, Failed(f"{job.source}: {tries} workers died over it; is there enough memory?", 1))
            return
        del self._tasks[event.key]
        if isinstance(event.what, Failed):
            if event.what.fatal:
                raise BatchError(event.what.message, event.what.exit_code)
            if event.what.in_parts:
                self._drop(job)
                with self._failing(job):
                    self._add(job, job.not_in_parts(event.what.message), first=True)
                return
            self._end_job(job, event.what)
            return
        with self._failing(job):
            self._add(job, job.took(task, event.what), first=True)
            if not (isinstance(task, SegmentTask) and task.handed):  # which was counted the first time
                count = getattr(event.what, "count", None)
                self._frames_done += count if count is not None else getattr(event.what, "frames", 0)
            self._show()
            self._save("running")
            self._finish_if_complete(job)

    def _finish_if_complete(self, job: Job) -> None:
        from vidunmask.video.index import SpanError

        if not job.complete:
            return
        try:
            job.finish(may_replace=self._may_replace[job.entry.input], note=self._book.note)
        except SpanError as error:
            self._add(job, job.not_in_parts(str(error)), first=True)
            return
        self._end(job.entry)
        self._save("running")

    @contextmanager
    def _failing(self, job: Job) -> Iterator[None]:
        """Ends a job, not the batch, where the body cannot go on with it."""
        try:
            yield
        except VidunmaskError as error:
            self._end_job(job, Failed(str(error), error.exit_code))
        except OSError as error:
            from vidunmask.video import atomic

            wrong = atomic.write_error(job.target, error)
            self._end_job(job, Failed(str(wrong), wrong.exit_code))
        except Exception as error:  # one file's surprise must not end the others
            self._end_job(job, surprise(job.source, error))

    def _end_job(self, job: Job, why: Failed) -> None:
        self._drop(job)
        message = job.say_target(why.message)
        if not any(str(path) in message for path in (job.source, job.target)):  # an option that does not fit this file
            message = f"{job.source}: {message}"
        self._fail(job.entry, Failed(message, why.exit_code))
        self._frames_expected.pop(job.entry.input, None)  # which nobody waits for any longer
        if not job.entry.segments and not self._options.keep_work:
            self._work.clear(Path(job.entry.output))
        self._save("running")

    def _drop(self, job: Job) -> None:
        """Forgets all tasks of a job; those under way end unheard."""
        keys = {key for key, (owner, _) in self._tasks.items() if owner is job}
        self._queue.drop(keys)
        for key in keys:
            del self._tasks[key]
            self._done.pop(key, None)

    def _fail(self, entry: Entry, why: Failed) -> None:
        entry.status, entry.message, entry.exit_code = books.FAILED, why.message, why.exit_code
        self._end(entry)

    def _end(self, entry: Entry) -> None:
        self._ended += 1
        self._listener.finished(entry, self._ended, len(self._named))

    def _stop(self, error: BaseException) -> None:
        """Writes down how far the batch came, and tells it to whoever hears of the error."""
        for job, _ in self._tasks.values():
            job.sweep()
            if not job.entry.segments and not self._options.keep_work:
                self._work.clear(Path(job.entry.output))
        done = sum(entry.status in (books.DONE, books.SKIPPED) for entry in self._entries)
        error.add_note(f"{done} of {len(self._entries)} files are done; the same command goes on from here")

    def progress(self, key: int, done: int) -> None:
        """Frames done of a task under way."""
        self._done[key] = done
        self._show()

    def _show(self) -> None:
        known = [frames for frames in self._frames_expected.values() if frames]
        done = self._frames_done + sum(self._done.values())
        self._listener.progress(done, max(done, sum(known)) if known else None)

    def _save(self, state: str, *, strict: bool = True) -> None:
        if state == "running" and not self._book.is_due:
            return
        asked = {**asdict(self._config), **asdict(self._options)}
        try:
            self._book.write(state=state, options={key: str(value) for key, value in asked.items() if value is not None})
        except OutputError as error:
            # In the midst of the work this may pass, and at the end of it nothing must be lost for the lack of a list.
            if strict and state != "running":
                raise
            self._listener.note(str(error))

    @contextmanager
    def _workers(self) -> Iterator[Workers]:
        workers = self._hire()
        try:
            yield workers
        finally:
            workers.close()

    def _hire(self) -> Workers:
        if self._options.ray is not None:
            from vidunmask.pipelines.batch.cluster import RayWorkers

            return RayWorkers(self._options.ray, self._config, self._options.jobs, self._listener.note)
        jobs = self._options.jobs or 1
        if jobs == 1:
            return Inline(self._config, self.progress)
        return Processes(self._config, jobs)
