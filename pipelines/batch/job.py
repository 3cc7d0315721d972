"""One file of a batch on its way: what has to be done for it, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidunmask.errors import InputError, OutputError, UsageError, VidunmaskError
from vidunmask.pipelines import checks
from vidunmask.pipelines.batch import ledger as books
from vidunmask.pipelines.batch import seams
from vidunmask.pipelines.batch.assembly import Parts, assemble
from vidunmask.pipelines.batch.ledger import Entry
from vidunmask.pipelines.batch.segments import Outcome, Segment, SegmentTask, divide, tasks
from vidunmask.pipelines.batch.terms import BatchOptions
from vidunmask.pipelines.batch.workers import FileTask, Task
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.report import RunReport

if TYPE_CHECKING:
    from vidunmask.video.index import FrameIndex
    from vidunmask.video.info import VideoInfo
    from vidunmask.video.untouched import Copying


class Job:
    """The work on one file. ``identity`` is all that decides the result besides file and options (libraries, device)."""

    def __init__(
        self, entry: Entry, *, out: Path, folder: Path, config: Config, options: BatchOptions, identity: dict[str, Any]
    ) -> None:
        self.entry = entry
        self.source = Path(entry.input)
        self.target = out / entry.output
        self.folder = folder
        self.frames_expected: int | None = None
        self.frames_before = 0  # that an earlier run had done
        self._config = config
        self._options = options
        self._identity = identity
        self._parts: Parts | None = None
        self._outcomes: dict[int, Outcome] = {}
        self._settled = 0  # segments from the first on that are as they will stay
        self._again: set[int] = set()
        self._report: RunReport | None = None
        self._seen: os.stat_result | None = None  # the source as it was when the work began
        self._refusal = ""  # why nothing of it can be passed through

    @property
    def result(self) -> Path:
        """Where the result is made, before it moves to its place."""
        return self.folder / f"result{self.target.suffix}"

    def begin(self, *, may_replace: bool) -> list[Task]:
        """What can be done for the file at once. Raises a VidunmaskError where nothing can."""
        from vidunmask.video import atomic

        checks.readable(self.source)
        self._seen = self.source.stat()
        # It may be another by now than when the batch began.
        self.entry.input_size, self.entry.input_mtime_ns = self._seen.st_size, self._seen.st_mtime_ns
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise atomic.write_error(self.target, error) from error
        atomic.check_target(self.target, source=self.source, overwrite=may_replace)
        if checks.is_picture(self.source):
            self.frames_expected = 1
            return self._in_one_go()
        from vidunmask.video.index import SpanError

        self._parts = None
        try:
            self._parts = self._divided()
        except SpanError as error:
            self.warn(f"it is done in one go and cannot be resumed: {_without(str(error), self.source)}")
        return self._in_one_go() if self._parts is None else self._resume(self._parts)

    def took(self, task: Task, outcome: Outcome | RunReport) -> list[Task]:
        """Notes what came of a task; returns what has to be done on account of it."""
        if isinstance(outcome, RunReport):
            self._report = outcome
            return []
        assert isinstance(task, SegmentTask)
        self._outcomes[task.segment.number] = outcome
        self.entry.segments_done = len(self._outcomes)
        return list(self._settle())

    @property
    def complete(self) -> bool:
        """Whether all is there that the result consists of."""
        return self._report is not None or (self._parts is not None and self._settled == len(self._parts.tasks))

    def not_in_parts(self, reason: str) -> list[Task]:
        """Begins anew in one go, for a video that turned out not to be readable in parts."""
        self.warn(f"it is done in one go and cannot be resumed: {_without(reason, self.source)}")
        self._parts, self._outcomes, self._settled = None, {}, 0
        self.entry.segments = self.entry.segments_done = 0
        return self._in_one_go()

    def finish(self, *, may_replace: bool, note: Callable[[Entry], None]) -> None:
        """Puts the result together and moves it to its place. Raises SpanError where the parts do not fit together.

        ``note`` is called with the entry, complete, before the result is moved: should the program end just then, the result is
        known to be its own.
        """
        from vidunmask.video import atomic

        entry = self.entry
        before = entry.status, entry.output_size, entry.output_mtime_ns
        with self._naming_target():
            self._check_source()
            if self._parts is not None:
                self._join(self._parts)
                self._check_source()
            try:
                self._fill_in()
                note(entry)
                atomic.commit(self.result, self.target, overwrite=may_replace)
            except BaseException:
                if not entry.owns(self.target):  # what stands there, if anything, is what stood there before
                    entry.status, entry.output_size, entry.output_mtime_ns = before
                raise
        if not self._options.keep_work:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _check_source(self) -> None:
        from vidunmask.pipelines.remove import is_unchanged

        assert self._seen is not None
        if not is_unchanged(self.source, self._seen):
            raise InputError(f"{self.source}: was changed while it was being worked on; give the same command again")

    def sweep(self) -> None:
        """Removes what workers that were killed left behind of segments."""
        for left in self.folder.glob("*.part"):
            left.unlink(missing_ok=True)

    def warn(self, message: str) -> None:
        """Notes a warning, once."""
        if message not in self.entry.warnings:
            self.entry.warnings.append(message)

    def say_target(self, message: str) -> str:
        """A message about the files of the work as one about the result."""
        return re.sub(re.escape(str(self.folder)) + r"(/[^\s:]+)?", lambda _: str(self.target), message)

    def _in_one_go(self) -> list[Task]:
        self._fresh_folder()
        return [FileTask(self.source, self.result, self._config)]

    def _fresh_folder(self) -> None:
        from vidunmask.video import atomic

        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise atomic.write_error(self.target, error) from error

    def _divided(self) -> Parts | None:
        """The video in segments; None for one that is short enough to be done in one go."""
        from vidunmask.pipelines.remove import provenance
        from vidunmask.video.index import scan
        from vidunmask.video.joining import JoinedWriter
        from vidunmask.video.reader import VideoReader

        with VideoReader(self.source) as reader:
            info = reader.info
        if checks.is_picture(self.target):
            raise UsageError(f"{self.target}: {self.source} is no picture; name a video")
        self.frames_expected = info.frames_estimate
        length = float(info.duration) if info.duration is not None else float("inf")
        seconds = self._options.segment_seconds
        is_long = 0 < 2 * seconds <= length
        if not is_long and not self._options.copy_untouched:
            return None
        c = self._config
        writer = JoinedWriter(
            self.target,
            info,
            codec=c.codec,
            crf=c.crf,
            preset=c.preset,
            pix_fmt=c.pix_fmt,
            overwrite=True,
            metadata=provenance(),
        )  # for what it finds wrong, and for its plan
        index = scan(info)
        segments = divide(
            index, seconds=seconds if is_long else float("inf"), time_base=float(info.time_base), every=c.detect_every
        )
        copying = self._copying(info, index, writer) if self._options.copy_untouched else None
        if len(segments) < 2 and copying is None:
            return None
        self.frames_expected = len(index.pts)
        made = tasks(
            str(self.source), info, index, segments, config=c, container=writer.container, folder=self.folder,
            plan=copying.plan if copying else writer.plan, forced=copying.boundaries if copying else (),
        )  # fmt: skip
        return Parts(info, index, made, copying)

    def _copying(self, info: VideoInfo, index: FrameIndex, writer: Any) -> Copying | None:
        from vidunmask.video.untouched import CannotCopyError, plan_copying

        try:
            return plan_copying(info, index, writer.plan, writer.container)
        except CannotCopyError as error:
            self._refusal = f"--copy-untouched: {error}; all of it is encoded"
            return None

    def _resume(self, parts: Parts) -> list[Task]:
        """The segments that are not there yet from an earlier run of the same work."""
        from vidunmask.video.packets import Summary, holds

        entry = self.entry
        file = {"input": entry.input, "size": entry.input_size, "mtime": entry.input_mtime_ns}
        identity = json.loads(json.dumps({**self._identity, **file, **_described(parts)}, default=str))
        plan = self.folder / "plan.json"
        with contextlib.suppress(OSError, ValueError):
            if json.loads(plan.read_text(encoding="utf-8")) == identity:
                for task in parts.tasks:
                    outcome = Outcome.read(task.outcome)
                    if outcome is not None and holds(task.packets, Summary(outcome.count, outcome.sha256)):
                        self._outcomes[task.segment.number] = outcome
        if not self._outcomes:
            self._fresh_folder()
            plan.write_text(json.dumps(identity), encoding="utf-8")
        self.sweep()
        self.entry.segments, self.entry.segments_done = len(parts.tasks), len(self._outcomes)
        self.frames_before = sum(outcome.count for outcome in self._outcomes.values())
        return [*(task for task in parts.tasks if task.segment.number not in self._outcomes), *self._settle()]

    def _settle(self) -> Iterator[SegmentTask]:
        """Goes from joint to joint; gives out the segment that has to be made again to fit the one before."""
        assert self._parts is not None
        while (number := self._settled) in self._outcomes:
            outcome, task = self._outcomes[number], self._parts.tasks[number]
            if number > 0 and task.segment.start > 0:
                before = self._outcomes[number - 1]
                fits = seams.agree(before.tail, outcome.head)
                if not fits and not outcome.handed:
                    if number not in self._again:
                        self._again.add(number)
                        yield replace(task, known=before.handover, decisions=before.decisions, handed=True)
                    return
                if not fits:
                    where = float(self._parts.index.pts[task.segment.begin] * self._parts.info.time_base)
                    self.warn(f"at {where:.2f} s, between two segments, a face may change from one frame to the next")
            self._settled += 1

    def _join(self, parts: Parts) -> None:
        outcomes = [self._outcomes[task.segment.number] for task in parts.tasks]
        assert self._seen is not None
        made = assemble(parts, outcomes, self.result, self._config, seen=self._seen)
        self.entry.frames_copied = made.frames_copied
        for message in made.warnings:
            self.warn(message)

    def _fill_in(self) -> None:
        entry = self.entry
        if self._report is not None:
            report = self._report
            entry.frames, entry.frames_edited, entry.faces = report.frames, report.frames_edited, len(report.faces)
            entry.seconds, entry.frames_copied = report.seconds, report.frames_copied
            for message in report.warnings:
                self.warn(message)
        else:
            outcomes = [self._outcomes[number] for number in sorted(self._outcomes)]
            entry.frames, entry.frames_edited = (sum(o.count for o in outcomes), sum(len(o.edited) for o in outcomes))
            entry.faces = len(seams.join_tracks([(o.tracks, o.head, o.tail) for o in outcomes]))
            entry.seconds = round(sum(o.seconds for o in outcomes), 3)
            for outcome in outcomes:
                for message in outcome.warnings:
                    self.warn(message)
        if self._refusal and not entry.frames_copied:
            self.warn(self._refusal)
        entry.status, entry.message, entry.exit_code = books.DONE, "", 0
        stat = self.result.stat()
        entry.output_size, entry.output_mtime_ns = stat.st_size, stat.st_mtime_ns

    @contextlib.contextmanager
    def _naming_target(self) -> Iterator[None]:
        """Errors name the result where it will stand, not where it is made."""
        try:
            yield
        except VidunmaskError as error:
            error.args = (self.say_target(str(error)),)
            raise
        except OSError as error:
            raise OutputError(f"{self.target}: cannot be written ({error.strerror or error})") from error


def _described(parts: Parts) -> dict[str, Any]:
    """What decides the packets of the segments."""
    task = parts.tasks[0]
    segments: list[Segment] = [each.segment for each in parts.tasks]
    keys = sorted(key for each in parts.tasks for key in each.keys)
    return {"plan": asdict(task.plan), "container": task.container, "segments": [asdict(s) for s in segments], "keys": keys}


def _without(message: str, path: Path) -> str:
    return message.removeprefix(f"{path}: ")
