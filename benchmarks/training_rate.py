"""Images a second of a training run, beside those of its parts alone: does the data keep up with the step?

    python benchmarks/training_rate.py PACK [--device cuda] [--vgg FILE] [--preset paper] [--batch 16] [--turn 0.25]

PACK is a pack of photos, whose masks are drawn on the fly, or a built Masked-Faces dataset. For each program: reading and
jittering the images alone; the same with masks, which is all that a step needs; the step alone, on one batch again and again;
and the run as it is, with the share of its time in which it waited for data. On a GPU the images are held and the masks are
drawn there, in a stream beside the step's; ``--ahead 0`` shows what that is worth. Where other programs share the processor
``--cpu-time`` counts the seconds that this one had, not those of the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch

from vidunmask.training import inpainter, segmenter
from vidunmask.training.dataset.stored import masks_for
from vidunmask.training.pack import Jitter, Order, draw_batch, open_pack
from vidunmask.training.running.distributed import Team
from vidunmask.training.running.feed import WHERE, draw_batches, hold

PROGRAMS = {"segmenter": segmenter, "inpainter": inpainter}
LAYERS = {"segmenter": ("masked", "mask"), "inpainter": ("truth", "mask")}


def rate(make: Callable[[], object], *, images: int, batch: int, device: torch.device) -> float:
    """Images a second of something that makes a batch, after one to warm up."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    make()
    wait()
    began = time.monotonic()
    for _ in range(max(1, images // batch)):
        make()
    wait()
    return max(1, images // batch) * batch / (time.monotonic() - began)


def parts(name: str, options: argparse.Namespace, device: torch.device) -> tuple[float, float, str]:
    """Images a second of the images alone and with masks, and where the images are held."""
    pack, where = hold(open_pack(options.pack, "train", layers=LAYERS[name]), options.data, device)
    order, positions = Order(pack.rows, seed=0), itertools.count(step=options.batch)
    generator = torch.Generator().manual_seed(0)
    images = rate(
        lambda: draw_batch(pack, order.at(next(positions), options.batch), jitter=Jitter(), generator=generator, device=device),
        images=options.images,
        batch=options.batch,
        device=device,
    )
    masks = masks_for(pack, templates=options.templates if name == "segmenter" else None)  # as the programs have it
    prepare = PROGRAMS[name].preparation(pack, masks, device, turn=options.turn)
    made = draw_batches(prepare, order, team=Team(device), batch=options.batch, accumulate=1, seed=0, start=0, ahead=0)
    return images, rate(lambda: next(made), images=options.images, batch=options.batch, device=device), where


def run(name: str, options: argparse.Namespace, folder: Path, *extra: str) -> tuple[float, float]:
    """Images a second of the program, and the share of the time that it waited for data: medians without the first lines."""
    lines = 5
    every = max(options.batch, options.images // 3 // options.batch * options.batch)
    arguments = [
        *("--pack", str(options.pack), "--run", str(folder), "--preset", options.preset, "--batch", str(options.batch)),
        *("--images", str(every * lines), "--log-every", str(every), "--evaluate-every", str(10**9), "--val-faces", "8"),
        *("--device", options.device, "--data", options.data, "--turn", str(options.turn), *extra),
    ]
    if options.ahead is not None:
        arguments += ["--ahead", str(options.ahead)]
    if options.compile:
        arguments.append("--compile")
    if options.templates and name == "segmenter":
        arguments += ["--templates", str(options.templates)]
    if name == "inpainter":
        arguments += ["--feature-scale", str(options.feature_scale)]
        arguments += ["--adversarial-from", "0" if options.critics else str(10**9)]
        if options.vgg:
            arguments += ["--vgg", str(options.vgg)]
    rates = PROGRAMS[name].main(arguments).rates[1:]
    return statistics.median(r for r, _ in rates), statistics.median(w for _, w in rates)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("pack", type=Path)
    add("--program", choices=tuple(PROGRAMS), nargs="+", default=list(PROGRAMS))
    add("--preset", default="compact")
    add("--batch", type=int, default=16)
    add("--images", type=int, default=96, help="to measure each part on, after warming up (default: %(default)s)")
    add("--device", default="cpu")
    add("--data", choices=WHERE, default="auto")
    add("--ahead", type=int)
    add("--compile", action="store_true")
    add("--templates", type=Path, help="for the segmenter's masks")
    add("--turn", type=float, default=0.0, help="share of the faces that are turned aside (default: %(default)s)")
    add("--vgg", type=Path)
    add("--feature-scale", type=float, default=0.5)
    add("--critics", action="store_true", help="with the adversarial losses")
    add("--cpu-time", action="store_true", help="rates by the processor's time, on a machine that others use as well")
    add("--out", type=Path)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    where = ""
    rows = []
    # the clock that the training programs read too
    with mock.patch("time.monotonic", time.process_time) if options.cpu_time else contextlib.nullcontext():
        for name in options.program:
            images, masks, where = parts(name, options, device)
            with tempfile.TemporaryDirectory() as folder:
                step, _ = run(name, options, Path(folder) / "step", "--same-batch")
                whole, waiting = run(name, options, Path(folder) / "whole")
            rows.append(f"| {name} | {images:.1f} | {masks:.1f} | {step:.1f} | {whole:.1f} | {waiting:.0%} |")
    setting = f"preset {options.preset}, batch {options.batch}, {options.turn:.0%} turned aside, images {where}"
    threads = f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} threads"
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else threads
    rates = "images/s of processor time" if options.cpu_time else "images/s"
    text = "\n".join(
        [
            f"{chip}, torch {torch.__version__}, {setting}; {rates}, medians.",
            "",
            "| program | images alone | images and masks | step alone | run | waiting for data |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
