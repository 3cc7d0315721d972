"""Trains the inpainting network (§3.2, §4.2). Reads from top to bottom.

    python -m vidunmask.training.inpainter --pack PACK --run RUN [--minutes 60]

Defaults are the paper's. What a short budget on a CPU wants is set by flags: a higher --lr with --cooldown, adversarial losses
that begin late (--adversarial-from), and VGG features at half size (--feature-scale 0.5).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.errors import VidunmaskError
from vidunmask.networks import weights
from vidunmask.training import losses, metrics
from vidunmask.training.discriminators import FeaturePatchDiscriminator, PatchDiscriminator
from vidunmask.training.distributed import Team
from vidunmask.training.feed import Prepare, hold
from vidunmask.training.loop import Average, Run, add_options, check_options, export, learning_rate, log_to, start_from
from vidunmask.training.masked_faces import MaskSynthesizer
from vidunmask.training.pack import STILL, Jitter, Order, Pack, draw_batch, open_pack, turned_more_often
from vidunmask.training.stored import masks_for
from vidunmask.training.turn import turn_some

NETWORK = "gated_mcsam"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, preset="paper", batch=16, images=120 * 158_003)
    add = parser.add_argument
    add("--vgg", type=Path, help="VGG-16 weights on disk (default: torchvision downloads them)")
    add("--feature-scale", type=float, default=1.0, help="size at which VGG sees the pictures (default: %(default)s)")
    add(
        "--close-ups",
        type=float,
        default=0.0,
        help="share of steps in which a --feature-scale below 1 is a window at full size instead (default: %(default)s)",
    )
    add("--weight-reconstruction", type=float, default=1.0)
    add("--weight-perceptual", type=float, default=0.1)
    add("--weight-style", type=float, default=250.0)
    add("--weight-adversarial", type=float, default=0.1)
    add("--adversarial-from", type=int, default=0, help="images after which the critics join (default: %(default)s)")
    add("--critic-width", type=int, default=64, help="channels of the patch critic's first layer (default: %(default)s)")
    add("--full-supervision", action="store_true", help="losses on the raw output instead of the composed image (Table 2)")
    add("--without-csam", action="store_true", help="a 3x3 convolution in place of CSAM (Table 3)")
    return parser.parse_args(arguments)


def draw_masks(
    images: Tensor, landmarks: Tensor, synthesizer: MaskSynthesizer, generator: torch.Generator, *, grow: bool
) -> tuple[Tensor, Tensor]:
    """Truth (B, 3, S, S) and binary mask (B, 1, S, S) for a batch of faces.

    The pipeline widens the segmented mask before it inpaints, so that no rim of fabric is left; training sees widened masks
    too.
    """
    made = synthesizer(images, landmarks, generator, shapes_only=True)
    mask = (made.mask > 0.5).float()
    if grow:
        radius = int(torch.randint(1, 11, (1,), generator=generator))
        mask = F.max_pool2d(mask, 2 * radius + 1, stride=1, padding=radius)
    return made.truth, mask


def region(mask: Tensor, *, margin: int = 16, multiple: int = 16) -> tuple[slice, slice]:
    """Rows and columns of the box about all masks (B, 1, H, W) of a batch, its sides rounded up to ``multiple``.

    Composed image and truth are equal outside the masks, so features and critics learn nothing there; skipping it saves half.
    """
    occupied = mask.amax(dim=(0, 1)) > 0
    slices = []
    for axis, length in ((1, mask.shape[2]), (0, mask.shape[3])):
        indices = torch.nonzero(occupied.any(dim=axis)).flatten()
        first, last = (int(indices[0]), int(indices[-1]) + 1) if len(indices) else (0, length)
        first, last = max(0, first - margin), min(length, last + margin)
        first = max(0, last - -(-(last - first) // multiple) * multiple)
        slices.append(slice(first, last))
    return slices[0], slices[1]


def preparation(pack: Pack, synthesizer: MaskSynthesizer, device: torch.device, *, turn: float) -> Prepare:
    """What a step works on, from rows of the pack: truth, mask, where the truth is known, and the box about the masks."""

    def prepare(rows: np.ndarray, generator: torch.Generator) -> tuple[Any, ...]:
        drawn = draw_batch(pack, rows, jitter=Jitter(), generator=generator, device=device)
        faces, landmarks, valid = turn_some(*drawn, generator, share=turn, jitter=Jitter())
        truth, mask = draw_masks(faces, landmarks, synthesizer, generator, grow=True)
        return truth.contiguous(memory_format=torch.channels_last), mask, valid, region(mask)

    return prepare


@torch.no_grad()
def evaluate(
    network: nn.Module, pack: Pack, synthesizer: MaskSynthesizer, device: torch.device, *, limit: int | None = None
) -> tuple[dict[str, float], Tensor]:
    """Mean figures of the composed image on ``val`` with fixed masks, and a sheet of 24 faces: masked, filled, truth."""
    generator = torch.Generator().manual_seed(2024)
    sums: dict[str, list[Tensor]] = {name: [] for name in ("psnr", "ssim", "l1", "psnr_masked", "l1_masked")}
    rows = pack.rows[: limit or None]
    sheet: list[Tensor] = []
    network.eval()
    for start in range(0, len(rows), 16):
        images, landmarks, _ = draw_batch(pack, rows[start : start + 16], jitter=STILL, generator=generator, device=device)
        truth, mask = draw_masks(images, landmarks, synthesizer, generator, grow=False)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            fill = network(truth, mask)
        result = losses.compose(truth, fill.float(), mask)
        sums["psnr"].append(metrics.psnr(result, truth))
        sums["ssim"].append(metrics.ssim(result, truth))
        sums["l1"].append(metrics.l1(result, truth))
        sums["psnr_masked"].append(metrics.psnr(result, truth, mask))
        sums["l1_masked"].append(metrics.l1(result, truth, mask))
        if len(sheet) < 24 and (start // 16) % max(1, len(rows) // 48) == 0:
            for index in range(min(8, len(images))):
                sheet += [torch.stack([truth[index] * (1 - mask[index]), result[index], truth[index]])]
    return {name: float(torch.cat(values).mean()) for name, values in sums.items()}, torch.cat(sheet[:24])


def main(arguments: list[str] | None = None) -> Run:
    """Runs or resumes a training."""
    options = parse(arguments)
    team = Team(check_options(options))
    device = team.device
    log = log_to(options.run, team)

    # --- data ---------------------------------------------------------------------------------------------------------
    layers = ("truth", "mask")  # what is read of a dataset with stored masks
    train, where = hold(open_pack(options.pack, "train", tiers=options.tiers, layers=layers), options.data, device)
    val = open_pack(options.pack, "val", layers=layers)
    synthesizer = masks_for(train)
    order = Order(turned_more_often(train), seed=options.seed)
    prepare = preparation(train, synthesizer, device, turn=options.turn)

    # --- networks -----------------------------------------------------------------------------------------------------
    settings = {**weights.presets("inpainter", NETWORK)[options.preset], "attention": not options.without_csam}
    network = weights.channels_last(weights.build("inpainter", NETWORK, settings).to(device))
    start_from(network, options.start_from, kind="inpainter", log=log)
    average = Average(network, decay=options.ema)
    vgg = weights.channels_last(losses.VGGFeatures(options.vgg).to(device))
    pixel_critic = weights.channels_last(PatchDiscriminator(width=options.critic_width).to(device))
    feature_critic = weights.channels_last(FeaturePatchDiscriminator(width=2 * options.critic_width).to(device))
    critics = nn.ModuleList([pixel_critic, feature_critic])
    optimizer = torch.optim.Adam(network.parameters(), lr=options.lr, betas=(0.5, 0.999))
    critic_optimizer = torch.optim.Adam(critics.parameters(), lr=options.lr, betas=(0.5, 0.999))
    forward = team.wrap(network, compiled=options.compile)
    team.share(critics)

    # --- resume -------------------------------------------------------------------------------------------------------
    run = Run(
        options,
        {"network": network, "critics": critics, "optimizer": optimizer, "critic_optimizer": critic_optimizer},
        average=average,
        order=order,
        team=team,
        log=log,
    )
    parameters = sum(p.numel() for p in network.parameters())
    log(f"{NETWORK} {options.preset}, {parameters / 1e6:.2f}M parameters, {len(train)} faces {where}; {vars(options)}")

    def report() -> dict[str, float]:
        figures, sheet = evaluate(average.network, val, synthesizer, device, limit=options.val_faces)
        run.show(figures, sheet, columns=12)
        return figures

    # --- the loop -----------------------------------------------------------------------------------------------------
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.precision == "bfloat16")
    for batch in run.batches(prepare):
        rate = learning_rate(
            batch.images, base=options.lr, epoch=len(train), total=options.images, cooldown=options.cooldown, warmup=1000
        )
        for group in (*optimizer.param_groups, *critic_optimizer.param_groups):
            group["lr"] = rate

        truth, mask, valid, box = batch.data
        adversarial = batch.images >= options.adversarial_from and options.weight_adversarial > 0

        with autocast:
            fill = forward(truth, mask)
        composed = losses.compose(truth, fill.float(), mask)
        judged = fill.float() if options.full_supervision else composed
        # beyond the photo's edge there is no truth: what stands there in the pack is used on both sides
        judged = losses.compose(truth, judged, valid)
        rows, columns = (slice(None), slice(None)) if options.full_supervision else box
        fake, real = judged[:, :, rows, columns], truth[:, :, rows, columns]
        weight = (valid if options.full_supervision else mask * valid)[:, :, rows, columns]

        terms = {"l1": losses.reconstruction(fake, real, weight)}
        seen_fake, seen_real = losses.look(
            fake, real, scale=options.feature_scale, close_ups=options.close_ups, generator=batch.generator
        )
        with autocast:
            features_fake = vgg(seen_fake)
            with torch.no_grad():
                features_real = vgg(seen_real)
            terms["perceptual"] = losses.perceptual(features_fake, features_real)
            terms["style"] = losses.style(features_fake, features_real)
            total = (
                options.weight_reconstruction * terms["l1"]
                + options.weight_perceptual * terms["perceptual"]
                + options.weight_style * terms["style"]
            )
            if adversarial:
                critics.requires_grad_(False)
                terms["adversarial"] = losses.relativistic_generator(
                    pixel_critic(real).float(), pixel_critic(fake).float()
                ) + losses.relativistic_generator(
                    feature_critic(features_real[-1]).float(), feature_critic(features_fake[-1]).float()
                )
                total = total + options.weight_adversarial * terms["adversarial"]
        run.backward(total)

        if adversarial:
            critics.requires_grad_(True)
            with autocast:
                terms["critics"] = losses.relativistic_discriminator(
                    pixel_critic(real).float(), pixel_critic(fake.detach()).float()
                ) + losses.relativistic_discriminator(
                    feature_critic(features_real[-1]).float(), feature_critic(features_fake[-1].detach()).float()
                )
            run.backward(terms["critics"])
        if batch.last:
            run.step(optimizer, network, wrapped=True, clip=1.0)
            if adversarial:
                run.step(critic_optimizer, critics, wrapped=False)
            average.update(network)
        run.after(batch, terms, report)

    # --- the end ------------------------------------------------------------------------------------------------------
    run.save()
    figures = report() if team.first else {}
    if options.export and team.first:
        provenance = run.provenance(options, train, figures) | {
            "losses": {n: getattr(options, f"weight_{n}") for n in ("reconstruction", "perceptual", "style", "adversarial")},
            "adversarial_from": options.adversarial_from,
        }
        log(export(options.export, average, kind="inpainter", network=NETWORK, arguments=settings, provenance=provenance))
    run.close()
    return run


if __name__ == "__main__":
    try:
        main()
    except (VidunmaskError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from None
