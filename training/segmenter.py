"""Trains the segmentation network (section 3.1) on masks drawn on the fly. Reads from top to bottom.

python -m vidunmask.training.segmenter --pack PACK --run RUN [--templates FOLDER] [--minutes 30]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.errors import UsageError
from vidunmask.networks import weights
from vidunmask.networks.precision import autocast, choose_dtype
from vidunmask.training import ending, metrics
from vidunmask.training.dataset.stored import masks_for
from vidunmask.training.masked_faces import MaskSynthesizer
from vidunmask.training.morphology import dilate, erode
from vidunmask.training.pack import STILL, Jitter, Order, Pack, draw_batch, open_pack, spread, turned_more_often
from vidunmask.training.running.beginning import check_dark, start_from
from vidunmask.training.running.distributed import Team
from vidunmask.training.running.feed import Prepare, hold
from vidunmask.training.running.loop import (
    Average,
    Run,
    add_options,
    check_least,
    check_options,
    check_shares,
    export,
    log_to,
)
from vidunmask.training.synthesis.framing import cut_some, distant_some, stray_some
from vidunmask.training.synthesis.tone import darken_some
from vidunmask.training.synthesis.turn import turn_some

NETWORK = "unet"
# wider than the inpainter's: the segmenter is what must survive a badly placed crop, since everything after it can be mended
# by it
JITTER = Jitter(shift=4.5, scale=0.06, angle=0.07)
FRAMING = {
    "stray": "crops that lie far off the face, as a profile's do",
    "distant": "faces that have few pixels, half of them without a mask",
    "cut": "faces that lie at the edge of a frame",
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, preset="paper", batch=16, images=20 * 158_003)
    for name, what in FRAMING.items():
        parser.add_argument(f"--{name}", type=float, default=0.0, metavar="SHARE", help=f"share of {what} (default: 0)")
    parser.add_argument("--templates", type=Path, help="folder of mask pictures with alpha, beside the drawn masks")
    parser.add_argument("--weight-dice", type=float, default=0.0, help="weight of a soft Dice term beside the cross-entropy")
    thin = "how much more the cross-entropy counts at loops and straps than elsewhere (default: 0)"
    parser.add_argument("--weight-thin", type=float, default=0.0, metavar="W", help=thin)
    options = parser.parse_args(arguments)
    check_least(options, 0, "weight_thin", "weight_dice")
    check_shares(options, *FRAMING)
    return options


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of the batch as a whole; scale-free, so that small masks count beside large ones."""
    probability = torch.sigmoid(logits)
    return 1 - (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)


def thin_parts(mask: Tensor, *, radius: int = 4) -> Tensor:
    """(B, 1, S, S) in 0..1, where masks (B, 1, S, S) are less than ``2 * radius`` pixels wide, and ``radius`` pixels about.

    Ear loops and straps are some hundredths of a mask's area, and a network that leaves them out loses next to nothing by the
    plain mean over pixels; in a picture they are what is seen.
    """
    opened = dilate(erode(mask, radius), radius)
    return dilate((mask - opened).clamp_min(0), radius)


def preparation(
    pack: Pack,
    synthesizer: MaskSynthesizer,
    device: torch.device,
    *,
    turn: float,
    stray: float = 0.0,
    distant: float = 0.0,
    cut: float = 0.0,
    dark: float = 0.0,
) -> Prepare:
    """What a step works on, from rows of the pack: masked picture and mask. The shares are those of ``FRAMING``, and
    ``dark`` that of faces that get darker skin."""

    def prepare(rows: np.ndarray, generator: torch.Generator) -> tuple[Any, ...]:
        faces, landmarks, valid = draw_batch(pack, rows, jitter=JITTER, generator=generator, device=device)
        faces = darken_some(faces, landmarks, generator, share=dark)
        faces, landmarks, _ = turn_some(faces, landmarks, valid, generator, share=turn, jitter=JITTER)
        made = synthesizer(faces, landmarks, generator, with_truth=False)

        def bare(index: Tensor) -> Tensor:
            return synthesizer.photograph(made.truth[index][:, None], generator)[:, 0]

        masked, mask = distant_some(made.masked, made.mask, bare, generator, share=distant)
        masked, mask = stray_some(masked, mask, generator, share=stray)
        masked, mask, _ = cut_some(masked, mask, generator, share=cut)
        return masked.contiguous(memory_format=torch.channels_last), mask

    return prepare


@torch.no_grad()
def evaluate(
    network: nn.Module,
    pack: Pack,
    synthesizer: MaskSynthesizer,
    device: torch.device,
    *,
    dtype: torch.dtype,
    limit: int | None = None,
) -> tuple[dict[str, float], Tensor]:
    """IoU of masked faces and false area of bare ones on ``val`` with fixed masks, and a sheet of 32: input, prediction in
    red."""
    generator = torch.Generator().manual_seed(2024)
    overlaps: list[Tensor] = []
    false_area: list[Tensor] = []
    sheet: list[Tensor] = []
    network.eval()
    rows = spread(pack.rows, limit)
    for start in range(0, len(rows), 16):
        images, landmarks, _ = draw_batch(pack, rows[start : start + 16], jitter=STILL, generator=generator, device=device)
        made = synthesizer(images, landmarks, generator)
        with autocast(device, dtype):
            probability = torch.sigmoid(network(made.masked).float())
        masked = made.mask.flatten(1).sum(1) > 64
        overlaps.append(metrics.iou(probability, made.mask)[masked])
        false_area.append((probability > 0.5).float().mean(dim=(1, 2, 3))[~masked])
        if len(sheet) < 32:
            red = torch.tensor([1.0, 0.1, 0.1], device=device).view(1, 3, 1, 1)
            shown = torch.lerp(made.masked, red.expand_as(made.masked), 0.5 * (probability > 0.5).float())
            sheet += list(torch.stack([made.masked, shown], dim=1).flatten(0, 1)[:16])
    overlap = torch.cat(overlaps)
    return {
        "iou": float(overlap.mean()),
        "iou_p10": float(overlap.quantile(0.1)),
        "false_area": float(torch.cat(false_area).mean()) if len(torch.cat(false_area)) else 0.0,
    }, torch.stack(sheet[:32])


def main(arguments: list[str] | None = None) -> Run:
    """Runs or resumes a training."""
    options = parse(arguments)
    presets = weights.presets("segmenter", NETWORK)
    if options.preset not in presets:
        raise UsageError(f"--preset {options.preset}: {NETWORK} has {', '.join(presets)}")
    team = Team(check_options(options))
    device = team.device
    dtype = choose_dtype(options.precision, device)
    log = log_to(options.run, team)

    # --- data ---------------------------------------------------------------------------------------------------------
    # what is read of a dataset with stored masks
    layers = ("masked", "mask", "truth") if options.distant else ("masked", "mask")
    train, where = hold(open_pack(options.pack, "train", tiers=options.tiers, layers=layers), options.data, device)
    check_dark(options, train)
    val = open_pack(options.pack, "val", layers=layers)
    synthesizer = masks_for(train, templates=options.templates)
    order = Order(turned_more_often(train), seed=options.seed)
    framing = {name: getattr(options, name) for name in FRAMING}
    prepare = preparation(train, synthesizer, device, turn=options.turn, dark=options.dark, **framing)

    # --- network ------------------------------------------------------------------------------------------------------
    settings = presets[options.preset]
    network = weights.channels_last(weights.build("segmenter", NETWORK, settings).to(device))
    start_from(network, options, kind="segmenter", log=log)
    average = Average(network, decay=options.ema)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.lr)
    forward = team.wrap(network, compiled=options.compile)

    # --- resume -------------------------------------------------------------------------------------------------------
    run = Run(options, {"network": network, "optimizer": optimizer}, average=average, order=order, team=team, log=log)
    parameters = sum(p.numel() for p in network.parameters())
    log(f"{NETWORK} {options.preset}, {parameters / 1e6:.2f}M parameters, {len(train)} faces {where}; {vars(options)}")

    def report() -> dict[str, float]:
        figures, sheet = evaluate(average.network, val, synthesizer, device, dtype=dtype, limit=options.val_faces)
        run.show(figures, sheet, columns=8)
        return figures

    # --- the loop -----------------------------------------------------------------------------------------------------
    with run:
        for batch in run.batches(prepare):
            rate = run.learning_rate(batch, epoch=len(train))
            for group in optimizer.param_groups:
                group["lr"] = rate

            masked, mask = batch.data
            network.train()
            with autocast(device, dtype):
                logits = forward(masked)
            weight = 1 + options.weight_thin * thin_parts(mask) if options.weight_thin else None
            terms = {"bce": F.binary_cross_entropy_with_logits(logits.float(), mask, weight)}
            total = terms["bce"]
            if options.weight_dice:
                terms["dice"] = dice(logits.float(), mask)
                total = total + options.weight_dice * terms["dice"]
            run.backward(total)
            if batch.last:
                run.step(optimizer, network, wrapped=True)
                average.update(network)
            run.after(batch, terms, report)

        # --- the end --------------------------------------------------------------------------------------------------
        run.end()
        figures = report() if team.first else {}
        if options.export and team.first:
            provenance = run.provenance(options, train, figures)
            made = {"kind": "segmenter", "network": NETWORK, "arguments": settings, "provenance": provenance}
            log(export(options.export, average, **made, store=options.store))
    return run


if __name__ == "__main__":
    ending.run(lambda: main().exit_code)
