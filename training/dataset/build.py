"""Builds the Masked-Faces dataset of §4.1: photos to aligned faces, each with a mask drawn on it, in shards.

The folder that is written holds

- ``shards/train-00000.tar``: the samples, see `shards`; ``train-00000.jsonl`` beside it: a line for each of its photos;
- ``manifest.jsonl``: all samples with landmarks, kind of mask and what it was drawn with, where the crop lies in the photo;
- ``failed.csv``: the photos that gave no sample, and why;
- ``faces.npz``: the index that training reads, with the keys of a pack (`pack`) and the places in the shards;
- ``dataset.json``: what it was made from and with, and the counts.

A shard is made of a fixed piece of the list of photos and from a seed of its own, by one process, and appears when it is whole.
So the result depends neither on the number of processes nor on how often the work was stopped.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidunmask.errors import InputError, OutputError, UsageError
from vidunmask.training.dataset.celeba import list_celeba
from vidunmask.training.dataset.draw_samples import GROUP, SampleMaker, ShardTask
from vidunmask.training.dataset.shards import FORMATS, LAYERS, ShardImages
from vidunmask.training.dataset.workers import spread
from vidunmask.training.masked_faces import KINDS
from vidunmask.training.pack import list_photos

VERSION = 1  # of the layout
FIVE = ("surgical", "cloth", "n95", "kn95", "scarf")
CROPS = ("aligned", "centre")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a dataset is made with. Raises UsageError for a value that cannot be used."""

    seed: int = 0
    kinds: tuple[str, ...] = FIVE
    crop: str = (
        "aligned"  # the face over the canonical template, as the pipeline sees it; centre: the middle square of the photo
    )
    templates: Path | None = None
    camera: float = 0.0  # 0..1, see MaskSynthesizer
    occlusion: float = 0.0
    pictures: str = "webp"
    shard: int = 1000  # photos
    detector: str = "yunet"
    limit: int | None = None  # photos

    def __post_init__(self) -> None:
        known = KINDS if self.templates else tuple(kind for kind in KINDS if kind != "template")
        unknown = [kind for kind in self.kinds if kind not in known]
        if unknown or not self.kinds:
            hint = "needs --templates" if unknown == ["template"] else f"choose from {', '.join(known)}"
            raise UsageError(f"--kinds {' '.join(self.kinds)}: {unknown[0] if unknown else 'nothing'}: {hint}")
        for name, choices in (("crop", CROPS), ("pictures", tuple(FORMATS))):
            if getattr(self, name) not in choices:
                raise UsageError(f"--{name} {getattr(self, name)}: choose from {', '.join(choices)}")
        for name in ("camera", "occlusion"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"--{name} {getattr(self, name)}: must lie from 0 to 1")
        if self.shard < GROUP:
            raise UsageError(f"--shard {self.shard}: must be {GROUP} photos or more")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit}: must be 1 or more")
        if self.templates is not None and not self.templates.is_dir():
            raise UsageError(f"--templates {self.templates}: no such folder")


@dataclass(slots=True)
class Built:
    """What was built."""

    faces: int = 0
    photos: int = 0
    made_now: int = 0  # photos of this call; the others were done before
    bytes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


def build(
    photos: Path,
    target: Path,
    settings: Settings,
    *,
    jobs: int = 1,
    progress: Callable[[int, int | None], None] | None = None,
) -> Built:
    """Makes the dataset in ``target``, or what is missing of it; ``progress`` gets photos done and photos to do, of this call.

    Raises InputError where there are no photos, UsageError where ``target`` was begun with other settings or from other photos,
    OutputError where it holds something else or cannot be written.
    """
    rows = list_celeba(photos) or _list_photos(photos)
    if settings.limit is not None:
        rows = rows[: settings.limit]
    tasks = plan(rows, settings)
    with _claimed(target):
        _note_settings(target, photos, rows, settings)
        shards = target / "shards"
        shards.mkdir(exist_ok=True)
        for partial in shards.glob("*.partial"):
            partial.unlink()
        left = [task for task in tasks if not all((shards / f"{task.name}{end}").exists() for end in (".tar", ".jsonl"))]
        to_do, done = sum(len(task.rows) for task in left), 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(done, to_do)

        maker = SampleMaker(
            photos=photos,
            shards=shards,
            seed=settings.seed,
            kinds=settings.kinds,
            crop=settings.crop,
            templates=settings.templates,
            camera=settings.camera,
            occlusion=settings.occlusion,
            pictures=settings.pictures,
            detector=settings.detector,
        )
        try:
            for _ in spread(maker, left, jobs=jobs, progress=count):
                pass
            built = _index(target, tasks)
        except OSError as error:
            raise OutputError(f"{target}: cannot write ({error}); make room and run the same command again") from error
    built.made_now = to_do
    return built


def plan(rows: Sequence[dict[str, str]], settings: Settings) -> list[ShardTask]:
    """The shards: pieces of ``settings.shard`` photos of one split, in the order of the list."""
    by_split: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for number, row in enumerate(rows, start=1):
        by_split.setdefault(row["split"], []).append((number, row))
    return [
        ShardTask(f"{split}-{start // settings.shard:05d}", tuple(members[start : start + settings.shard]))
        for split, members in by_split.items()
        for start in range(0, len(members), settings.shard)
    ]


def read_manifest(target: Path) -> Iterator[dict[str, Any]]:
    """The samples of a finished dataset, one by one."""
    with (target / "manifest.jsonl").open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def export_pictures(target: Path, count: int) -> Path:
    """Writes truth, masked picture and mask of the first ``count`` samples of each split as loose PNG files."""
    from PIL import Image

    images = ShardImages.of(target, np.load(target / "faces.npz"))
    folder = target / "pictures"
    written: Counter[str] = Counter()
    for row, sample in enumerate(read_manifest(target)):
        split = sample["split"]
        if written[split] >= count:
            continue
        written[split] += 1
        place = folder / split
        place.mkdir(parents=True, exist_ok=True)
        pixels = images[np.array([row])][0]
        for layer, picture in zip(LAYERS, (pixels[..., :3], pixels[..., 3:6], pixels[..., 6]), strict=True):
            Image.fromarray(np.ascontiguousarray(picture)).save(place / f"{sample['key']}_{layer}.png")
    return folder


def _list_photos(photos: Path) -> list[dict[str, str]]:
    rows = list_photos(photos)
    for row in rows:
        if not row["split"].replace("_", "").isalnum():
            raise InputError(f"{photos / 'images.csv'}: split {row['split']!r}; use letters, digits and _")
    return rows


@contextlib.contextmanager
def _claimed(target: Path) -> Iterator[None]:
    """Makes the folder and keeps other builders out of it; the lock goes with the process, however it ends."""
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: is a file; name a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / "dataset.json").exists():
        raise OutputError(f"{target}: is not empty and holds no Masked-Faces; name a new folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: cannot make this folder ({error.strerror})") from error
    try:
        import fcntl
    except ImportError:  # Windows: two builders at once are the user's business there
        yield
        return
    handle = os.open(target, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"{target}: another process is building there; wait for it or stop it") from error
        yield
    finally:
        os.close(handle)


def _note_settings(target: Path, photos: Path, rows: Sequence[dict[str, str]], settings: Settings) -> None:
    """Writes what the dataset is made with, or compares it with what a started one was made with."""
    listing = hashlib.sha256("\n".join(f"{row['file']} {row['split']}" for row in rows).encode()).hexdigest()
    wanted = json.loads(json.dumps({**asdict(settings), "photos": len(rows), "listing": listing}, default=str))
    del wanted["limit"]  # the listing says it
    if wanted["templates"]:
        wanted["templates"] = Path(wanted["templates"]).name
    path = target / "dataset.json"
    if path.exists():
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))["settings"]
        except (ValueError, KeyError) as error:
            raise OutputError(f"{path}: is damaged ({error}); delete {target} and start again") from error
        for name, value in wanted.items():
            if begun.get(name) == value:
                continue
            if name == "photos":
                raise UsageError(
                    f"{target}: was begun with {begun.get(name)} photos, and {value} of {photos} are asked for now; "
                    "go on with the same photos and --limit, or name a new folder"
                )
            if name == "listing":
                raise UsageError(f"{target}: was begun from other photos than {photos} has now; name a new folder")
            raise UsageError(
                f"{target}: was begun with --{name} {begun.get(name)}, not {value}; go on with that, or name a new folder"
            )
        return
    _write(path, json.dumps({"format": "vidunmask masked-faces", "version": VERSION, "settings": wanted}, indent=1))


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def _index(target: Path, tasks: Sequence[ShardTask]) -> Built:
    """Gathers the shards' lists into manifest, list of failures and index; the index comes last and says that all is there."""
    built = Built()
    columns: dict[str, list[Any]] = {name: [] for name in ("photo", "split", "tier", "source", "kind", "shard")}
    arrays: dict[str, list[Any]] = {name: [] for name in ("landmarks", "photo_to_pack", "photo_size", "offsets", "sizes")}
    partial = {name: target / f"{name}.partial" for name in ("manifest.jsonl", "failed.csv", "faces.npz")}
    with (
        partial["manifest.jsonl"].open("w", encoding="utf-8") as manifest,
        partial["failed.csv"].open("w", newline="", encoding="utf-8") as failed_file,
    ):
        failed = csv.writer(failed_file, lineterminator="\n")
        failed.writerow(["file", "split", "reason"])
        for shard, task in enumerate(tasks):
            before = built.photos
            built.bytes += (target / "shards" / f"{task.name}.tar").stat().st_size
            with (target / "shards" / f"{task.name}.jsonl").open(encoding="utf-8") as lines:
                for line in lines:
                    sample = json.loads(line)
                    built.photos += 1
                    if "failed" in sample:
                        built.failed[sample["failed"]] += 1
                        failed.writerow([sample["photo"], sample["split"], sample["failed"]])
                        continue
                    manifest.write(line)
                    built.faces += 1
                    built.kinds[sample["kind"]] += 1
                    built.splits[sample["split"]] += 1
                    for name in ("photo", "split", "tier", "source"):
                        columns[name].append(sample[name])
                    columns["kind"].append(KINDS.index(sample["kind"]))
                    columns["shard"].append(shard)
                    arrays["landmarks"].append(np.asarray(sample["landmarks68"], np.float32))
                    arrays["photo_to_pack"].append(np.asarray(sample["photo_to_crop"], np.float32))
                    arrays["photo_size"].append(np.asarray(sample["photo_size"], np.int32))
                    places = [sample["members"][layer] for layer in LAYERS]
                    arrays["offsets"].append(np.asarray([place[0] for place in places], np.int64))
                    arrays["sizes"].append(np.asarray([place[1] for place in places], np.int32))
            if built.photos - before != len(task.rows):
                cut = target / "shards" / f"{task.name}.jsonl"
                raise OutputError(f"{cut}: is cut short; delete it and run the same command again")
    if not built.faces:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in built.failed.items())
        raise InputError(f"{target}: none of {built.photos} photos gave a face ({reasons})")
    with partial["faces.npz"].open("wb") as file:
        np.savez(
            file,
            shards=np.asarray([task.name for task in tasks]),
            **{name: np.asarray(values) for name, values in columns.items()},  # type: ignore[arg-type]
            **{name: np.stack(values) for name, values in arrays.items()},  # type: ignore[arg-type]
        )
    note = json.loads((target / "dataset.json").read_text(encoding="utf-8"))
    note["counts"] = {
        "photos": built.photos,
        "faces": built.faces,
        "splits": dict(sorted(built.splits.items())),
        "kinds": dict(sorted(built.kinds.items())),
        "failed": dict(sorted(built.failed.items())),
    }
    _write(target / "dataset.json", json.dumps(note, indent=1))
    for name, path in partial.items():
        path.replace(target / name)
    return built
