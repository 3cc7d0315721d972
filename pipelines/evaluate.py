"""The whole pipeline measured on clips: masks are put on faces that have none, taken off again, and compared with the truth."""

from __future__ import annotations

import dataclasses
import json
import logging
from argparse import Namespace
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vidunmask.errors import InputError, UsageError
from vidunmask.pipelines import checks
from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config

if TYPE_CHECKING:
    from vidunmask.pipelines.build import Parts
    from vidunmask.training.evaluation.fills import Shown
    from vidunmask.types import Frame

log = logging.getLogger(__name__)

KINDS = ("surgical", "cloth", "n95", "kn95", "scarf")
_COLUMNS = {
    "psnr": 2, "l1": 4, "ssim": 4, "psnr before": 2, "edited": 3, "mask left": 3, "warp error": 4, "warp error of the truth": 4,
    "flicker": 4, "flicker of the truth": 4, "seam": 2, "seam of the truth": 2, "seam too much": 2,
}  # fmt: skip  # figure to digits


def evaluate_clips(options: Namespace, *, config: Config, progress: Callable[[int, int | None], None] | None = None) -> str:
    """Measures every network of ``options.methods`` on every clip and returns the figures as Markdown.

    ``options`` is what ``vidunmask evaluate`` parses; ``options.out`` gets ``clips.md``, ``clips.json``, ``frames.csv`` and a
    sheet for each clip.
    Raises a VidunmaskError where something cannot be used or no clip shows a face; nothing is written then.
    """
    from vidunmask.networks import weights
    from vidunmask.training import evaluate
    from vidunmask.training.evaluation import report, sheets
    from vidunmask.training.evaluation.clips import find_face, measure_clip
    from vidunmask.training.evaluation.methods import BASELINES

    clips = _clips(options.clips)
    if not options.seconds > 0:
        raise UsageError(f"--seconds {options.seconds:g}: must be more than 0")
    evaluate.check_out(options.out, overwrite=options.overwrite, result="clips.json")
    networks = [given for given in options.methods if given not in BASELINES]
    if not networks:
        raise UsageError("--methods: clips are measured with networks, name the weights of one at least")
    names = {given: given.partition("=")[0] if "=" in given else Path(given).stem for given in networks}
    paths = {given: given.partition("=")[2] or given for given in networks}
    if len(set(names.values())) < len(names):
        raise UsageError("--methods: two have the same name; tell them apart with NAME=WEIGHTS")
    made = {given: build(dataclasses.replace(config, inpainter=paths[given])) for given in networks}
    detector = next(iter(made.values())).detector

    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, None)

    table: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names.values()}
    records, pictures, worn = [], {}, {}
    for number, path in enumerate(clips):
        places = find_face(path, detector, seconds=options.seconds)
        if not places:
            log.warning("%s: no face found, left out", path)
            continue
        kind = worn[path.name] = options.kinds[number % len(options.kinds)]
        rows: list[Shown] = []
        for given, parts in made.items():
            found = measure_clip(
                path,
                places,
                chain_of(parts, config),
                kind=kind,
                seed=options.seed + number,
                seconds=options.seconds,
                progress=step,
            )
            table[names[given]][path.name] = found.figures
            records += [{"clip": path.name, "mask": kind, "method": names[given], **record} for record in found.records]
            rows = beside(rows, found.shown, names[given] if len(made) > 1 else "")
        pictures[path] = rows
    if not worn:
        raise InputError(f"--clips {' '.join(map(str, options.clips))}: no clip in which a face is found")
    cards = {names[given]: weights.read_card(paths[given]).sha256 for given in networks}
    files = {"segmenter": weights.read_card(config.segmenter).sha256, **cards}
    text = _markdown(table, worn, files, options)
    with evaluate.writing_to(options.out) as folder:
        (folder / "clips.md").write_text(text, encoding="utf-8")
        figures = {"seed": options.seed, "seconds": options.seconds, "masks": worn, "weights": files, "clips": table}
        (folder / "clips.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        report.write_csv(folder / "frames.csv", records)
        for path, rows in pictures.items():
            heads = ["truth", f"{worn[path.name]} mask", *names.values()]
            sheets.sheet(rows, heads, side=256).save(folder / f"{path.stem}.png")
    return text


def beside(rows: list[Shown], more: list[Shown], name: str) -> list[Shown]:
    """Rows of a sheet with the result of one more method, ``name``, on their right; the rows alone where they are the first."""
    from vidunmask.training.evaluation.fills import Shown

    captions = [f"{name}: {row.caption}" if name else row.caption for row in more]
    if not rows:
        return [Shown(row.pictures, text) for row, text in zip(more, captions, strict=True)]
    return [
        Shown([*row.pictures, new.pictures[-1]], f"{row.caption}; {text}")
        for row, new, text in zip(rows, more, captions, strict=True)
    ]


def chain_of(parts: Parts, config: Config) -> Callable[[Iterable[Frame]], Generator[Frame]]:
    """The chain of `remove` as a function of frames."""
    from vidunmask.pipelines.remove import edited_frames
    from vidunmask.pipelines.report import Stopwatch, Tally

    return lambda frames: edited_frames(frames, parts, config, Stopwatch(), Tally())


def _clips(given: Iterable[Path]) -> list[Path]:
    from vidunmask.video.reader import VideoReader

    found: list[Path] = []
    for path in given:
        checks.readable(path)
        inside = [p for p in checks.visible_files(path) if checks.is_video(p)] if path.is_dir() else [path]
        if not inside:
            raise InputError(f"--clips {path}: holds no videos ({', '.join(checks.VIDEOS)})")
        found += inside
    for path in found:  # a bad one is known before the work on the others
        VideoReader(path).close()
    twice = next((path for path in found if sum(path.stem == other.stem for other in found) > 1), None)
    if twice is not None:
        raise UsageError(f"--clips {twice}: another clip has the same name")
    return found


def _markdown(
    table: Mapping[str, Mapping[str, Mapping[str, float]]],
    worn: Mapping[str, str],
    files: Mapping[str, str],
    options: Namespace,
) -> str:
    lines = [
        "# The pipeline on clips",
        "",
        f"One drawn mask on the main face of each clip (first {options.seconds:g} s, seed {options.seed}), taken off again by "
        "the whole pipeline; figures within the region under the mask, before the encoder. psnr + ssim + l1 -: against the "
        "true clip; psnr before: of the masked clip; edited +: share of frames in which the mask is gone; mask left -: share "
        "of its pixels that are still there; warp error, flicker: best when as in the truth; seam: colour step across the "
        "mask's edge (CIE 1976), too much -: how far from the true step.",
        "",
        "Weights: " + ", ".join(f"{name} {digest[:12]}" for name, digest in files.items()) + ".",
    ]
    for method, clips in table.items():
        lines += ["", f"## {method}", "", "| clip | mask | frames | " + " | ".join(_COLUMNS) + " |"]
        lines.append("|---" * (len(_COLUMNS) + 3) + "|")
        for clip, figures in clips.items():
            lines.append(f"| {clip} | {worn[clip]} | {figures['frames']:.0f} | {_cells(figures)} |")
        every = {name: [f[name] for f in clips.values() if name in f] for name in _COLUMNS}
        mean = {name: sum(values) / len(values) for name, values in every.items() if values}
        lines.append(f"| mean of clips | | {sum(f['frames'] for f in clips.values()):.0f} | {_cells(mean)} |")
    return "\n".join(lines) + "\n"


def _cells(figures: Mapping[str, float]) -> str:
    return " | ".join(f"{figures[name]:.{digits}f}" if name in figures else "" for name, digits in _COLUMNS.items())
