"""How much frames at the joints of segments differ from those of a run in one go, before any encoder.

    python benchmarks/segment_joints.py CLIP [--segment 2] [--out benchmarks/segment_joints.md]

Beside it, how much the picture changes over the joint (last frame of one segment to the first of the next) and between the
same two frames of the run in one go: a joint that could be seen would change more.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from vidunmask.pipelines.batch import seams
from vidunmask.pipelines.batch.segments import SegmentTask, divide, run_segment, tasks
from vidunmask.pipelines.build import Parts, build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.remove import edited_frames
from vidunmask.pipelines.report import Stopwatch, Tally
from vidunmask.types import Frame, KnownFace
from vidunmask.video.index import scan
from vidunmask.video.joining import JoinedWriter
from vidunmask.video.reader import VideoReader
from vidunmask.video.spans import SpanReader

Pictures = dict[int, npt.NDArray[np.int16]]


def pictures(
    reader: Iterable[Frame], wanted: set[int], parts: Parts, config: Config, known: Sequence[KnownFace] = ()
) -> Pictures:
    """The wanted frames (h, w, 3), edited."""
    found: Pictures = {}
    with closing(edited_frames(reader, parts, config, Stopwatch(), Tally(), known=known)) as frames:
        for frame in frames:
            if frame.index in wanted:
                found[frame.index] = frame.native.to_ndarray(format="rgb24").astype(np.int16)
            if frame.index == max(wanted):
                break
    return found


def as_they_stay(made: list[SegmentTask], parts: Parts) -> list[SegmentTask]:
    """The tasks as a batch would end up doing them: with what was known before, where a joint demands it."""
    final, before = [], None
    for task in made:
        outcome = run_segment(task, parts)
        if before is not None and not seams.agree(before.tail, outcome.head):
            task = replace(task, known=before.handover, decisions=before.decisions, handed=True)
            outcome = run_segment(task, parts)
        final.append(task)
        before = outcome
    return final


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--segment", type=float, default=2.0, help="seconds (default: %(default)s)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    config = Config(device="cpu")
    parts = build(config)
    with VideoReader(args.clip) as reader:
        info = reader.info
    index = scan(info)
    segments = divide(index, seconds=args.segment, time_base=float(info.time_base), every=config.detect_every)
    with TemporaryDirectory() as folder:
        writer = JoinedWriter(Path(folder) / "out.mkv", info)
        made = tasks(
            str(args.clip), info, index, segments, config=config, plan=writer.plan, container="matroska", folder=Path(folder)
        )  # fmt: skip
        final = as_they_stay(made, parts)
    joints = [task.segment.begin for task in final[1:]]
    with VideoReader(args.clip) as reader:
        whole = pictures(reader, {n for joint in joints for n in (joint - 1, joint)}, parts, config)
    own: Pictures = {}
    for task in final:
        wanted = {n for n in whole if task.segment.begin <= n < task.segment.end}
        known = [face.known(task.decisions) for face in task.known]
        with SpanReader(task.source, task.span) as part:
            own |= pictures(part, wanted, parts, config, known)
    size = f"{info.size[1]}x{info.size[0]}"
    lines = [
        f"`{args.clip.name}`, {size}, segments of about {args.segment:g} s; grey levels of 255, over the whole frame.",
        "",
        "| joint at frame | run-in | mean difference | greatest | change over the joint | the same in one go |",
        "|---|---|---|---|---|---|",
    ]
    for task in final[1:]:
        joint = task.segment.begin
        off = np.abs(own[joint] - whole[joint])
        step = np.abs(own[joint] - own[joint - 1]).mean()
        usual = np.abs(whole[joint] - whole[joint - 1]).mean()
        run_in = f"{joint - task.segment.start} frames{', made again' if task.handed else ''}"
        lines.append(f"| {joint} | {run_in} | {off.mean():.4f} | {off.max()} | {step:.3f} | {usual:.3f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
