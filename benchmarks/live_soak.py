"""Live mode for a long time: is memory flat, is latency flat?

    python benchmarks/live_soak.py run CLIP FOLDER --minutes 50 [--record] [more options of vidunmask live]
    python benchmarks/live_soak.py plot FOLDER

``run`` plays the clip again and again and leaves ``stats.csv`` (a line a minute: rate, p50 and p95 of the latency, resident
memory, level) and ``log.txt`` in FOLDER. ``plot`` makes ``soak.png`` of it and prints a verdict, also while it runs.
Needs matplotlib for the plot.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

WARM_UP = 3  # minutes at the start that the verdict leaves out


def soak(clip: Path, folder: Path, minutes: float, more: list[str]) -> int:
    """Runs ``vidunmask live`` in a process of its own and returns its exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stats.csv").unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "vidunmask.pipelines.cli", "live", "--source", str(clip), "--loop", "--no-window",
        "--duration", str(60 * minutes), "--stats", str(folder / "stats.csv"), "--stats-every", "60", "--verbose", *more,
    ]  # fmt: skip
    with (folder / "log.txt").open("w") as log:
        return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def read(folder: Path) -> dict[str, np.ndarray]:
    """The columns of ``stats.csv``."""
    with (folder / "stats.csv").open() as file:
        rows = list(csv.DictReader(file))
    if len(rows) < 2:
        sys.exit(f"{folder}: fewer than two minutes so far")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def verdict(columns: dict[str, np.ndarray]) -> str:
    """Growth of memory and of latency from the first third to the last, after the warm-up."""
    skip = min(WARM_UP, len(columns["seconds"]) - 2)
    third = max(1, (len(columns["seconds"]) - skip) // 3)

    def ends(name: str) -> tuple[float, float]:
        values = columns[name][skip:]
        return float(np.median(values[:third])), float(np.median(values[-third:]))

    minutes = columns["seconds"][-1] / 60
    memory, late, rate = ends("rss_mb"), ends("p95_ms"), ends("rate")
    return (
        f"{minutes:.0f} minutes, {columns['shown'][-1]:.0f} pictures. Medians of the first and the last third: "
        f"memory {memory[0]:.0f} and {memory[1]:.0f} MB, latency p95 {late[0]:.0f} and {late[1]:.0f} ms, "
        f"rate {rate[0]:.2f} and {rate[1]:.2f} pictures/s"
    )


def plot(folder: Path) -> None:
    """Writes ``soak.png``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = read(folder)
    minutes = columns["seconds"] / 60
    figure, (late, rate, memory) = plt.subplots(3, 1, figsize=(9, 8), sharex=True)
    late.plot(minutes, columns["p50_ms"], label="p50")
    late.plot(minutes, columns["p95_ms"], label="p95")
    late.set_ylabel("latency, ms")
    late.legend(loc="lower right")
    rate.plot(minutes, columns["rate"], color="tab:green", label="shown")
    seconds = np.diff(columns["seconds"], prepend=0.0)
    rate.plot(minutes, np.diff(columns["captured"], prepend=0.0) / seconds, color="tab:gray", ls=":", label="captured")
    rate.set_ylabel("pictures a second")
    rate.legend(loc="lower right")
    memory.plot(minutes, columns["rss_mb"], color="tab:red")
    memory.set_ylabel("resident, MB")
    memory.set_xlabel("minutes")
    for axes in (late, rate, memory):
        axes.set_ylim(0, 1.1 * axes.dataLim.ymax)
        axes.grid(alpha=0.3)
    late.set_title(verdict(columns), fontsize=8, wrap=True)
    figure.tight_layout()
    figure.savefig(folder / "soak.png", dpi=110)
    print(verdict(columns))


def main() -> None:
    """Command line of the soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run_ = commands.add_parser("run")
    run_.add_argument("clip", type=Path)
    run_.add_argument("folder", type=Path)
    run_.add_argument("--minutes", type=float, default=50.0)
    run_.add_argument("--record", action="store_true", help="record to FOLDER/out.mkv all the while")
    plot_ = commands.add_parser("plot")
    plot_.add_argument("folder", type=Path)
    options, more = parser.parse_known_args()
    if options.command == "plot":
        plot(options.folder)
        return
    if options.record:
        more += ["--record", str(options.folder / "out.mkv"), "--overwrite"]
    sys.exit(soak(options.clip, options.folder, options.minutes, more))


if __name__ == "__main__":
    main()
