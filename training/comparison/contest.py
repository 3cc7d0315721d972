"""What comparisons of trainings share: each entry is trained for one budget and measured once, and a stop loses nothing.

A folder holds ``settings.json``, which must stay the same, and ``runs/NAME-SEED/``: the training's own folder with the
checkpoint, ``weights.safetensors``, ``val.jsonl``, and at last ``row.json`` with the figures. What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn

from vidunmask.errors import UsageError
from vidunmask.networks import weights
from vidunmask.networks.looks import SecondLook
from vidunmask.training import inpainter
from vidunmask.training.comparison.curves import Curve, draw_curves
from vidunmask.training.comparison.scores import Score, score
from vidunmask.training.evaluation.fills import Judges
from vidunmask.training.evaluation.protocols import Masks
from vidunmask.training.pack import open_pack
from vidunmask.training.running.loop import CHECKPOINT, check_options
from vidunmask.training.sizes import add_size, check_size

FIXED = ("pack", "run", "preset", "size", "images", "seed", "export")  # options that a comparison sets itself
FAILED = "failed.json"  # in the folder of a training that came to nothing: why


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of every comparison: what is trained how large, and with which masks it is measured."""
    add = parser.add_argument
    add("--preset", default="compact", help="size of all networks: paper, compact or tiny (default: %(default)s)")
    add_size(parser)
    add("--seeds", type=int, nargs="+", default=[0], help="one run an entry for each (default: 0)")
    add("--segmenter", default="compact-segmenter", help="finds the masks when measuring (default: %(default)s)")
    add(
        "--held-out-templates",
        type=Path,
        metavar="FOLDER",
        help="measure with pictures of masks laid on flat, as the paper did, from this folder",
    )
    add("--camera", type=float, default=0.0, help="how bad the cameras are when measuring, 0 to 1 (default: %(default)s)")
    add("--turned", type=float, default=0.0, metavar="SHARE", help="of the faces that are turned aside when measuring")
    add("--limit", type=int, help="measure only so many faces, evenly spread")


def check(options: argparse.Namespace) -> None:
    """Raises UsageError for values of the options above that cannot be used."""
    check_size(options.size)
    if not 0 <= options.camera <= 1:
        raise UsageError(f"--camera {options.camera:g}: must be between 0 and 1")
    if not 0 <= options.turned <= 1:
        raise UsageError(f"--turned {options.turned:g}: must be between 0 and 1")


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Options of the metrics that need networks."""
    add = parser.add_argument
    add("--identities", type=int, default=115, metavar="N", help="faces whose identity is compared (default: %(default)s)")
    add("--lpips-weights", type=Path, nargs="+", default=(), metavar="PATH", help="AlexNet and the linear weights of LPIPS")


def judged(options: argparse.Namespace, judges: Judges, digests: Mapping[str, str]) -> dict[str, Any]:
    """What must be the same in all entries of a folder of the metrics that need networks; ``digests`` are their hashes."""
    return {"lpips": dict(digests), "identities": options.identities if judges.identity else 0}


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What must be the same in all entries of a folder, of the options above, ``pack``, ``budget`` and ``training``."""
    return {
        "pack": str(options.pack.resolve()),
        "budget": options.budget,
        "preset": options.preset,
        "size": options.size,
        "training": options.training,
        "segmenter": str(options.segmenter),
        "held_out_templates": str(options.held_out_templates) if options.held_out_templates else None,
        "camera": options.camera,
        "turned": options.turned,
        "limit": options.limit,
        # Entries measured by what lies beyond the photo's edge too, or with masks that were looked for once, do not compare.
        "masked": "within the photo",
        "masks": "looked for again where in doubt",
    }


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of the comparison, and those for the training program, which follow a lone ``--``."""
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    return list(arguments[:cut]), list(arguments[cut + 1 :])


def refuse_fixed(training: Sequence[str], *, where: str, more: Sequence[str] = ()) -> None:
    """Raises UsageError where options for the training program are the comparison's own; ``where`` says where they stood."""
    for flag in training:
        if flag.startswith("--") and flag.split("=")[0].removeprefix("--") in (*FIXED, *more):
            raise UsageError(f"{flag} {where}: the comparison sets it itself")


def claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Notes the settings in the folder. Raises UsageError where it holds what was made with others."""
    out.mkdir(parents=True, exist_ok=True)
    file, now = out / "settings.json", json.loads(json.dumps(settings))
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else now
    changed = [f"{name} {before.get(name)!r}, now {now[name]!r}" for name in now if before.get(name) != now[name]]
    if changed:
        raise UsageError(f"--out {out}: holds rows made with {'; '.join(changed)}; take another folder")
    write(file, now)


def write(path: Path, value: Any) -> None:
    """Writes JSON in one step, so that a file is whole or not there."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> Any:
    """The JSON of a file, None where it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def train(
    folder: Path, options: Sequence[str], *, images: int | None = None, minutes: float | None = None
) -> dict[str, float] | None:
    """Trains for so many images, or for ``minutes``, which count from the very first start of this training.

    Returns images and minutes spent, and None where the training was stopped before the end. The exported weights lie at
    ``folder / "weights.safetensors"``.
    """
    note = folder / "trained.json"
    if note.exists():
        return dict(read(note))
    arguments = [*options, "--run", str(folder), "--export", str(folder / "weights.safetensors")]
    if images is not None:
        arguments += ["--images", str(images)]
    if minutes is not None:
        arguments += ["--minutes", str(max(0.0, minutes - minutes_spent(folder)))]
    run = inpainter.main(arguments)
    if (images is not None and run.clock.images < images) or (images is None and run.clock.interrupted):
        return None
    spent = {"images": run.clock.images, "minutes": (run.spent + run.clock.elapsed) / 60}
    write(note, spent)
    return spent


def failure(folder: Path) -> str | None:
    """Why a training came to nothing, None where it did not."""
    reason = read(folder / FAILED)
    return None if reason is None else str(reason)


def note_failure(folder: Path, label: str, error: Exception) -> None:
    """Says that a training came to nothing, and keeps it from being tried again."""
    print(f"{label} is out: {error}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / FAILED, str(error))


def device_of(training: Sequence[str]) -> torch.device:
    """Where the trainings of a comparison run, by their options, and so where their networks are measured."""
    return check_options(inpainter.parse(["--pack", ".", "--run", ".", *training]))


def measure(options: argparse.Namespace, network: nn.Module, judges: Judges) -> Score:
    """Figures of a network on the faces and under the masks that all entries are measured with."""
    device = device_of(options.training)
    return score(
        network.to(device),
        SecondLook(weights.load(options.segmenter, kind="segmenter", device=device)),  # as the program uses it
        open_pack(options.pack, "val"),
        Masks(camera=options.camera, occlusion=0.0, held_out=options.held_out_templates),
        size=options.size,
        limit=options.limit,
        turned=options.turned,
        judges=judges,
        identities=options.identities,
        device=device,
    )


def minutes_spent(folder: Path) -> float:
    """How long the training in a folder has run so far, by its checkpoint."""
    checkpoint = folder / CHECKPOINT
    if not checkpoint.exists():
        return 0.0
    return float(torch.load(checkpoint, map_location="cpu", weights_only=True)["values"]["spent"]) / 60


def run_folder(out: Path, name: str, seed: int) -> Path:
    """Where an entry is trained."""
    return out / "runs" / f"{name}-{seed}"


def read_curves(out: Path, labels: Mapping[str, str], *, seed: int, figure: str) -> dict[str, Curve]:
    """A figure on ``val`` against images, by the label of an entry."""
    curves: dict[str, Curve] = {}
    for name, label in labels.items():
        file = run_folder(out, name, seed) / "val.jsonl"
        if file.exists():
            entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            curves[label] = sorted({entry["images"]: entry[figure] for entry in entries}.items())
    return curves


def draw_figures(options: argparse.Namespace, labels: Mapping[str, str], figures: Mapping[str, str]) -> None:
    """Writes ``curves_FIGURE.png`` of the first seed's runs to ``--out``; ``figures`` has what each is called on its axis."""
    for figure, y_label in figures.items():
        draw_curves(
            options.out / f"curves_{figure}.png",
            read_curves(options.out, labels, seed=options.seeds[0], figure=figure),
            title=f"val, averaged weights, preset {options.preset}, {options.size} x {options.size}",
            x_label="images",
            y_label=y_label,
        )


def cell(values: Sequence[float], *, digits: int) -> str:
    """Mean over the seeds, with the standard deviation where there are several."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def digits_of(figure: str) -> int:
    """Decimal places of a figure by its name."""
    return 2 if figure.startswith("psnr") else 4
