"""Measures one inpainting network as the paper's Table 1 does: composed pictures of ``val``, whole and under the mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vidunmask.training import metrics
from vidunmask.training.evaluation.fills import Judges
from vidunmask.training.evaluation.methods import widen
from vidunmask.training.evaluation.protocols import Masks, chunks
from vidunmask.training.losses import compose
from vidunmask.training.pack import Pack, spread
from vidunmask.training.sizes import shrink, shrink_hole
from vidunmask.types import ByteArray

METRICS = ("ssim", "psnr", "l1")
SHEET = 40  # faces of a sheet
SEED = 7
STREAM = 0  # of the randomness: the masks are those of `vidunmask evaluate` with this seed
NOBODY = Judges()
CPU = torch.device("cpu")

Values = dict[str, list[float | None]]  # by figure, one a face; None where it was not taken


@dataclass(frozen=True)
class Score:
    """Figures of every face by the source of the mask, ``segmented`` (as in the paper) or ``true``, over the whole picture and,
    with `` masked`` behind the name, over the masked region; and pictures (3, S, 3 S): input, result, truth."""

    values: dict[str, Values]
    faces: int
    pictures: list[Tensor]

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """The means over the faces."""
        means = {source: {name: _mean(given) for name, given in values.items()} for source, values in self.values.items()}
        return {source: {name: value for name, value in by.items() if value is not None} for source, by in means.items()}


@torch.inference_mode()
def score(
    network: nn.Module,
    segmenter: nn.Module,
    pack: Pack,
    masks: Masks,
    *,
    size: int = 256,
    limit: int | None = None,
    judges: Judges = NOBODY,
    identities: int = 0,
    turned: float = 0.0,
    device: torch.device = CPU,
) -> Score:
    """Figures on ``limit`` faces of the pack, or all; the same masks for every network.

    The segmentation network always sees 256 x 256; what it found and the pictures are then brought to ``size``. ``turned`` is
    the share of the faces that are turned aside first, see `turn`. With ``judges`` also LPIPS, and for ``identities`` of the
    faces, evenly spread, how far dlib's embedding moved.
    """
    values: dict[str, Values] = {"segmented": {}, "true": {}}
    pictures: list[Tensor] = []
    rows = spread(pack.rows, limit)
    shown = set(rows[:: max(1, len(rows) // SHEET)][:SHEET].tolist())
    known = set(spread(rows, identities).tolist()) if judges.identity is not None and identities else set()
    network.eval()
    for chunk in chunks(pack, rows, seed=SEED, stream=STREAM, device=device, turned=turned):
        made = masks(chunk)
        masked, truth = shrink(made.masked, size), shrink(made.truth, size)
        region = shrink_hole(widen(made.mask), size)
        inside = region * (1 - shrink_hole(1 - chunk.valid, size))  # beyond the photo's edge there is no truth
        found = shrink_hole(widen(torch.sigmoid(segmenter(made.masked))), size)
        chosen = [index for index, row in enumerate(chunk.rows.tolist()) if row in known]
        points = chunk.landmarks[chosen].cpu().numpy() * (size / chunk.images.shape[-1])
        for source, mask in (("segmented", found), ("true", region)):
            result = compose(masked, network(masked, mask), mask)
            figures: dict[str, Tensor] = {}
            for name in METRICS:
                measure = getattr(metrics, name)
                figures[name], figures[f"{name} masked"] = measure(result, truth), measure(result, truth, inside)
            if judges.perceptual is not None:
                seen, wanted = judges.perceptual(result), judges.perceptual(truth)
                figures["lpips"] = judges.perceptual.distance(seen, wanted)
                figures["lpips masked"] = judges.perceptual.distance(seen, wanted, inside)
            for name, numbers in figures.items():
                values[source].setdefault(name, []).extend(numbers.tolist())
            if known:
                values[source].setdefault("identity", []).extend(_moved(judges, result, truth, chosen, points))
            if source == "segmented":
                three = torch.cat([masked, result, truth], dim=3).cpu()
                pictures += [picture.clone() for picture, row in zip(three, chunk.rows.tolist(), strict=True) if row in shown]
    return Score(values, len(rows), pictures)


def _moved(judges: Judges, result: Tensor, truth: Tensor, chosen: list[int], points: np.ndarray) -> list[float | None]:
    """Distances between the embeddings of results and truth (B, 3, S, S), for the ``chosen`` with landmarks (N, 68, 2)."""
    moved: list[float | None] = [None] * len(result)
    if chosen and judges.identity is not None:
        pictures = [[as_bytes(images[index]) for index in chosen] for images in (result, truth)]
        mine, true = (judges.identity.embed(some, list(points)) for some in pictures)
        for index, distance in zip(chosen, np.linalg.norm(mine - true, axis=1).tolist(), strict=True):
            moved[index] = distance
    return moved


def as_bytes(picture: Tensor) -> ByteArray:
    """A picture (3, H, W) in 0..1 as (H, W, 3) uint8."""
    return np.ascontiguousarray((picture * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy())


def _mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
