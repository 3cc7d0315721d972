"""A long video in segments that can be made in any order, on any machine, and give the same frames every time.

A segment runs the whole chain over its own frames and over those before and behind it that decide about them. Where it begins
its run, and with what knowledge, is part of the definition of the result, never of how the work went: an interrupted run, an
uninterrupted one and a cluster make the same segments.

- Behind the last frame the stages look ahead by `_AHEAD`; with it, the end of a segment is as if the video went on.
- Before the first frame it runs in over `_RUN_IN`. What the stages carry on for a short while (motion, smoothed paths, the
  blended past, grain, medians) is then what a run from the start of the video would have. The detector's rhythm is kept by
  beginning at a multiple of it; its thorough passes and the noise do not depend on where a run begins.
- What is carried on without end are two decisions with hysteresis: that this is a face, that it wears a mask. Where the
  segment before ends in other decisions than this one has at the joint (`seams.agree`), this one is made again with what was
  known of its faces before its run-in and decided during it (`KnownFace`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidunmask.errors import OutputError
from vidunmask.pipelines.batch.seams import Decision, FaceAt, face_at, is_worn
from vidunmask.pipelines.build import Parts
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.remove import edited_frames
from vidunmask.pipelines.report import Stopwatch, Tally, TrackReport, WarningLog
from vidunmask.types import Fill, FrameFaces

if TYPE_CHECKING:
    from vidunmask.video.encoders import EncoderPlan
    from vidunmask.video.index import FrameIndex, Span
    from vidunmask.video.info import VideoInfo

_RUN_IN = 2.0  # seconds; after this much, the blended past has lost 0.8 ** 48 of its weight
_LEAST_RUN_IN = 48  # frames, for low rates
_AHEAD = 1.05  # seconds: the tracker looks 0.5 ahead, crop and unmask 0.25 each
_MOST_AHEAD = 68  # frames: their windows are bounded to 32 + 16 + 16
_LOOK_BACK = 8  # frames that the detector holds back besides

Progress = Callable[[int], None]  # frames of the segment done


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames ``begin`` to ``end`` of a video, which are written, and those from ``start`` to ``stop`` that are read for it."""

    number: int
    start: int
    begin: int
    end: int
    stop: int


def divide(index: FrameIndex, *, seconds: float, time_base: float, every: int) -> list[Segment]:
    """Segments of about ``seconds`` for a whole video; one, if it is shorter than two of them.

    They begin at key frames where there are any nearby, and best at one that came before its time: that is where encoders
    saw a new shot begin, at which the stages forget the past anyway.
    """
    times = index.pts * time_base
    begins = [0]
    keys = index.key_frames()
    usual = max((b - a for a, b in pairwise(keys)), default=0)
    early = {b for a, b in pairwise(keys) if b - a < 0.9 * usual}
    while times[-1] - times[begins[-1]] >= 2 * seconds:
        goal = times[begins[-1]] + seconds
        near = [key for key in keys if key > begins[-1] and abs(times[key] - goal) <= 0.3 * seconds]
        pool = [key for key in near if key in early] or near
        behind = int((times < goal).sum())
        begins.append(min(pool, key=lambda key: abs(times[key] - goal)) if pool else max(behind, begins[-1] + 1))
    ends = [*begins[1:], len(times)]
    segments = []
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        run_in = min(int((times < times[begin] - _RUN_IN).sum()), begin - _LEAST_RUN_IN)
        start = max(0, run_in) // every * every
        ahead = int((times < times[end - 1] + _AHEAD).sum())
        stop = min(len(times), max(end, min(ahead, end + _MOST_AHEAD)) + _LOOK_BACK)
        segments.append(Segment(number, start, begin, end, stop))
    return segments


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTask:
    """Everything that a worker needs to make one segment."""

    source: str
    segment: Segment
    span: Span
    config: Config
    plan: EncoderPlan
    container: str  # FFmpeg's name of the muxer that the joined file will have
    packets: Path  # where the encoded video goes
    outcome: Path  # where the outcome goes, after it
    known: tuple[FaceAt, ...] = ()
    decisions: tuple[Decision, ...] = ()
    handed: bool = False  # whether this is the run with what the segment before knew
    keys: frozenset[int] = frozenset()  # frames that must be key frames
    hand_over: int | None = None  # the frame at which the next segment wants to know the faces


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a segment, as it is kept beside its packets."""

    number: int
    count: int  # packets
    sha256: str  # of the file of packets
    delay: int
    headers: str  # hexadecimal
    handed: bool
    edited: tuple[int, ...]  # frames
    tracks: tuple[TrackReport, ...]
    head: tuple[FaceAt, ...]  # faces in the last frame before the segment
    tail: tuple[FaceAt, ...]  # faces in its last frame
    handover: tuple[FaceAt, ...]  # faces before the next segment begins to run in
    decisions: tuple[Decision, ...]  # about the frames of its run-in
    seconds: float
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Outcome | None:
        """The outcome in a file; None where there is none or it is damaged."""
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            faces = {name: tuple(FaceAt.read(face) for face in raw[name]) for name in ("head", "tail", "handover")}
            tracks = tuple(TrackReport(**track) for track in raw["tracks"])
            plain = {name: tuple(raw[name]) for name in ("edited", "warnings")}
            plain["decisions"] = tuple((track, time, worn) for track, time, worn in raw["decisions"])
            return cls(**{**raw, **faces, **plain, "tracks": tracks})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, path: Path) -> None:
        """Keeps it in a file that appears whole. Raises OutputError."""
        from vidunmask.video import atomic

        with atomic.replacing(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")


class _SegmentTally(Tally):
    """Counts the frames of the segment alone, and keeps the faces at its ends."""

    def __init__(self, task: SegmentTask) -> None:
        super().__init__()
        self._task = task
        self.edited: list[int] = []
        self.at: dict[int, tuple[FaceAt, ...]] = {}
        self.decisions: list[Decision] = []

    def watch(self, fills: Iterable[FrameFaces[Fill]]) -> Iterator[FrameFaces[Fill]]:
        segment = self._task.segment
        hand_over = self._task.hand_over
        wanted = {segment.begin - 1, segment.end - 1, hand_over}
        for item in fills:
            number = item.frame.index
            if number in wanted:
                self.at[number] = tuple(face_at(fill, float(item.frame.time)) for fill in item.faces)
            if hand_over is not None and hand_over < number < segment.end:
                decided = ((f.track_id, float(item.frame.time), is_worn(f.opacity)) for f in item.faces)
                self.decisions.extend(decided)
            if segment.begin <= number < segment.end:
                if any(fill.opacity > 0 for fill in item.faces):
                    self.edited.append(number)
                yield from super().watch([item])
            else:
                yield item


def run_segment(task: SegmentTask, parts: Parts, progress: Progress | None = None) -> Outcome:
    """Makes a segment and keeps it in the files of ``task``. Raises SpanError where the video cannot be read in parts."""
    from vidunmask.video.joining import SegmentEncoder
    from vidunmask.video.packets import PacketWriter
    from vidunmask.video.spans import SpanReader

    segment, tally = task.segment, _SegmentTally(task)
    delivered, began = 0, time.perf_counter()
    with WarningLog.collecting() as warnings:
        with SpanReader(task.source, task.span) as reader, PacketWriter(task.packets) as store:
            encoder = SegmentEncoder(reader.info, task.plan, task.container)
            known = [face.known(task.decisions) for face in task.known]
            with closing(edited_frames(reader, parts, task.config, Stopwatch(), tally, known=known)) as frames:
                for frame in frames:
                    if frame.index < segment.begin:
                        continue
                    for packet in encoder.encode(frame, key=frame.index in task.keys):
                        store.write(packet)
                    delivered += 1
                    if progress is not None:
                        progress(delivered)
                    if frame.index == segment.end - 1:
                        break
            for packet in encoder.flush():
                store.write(packet)
            summary = store.summary
            if not summary.count == delivered == segment.end - segment.begin:
                raise OutputError(f"{task.source}: {delivered} frames of a segment became {summary.count} packets")
        outcome = Outcome(
            number=segment.number,
            count=summary.count,
            sha256=summary.sha256,
            delay=encoder.delay,
            headers=encoder.headers.hex(),
            handed=task.handed,
            edited=tuple(tally.edited),
            tracks=tally.faces(),
            head=tally.at.get(segment.begin - 1, ()),
            tail=tally.at.get(segment.end - 1, ()),
            handover=tally.at.get(task.hand_over, ()) if task.hand_over is not None else (),
            decisions=tuple(tally.decisions),
            seconds=round(time.perf_counter() - began, 3),
            warnings=tuple(dict.fromkeys([*warnings.messages, *reader.warnings])),
        )
    outcome.write(task.outcome)
    return outcome


def tasks(
    source: str,
    info: VideoInfo,
    index: FrameIndex,
    segments: Sequence[Segment],
    *,
    config: Config,
    plan: EncoderPlan,
    container: str,
    folder: Path,
    forced: Iterable[int] = (),
) -> list[SegmentTask]:
    """The task of each segment, with its files in ``folder``; ``forced`` are frames that must become key frames."""
    keys = frozenset(forced)
    made = []
    for segment, after in zip(segments, [*segments[1:], None], strict=True):
        made.append(
            SegmentTask(
                source=source,
                segment=segment,
                span=index.span(segment.start, segment.stop),
                config=config,
                plan=plan,
                container=container,
                packets=folder / f"{segment.number:05d}.packets",
                outcome=folder / f"{segment.number:05d}.json",
                keys=frozenset(key for key in keys if segment.begin <= key < segment.end),
                hand_over=after.start - 1 if after is not None and after.start > 0 else None,
            )
        )
    return made
