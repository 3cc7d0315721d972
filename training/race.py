"""A fair short race: variants of the inpainter, trained for one budget on the same data in the same order, then compared.

    python -m vidunmask.training.race --pack PACK --out DIR --budget 20000 --variants baseline no-jitter wide="--set modules=5"
    python -m vidunmask.training.race --list

A variant is a name and options for ``vidunmask.training.inpainter``; what follows `` -- `` goes to all of them. ``baseline``
and the others of --list are built in, --variants-file FILE reads a TOML table ``[variants]`` of ``name = "options"``, and
NAME+mirrored measures NAME once more with the fills of a face and of its mirror image averaged. Equal are the images
(--budget) or the minutes (--minutes), and both are reported. Writes ``race.md``, ``race.json``, ``faces.csv``, curves, and
``sheet.png`` with all variants side by side on the same faces. What is done is not done again: after a stop, or with further
variants, the same command goes on.

Measured is ``val``, under the same masks for all. Behind each figure stands how far it is from the first variant's, on the
same faces: the mean difference with the standard error that the choice of faces leaves. What another seed would change it does
not say; --seeds does.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from vidunmask.errors import UsageError
from vidunmask.training import ending, inpainter, methods
from vidunmask.training.comparison import contest, standings
from vidunmask.training.comparison.scores import as_bytes
from vidunmask.training.comparison.variants import BASE, BUILT_IN, Variant, choose, read_file
from vidunmask.training.evaluate import load_judges
from vidunmask.training.evaluation.fills import Judges
from vidunmask.types import ByteArray


class Mirrored(nn.Module):
    """A network whose fill is the mean of that of the picture and that of its mirror image, mirrored back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        straight: Tensor = self.network(image, mask)
        mirrored: Tensor = self.network(image.flip(3), mask.flip(3))
        return 0.5 * (straight + mirrored.flip(3))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the program; ``options.training`` holds those for every training, ``options.chosen`` the variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--list", action="store_true", help="print the variants that are built in")
    add("--pack", type=Path, help="folder made by vidunmask.training.pack")
    add("--out", type=Path, help="folder to write; what stands there is gone on with")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--budget", type=int, metavar="IMAGES", help="images that each variant is trained with")
    budget.add_argument("--minutes", type=float, metavar="M", help="time that each variant is trained for")
    add("--variants", nargs="+", default=[BASE], metavar="NAME[=OPTIONS]", help="the first is what others are compared with")
    add(
        "--variants-file",
        type=Path,
        metavar="TOML",
        help="further variants by name; all of them run unless --variants is given",
    )
    contest.add_options(parser)
    contest.add_judges(parser)
    own, training = contest.split(arguments)
    options = parser.parse_args(own)
    options.training, options.fid_weights = training, None
    return options


def check(options: argparse.Namespace) -> None:
    """Fills ``options.chosen``. Raises UsageError for what cannot work, before anything is trained."""
    for name in ("pack", "out"):
        if getattr(options, name) is None:
            raise UsageError(f"--{name}: is needed")
    if (options.budget or 0) < 1 and (options.minutes or 0) <= 0:
        raise UsageError("--budget IMAGES or --minutes M: one of them is needed, and more than 0")
    if options.limit is not None and options.limit < 2:
        raise UsageError(f"--limit {options.limit}: must be 2 or more")
    contest.check(options)
    own = read_file(options.variants_file) if options.variants_file else {}
    names = list(own) if own and options.variants == [BASE] else options.variants
    options.chosen = choose(names, own)
    contest.refuse_fixed(options.training, where="after --", more=("minutes",))
    for variant in options.chosen:
        contest.refuse_fixed(variant.options, where=f"in variant {variant.name}", more=("minutes",))
        parsed = inpainter.parse([*training_options(options, variant, 0), "--run", str(options.out)])
        if options.minutes is not None and parsed.cooldown:
            raise UsageError("--cooldown: counts images, and with --minutes nobody knows how many there will be; use --budget")
        inpainter.arguments_of(parsed)  # of the network; raises for those that it does not have


def training_options(options: argparse.Namespace, variant: Variant, seed: int) -> list[str]:
    """The command line of a variant's training, without its folder."""
    fixed: dict[str, Any] = {"pack": options.pack, "preset": options.preset, "size": options.size, "seed": seed}
    if options.budget is not None:
        fixed["evaluate-every"] = max(1, options.budget // 10)
    flags = [part for key, value in fixed.items() for part in (f"--{key}", str(value))]
    return [*flags, *options.training, *variant.options]


def row_file(options: argparse.Namespace, variant: Variant, seed: int) -> Path:
    """Where a variant's figures stand when it is done."""
    folder = contest.run_folder(options.out, variant.name, seed)
    return folder / ("mirrored.json" if variant.mirrored else "row.json")


def make(options: argparse.Namespace, variant: Variant, seed: int, judges: Judges) -> bool:
    """Trains and measures a variant unless that is done; False if the training was stopped before its budget.

    One whose training fails, since its losses run away, is out of the race; the others go on.
    """
    file = row_file(options, variant, seed)
    folder = file.parent
    folder.mkdir(parents=True, exist_ok=True)
    known = contest.read(folder / "variant.json")
    if known is not None and known != list(variant.options):
        raise UsageError(f"--variants {variant.name}: stands in {options.out} with {known}; take another name")
    contest.write(folder / "variant.json", list(variant.options))
    if file.exists() or contest.failure(folder):
        return True
    budget = {"images": options.budget, "minutes": options.minutes}
    try:
        spent = contest.train(folder, training_options(options, variant, seed), **budget)
    except FloatingPointError as error:
        contest.note_failure(folder, variant.label, error)
        return True
    if spent is None:
        return False
    network = methods.load(folder / "weights.safetensors")
    made = contest.measure(options, Mirrored(network) if variant.mirrored else network, judges)
    pictures = np.stack([as_bytes(picture) for picture in made.pictures])  # (N, S, 3 S, 3)
    np.savez_compressed(file.with_suffix(".npz"), pictures=pictures)
    parameters = sum(p.numel() for p in network.parameters())
    contest.write(file, {**spent, "parameters": parameters, "faces": made.faces, "values": made.values})
    return True


def read_rows(options: argparse.Namespace) -> dict[str, list[standings.Row]]:
    """What is done, by label, one entry a seed."""
    done: dict[str, list[standings.Row]] = {}
    for variant in options.chosen:
        rows = [contest.read(row_file(options, variant, seed)) for seed in options.seeds]
        if any(rows):
            done[variant.label] = [{"seed": seed, **row} for seed, row in zip(options.seeds, rows, strict=True) if row]
    return done


def read_pictures(options: argparse.Namespace) -> dict[str, ByteArray]:
    """Input, result and truth (N, S, 3 S, 3) of the first seed's faces, by label."""
    files = {variant.label: row_file(options, variant, options.seeds[0]).with_suffix(".npz") for variant in options.chosen}
    return {label: np.load(file)["pictures"] for label, file in files.items() if file.exists()}


def introduction(options: argparse.Namespace, done: dict[str, list[standings.Row]]) -> str:
    """What the tables stand on."""
    faces = next((rows[0]["faces"] for rows in done.values()), 0)
    budget = f"{options.budget} images" if options.budget is not None else f"{options.minutes:g} minutes"
    lines = [
        f"Each variant: preset `{options.preset}`, {options.size} x {options.size} pixels, {budget}, seed "
        f"{', '.join(map(str, options.seeds))}; training options `{shlex.join(options.training) or 'none'}`.",
        f"Measured on {faces} faces of `val`, camera {options.camera:g}, {options.turned:.0%} of them turned aside.",
        "",
        "| variant | options |",
        "|---|---|",
        *(f"| {variant.label} | `{' '.join(variant.options) or 'none'}` |" for variant in options.chosen),
    ]
    for variant in options.chosen:
        for seed in options.seeds:
            reason = contest.failure(contest.run_folder(options.out, variant.name, seed))
            if reason is not None:
                lines += ["", f"{variant.label}, seed {seed}, failed: {reason}"]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes what is missing, prints the tables and returns the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if options.list:
        width = max(map(len, BUILT_IN))
        print(
            "\n".join(
                f"{name:{width}}  {text or 'what the preset and the options after -- say'}" for name, text in BUILT_IN.items()
            )
        )
        return 0
    check(options)
    judges, judged_by = load_judges(options, device=contest.device_of(options.training))
    settings = contest.settings_of(options) | {"minutes": options.minutes} | contest.judged(options, judges, judged_by)
    contest.claim(options.out, settings)
    stopped = False
    for seed in options.seeds:
        for variant in sorted(options.chosen, key=lambda variant: variant.mirrored):  # its weights must be there
            if not stopped:
                print(f"--- {variant.label}, seed {seed}", flush=True)
                stopped = not make(options, variant, seed, judges)
    done = read_rows(options)
    text = standings.markdown([variant.label for variant in options.chosen], done, introduction(options, done))
    (options.out / "race.md").write_text(text, encoding="utf-8")
    contest.write(options.out / "race.json", {"settings": settings, "seeds": options.seeds, "rows": done})
    standings.write_faces(options.out / "faces.csv", done)
    labels = {variant.name: variant.name for variant in options.chosen if not variant.mirrored}
    contest.draw_figures(
        options, labels, {"psnr_masked": "PSNR of the masked region, dB", "l1_masked": "l1 of the masked region"}
    )
    standings.write_sheet(options.out / "sheet.png", read_pictures(options))
    print(text)
    if stopped:
        print("stopped before the end; the same command goes on from here")
    return ending.INTERRUPTED if stopped else 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    ending.run(main)
