"""From records to tables: means, groups, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vidunmask.training.evaluation.fills import SEGMENTED, TRUE, Record
from vidunmask.training.evaluation.groups import GROUPINGS, ORDER
from vidunmask.training.evaluation.masks import Segmentation
from vidunmask.training.evaluation.methods import Method

Row = dict[str, float]

METRICS = ("ssim", "psnr", "l1", "lpips", "ssim masked", "psnr masked", "l1 masked", "lpips masked", "identity")
BETTER = {"ssim": "+", "psnr": "+", "l1": "-", "lpips": "-", "frechet alexnet": "-", "fid": "-", "identity": "-", "iou": "+"}
_GROUP_METRICS = ("ssim", "psnr", "l1", "psnr masked", "lpips masked", "identity")


def means(records: Iterable[Record]) -> Row:
    """The mean of each metric over the records that have it."""
    values: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for metric in METRICS:
            value = record.get(metric)
            if isinstance(value, float):
                values[metric].append(value)
    return {metric: float(np.mean(values[metric])) for metric in METRICS if metric in values}


def overall(records: Sequence[Record], methods: Sequence[Method], distances: Mapping[str, Row]) -> dict[str, Row]:
    """Means by "method, source of the mask", with the distances that only a whole set of faces has."""
    return {
        f"{method.name}, {source}": means(r for r in records if r["method"] == method.name and r["mask"] == source)
        | distances.get(f"{method.name}, {source}", {})
        for method in methods
        for source in (SEGMENTED, TRUE)
    }


def grouped(
    records: Sequence[Record], methods: Sequence[Method], segmented: Sequence[Record]
) -> dict[str, dict[str, dict[str, Row]]]:
    """For each of GROUPINGS and each group in it, the means of each method with the segmented mask, and of the segmentation."""
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for grouping in GROUPINGS:
        names = {str(record[grouping]) for record in records}
        groups = sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else -1, name))
        found[grouping] = {}
        for group in groups:
            here = [r for r in records if r[grouping] == group and r["mask"] == SEGMENTED]
            row: dict[str, Row] = {
                method.name: {"faces": float(sum(r["method"] == method.name for r in here))}
                | means(r for r in here if r["method"] == method.name)
                for method in methods
            }
            overlaps = [float(r["iou"] or 0) for r in segmented if r[grouping] == group and "iou" in r]
            if overlaps:
                row["segmentation"] = {"faces": float(len(overlaps)), "iou": float(np.mean(overlaps))}
            found[grouping][group] = row
    return found


def tables(
    inpainting: Mapping[str, Row],
    groups: Mapping[str, Mapping[str, Mapping[str, Row]]],
    measured: Sequence[Segmentation],
    methods: Sequence[Method],
) -> str:
    """Everything as Markdown: methods, segmentation by camera, and groups."""
    columns = list(dict.fromkeys(metric for row in inpainting.values() for metric in row))
    order = ("ssim", "psnr", "l1", "lpips", "frechet alexnet", "fid", "identity")
    whole = [metric for metric in order if metric in columns]
    masked = [metric for metric in columns if metric.endswith("masked")]
    parts = [_table("method", inpainting, whole), "In the masked region alone:", _table("method", inpainting, masked)]
    figures = [result.figures() for result in measured]
    names = list(dict.fromkeys(name for found in figures for name in found))
    by_camera = {
        name: {f"camera {r.camera:g}": f[name] for r, f in zip(measured, figures, strict=True) if name in f} for name in names
    }
    parts += ["## Segmentation", _table("", by_camera, [f"camera {result.camera:g}" for result in measured])]
    first = methods[0].name
    parts.append(f"## By group\n\n{first} with the segmented mask; IoU at the protocol's camera.")
    for grouping, found in groups.items():
        rows = {
            group: row[first] | ({"iou": row["segmentation"]["iou"]} if "segmentation" in row else {})
            for group, row in found.items()
        }
        parts.append(_table(grouping, rows, ["faces", *_GROUP_METRICS, "iou"]))
    if len(methods) > 1:
        parts.append("PSNR in the masked region by type of mask and method:")
        rows = {
            method.name: {kind: row[method.name]["psnr masked"] for kind, row in groups["type"].items()} for method in methods
        }
        parts.append(_table("method", rows, list(groups["type"]), digits="psnr"))
    return "\n\n".join(parts) + "\n"


def _table(corner: str, rows: Mapping[str, Mapping[str, float]], columns: Sequence[str], *, digits: str = "") -> str:
    columns = [column for column in columns if any(column in row for row in rows.values())]
    heads = [column + (f" {BETTER[key]}" if (key := column.removesuffix(" masked")) in BETTER else "") for column in columns]
    lines = [f"| {corner} | " + " | ".join(heads) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(shown(digits or column, row.get(column)) for column in columns) + " |")
    return "\n".join(lines)


def shown(metric: str, value: float | None) -> str:
    """A figure with as many digits as it is good for."""
    if value is None:
        return ""
    if metric == "faces":
        return f"{value:.0f}"
    return f"{value:.2f}" if metric.startswith(("psnr", "frechet", "fid")) else f"{value:.4f}"


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """One line a record; the columns are all the keys that occur."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for record in records:
            writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in record.items()})
