"""Photos to a pack of aligned faces, which is what the training programs read.

A pack is a folder: ``images.npy`` (N, 288, 288, 3) uint8, each face laid over the canonical template with 16 px of margin for
jitter about the 256 px crop; ``faces.npz`` with ``landmarks`` (N, 68, 2) and ``photo_to_pack`` (N, 2, 3) in pack pixels,
``photo_size`` (N, 2) height and width, and the strings ``photo``, ``split``, ``tier``, ``source``. Making one needs OpenCV
(the detector and the warp); reading one does not, so that a machine with torch, numpy and safetensors alone can train.

    python -m vidunmask.training.pack PHOTOS PACK
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidunmask import geometry
from vidunmask.errors import InputError, OutputError
from vidunmask.training import ending
from vidunmask.training.dataset import align
from vidunmask.training.dataset.shards import ShardImages
from vidunmask.training.synthesis.head_surface import fit_pose
from vidunmask.types import FloatArray

MARGIN = 16  # px on each side of the crop: what jitter may use up
SIDE = geometry.CROP_SIZE + 2 * MARGIN
KNOTS = 5  # a side of the lattice of `Jitter.bend`: one every 64 px
ASLANT = 0.25  # times as much bend that is not the same on both sides of the face


class Images(Protocol):
    """Where the pixels are: a memory-mapped array, shards that are decoded, or a tensor on the device."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any:
        """(B, S, S, C) uint8 array or tensor of rows (B,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """The faces of one split, and where their pixels are."""

    images: Images  # of the whole pack
    rows: np.ndarray  # (N,) which of them belong to the split
    landmarks: np.ndarray  # (M, 68, 2) float32, pack pixels
    photo_to_pack: np.ndarray  # (M, 2, 3) float32
    photo_size: np.ndarray  # (M, 2) height, width
    sources: tuple[str, ...]  # names of the sources that occur, for the provenance of weights
    tiers: tuple[str, ...]
    side: int = SIDE  # S of the images
    layers: tuple[str, ...] = ("truth",)  # what the images' channels are; more than the photo where masks are stored with it
    camera: float = 0.0  # how bad a camera the stored pictures went through

    def __len__(self) -> int:
        return len(self.rows)


def open_pack(
    folder: Path | str, split: str, *, tiers: str = "ABC", layers: Sequence[str] = ("truth",), bare: bool = True
) -> Pack:
    """Opens one split (``train`` or ``val``) of a pack, restricted to photos of the named rights tiers.

    The folder may also be a built Masked-Faces dataset, of which ``layers`` are read: only the photos, or with the masks
    that are stored there (see `dataset.stored`), and with ``bare=False`` only those that wear one. Raises InputError where
    the folder is neither or nothing is left.
    """
    folder = Path(folder)
    built = folder / "dataset.json"
    try:
        if built.exists() and not (folder / "faces.npz").exists():
            raise InputError(f"{folder}: the dataset is not finished; run the same `vidunmask make-masked-faces` again")
        table = np.load(folder / "faces.npz")
        images = ShardImages.of(folder, table, layers) if built.exists() else np.load(folder / "images.npy", mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: not a pack of faces ({error}); make one with `python -m vidunmask.training.pack PHOTOS {folder}`"
        ) from error
    wanted = (table["split"] == split) & np.isin(table["tier"], list(tiers))
    if built.exists() and not bare:
        wanted &= table["kind"] != 0  # of masked_faces.KINDS: none
    rows = np.flatnonzero(wanted)
    if not len(rows):
        raise InputError(
            f"{folder}: no faces of split {split!r} in tiers {tiers!r}; the pack has {len(images)} faces. More photos, an "
            "images.csv that names the splits, or other --tiers help"
        )
    return Pack(
        images=images,
        rows=rows,
        landmarks=table["landmarks"],
        photo_to_pack=table["photo_to_pack"],
        photo_size=table["photo_size"],
        sources=tuple(sorted(set(table["source"][rows].tolist()))),
        tiers=tuple(sorted(set(table["tier"][rows].tolist()))),
        side=geometry.CROP_SIZE if built.exists() else SIDE,
        layers=tuple(layers) if built.exists() else ("truth",),
        camera=json.loads(built.read_text(encoding="utf-8"))["settings"]["camera"] if built.exists() else 0.0,
    )


def spread(rows: np.ndarray, count: int | None) -> np.ndarray:
    """``count`` of the rows, evenly spread over their order, which goes by source; all of them for None."""
    if count is None or count >= len(rows):
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]


@dataclass(frozen=True, slots=True)
class Jitter:
    """Standard deviations of the crop's error, as large as the tracker's on real faces (mask on against mask off).

    ``bend`` is no error: it moves the knots of a lattice over the face about, smoothly between them and mostly alike on
    both sides, and so makes other faces of a photo, with a broader jaw or a shorter nose.
    """

    shift: float = 3.0  # px of the 256 px crop
    scale: float = 0.035  # natural logarithm
    angle: float = 0.045  # radians
    flip: bool = True
    bend: float = 0.0  # px of the 256 px crop

    def times(self, factor: float) -> Jitter:
        """As much more error, mirrored and bent as before."""
        return dataclasses.replace(self, shift=self.shift * factor, scale=self.scale * factor, angle=self.angle * factor)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Errors of ``count`` crops: scale (count,) as a factor, angle (count,) and shift (count, 2), drawn on the CPU."""
        noise = torch.randn(count, 4, generator=generator)
        scale = torch.exp(noise[:, 0].clamp(-2, 2) * self.scale)
        return scale, noise[:, 1].clamp(-2, 2) * self.angle, noise[:, 2:].clamp(-2.5, 2.5) * self.shift

    def draw_bend(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Where the knots of (count, 2, 7, 7) lattices over the crops go, x and y in px; None without any ``bend``."""
        if self.bend == 0:
            return None
        knots = torch.randn(count, 2, KNOTS, KNOTS, generator=generator).clamp(-2, 2) * self.bend
        mirrored = knots.flip(3) * torch.tensor([-1.0, 1.0])[:, None, None]
        return ((knots + mirrored) + ASLANT * (knots - mirrored)) * 0.5**0.5


STILL = Jitter(shift=0.0, scale=0.0, angle=0.0, flip=False)


def draw_batch(
    pack: Pack, rows: np.ndarray, *, jitter: Jitter, generator: torch.Generator, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """Crops with jitter: images (B, 3, 256, 256) in 0..1, landmarks (B, 68, 2) in crop pixels, valid (B, 1, 256, 256).

    Of a dataset with stored masks the images have more channels, which `stored.StoredMasks` takes apart. ``valid`` is 1 where
    the photo really had a picture; beyond its edge and the pack's the edge is repeated, and no loss should count there. The
    randomness is drawn on the CPU, so that a seed means the same on every device.
    """
    count, size = len(rows), geometry.CROP_SIZE
    scale, angle, shift = jitter.draw(count, generator)
    flip = (torch.rand(count, generator=generator) < 0.5) & jitter.flip
    # crop -> pack, about the crop's centre, in coordinates whose origin is the centre of either picture
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    linear = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (B, 2, 2)
    linear[:, :, 0] *= torch.where(flip, -1.0, 1.0)[:, None]

    images = on_device(pack.images[rows], device).permute(0, 3, 1, 2).float().div_(255)
    # normalised coordinates run over -1..1 between the outer edges (align_corners=False)
    theta = torch.cat([linear * (size / pack.side), (shift * 2 / pack.side)[:, :, None]], dim=2).to(device)
    grid = F.affine_grid(theta, [count, 1, size, size], align_corners=False)
    knots = jitter.draw_bend(count, generator)
    if knots is not None:
        bent = F.interpolate(knots.to(device), size=(size, size), mode="bicubic", align_corners=True)
        grid = grid + torch.einsum("bij,bjhw->bhwi", linear.to(device), bent) * (2 / pack.side)
    crops = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    centre_pack, centre_crop = (pack.side - 1) / 2, (size - 1) / 2
    inverse = torch.linalg.inv(linear)
    points = torch.from_numpy(pack.landmarks[rows]).float()
    points = (points - centre_pack - shift[:, None]) @ inverse.transpose(1, 2) + centre_crop
    if knots is not None:
        points = _bent(points, knots, size)
    points = torch.where(flip[:, None, None], points[:, MIRROR68], points)

    pixels = grid * (pack.side / 2) + centre_pack  # (B, S, S, 2) pack pixels
    to_photo = torch.from_numpy(np.stack([geometry.invert(m) for m in pack.photo_to_pack[rows]])).float().to(device)
    photo = pixels @ to_photo[:, None, :, :2].transpose(2, 3) + to_photo[:, None, None, :, 2]
    limit = torch.from_numpy(pack.photo_size[rows][:, ::-1].copy()).float().to(device)[:, None, None]
    inside = (photo > -0.5) & (photo < limit - 0.5) & (grid.abs() <= 1)
    return crops, points.to(device), inside.all(dim=3).float()[:, None]


def _bent(points: Tensor, knots: Tensor, size: int) -> Tensor:
    """Where points (B, N, 2) of a crop lie once it is bent by a lattice (B, 2, K, K): what is at q then was at q + bend(q)."""
    there = points
    for _ in range(4):
        place = there * (2 / (size - 1)) - 1
        by = F.grid_sample(knots, place[:, :, None], mode="bicubic", padding_mode="border", align_corners=True)
        there = points - by[..., 0].transpose(1, 2)
    return there


def on_device(pixels: np.ndarray | Tensor, device: torch.device | str) -> Tensor:
    """Pixels (B, S, S, C) uint8 as a tensor on the device; to a GPU through page-locked memory, without waiting for it."""
    tensor = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.ascontiguousarray(pixels))
    if torch.device(device).type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


# dlib's 68 points as they are numbered in a mirrored picture
MIRROR68 = torch.tensor(
    [
        *(*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65),
    ]
)


def turned_more_often(pack: Pack, *, degrees: float = 18.0, times: int = 4) -> np.ndarray:
    """The rows of the split with each face that is turned by more than ``degrees`` ``times`` as often.

    Of photos that people pose for, one in thirty shows a face turned by 25 degrees; videos show them all the time.
    """
    yaw = fit_pose(torch.from_numpy(pack.landmarks[pack.rows]).float()).yaw.rad2deg().abs().numpy()
    return np.concatenate([pack.rows, *[pack.rows[yaw > degrees]] * (times - 1)])


class Order:
    """An endless shuffled order of a pack's rows, the same from any place on."""

    def __init__(self, rows: np.ndarray, *, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self._epoch: tuple[int, np.ndarray] | None = None  # the last one shuffled

    def at(self, position: int, count: int) -> np.ndarray:
        """The ``count`` rows from ``position`` on, crossing epochs without a gap."""
        picked: list[np.ndarray] = []
        while count:
            epoch, offset = divmod(position, len(self.rows))
            if self._epoch is None or self._epoch[0] != epoch:
                self._epoch = (epoch, np.random.default_rng((self.seed, epoch)).permutation(self.rows))
            part = self._epoch[1][offset : offset + count]
            picked.append(part)
            position += len(part)
            count -= len(part)
        return np.concatenate(picked)


def list_photos(folder: Path) -> list[dict[str, str]]:
    """The photos of a folder as rows ``file, split, tier, source``.

    An ``images.csv`` with those columns is used where there is one; without the last two the tier is ``A`` and the source
    empty. Otherwise every picture below the folder counts, one in twenty (by name) goes to ``val``, of fewer the last one, and
    the tier is ``A``. Raises InputError where there are no photos or a row says too little.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    index = folder / "images.csv"
    if index.exists():
        with index.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            for name in ("file", "split"):
                if not row.get(name):
                    raise InputError(f"{index}: a row without {name!r}; the columns are file, split, tier, source")
        return [{**row, "tier": row.get("tier") or "A", "source": row.get("source") or ""} for row in rows]
    endings = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in endings)
    if not files:
        raise InputError(f"{folder}: no photos found (jpg, png, webp or bmp)")
    return [
        {"file": name, "split": "val" if i % 20 == min(19, len(files) - 1) else "train", "tier": "A", "source": folder.name}
        for i, name in enumerate(files)
    ]


def build_pack(photos: Path, pack: Path, *, detector_name: str = "yunet") -> tuple[int, list[str]]:
    """Finds and aligns one face in each photo and writes the pack; returns how many were kept and which photos had no face.

    Raises InputError where no photo has one, OutputError where the pack cannot be written. What was there is replaced when all
    is done.
    """
    from tqdm import tqdm

    from vidunmask import detectors

    rows = list_photos(photos)
    detector = detectors.create(detector_name)
    kept: list[dict[str, str]] = []
    landmarks: list[FloatArray] = []
    transforms: list[FloatArray] = []
    sizes: list[tuple[int, int]] = []
    missed: list[str] = []
    partial = {name: pack / f"{name}.partial" for name in ("images.npy", "faces.npz")}
    try:
        pack.mkdir(parents=True, exist_ok=True)
        with partial["images.npy"].open("wb") as file:
            _write_header(file, 0)
            for row in tqdm(rows, unit="photo", desc="pack"):
                picture = align.read_photo(photos / row["file"])
                face = None if picture is None else align.find_face(picture, detector)
                if face is None:
                    missed.append(row["file"])
                    continue
                to_pack = geometry.align(face.points)
                to_pack[:, 2] += MARGIN
                file.write(align.cut_out(face, to_pack, SIDE).tobytes())
                kept.append(row)
                landmarks.append(geometry.apply(to_pack, face.points))
                transforms.append(face.from_photo(to_pack))
                sizes.append(face.photo_size)
            file.seek(0)
            _write_header(file, len(kept))
        if not kept:
            raise InputError(f"{photos}: none of {len(rows)} photos gave a face")
        with partial["faces.npz"].open("wb") as file:
            np.savez(
                file,
                landmarks=np.asarray(landmarks, np.float32),
                photo_to_pack=np.asarray(transforms, np.float32),
                photo_size=np.asarray(sizes, np.int32),
                photo=np.asarray([row["file"] for row in kept]),
                split=np.asarray([row["split"] for row in kept]),
                tier=np.asarray([row["tier"] for row in kept]),
                source=np.asarray([row["source"] for row in kept]),
            )
        (pack / "faces.npz").unlink(missing_ok=True)  # must never stand beside other images
        for name, path in partial.items():
            path.replace(pack / name)
    except OSError as error:
        raise OutputError(f"{pack}: cannot be written ({error.strerror or error}); make room or name another folder") from error
    finally:
        for path in partial.values():
            if pack.is_dir():
                path.unlink(missing_ok=True)
    return len(kept), missed


def _write_header(file: BinaryIO, count: int) -> None:
    """That of an array of pack images, which NumPy makes of one length whatever the number of rows."""
    shape = (count, SIDE, SIDE, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def main(arguments: list[str] | None = None) -> None:
    """Command line of the pack builder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photos, with images.csv or without")
    parser.add_argument("pack", type=Path, help="folder to write")
    parser.add_argument("--detector", default="yunet")
    options = parser.parse_args(arguments)
    kept, missed = build_pack(options.photos, options.pack, detector_name=options.detector)
    print(f"{kept} faces packed, {len(missed)} photos without a face" + (": " + ", ".join(missed[:20]) if missed else ""))


if __name__ == "__main__":
    ending.run(main)
