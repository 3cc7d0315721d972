"""CelebA as its authors distribute it, and as mirrors do: where the photos lie, the official splits, the faces' boxes.

What is known of the layouts: ``Img/img_align_celeba`` or ``Img/img_celeba`` beside ``Eval/list_eval_partition.txt``
(mmlab.ie.cuhk.edu.hk), the same files side by side (torchvision), and ``img_align_celeba/img_align_celeba`` beside
``list_eval_partition.csv`` (Kaggle).
"""

from __future__ import annotations

import csv
from pathlib import Path

from vidunmask.errors import InputError

FOLDERS = ("img_align_celeba", "img_align_celeba_png", "img_celeba")  # the first that is there is taken
SPLITS = {"0": "train", "1": "val", "2": "test"}
PHOTOS = {".jpg", ".jpeg", ".png"}


def list_celeba(folder: Path) -> list[dict[str, str]] | None:
    """The photos of CelebA as rows ``file, split, tier, source``, or None where the folder is not CelebA.

    Photos of the wild set also have ``about``, the middle of the annotated face as ``x y``, since some show several people. The
    tier is ``C``: CelebA is for non-commercial research only. ``folder`` may also be one of `FOLDERS` itself, its lists beside
    it. Raises InputError where photos and lists do not belong together.
    """
    root = folder.parent if folder.name in FOLDERS else folder
    partition = _list(root, "list_eval_partition")
    images = folder if folder.name in FOLDERS else _images(folder)
    if images is None or partition is None:
        return None
    images = _innermost(images)
    splits = _read_splits(partition)
    found = sorted(p.name for p in images.iterdir() if p.suffix.lower() in PHOTOS)
    # the aligned set also comes as PNG, and its list names JPEG files all the same
    by_stem = {Path(name).stem: split for name, split in splits.items()}
    known = [name for name in found if Path(name).stem in by_stem]
    if not known:
        raise InputError(f"{partition}: names none of the {len(found)} photos in {images}; they are of different sets")
    boxes = _read_boxes(root) if images.name == "img_celeba" else {}
    inside = images.relative_to(folder).as_posix() + "/" if images != folder else ""
    return [
        {
            "file": inside + name,
            "split": by_stem[Path(name).stem],
            "tier": "C",
            "source": "celeba",
            "about": boxes.get(Path(name).stem, ""),
        }
        for name in known
    ]


def _images(folder: Path) -> Path | None:
    for name in FOLDERS:
        for place in (folder / name, folder / "Img" / name, folder / "img" / name):
            if place.is_dir():
                return place
    return None


def _innermost(images: Path) -> Path:
    """Kaggle's archive unpacks to a folder of the same name within."""
    inner = images / images.name
    return inner if inner.is_dir() else images


def _list(root: Path, stem: str) -> Path | None:
    for place in (root, root / "Eval", root / "Anno", root.parent / "Eval", root.parent / "Anno", root.parent):
        for ending in (".txt", ".csv"):
            path = place / f"{stem}{ending}"
            if path.is_file():
                return path
    return None


def _rows(path: Path) -> list[list[str]]:
    """The rows of a list: comma-separated with a header, or separated by blanks, some under a count and a header."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = list(csv.reader(lines)) if path.suffix == ".csv" else [line.split() for line in lines]
    return [row for row in rows if len(row) > 1 and Path(row[0]).suffix.lower() in PHOTOS]


def _read_splits(path: Path) -> dict[str, str]:
    splits = {}
    for row in _rows(path):
        if row[1] not in SPLITS:
            raise InputError(f"{path}: partition {row[1]!r} of {row[0]}, expected 0, 1 or 2")
        splits[row[0]] = SPLITS[row[1]]
    if not splits:
        raise InputError(f"{path}: no line of the form '000001.jpg 0'; is it the list of CelebA?")
    return splits


def _read_boxes(root: Path) -> dict[str, str]:
    """The middle of the annotated box of each wild photo, by stem."""
    path = _list(root, "list_bbox_celeba")
    if path is None:
        return {}
    middles = {}
    for name, *numbers in _rows(path):
        x, y, width, height = (float(n) for n in numbers[:4])
        middles[Path(name).stem] = f"{x + width / 2:g} {y + height / 2:g}"
    return middles
