"""Rate and latency of live mode on this machine, at 640 x 480 and 1280 x 720.

    python benchmarks/live.py CLIP [--seconds 20] [--repeat 3] [--window] [--out benchmarks/live.md]

The clip's middle is cut to each aspect, scaled, and played as a live source at its own rate; ``--window`` shows it, which
needs a display (Xvfb will do) and counts the time until the window has drawn. Latency is measured from the moment the source
gives a picture out to the moment it is shown or, without a window, handed to the sinks. Nothing is given up to hold the rate
(``--fixed``). Of the repeats the one with the middle p95 stands in the table.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from fractions import Fraction
from pathlib import Path

# isort: off
import cv2  # noqa: F401 - before PyAV, see vidunmask.pipelines.live.window
import av

# isort: on
import torch

from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.live.config import LiveConfig
from vidunmask.pipelines.live.program import LiveReport, run

SIZES = ((640, 480), (1280, 720))


def scaled(clip: Path, width: int, height: int, folder: Path) -> Path:
    """The middle of the clip's pictures at that size, nearly lossless."""
    target = folder / f"{width}x{height}.mp4"
    with av.open(str(clip)) as source, av.open(str(target), "w") as sink:
        video = source.streams.video[0]
        rate = video.average_rate or Fraction(25)
        stream = sink.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index, frame in enumerate(source.decode(video)):
            wide = min(frame.width, frame.height * width // height) // 2 * 2
            left = (frame.width - wide) // 2
            image = frame.to_ndarray(format="rgb24")[:, left : left + wide]
            small = av.VideoFrame.from_ndarray(image.copy(), format="rgb24").reformat(width, height, "yuv420p")
            small.pts, small.time_base = index, 1 / rate
            sink.mux(stream.encode(small))
        sink.mux(stream.encode())
    return target


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--window", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    config = Config(device=options.device, overwrite=True)
    parts = build(config)
    what = "into a window" if options.window else "without a window"
    lines = [
        f"{options.clip.name}, {options.repeat} runs of {options.seconds:g} s each, {what}; {platform.machine()}, "
        f"{os.cpu_count()} cores, {parts.device} in {parts.precision}, torch {torch.__version__}.",
        "",
        "| size | pictures/s shown | of | latency p50, ms | p95, ms | p95 of each run | ms of work for a picture, by stage |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for width, height in SIZES:
            source = scaled(options.clip, width, height, folder)
            reports: list[LiveReport] = []
            for _ in range(options.repeat):
                live = LiveConfig(
                    source=str(source), loop=True, fixed=True, window=options.window, duration=options.seconds,
                    stats=folder / "stats.csv",
                )  # fmt: skip
                reports.append(run(live, config, parts=parts))
            middle = sorted(reports, key=lambda report: report.p95)[len(reports) // 2]
            stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in middle.stages.items())
            each = ", ".join(f"{report.p95:.0f}" for report in reports)
            captured = (middle.captured - 1) / middle.seconds
            lines.append(
                f"| {width} x {height} | {middle.rate:.1f} | {captured:.1f} | {middle.p50:.0f} | {middle.p95:.0f} | {each} "
                f"| {stages} |"
            )
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
