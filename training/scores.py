"""Measures one inpainting network as the paper's Table 1 does: composed pictures of ``val`` under fixed drawn masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.training import metrics
from vidunmask.training.losses import compose
from vidunmask.training.masked_faces import MaskSynthesizer
from vidunmask.training.pack import STILL, Pack, draw_batch

GROW = 3  # px by which a mask is widened before it is filled
SHEET = 24  # faces of a sheet
METRICS = ("ssim", "psnr", "l1")


@dataclass(frozen=True)
class Score:
    """Mean figures by the source of the mask, ``segmented`` (as in the paper) or ``true``, over the whole picture and, with
    `` masked`` behind the name, over the masked region; and pictures (3, S, 3 S): input, result, truth."""

    figures: dict[str, dict[str, float]]
    faces: int
    pictures: list[Tensor]


@torch.inference_mode()
def score(
    network: nn.Module,
    segmenter: nn.Module,
    pack: Pack,
    synthesizer: MaskSynthesizer,
    *,
    limit: int | None = None,
    seed: int = 7,
) -> Score:
    """Figures on the faces that wear a mask; the same masks for every network with the same seed."""
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, dict[str, list[Tensor]]] = {"segmented": {}, "true": {}}
    pictures: list[Tensor] = []
    faces = 0
    rows = pack.rows[: limit or None]
    network.eval()
    for start in range(0, len(rows), 16):
        images, landmarks, _ = draw_batch(pack, rows[start : start + 16], jitter=STILL, generator=generator)
        made = synthesizer(images, landmarks, generator)
        wearing = made.mask.flatten(1).sum(1) > 64
        if not wearing.any():
            continue
        masked, truth, drawn = made.masked[wearing], made.truth[wearing], made.mask[wearing]
        faces += len(masked)
        region = widen(drawn)
        for source, mask in (("segmented", widen(torch.sigmoid(segmenter(masked)))), ("true", region)):
            result = compose(masked, network(masked, mask).float(), mask)
            for name in METRICS:
                measure = getattr(metrics, name)
                values[source].setdefault(name, []).append(measure(result, truth))
                values[source].setdefault(f"{name} masked", []).append(measure(result, truth, region))
            if source == "segmented":
                pictures += list(torch.cat([masked, result, truth], dim=3))
    figures = {
        source: {name: float(torch.cat(parts).mean()) for name, parts in by_name.items()} for source, by_name in values.items()
    }
    return Score(figures, faces, pictures[:: max(1, len(pictures) // SHEET)][:SHEET])


def widen(mask: Tensor, radius: int = GROW) -> Tensor:
    """The binary mask grown by ``radius`` pixels."""
    return F.max_pool2d((mask > 0.5).float(), 2 * radius + 1, stride=1, padding=radius)
