"""Measures segmentation and inpainting on ``val``, with masks put on by one of two protocols, beside two trivial fills.

    python -m vidunmask.training.evaluate --pack PACK --out FOLDER [--protocol hard] [--methods WEIGHTS ...]

The same as ``vidunmask evaluate``, which can also measure the whole pipeline on clips. Writes ``evaluation.md``,
``evaluation.json``, ``faces.csv``, ``segmentation.csv``, ``reliability.png`` and sheets of faces: evenly chosen, best, worst.
Inpainting is measured twice: with the mask that the segmentation network finds (as the paper's Table 1) and with the true one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vidunmask.errors import OutputError, UsageError, WeightsError
from vidunmask.training import ending

if TYPE_CHECKING:
    from vidunmask.training.evaluation.fills import Judges
    from vidunmask.training.evaluation.protocols import Protocol

log = logging.getLogger(__name__)

RESULT = "evaluation.json"
DEFAULT_METHODS = ("vidunmask=compact-inpainter", "telea", "mean-colour")
Progress = Callable[[int, int | None], None]  # steps done, steps expected


def add_faces(p: argparse.ArgumentParser) -> None:
    """The options of measuring faces. Imports nothing heavy."""
    faces = p.add_argument_group("faces")
    faces.add_argument("--pack", metavar="PACK", type=Path, help="folder made by vidunmask.training.pack; its val is measured")
    faces.add_argument(
        "--protocol",
        choices=("paper", "hard"),
        default="paper",
        help="paper: photos as they are, drawn masks of five types; hard: bad cameras, hands and things in front "
        "(default: %(default)s)",
    )
    faces.add_argument("--camera", metavar="0..1", type=float, help="how bad the cameras are, instead of the protocol's")
    faces.add_argument(
        "--occlusion", metavar="0..1", type=float, help="how often something is in front, 1 as in training, instead of its own"
    )
    faces.add_argument("--templates", metavar="FOLDER", type=Path, help="pictures of masks, drawn as one more type")
    faces.add_argument(
        "--held-out-templates",
        metavar="FOLDER",
        type=Path,
        help="put these pictures of masks on instead, laid on flat as in section 4.1: a synthesis that no training has seen",
    )
    faces.add_argument(
        "--turned",
        metavar="SHARE",
        type=float,
        default=0.0,
        help="of the faces that are turned aside, up to profile and a little past it, as in training (default: %(default)s)",
    )
    faces.add_argument("--tiers", default="ABC", help="rights tiers of the photos (default: %(default)s)")
    faces.add_argument("--limit", metavar="N", type=int, help="only so many faces, evenly spread")
    faces.add_argument(
        "--identities",
        metavar="N",
        type=int,
        default=115,
        help="faces whose identity is compared, 0 for none (default: %(default)s)",
    )
    faces.add_argument(
        "--lpips-weights",
        metavar="PATH",
        type=Path,
        nargs="+",
        default=(),
        help="files or a folder with AlexNet and the linear weights of LPIPS (default: torch's cache, the package lpips)",
    )
    faces.add_argument("--fid-weights", metavar="FILE", type=Path, help="the Inception network of FID (default: torch's cache)")


def add_common(p: argparse.ArgumentParser) -> None:
    """The options of both kinds of evaluation."""
    p.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where the figures and sheets go")
    p.add_argument("--overwrite", action="store_true", help="replace an evaluation that FOLDER holds")
    p.add_argument(
        "--methods",
        metavar="METHOD",
        nargs="+",
        default=list(DEFAULT_METHODS),
        help="what to compare, the first one counts most: weights (a shipped name or a file), NAME=WEIGHTS, telea, mean-colour "
        f"(default: {' '.join(DEFAULT_METHODS)})",
    )
    p.add_argument(
        "--segmenter",
        metavar="WEIGHTS",
        default="compact-segmenter",
        help="what finds the masks and is measured too: a shipped name or a file (default: %(default)s)",
    )
    p.add_argument("--seed", type=int, default=7, help="of the masks, cameras and all else (default: %(default)s)")


def evaluate_faces(options: argparse.Namespace, *, device: Any = "cpu", progress: Progress | None = None) -> str:
    """Measures, writes everything to ``options.out``, and returns the Markdown.

    ``options`` is what `add_faces` and `add_common` parse. Raises a VidunmaskError where something cannot be used; nothing is
    written then.
    """
    protocol = check_options(options)
    check_out(options.out, overwrite=options.overwrite)

    import torch

    from vidunmask.networks import weights
    from vidunmask.networks.looks import SecondLook
    from vidunmask.training.evaluation import fills, masks, report, sheets
    from vidunmask.training.evaluation.groups import people
    from vidunmask.training.evaluation.methods import GROW, load_methods
    from vidunmask.training.evaluation.protocols import CAMERAS, Masks
    from vidunmask.training.pack import open_pack, spread

    device = torch.device(device)
    pack = open_pack(options.pack, "val", tiers=options.tiers)
    rows = spread(pack.rows, options.limit)
    methods = load_methods(options.methods, device=device)
    segmenter = SecondLook(weights.load(options.segmenter, kind="segmenter", device=device))  # as the program uses it
    judges, judged_by = load_judges(options, device=device)
    known = people(options.pack, pack, rows)
    how = {"occlusion": protocol.occlusion, "templates": options.templates, "held_out": options.held_out_templates}
    cameras = sorted({*CAMERAS, protocol.camera})
    steps = len(rows) * (1 + len(cameras))
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, steps)

    filled = fills.measure_fills(
        pack,
        rows,
        masks=Masks(camera=protocol.camera, **how),
        people=known,
        segmenter=segmenter,
        methods=methods,
        judges=judges,
        identities=options.identities,
        seed=options.seed,
        device=device,
        progress=step,
        turned=options.turned,
    )
    measured = [
        masks.measure_segmentation(
            pack,
            rows,
            masks=Masks(camera=camera, **how),
            camera=camera,
            people=known,
            segmenter=segmenter,
            seed=options.seed,
            device=device,
            progress=step,
            turned=options.turned,
        )
        for camera in cameras
    ]
    own = next(result for result in measured if result.camera == protocol.camera)
    inpainting = report.overall(filled.records, methods, filled.distances)
    groups = report.grouped(filled.records, methods, own.records)
    source = f"pictures of {options.held_out_templates}, laid on flat as in §4.1" if options.held_out_templates else "drawn"
    if options.templates and not options.held_out_templates:
        source += f", and after the pictures of {options.templates}"
    conditions = {
        "protocol": protocol.name,
        "camera": protocol.camera,
        "occlusion": 0.0 if options.held_out_templates else protocol.occlusion,
        "masks": source,
        "masks widened by px": GROW,
        "faces": len(rows),
        **({"of them turned aside": f"{options.turned:.0%}"} if options.turned else {}),
        "faces whose identity is compared": min(options.identities, len(rows)) if judges.identity else 0,
        "tiers": options.tiers,
        "seed": options.seed,
    }
    card = weights.read_card(options.segmenter)
    files = {
        "segmenter": {"file": card.path.name, "sha256": card.sha256},
        **{m.name: {"file": m.weights, "sha256": m.sha256, "parameters": m.parameters} for m in methods if m.weights},
        **{name: {"sha256": digest} for name, digest in judged_by.items()},
    }
    text = _text(protocol, conditions, files, report.tables(inpainting, groups, measured, methods))
    heads = ["masked", "truth", *(method.name for method in methods)]
    figures = {
        "conditions": {**conditions, "summary": protocol.summary},
        "weights": files,
        "inpainting": inpainting,
        "groups": groups,
        "segmentation": {f"camera {result.camera:g}": result.figures() for result in measured},
        "calibration near the edge": {f"camera {result.camera:g}": result.edges.curve() for result in measured},
    }
    with writing_to(options.out) as folder:
        (folder / "evaluation.md").write_text(text, encoding="utf-8")
        (folder / RESULT).write_text(json.dumps(figures, indent=1), encoding="utf-8")
        report.write_csv(folder / "faces.csv", filled.records)
        report.write_csv(folder / "segmentation.csv", [record for result in measured for record in result.records])
        sheets.reliability(measured).save(folder / "reliability.png")
        sheets.sheet(filled.gallery.sheet, heads, across=2).save(folder / "sheet.png")
        sheets.sheet(filled.gallery.best, heads, side=224).save(folder / "best.png")
        sheets.sheet(filled.gallery.worst, heads, side=224).save(folder / "worst.png")
    return text


def _text(protocol: Protocol, conditions: dict[str, Any], files: dict[str, dict[str, Any]], tables: str) -> str:
    which = (f"{name} {entry.get('file') or ''} {str(entry['sha256'])[:12]}" for name, entry in files.items())
    return f"""# Evaluation

Protocol `{protocol.name}`: {protocol.summary}

{"; ".join(f"{name} {value}" for name, value in conditions.items() if name != "protocol")}.

Weights: {", ".join(which)}. Whole images are flattered by what is copied from the photo. + more is better, - less is better;
identity is dlib's distance between result and truth, under 0.6 for one person.

## Inpainting

{tables}"""


def load_judges(options: argparse.Namespace, *, device: Any) -> tuple[Judges, dict[str, str]]:
    """The metrics that need weights, and the SHA-256 of these. What was not asked for and is not there is left out, with a
    warning."""
    from vidunmask.training.evaluation import inception
    from vidunmask.training.evaluation.fills import Judges
    from vidunmask.training.evaluation.identity import Identity
    from vidunmask.training.evaluation.perceptual import load_perceptual

    perceptual, identity, network, digests = None, None, None, {}
    try:
        perceptual, digests = load_perceptual(options.lpips_weights)
        perceptual = perceptual.to(device)
    except WeightsError as error:
        if options.lpips_weights:
            raise
        log.warning("no LPIPS and no Frechet distance over AlexNet's features: %s", error)
    if options.identities:
        try:
            identity = Identity()
        except WeightsError as error:
            log.warning("no identity: %s", error)
    path = inception.find(options.fid_weights)
    if path is not None:
        network = inception.Inception(path, device=device)
        digests[path.name] = network.sha256
    return Judges(perceptual, identity, network), digests


def check_options(options: argparse.Namespace) -> Protocol:
    """Rejects options that cannot work; returns the protocol that they ask for."""
    import dataclasses

    from vidunmask.training.evaluation.protocols import PROTOCOLS

    if options.pack is None:
        raise UsageError("--pack: name the folder of faces to measure on")
    if options.limit is not None and options.limit < 2:
        raise UsageError(f"--limit {options.limit}: must be 2 or more")
    if not 0 <= options.turned <= 1:
        raise UsageError(f"--turned {options.turned:g}: must lie from 0 to 1")
    if options.identities < 0:
        raise UsageError(f"--identities {options.identities}: must not be negative")
    if options.templates and options.held_out_templates:
        raise UsageError("--templates and --held-out-templates exclude each other")
    protocol = PROTOCOLS[options.protocol]
    for name in ("camera", "occlusion"):
        value = getattr(options, name)
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"--{name} {value}: must lie from 0 to 1")
        if value is not None and value != getattr(protocol, name):
            protocol = dataclasses.replace(
                protocol, **{name: value, "name": f"{protocol.name.removesuffix(', changed')}, changed"}
            )
    return protocol


def check_out(folder: Path, *, overwrite: bool, result: str = RESULT) -> None:
    """Raises OutputError where the results cannot go to the folder; makes nothing."""
    import os

    if folder.exists() and not folder.is_dir():
        raise OutputError(f"--out {folder}: is a file; name a folder")
    if (folder / result).exists() and not overwrite:
        raise OutputError(f"--out {folder}: holds an evaluation already; add --overwrite to replace it")
    if not folder.exists() and not folder.absolute().parent.is_dir():
        raise OutputError(f"--out {folder}: there is no folder {folder.parent}; make it first")
    if not os.access(folder if folder.exists() else folder.absolute().parent, os.W_OK):
        raise OutputError(f"--out {folder}: no permission to write there")


@contextlib.contextmanager
def writing_to(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` to write into; what is in it moves to ``target`` where the body ends without an error.

    Raises OutputError where the disk does not take it.
    """
    try:
        beside = target if target.is_dir() else target.absolute().parent
        with TemporaryDirectory(prefix=".vidunmask-", dir=beside) as name:
            yield Path(name)
            target.mkdir(exist_ok=True)
            for path in sorted(Path(name).iterdir()):
                path.replace(target / path.name)
    except OSError as error:
        raise OutputError(f"--out {target}: cannot be written ({error})") from error


def main(arguments: list[str] | None = None) -> None:
    """Command line of the evaluation of faces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common(parser)
    add_faces(parser)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.device != "cpu":
        import torch

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there[options.device]:
            raise UsageError(f"--device {options.device}: not available to torch on this machine; use --device cpu")
    print(evaluate_faces(options, device=options.device))


if __name__ == "__main__":
    ending.run(main)
