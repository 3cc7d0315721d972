"""Shards of Masked-Faces: tar files in the layout of WebDataset, written once, read at random.

A sample is four members with one key, ``000001.truth.webp``, ``000001.masked.webp``, ``000001.mask.png`` and ``000001.json``,
so that ``tar x`` gives loose files and the webdataset package streams them; neither is needed here. Members are not compressed
again, so that their places in the file are known when they are written, and a reader fetches any sample with one read.

Plain ``tarfile`` instead of a library: webdataset streams shards in their order, while exact resuming wants any order, and a
npy shard of raw pixels would be three times as large.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from vidunmask.errors import InputError
from vidunmask.types import ByteArray

LAYERS = ("truth", "masked", "mask")  # the pictures of a sample, in the order in which they stand in the shard
FORMATS = {  # of truth and masked; the mask is a PNG always
    "webp": ("WEBP", {"lossless": True, "quality": 0, "method": 0}),  # a quarter smaller than PNG in the same time
    "png": ("PNG", {"compress_level": 1}),
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}


class ShardWriter:
    """Writes one shard under a temporary name; it gets its own name when the body of ``with`` ends without an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.{os.getpid()}.partial")

    def __enter__(self) -> ShardWriter:
        self._file = self._partial.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)
        return self

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Appends a member and returns where its data begins and how long it is."""
        info = tarfile.TarInfo(name)  # time 0, owner 0: equal content gives equal shards
        info.size, info.mode = len(data), 0o644
        begin = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(data))
        return begin, len(data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


def encode(picture: ByteArray, picture_format: str) -> bytes:
    """A picture (H, W, 3) RGB or (H, W) grey as the bytes of a file."""
    from PIL import Image

    name, settings = FORMATS[picture_format]
    target = io.BytesIO()
    Image.fromarray(picture).save(target, name, **settings)
    return target.getvalue()


def decode(data: bytes) -> ByteArray:
    """The picture (H, W, 3) RGB or (H, W) grey in the bytes of a file."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


@dataclass(frozen=True, slots=True, eq=False)
class ShardImages:
    """The pictures of a dataset's samples, decoded when they are asked for: ``images[rows]`` is (B, S, S, C) uint8.

    The channels are those of ``layers`` in their order, 3 of truth and of masked, 1 of mask; with the mask comes a last one,
    the same all over, with the number of its kind: so it goes with the picture through whatever is done to a batch.
    """

    shards: tuple[Path, ...]
    shard: np.ndarray  # (N,) int
    kind: np.ndarray  # (N,) index into masked_faces.KINDS
    offsets: np.ndarray  # (N, 3) of LAYERS
    sizes: np.ndarray  # (N, 3)
    layers: tuple[str, ...] = LAYERS
    _threads: list[ThreadPoolExecutor] = field(default_factory=list)  # made at the first use; decoding releases the GIL

    @classmethod
    def of(cls, folder: Path, table: Mapping[str, np.ndarray], layers: Sequence[str] = LAYERS) -> ShardImages:
        """Those of a built dataset, whose ``faces.npz`` is ``table``. Raises InputError where a shard is missing."""
        shards = tuple(folder / "shards" / f"{name}.tar" for name in table["shards"].tolist())
        for path in shards:
            if not path.exists():
                raise InputError(f"{path}: is missing; run the same `vidunmask make-masked-faces` again")
        return cls(shards, table["shard"], table["kind"], table["offsets"], table["sizes"], tuple(layers))

    def __len__(self) -> int:
        return len(self.shard)

    def __getitem__(self, rows: np.ndarray) -> ByteArray:
        rows = np.atleast_1d(rows)
        if not self._threads:
            self._threads.append(ThreadPoolExecutor(min(16, os.cpu_count() or 1), thread_name_prefix="decode"))
        return np.stack(list(self._threads[0].map(self._sample, rows.tolist())))

    def _sample(self, row: int) -> ByteArray:
        path = self.shards[self.shard[row]]
        picked = [LAYERS.index(layer) for layer in self.layers]
        first, last = min(picked), max(picked)
        begin = int(self.offsets[row, first])
        try:
            with path.open("rb") as file:
                file.seek(begin)
                block = file.read(int(self.offsets[row, last] + self.sizes[row, last]) - begin)
            pictures = []
            for layer in picked:
                at = int(self.offsets[row, layer]) - begin
                picture = decode(block[at : at + int(self.sizes[row, layer])])
                pictures.append(picture if picture.ndim == 3 else picture[..., None])
        except (OSError, SyntaxError, ValueError) as error:  # Pillow calls a broken PNG a SyntaxError
            remedy = "delete it and the .jsonl beside it, and run the same `vidunmask make-masked-faces` again"
            raise InputError(f"{path}: sample {row} cannot be read ({error}); {remedy}") from error
        if "mask" in self.layers:
            pictures.append(np.full_like(pictures[0][..., :1], self.kind[row]))
        return np.concatenate(pictures, axis=2)
