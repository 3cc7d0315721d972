"""The paper's Tables 1, 2 and 3, with every row trained by one program for one budget.

    python -m vidunmask.training.tables --pack PACK --out DIR --budget 20000 [--size 128] [--seeds 0 1] [-- OPTIONS]

Trains the four rivals, our network, and its two ablations, each for --budget images with the same data, order, batch, schedule
and averaging; measures them all on ``val`` under the same masks; writes ``tables.md``, ``tables.json``, ``curves_*.png`` and a
sheet of faces for each. OPTIONS go to ``vidunmask.training.inpainter``. What is done is not done again: after a stop the same
command goes on. Figures of the paper stand beside ours; they come of other data and of a far larger budget.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torchvision.utils import save_image

from vidunmask.errors import UsageError, VidunmaskError
from vidunmask.networks import weights
from vidunmask.training import inpainter, methods
from vidunmask.training.curves import Curve, draw_curves
from vidunmask.training.evaluation.protocols import Masks
from vidunmask.training.pack import open_pack
from vidunmask.training.scores import METRICS, score
from vidunmask.training.sizes import add_size, check_size

INTERRUPTED = 130  # exit code, as the shells have it
OURS = "gated_mcsam"
ABLATIONS = ("full-supervision", "local-supervision", "without-csam", "without-attention")
FIXED = ("pack", "run", "network", "preset", "size", "images", "seed", "export", *ABLATIONS)


@dataclass(frozen=True)
class Row:
    """A row of a table: what it is called, how it is trained, and the paper's SSIM, PSNR and l1."""

    name: str
    label: str
    options: tuple[str, ...]
    published: tuple[float, float, float]


ROWS = (
    Row("gated_conv", "GatedConv", ("--network", "gated_conv"), (0.9428, 29.6119, 0.0096)),
    Row("csa", "CSA", ("--network", "csa"), (0.9394, 28.7021, 0.0104)),
    Row("rfr", "RFR", ("--network", "rfr"), (0.9260, 27.0240, 0.0116)),
    Row("rn", "RN", ("--network", "rn"), (0.8803, 24.4053, 0.0372)),
    Row(OURS, "M-CSAM (ours)", ("--network", OURS), (0.9511, 30.3885, 0.0076)),
    Row("full_supervision", "full supervision", ("--network", OURS, "--full-supervision"), (0.9441, 29.6932, 0.0088)),
    Row("without_csam", "without CSAM", ("--network", OURS, "--without-csam"), (0.9495, 30.1338, 0.0077)),
)
NAMES = tuple(row.name for row in ROWS)
TABLES = {
    "Table 1: methods": ("gated_conv", "csa", "rfr", "rn", OURS),
    "Table 2: supervision of the masked region (ours) and of the whole image": (OURS, "full_supervision"),
    "Table 3: with (ours) and without CSAM": (OURS, "without_csam"),
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of the program; ``options.training`` holds those for the training program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pack", type=Path, required=True, help="folder made by vidunmask.training.pack")
    add("--out", type=Path, required=True, help="folder to write; what stands there is gone on with")
    add("--budget", type=int, required=True, metavar="IMAGES", help="images that each row is trained with")
    add("--preset", default="compact", help="size of all networks: paper, compact or tiny (default: %(default)s)")
    add_size(parser)
    add("--seeds", type=int, nargs="+", default=[0], help="one run a row for each (default: 0)")
    add("--rows", nargs="+", choices=NAMES, default=NAMES, metavar="ROW", help=f"of {', '.join(NAMES)} (default: all)")
    add("--segmenter", default="compact-segmenter", help="finds the masks when measuring (default: %(default)s)")
    add(
        "--held-out-templates",
        type=Path,
        help="measure with pictures of masks laid on flat, as the paper did, from this folder",
    )
    add("--camera", type=float, default=0.0, help="how bad the cameras are when measuring, 0 to 1 (default: %(default)s)")
    add("--limit", type=int, help="measure only the first so many faces")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:cut])
    options.training = arguments[cut + 1 :]
    for flag in options.training:
        if flag.split("=")[0].removeprefix("--") in FIXED and flag.startswith("--"):
            raise UsageError(f"{flag} after --: the rows of the tables set it themselves")
    check_size(options.size)
    if options.budget < 1:
        raise UsageError(f"--budget {options.budget}: must be 1 or more")
    return options


def training_options(options: argparse.Namespace, row: Row, seed: int, folder: Path) -> list[str]:
    """The command line of a row's training."""
    fixed = {
        "pack": options.pack,
        "run": folder,
        "preset": options.preset,
        "size": options.size,
        "images": options.budget,
        "seed": seed,
        "export": folder / "weights.safetensors",
        "evaluate-every": max(1, options.budget // 10),
    }
    return [*(part for key, value in fixed.items() for part in (f"--{key}", str(value))), *options.training, *row.options]


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What must be the same in all that stands in --out."""
    return {
        "pack": str(options.pack.resolve()),
        "budget": options.budget,
        "preset": options.preset,
        "size": options.size,
        "training": options.training,
        "segmenter": str(options.segmenter),
        "held_out_templates": str(options.held_out_templates) if options.held_out_templates else None,
        "camera": options.camera,
        "limit": options.limit,
    }


def check_settings(options: argparse.Namespace) -> None:
    """Notes the settings in --out. Raises UsageError where others stand there."""
    options.out.mkdir(parents=True, exist_ok=True)
    file, now = options.out / "settings.json", settings_of(options)
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else now
    changed = [f"{name} {before.get(name)!r}, now {now[name]!r}" for name in now if before.get(name) != now[name]]
    if changed:
        raise UsageError(f"--out {options.out}: holds rows made with {'; '.join(changed)}; take another folder")
    write(file, now)


def write(path: Path, value: Any) -> None:
    """Writes JSON in one step, so that a file is whole or not there."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    partial.replace(path)


def make_row(options: argparse.Namespace, row: Row, seed: int) -> bool:
    """Trains and measures a row unless that is done; False if the training was stopped before its budget."""
    folder = options.out / "runs" / f"{row.name}-{seed}"
    if (folder / "row.json").exists():
        return True
    run = inpainter.main(training_options(options, row, seed, folder))
    if run.clock.images < options.budget:
        return False
    network = methods.load(folder / "weights.safetensors")
    made = score(
        network,
        weights.load(options.segmenter, kind="segmenter"),
        open_pack(options.pack, "val"),
        Masks(camera=options.camera, occlusion=0.0, held_out=options.held_out_templates),
        size=options.size,
        limit=options.limit,
    )
    if made.pictures:
        save_image(torch.stack(made.pictures), folder / "sheet.png", nrow=4)
    parameters = sum(p.numel() for p in network.parameters())
    write(
        folder / "row.json",
        {
            "figures": made.figures,
            "faces": made.faces,
            "parameters": parameters,
            "images": run.clock.images,
            "minutes": (run.spent + run.clock.elapsed) / 60,
        },
    )
    return True


def read_rows(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """What is done, by row, one entry a seed."""
    done: dict[str, list[dict[str, Any]]] = {}
    for row in ROWS:
        for seed in options.seeds:
            file = options.out / "runs" / f"{row.name}-{seed}" / "row.json"
            if file.exists():
                done.setdefault(row.name, []).append(json.loads(file.read_text(encoding="utf-8")))
    return done


def read_curves(options: argparse.Namespace, figure: str) -> dict[str, Curve]:
    """A figure on ``val`` against images, by row, for the first seed."""
    curves: dict[str, Curve] = {}
    for row in ROWS:
        file = options.out / "runs" / f"{row.name}-{options.seeds[0]}" / "val.jsonl"
        if file.exists():
            entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            curves[row.label] = sorted({entry["images"]: entry[figure] for entry in entries}.items())
    return curves


def cell(entries: list[dict[str, Any]], source: str, figure: str) -> str:
    """Mean over the seeds, with the standard deviation where there are several."""
    values = [entry["figures"][source][figure] for entry in entries]
    digits = 2 if figure.startswith("psnr") else 4
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def markdown(options: argparse.Namespace, done: dict[str, list[dict[str, Any]]]) -> str:
    """All tables; rows that are not done have dashes."""
    by_name = {row.name: row for row in ROWS}
    faces = next((entries[0]["faces"] for entries in done.values()), 0)
    seeds = ", ".join(map(str, options.seeds))
    lines = [
        f"Each row: preset `{options.preset}`, {options.size} x {options.size} pixels, {options.budget} images, seed {seeds}; "
        f"training options `{' '.join(options.training) or 'none'}`.",
        f"Measured on {faces} faces of `val`, camera {options.camera:g}.",
        "The paper's figures: its full-size networks, CelebA, many epochs of 158,003 images.",
    ]
    for source, note in (("segmented", "masks from the segmentation network, as in the paper"), ("true", "true masks")):
        lines += ["", f"# With {note}"]
        for title, names in TABLES.items():
            whole, masked = [f"{name}" for name in METRICS], [f"{name} masked" for name in METRICS]
            columns = ["parameters", "minutes", *whole, *masked, *(f"paper {name}" for name in METRICS)]
            lines += ["", f"## {title}", "", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
            for name in names:
                entries = done.get(name, [])
                cells = [f"{entries[0]['parameters'] / 1e6:.2f}M" if entries else "–"]
                cells += [f"{mean(entry['minutes'] for entry in entries):.0f}" if entries else "–"]
                cells += [cell(entries, source, figure) if entries else "–" for figure in (*whole, *masked)]
                ssim, psnr, l1 = by_name[name].published
                lines.append(
                    f"| {by_name[name].label} | " + " | ".join([*cells, f"{ssim:.4f}", f"{psnr:.2f}", f"{l1:.4f}"]) + " |"
                )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Makes what is missing, prints the tables and returns the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    for row in ROWS:  # wrong options for the training program show before anything is trained
        inpainter.parse(training_options(options, row, 0, options.out))
    check_settings(options)
    stopped = False
    for seed in options.seeds:
        for row in ROWS:
            if row.name in options.rows and not stopped:
                print(f"--- {row.label}, seed {seed}", flush=True)
                stopped = not make_row(options, row, seed)
    done = read_rows(options)
    text = markdown(options, done)
    (options.out / "tables.md").write_text(text, encoding="utf-8")
    write(options.out / "tables.json", {"settings": settings_of(options), "seeds": options.seeds, "rows": done})
    for figure, label in (("psnr", "PSNR, dB"), ("psnr_masked", "PSNR of the masked region, dB"), ("ssim", "SSIM")):
        draw_curves(
            options.out / f"curves_{figure}.png",
            read_curves(options, figure),
            title=f"val, averaged weights, preset {options.preset}, {options.size} x {options.size}",
            x_label="images",
            y_label=label,
        )
    print(text)
    if stopped:
        print("stopped before the end; the same command goes on from here")
    return INTERRUPTED if stopped else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except (VidunmaskError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from None
