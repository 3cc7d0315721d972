"""The paper's Tables 1, 2 and 3, with every row trained by one program for one budget.

    python -m vidunmask.training.tables --pack PACK --out DIR --budget 20000 [--size 128] [--seeds 0 1] [-- OPTIONS]

Trains the four rivals, our network, and its two ablations, each for --budget images with the same data, order, batch, schedule
and averaging, and ours once more with the loss weights of the inpainter that ships; measures them all on ``val`` under the same
masks; writes ``tables.md``, ``tables.json``, ``curves_*.png`` and a sheet of faces for each. OPTIONS go to
``vidunmask.training.inpainter``. What is done is not done again: after a stop, or with more rows or seeds, the same command
goes on. A row whose training runs away says so in the table, the others go on. Figures of the paper stand beside ours; they
come of other data and of a far larger budget.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torchvision.utils import save_image

from vidunmask.errors import UsageError
from vidunmask.training import ending, inpainter, methods
from vidunmask.training.comparison import contest
from vidunmask.training.comparison.scores import METRICS
from vidunmask.training.comparison.standings import difference
from vidunmask.training.evaluate import load_judges
from vidunmask.training.evaluation.fills import Judges

OURS = "gated_mcsam"
ABLATIONS = ("full-supervision", "local-supervision", "without-csam", "without-attention")
FIXED = ("network", *ABLATIONS)


@dataclass(frozen=True)
class Row:
    """A row of a table: what it is called, how it is trained, and the paper's SSIM, PSNR and l1 where it has the row."""

    name: str
    label: str
    options: tuple[str, ...]
    published: tuple[float, float, float] | None = None


# Losses of the inpainter that ships. The paper's own leave the pixels little to say, which many epochs make up for and a short
# budget does not.
SHIPPED = ("--weight-reconstruction", "8", "--weight-style", "80", "--weight-adversarial", "0.04")


ROWS = (
    Row("gated_conv", "GatedConv", ("--network", "gated_conv"), (0.9428, 29.6119, 0.0096)),
    Row("csa", "CSA", ("--network", "csa"), (0.9394, 28.7021, 0.0104)),
    Row("rfr", "RFR", ("--network", "rfr"), (0.9260, 27.0240, 0.0116)),
    Row("rn", "RN", ("--network", "rn"), (0.8803, 24.4053, 0.0372)),
    Row(OURS, "M-CSAM (ours)", ("--network", OURS), (0.9511, 30.3885, 0.0076)),
    Row("shipped_losses", "M-CSAM, losses as shipped", ("--network", OURS, *SHIPPED)),
    Row("full_supervision", "full supervision", ("--network", OURS, "--full-supervision"), (0.9441, 29.6932, 0.0088)),
    Row("without_csam", "without CSAM", ("--network", OURS, "--without-csam"), (0.9495, 30.1338, 0.0077)),
)
NAMES = tuple(row.name for row in ROWS)
TABLES = {
    "Table 1: methods": ("gated_conv", "csa", "rfr", "rn", OURS, "shipped_losses"),
    "Table 2: supervision of the masked region (ours) and of the whole image": (OURS, "full_supervision"),
    "Table 3: with (ours) and without CSAM": (OURS, "without_csam"),
}
FIGURES = (*METRICS, *(f"{name} masked" for name in METRICS), "lpips masked", "identity")
COMPARED = "psnr masked"  # whose distance from ours has a column of its own


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of the program; ``options.training`` holds those for the training program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pack", type=Path, required=True, help="folder made by vidunmask.training.pack")
    add("--out", type=Path, required=True, help="folder to write; what stands there is gone on with")
    add("--budget", type=int, required=True, metavar="IMAGES", help="images that each row is trained with")
    contest.add_options(parser)
    add("--rows", nargs="+", choices=NAMES, default=NAMES, metavar="ROW", help=f"of {', '.join(NAMES)} (default: all)")
    contest.add_judges(parser)
    own, training = contest.split(arguments)
    options = parser.parse_args(own)
    options.training, options.fid_weights = training, None
    contest.refuse_fixed(training, where="after --", more=FIXED)
    contest.check(options)
    if options.budget < 1:
        raise UsageError(f"--budget {options.budget}: must be 1 or more")
    return options


def training_options(options: argparse.Namespace, row: Row, seed: int) -> list[str]:
    """The command line of a row's training, without its folder."""
    fixed = {
        "pack": options.pack,
        "preset": options.preset,
        "size": options.size,
        "seed": seed,
        "evaluate-every": max(1, options.budget // 10),
    }
    return [*(part for key, value in fixed.items() for part in (f"--{key}", str(value))), *options.training, *row.options]


def make_row(options: argparse.Namespace, row: Row, seed: int, judges: Judges) -> bool:
    """Trains and measures a row unless that is done; False if the training was stopped before its budget."""
    folder = contest.run_folder(options.out, row.name, seed)
    if (folder / "row.json").exists() or contest.failure(folder):
        return True
    try:
        spent = contest.train(folder, training_options(options, row, seed), images=options.budget)
    except FloatingPointError as error:
        contest.note_failure(folder, row.label, error)
        return True
    if spent is None:
        return False
    network = methods.load(folder / "weights.safetensors")
    made = contest.measure(options, network, judges)
    if made.pictures:
        save_image(torch.stack(made.pictures), folder / "sheet.png", nrow=4)
    parameters = sum(p.numel() for p in network.parameters())
    measured = {"figures": made.figures, "values": made.values, "faces": made.faces}
    contest.write(folder / "row.json", {**measured, "parameters": parameters, **spent})
    return True


def read_rows(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """What is done, by row, one entry a seed; ``failed`` in it says why a training came to nothing."""
    done: dict[str, list[dict[str, Any]]] = {}
    for row in ROWS:
        for seed in options.seeds:
            folder = contest.run_folder(options.out, row.name, seed)
            entry = contest.read(folder / "row.json")
            if entry is None and (failed := contest.failure(folder)):
                entry = {"failed": failed}
            if entry is not None:
                done.setdefault(row.name, []).append({"seed": seed, **entry})
    return done


def cell(entries: list[dict[str, Any]], source: str, figure: str) -> str:
    """Mean over the seeds, with the standard deviation where there are several; a dash where it was not taken."""
    values = [entry["figures"][source][figure] for entry in entries if figure in entry["figures"][source]]
    return contest.cell(values, digits=contest.digits_of(figure)) if values else "–"


def markdown(options: argparse.Namespace, done: dict[str, list[dict[str, Any]]]) -> str:
    """All tables; rows that are not done have dashes."""
    by_name = {row.name: row for row in ROWS}
    whole = {name: [entry for entry in entries if "failed" not in entry] for name, entries in done.items()}
    entries = [entry for some in whole.values() for entry in some]
    taken = [name for name in FIGURES if any(name in by for entry in entries for by in entry["figures"].values())]
    seeds = ", ".join(map(str, options.seeds))
    lines = [
        f"Each row: preset `{options.preset}`, {options.size} x {options.size} pixels, {options.budget} images, seed {seeds}; "
        f"training options `{' '.join(options.training) or 'none'}`.",
        f"Measured on {entries[0]['faces'] if entries else 0} faces of `val`, camera {options.camera:g}, "
        f"{options.turned:.0%} of them turned aside.",
        f"From ours: mean difference in {COMPARED} on the same faces and seeds, ± one standard error of the choice of faces.",
        "The paper's figures: its full-size networks, CelebA, many epochs of 158,003 images.",
    ]
    columns = ["parameters", "minutes", "seeds", *taken, "from ours", *(f"paper {name}" for name in METRICS)]
    for source, note in (("segmented", "masks from the segmentation network, as in the paper"), ("true", "true masks")):
        lines += ["", f"# With {note}"]
        for title, names in TABLES.items():
            lines += ["", f"## {title}", "", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
            for name in names:
                cells = _cells(whole.get(name, []), whole.get(OURS, []), source, taken)
                lines.append(f"| {by_name[name].label} | " + " | ".join([*cells, *_published(by_name[name])]) + " |")
    for name, some in done.items():
        failed = [entry for entry in some if "failed" in entry]
        lines += [line for entry in failed for line in ("", f"{by_name[name].label}, seed {entry['seed']}: {entry['failed']}")]
    return "\n".join(lines) + "\n"


def _cells(entries: list[dict[str, Any]], ours: list[dict[str, Any]], source: str, figures: list[str]) -> list[str]:
    if not entries:
        return ["–"] * (len(figures) + 4)
    apart = None if entries is ours else difference(entries, ours, source, COMPARED)
    minutes = mean(entry["minutes"] for entry in entries)
    return [
        f"{entries[0]['parameters'] / 1e6:.2f}M",
        f"{minutes:.0f}",
        " ".join(str(entry["seed"]) for entry in entries),
        *(cell(entries, source, figure) for figure in figures),
        "–" if apart is None else f"{apart[0]:+.2f} ± {apart[1]:.2f}",
    ]


def _published(row: Row) -> list[str]:
    if row.published is None:
        return ["–"] * 3
    ssim, psnr, l1 = row.published
    return [f"{ssim:.4f}", f"{psnr:.2f}", f"{l1:.4f}"]


def main(arguments: list[str] | None = None) -> int:
    """Makes what is missing, prints the tables and returns the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    for row in ROWS:  # wrong options for the training program show before anything is trained
        inpainter.parse([*training_options(options, row, 0), "--run", str(options.out)])
    judges, judged_by = load_judges(options, device=contest.device_of(options.training))
    settings = contest.settings_of(options) | contest.judged(options, judges, judged_by)
    contest.claim(options.out, settings)
    stopped = False
    for seed in options.seeds:
        for row in ROWS:
            if row.name in options.rows and not stopped:
                print(f"--- {row.label}, seed {seed}", flush=True)
                stopped = not make_row(options, row, seed, judges)
    done = read_rows(options)
    text = markdown(options, done)
    (options.out / "tables.md").write_text(text, encoding="utf-8")
    contest.write(options.out / "tables.json", {"settings": settings, "seeds": options.seeds, "rows": done})
    labels = {row.name: row.label for row in ROWS}
    contest.draw_figures(options, labels, {"psnr": "PSNR, dB", "psnr_masked": "PSNR of the masked region, dB", "ssim": "SSIM"})
    print(text)
    if stopped:
        print("stopped before the end; the same command goes on from here")
    return ending.INTERRUPTED if stopped else 0


if __name__ == "__main__":
    ending.run(main)
