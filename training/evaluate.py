"""Measures segmentation and inpainting on ``val`` with drawn masks, beside two trivial ways to fill a hole.

    python -m vidunmask.training.evaluate --pack PACK --out FOLDER [--templates FOLDER]

Writes ``evaluation.json``, ``evaluation.md`` and sheets of faces. Inpainting is measured twice: with the mask that the
segmentation network finds (as the paper's Table 1) and with the true one. Needs OpenCV for Telea's method.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.utils import save_image

from vidunmask.errors import VidunmaskError
from vidunmask.networks import weights
from vidunmask.training import metrics
from vidunmask.training.losses import compose
from vidunmask.training.masked_faces import KINDS, MaskSynthesizer
from vidunmask.training.pack import STILL, Pack, draw_batch, open_pack

GROW = 3  # px by which a mask is widened before it is filled; the pipeline takes 9 and fades the fill out over the outer 5

Method = Callable[[Tensor, Tensor], Tensor]  # image (B, 3, S, S) and mask (B, 1, S, S) to a fill (B, 3, S, S)


def telea(image: Tensor, mask: Tensor) -> Tensor:
    """OpenCV's inpainting after Telea (2004) with a radius of 5 px."""
    import cv2

    fills = []
    for picture, hole in zip(image.cpu(), mask.cpu(), strict=True):
        pixels = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        filled = cv2.inpaint(pixels, (hole[0].numpy() > 0.5).astype(np.uint8), 5, cv2.INPAINT_TELEA)
        fills.append(torch.from_numpy(filled).permute(2, 0, 1).float() / 255)
    return torch.stack(fills).to(image.device)


def mean_colour(image: Tensor, mask: Tensor) -> Tensor:
    """The mean colour of what is seen of the central face."""
    seen = (1 - mask).clone()
    seen[:, :, : image.shape[2] // 4] = 0
    seen[:, :, :, : image.shape[3] // 4] = 0
    seen[:, :, :, -image.shape[3] // 4 :] = 0
    mean = (image * seen).sum(dim=(2, 3), keepdim=True) / seen.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    return mean.expand_as(image)


def widen(mask: Tensor, radius: int = GROW) -> Tensor:
    """The binary mask grown by ``radius`` pixels."""
    return F.max_pool2d((mask > 0.5).float(), 2 * radius + 1, stride=1, padding=radius)


@torch.inference_mode()
def measure(
    pack: Pack, segmenter: nn.Module, methods: dict[str, Method], synthesizer: MaskSynthesizer, *, limit: int | None, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, float], list[Tensor]]:
    """Figures of each method, figures of the segmentation, and one row of pictures a face: input, truth, each method."""
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    overlaps: dict[str, list[Tensor]] = defaultdict(list)
    pictures: list[Tensor] = []
    rows = pack.rows[: limit or None]
    for start in range(0, len(rows), 16):
        images, landmarks, _ = draw_batch(pack, rows[start : start + 16], jitter=STILL, generator=generator)
        made = synthesizer(images, landmarks, generator)
        found = torch.sigmoid(segmenter(made.masked))
        wearing = made.mask.flatten(1).sum(1) > 64
        overlap = metrics.iou(found, made.mask)
        for index in range(len(images)):
            if wearing[index]:
                overlaps["iou"].append(overlap[index])
                overlaps[f"iou {KINDS[int(made.kind[index])]}"].append(overlap[index])
            else:
                overlaps["false area of bare faces"].append((found[index] > 0.5).float().mean())
        masked, truth = made.masked[wearing], made.truth[wearing]
        region = widen(made.mask[wearing])
        row = [made.masked[wearing], made.truth[wearing]]
        for name, method in methods.items():
            for source, mask in (("segmented", widen(found[wearing])), ("true", region)):
                result = compose(masked, method(masked, mask), mask)
                figures = values[f"{name}, {source} mask"]
                for metric in (metrics.ssim, metrics.psnr, metrics.l1):
                    figures[metric.__name__].append(metric(result, truth))
                    figures[f"{metric.__name__} masked"].append(metric(result, truth, region))
                if source == "segmented":
                    row.append(result)
        pictures += list(torch.stack(row, dim=1))
    table = {
        name: {metric: float(torch.cat(numbers).mean()) for metric, numbers in figures.items()}
        for name, figures in values.items()
    }
    return table, {name: float(torch.stack(numbers).mean()) for name, numbers in sorted(overlaps.items())}, pictures


def markdown(table: dict[str, dict[str, float]], overlaps: dict[str, float]) -> str:
    """Both tables as Markdown."""
    columns = list(next(iter(table.values())))
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{row[column]:.4f}" for column in columns) + " |" for name, row in table.items()]
    lines += ["", "| segmentation | |", "|---|---|"] + [f"| {name} | {value:.4f} |" for name, value in overlaps.items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Command line of the evaluation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pack", type=Path, required=True)
    add("--out", type=Path, required=True)
    add("--segmenter", default="compact-segmenter")
    add("--inpainter", default="compact-inpainter")
    add("--templates", type=Path)
    add("--limit", type=int, help="only the first so many faces")
    add("--camera", type=float, default=0.3, help="how bad the cameras are, 0 to 1 (default: %(default)s)")
    add("--occlusion", type=float, default=0.0, help="how often hands and things are in front, 1 as in training (default: 0)")
    add("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    inpainter = weights.load(options.inpainter, kind="inpainter")
    table, overlaps, pictures = measure(
        open_pack(options.pack, "val"),
        weights.load(options.segmenter, kind="segmenter"),
        {"vidunmask": inpainter, "Telea": telea, "mean colour": mean_colour},
        MaskSynthesizer(templates_folder=options.templates, camera=options.camera, occlusion=options.occlusion),
        limit=options.limit,
        seed=options.seed,
    )
    text = markdown(table, overlaps)
    (options.out / "evaluation.md").write_text(text, encoding="utf-8")
    (options.out / "evaluation.json").write_text(json.dumps({"inpainting": table, "segmentation": overlaps}, indent=1))
    step = max(1, len(pictures) // 24)
    save_image(torch.cat(pictures[::step][:24]), options.out / "sheet.png", nrow=2 * pictures[0].shape[0])
    print(text)


if __name__ == "__main__":
    try:
        main()
    except VidunmaskError as error:
        raise SystemExit(f"error: {error}") from None
