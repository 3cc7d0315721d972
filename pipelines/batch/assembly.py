"""Puts the segments of a video together, with everything else of its source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vidunmask.pipelines.batch.segments import Outcome, SegmentTask
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.report import WarningLog

if TYPE_CHECKING:
    from vidunmask.video.index import FrameIndex
    from vidunmask.video.info import VideoInfo
    from vidunmask.video.packets import EncodedPacket
    from vidunmask.video.untouched import Copying


@dataclass(slots=True, eq=False)
class Parts:
    """What is known of a video that is done in segments."""

    info: VideoInfo
    index: FrameIndex
    tasks: list[SegmentTask]
    copying: Copying | None


@dataclass(frozen=True, slots=True)
class Assembled:
    """What there is to say of a video that was put together."""

    frames_copied: int
    warnings: tuple[str, ...]


def assemble(parts: Parts, outcomes: Sequence[Outcome], result: Path, config: Config, *, seen: os.stat_result) -> Assembled:
    """Writes the video to ``result`` from the ``outcomes`` of all its segments, in their order.

    Where nothing can be passed through after all, everything is taken from the segments. ``seen`` is what the source was when
    they were made. Raises SpanError where they do not fit together, OutputError where writing fails.
    """
    from vidunmask.pipelines.remove import copy, is_copy_enough
    from vidunmask.video.untouched import CannotCopyError

    source = Path(parts.info.path)
    untouched = not any(outcome.edited for outcome in outcomes)
    if untouched and is_copy_enough(source, result, config) and copy(source, result, seen=seen):
        return Assembled(len(parts.index.pts), ())
    if parts.copying is not None:
        try:
            return _write(parts, outcomes, result, config, parts.copying)
        except CannotCopyError as error:
            made = _write(parts, outcomes, result, config, None)
            return Assembled(0, (f"--copy-untouched: {error}; all of it is encoded", *made.warnings))
    return _write(parts, outcomes, result, config, None)


def _write(parts: Parts, outcomes: Sequence[Outcome], result: Path, config: Config, copying: Copying | None) -> Assembled:
    from vidunmask.pipelines.remove import convert, provenance
    from vidunmask.video import untouched
    from vidunmask.video.index import SpanError
    from vidunmask.video.joining import JoinedWriter

    c, count = config, len(parts.index.pts)
    with contextlib.ExitStack() as stack:
        warnings = stack.enter_context(WarningLog.collecting())
        like = convert(parts.info, result, stack) if c.convert_streams else parts.info
        writer = JoinedWriter(
            result, like, codec=c.codec, crf=c.crf, preset=c.preset, pix_fmt=c.pix_fmt, overwrite=True, metadata=provenance()
        )
        writer.plan = parts.tasks[0].plan
        headers = writer.encoder_headers()
        if any(bytes.fromhex(outcome.headers) != headers for outcome in outcomes):
            raise SpanError(f"{parts.info.path}: {writer.plan.name} does not encode parts that fit together")
        delay = max(outcome.delay for outcome in outcomes)
        packets = _encoded(parts, outcomes)
        inspect: Callable[[Path], None] | None = None
        frames_copied = 0
        if copying is not None:
            edited = [frame for outcome in outcomes for frame in outcome.edited]
            spans = untouched.parts_of(copying.boundaries, count, edited)
            frames_copied = sum(last - first for first, last, copy in spans if copy)
            if not frames_copied and len(edited) < count:
                warnings.messages.append(
                    "--copy-untouched: there is an edited face in every part from key frame to key frame "
                    f"({len(spans)} of this video); all of it is encoded"
                )
            copies, sets = untouched.source_packets(parts.info, copying), copying.sets_before(headers)
            packets = untouched.merge(packets, copies, parts.index, spans, sets=sets)
            headers = copying.header(headers, spans)
            delay = max(delay, parts.index.delay)
            inspect = partial(untouched.check_copies, parts.info.path, spans)
        with writer:
            writer.join(packets, parts.index, delay=delay, headers=headers or None, inspect=inspect)
        return Assembled(frames_copied, (*writer.warnings, *warnings.messages))


def _encoded(parts: Parts, outcomes: Sequence[Outcome]) -> Iterator[EncodedPacket]:
    from vidunmask.video.packets import Summary, read_packets

    for task, outcome in zip(parts.tasks, outcomes, strict=True):
        yield from read_packets(task.packets, Summary(outcome.count, outcome.sha256))
