"""What came out of a race, as tables, one line a face, and a sheet."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from vidunmask.training.comparison.contest import cell, digits_of
from vidunmask.training.evaluation.fills import Shown
from vidunmask.training.evaluation.sheets import sheet
from vidunmask.types import ByteArray

Row = dict[str, Any]  # seed, parameters, images, minutes, faces, and values: source of the mask, figure, one a face
# Figures in the order of the table, and whether more is better.
FIGURES = {
    "l1 masked": False,
    "psnr masked": True,
    "ssim masked": True,
    "lpips masked": False,
    "l1": False,
    "psnr": True,
    "ssim": True,
    "lpips": False,
    "identity": False,
}
SOURCES = {"segmented": "masks from the segmentation network", "true": "true masks"}
SHOWN = 12  # faces of the sheet


def markdown(labels: Sequence[str], done: Mapping[str, Sequence[Row]], introduction: str) -> str:
    """The tables, one for each source of the masks, of the entries ``labels``; those that are not done have dashes."""
    lines = [
        introduction,
        "",
        "In brackets: how far from the first line, the mean over the same faces and seeds, ± one standard error of the "
        "choice of faces. Another seed may move a line by more. + more is better, - less.",
    ]
    for source, note in SOURCES.items():
        there = [
            name for name in FIGURES if any(_mean(row, source, name) is not None for rows in done.values() for row in rows)
        ]
        heads = ["variant", "parameters", "images", "minutes", *(f"{name} {'+' if FIGURES[name] else '-'}" for name in there)]
        lines += ["", f"## With {note}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for label in labels:
            cells = _cells(done.get(label, []), done.get(labels[0], []), source, there, first=label == labels[0])
            lines.append(f"| {' | '.join([label, *(cells or ['–'] * (len(heads) - 1))])} |")
    return "\n".join(lines) + "\n"


def _cells(rows: Sequence[Row], firsts: Sequence[Row], source: str, figures: Sequence[str], *, first: bool) -> list[str]:
    if not rows:
        return []
    minutes = mean(row["minutes"] for row in rows)
    cells = [f"{rows[0]['parameters'] / 1e6:.2f}M", f"{mean(row['images'] for row in rows):.0f}", f"{minutes:.1f}"]
    for figure in figures:
        values = [value for row in rows if (value := _mean(row, source, figure)) is not None]
        text = cell(values, digits=digits_of(figure)) if values else "–"
        away = None if first else difference(rows, firsts, source, figure)
        if away is not None:
            text += f" ({away[0]:+.{digits_of(figure)}f} ± {away[1]:.{digits_of(figure)}f})"
        cells.append(text)
    return cells


def difference(rows: Sequence[Row], firsts: Sequence[Row], source: str, figure: str) -> tuple[float, float] | None:
    """How far a figure of the rows lies from that of the rows of the same seeds among ``firsts``: mean, standard error.

    The error is that of the mean over the faces; None where nothing can be paired.
    """
    by_seed = {row["seed"]: row for row in firsts}
    means, errors = [], []
    for row in rows:
        if row["seed"] not in by_seed:
            continue
        mine, theirs = (one["values"][source].get(figure, []) for one in (row, by_seed[row["seed"]]))
        apart = [a - b for a, b in zip(mine, theirs, strict=True) if a is not None and b is not None]
        if len(apart) > 1:
            means.append(mean(apart))
            errors.append(stdev(apart) / len(apart) ** 0.5)
    return (mean(means), sum(error**2 for error in errors) ** 0.5 / len(errors)) if means else None


def write_faces(path: Path, done: Mapping[str, Sequence[Row]]) -> None:
    """One line a face, variant, seed and source of the mask."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["variant", "seed", "mask", "face", *FIGURES])
        for label, row in ((label, row) for label, rows in done.items() for row in rows):
            for source, figures in row["values"].items():
                for face in range(row["faces"]):
                    values = [figures[name][face] if name in figures else None for name in FIGURES]
                    cells = ["" if value is None else f"{value:.6f}" for value in values]
                    lines.writerow([label, row["seed"], source, face, *cells])


def write_sheet(path: Path, pictures: Mapping[str, ByteArray]) -> None:
    """Some faces: masked, truth, and every entry's result; ``pictures`` (N, S, 3 S, 3) are input, result and truth by label."""
    if not pictures:
        return
    first = next(iter(pictures.values()))
    side = first.shape[1]
    chosen = np.linspace(0, len(first) - 1, min(SHOWN, len(first))).round().astype(int)
    results = {label: some[:, :, side : 2 * side] for label, some in pictures.items()}
    rows = [Shown([first[i][:, :side], first[i][:, 2 * side :], *(some[i] for some in results.values())], "") for i in chosen]
    sheet(rows, ["masked", "truth", *results], side=192).save(path)


def _mean(row: Row, source: str, figure: str) -> float | None:
    values = [value for value in row["values"][source].get(figure, []) if value is not None]
    return mean(values) if values else None
