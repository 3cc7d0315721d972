"""What a face costs in each preset of the two networks: parameters, GFLOP, and milliseconds on this machine.

    python benchmarks/cost.py [--presets compact] [--device cuda] [--batches 1 8] [--seconds 4] [--out benchmarks/cost.md]

Random weights, 256 x 256 crops, channels last as in the pipeline, float32 and bfloat16 by autocast. The configurations take
turns, so that a machine that is busy for a while is busy for all of them; the figure is the median of the turns.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from vidunmask.geometry import CROP_SIZE
from vidunmask.networks import weights
from vidunmask.pipelines.networks import survey

KINDS = {"segmenter": (3,), "inpainter": (3, 1)}  # channels of the inputs
TYPES = (torch.float32, torch.bfloat16)


@torch.inference_mode()
def once(network: nn.Module, inputs: list[torch.Tensor], dtype: torch.dtype) -> float:
    """Milliseconds a face of one call."""
    device = inputs[0].device
    began = time.perf_counter()
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        network(*inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - began) / len(inputs[0])


def measure(kind: str, network: str, preset: str, options: argparse.Namespace) -> dict[tuple[torch.dtype, int], float]:
    """Median milliseconds a face by number type and batch."""
    device = torch.device(options.device)
    made = weights.build(kind, network, weights.presets(kind, network)[preset]).to(device).eval()
    made = weights.channels_last(made)
    cases: dict[tuple[torch.dtype, int], tuple[list[torch.Tensor], torch.dtype]] = {}
    for batch in options.batches:
        inputs = [torch.rand(batch, c, CROP_SIZE, CROP_SIZE, device=device) for c in KINDS[kind]]
        inputs[-1] = inputs[-1].round() if kind == "inpainter" else inputs[-1]
        inputs = [given.contiguous(memory_format=torch.channels_last) for given in inputs]
        cases |= {(dtype, batch): (inputs, dtype) for dtype in TYPES}
    times: dict[tuple[torch.dtype, int], list[float]] = {case: [] for case in cases}
    for inputs, dtype in cases.values():
        once(made, inputs, dtype)
    end = time.monotonic() + options.seconds
    while time.monotonic() < end or min(map(len, times.values())) < 3:
        for case, (inputs, dtype) in cases.items():
            times[case].append(once(made, inputs, dtype))
    return {case: statistics.median(values) for case, values in times.items()}


def main(arguments: list[str] | None = None) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", help="only these (default: all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="faces in one call")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each preset")
    parser.add_argument("--out", type=Path, help="write the table there too")
    options = parser.parse_args(arguments)
    where = f"{platform.machine()}, {os.cpu_count()} cores"
    if options.device.startswith("cuda"):
        where = torch.cuda.get_device_name(options.device)
    cases = [(dtype, batch) for dtype in TYPES for batch in options.batches]
    names = [f"{str(dtype).removeprefix('torch.')}, {batch}" for dtype, batch in cases]
    lines = [
        f"{where}, torch {torch.__version__}; milliseconds a face by number type and faces in a call, medians.",
        "",
        f"| network | preset | parameters | GFLOP | {' | '.join(names)} |",
        "|---|---|---|---|" + "---|" * len(cases),
    ]
    for entry in survey(presets=set(options.presets) if options.presets else None, receptive_field=False):
        if entry.kind not in KINDS:
            continue
        times = measure(entry.kind, entry.network, entry.preset, options)
        figures = " | ".join(f"{times[case]:.1f}" for case in cases)
        lines.append(f"| {entry.network} | {entry.preset} | {entry.parameters / 1e6:.2f}M | {entry.gflop:.2f} | {figures} |")
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
