"""Frames per second of the whole program on a clip and on a 720p scaling of it, with the share of every stage.

    python benchmarks/end_to_end.py CLIP [--repeat 3] [--out benchmarks/end_to_end.md]

Beside it, on the same clip in the same run: reading and writing alone, through the same reader and writer. Medians over the
repeats; runs alternate, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import av
import torch

from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.remove import unmask
from vidunmask.pipelines.report import RunReport
from vidunmask.video.reader import VideoReader
from vidunmask.video.writer import VideoWriter


def scaled(clip: Path, height: int, folder: Path) -> Path:
    """The clip's pictures at another height, nearly lossless, without sound."""
    target = folder / f"{clip.stem}_{height}p.mp4"
    with av.open(str(clip)) as source, av.open(str(target), "w") as sink:
        video = source.streams.video[0]
        width = round(video.width * height / video.height / 2) * 2
        stream = sink.add_stream("libx264", rate=video.average_rate, options={"crf": "14", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index, frame in enumerate(source.decode(video)):
            small = frame.reformat(width, height, "yuv420p")
            small.pts, small.time_base = index, 1 / video.average_rate
            sink.mux(stream.encode(small))
        sink.mux(stream.encode())
    return target


def copy(clip: Path, target: Path) -> tuple[int, float]:
    """Frames and seconds of decoding and encoding alone."""
    began = time.perf_counter()
    count = 0
    with VideoReader(clip) as reader, VideoWriter(target, reader.info, overwrite=True) as writer:
        for frame in reader:
            writer.write(frame)
            count += 1
    return count, time.perf_counter() - began


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {options.repeat} runs each, medians.",
        "",
        "| clip | vidunmask, frames/s | decode + encode alone, frames/s | ratio | seconds of work by stage |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = Config(overwrite=True, device=options.device)
        parts = build(config)
        for clip in (options.clip, scaled(options.clip, 720, folder)):
            reports: list[RunReport] = []
            alone: list[float] = []
            for _ in range(options.repeat):
                reports.append(unmask(clip, folder / "out.mp4", config=config, parts=parts))
                count, seconds = copy(clip, folder / "copy.mp4")
                alone.append(count / seconds)
            middle = sorted(reports, key=lambda r: r.fps)[len(reports) // 2]
            work = sum(middle.stages.values())
            stages = ", ".join(f"{stage} {value:.1f} ({value / work:.0%})" for stage, value in middle.stages.items())
            base = statistics.median(alone)
            lines.append(f"| {clip.name} | {middle.fps:.1f} | {base:.1f} | {middle.fps / base:.2f} | {stages} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
