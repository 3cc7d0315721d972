"""Measures one inpainting network as the paper's Table 1 does: composed pictures of ``val``, whole and under the mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidunmask.training import metrics
from vidunmask.training.evaluation.methods import widen
from vidunmask.training.evaluation.protocols import Masks, chunks, spread
from vidunmask.training.losses import compose
from vidunmask.training.pack import Pack
from vidunmask.training.sizes import shrink, shrink_hole

METRICS = ("ssim", "psnr", "l1")
SHEET = 40  # faces of a sheet
SEED = 7
STREAM = 0  # of the randomness: the masks are those of `vidunmask evaluate` with this seed


@dataclass(frozen=True)
class Score:
    """Mean figures by the source of the mask, ``segmented`` (as in the paper) or ``true``, over the whole picture and, with
    `` masked`` behind the name, over the masked region; and pictures (3, S, 3 S): input, result, truth."""

    figures: dict[str, dict[str, float]]
    faces: int
    pictures: list[Tensor]


@torch.inference_mode()
def score(
    network: nn.Module, segmenter: nn.Module, pack: Pack, masks: Masks, *, size: int = 256, limit: int | None = None
) -> Score:
    """Figures on ``limit`` faces of the pack, or all; the same masks for every network.

    The segmentation network always sees 256 x 256; what it found and the pictures are then brought to ``size``.
    """
    values: dict[str, dict[str, list[Tensor]]] = {"segmented": {}, "true": {}}
    pictures: list[Tensor] = []
    rows = spread(pack.rows, limit)
    network.eval()
    for chunk in chunks(pack, rows, seed=SEED, stream=STREAM, device=torch.device("cpu")):
        made = masks(chunk)
        masked, truth = shrink(made.masked, size), shrink(made.truth, size)
        region = shrink_hole(widen(made.mask), size)
        found = shrink_hole(widen(torch.sigmoid(segmenter(made.masked))), size)
        for source, mask in (("segmented", found), ("true", region)):
            result = compose(masked, network(masked, mask), mask)
            for name in METRICS:
                measure = getattr(metrics, name)
                values[source].setdefault(name, []).append(measure(result, truth))
                values[source].setdefault(f"{name} masked", []).append(measure(result, truth, region))
            if source == "segmented":
                pictures += list(torch.cat([masked, result, truth], dim=3))
    figures = {
        source: {name: float(torch.cat(parts).mean()) for name, parts in by_name.items()} for source, by_name in values.items()
    }
    return Score(figures, len(rows), pictures[:: max(1, len(pictures) // SHEET)][:SHEET])
