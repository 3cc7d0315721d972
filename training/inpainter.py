"""Trains an inpainting network: the paper's (sections 3.2 and 4.2), or one that it compares itself with. From top to bottom.

    python -m vidunmask.training.inpainter --pack PACK --run RUN [--minutes 60]

Defaults are the paper's. What a short budget on a CPU wants is set by flags: a higher --lr with --cooldown, adversarial losses
that begin late (--adversarial-from), and VGG features at half size (--feature-scale 0.5). The networks differ in what they are
trained for, which is their objective; data, budget, averaging and evaluation are the same for all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidunmask.errors import UsageError, WeightsError
from vidunmask.networks import weights
from vidunmask.networks.precision import autocast, choose_dtype
from vidunmask.training import ending, losses, methods, metrics
from vidunmask.training.completion import Completion, Trainable
from vidunmask.training.dataset.stored import masks_for
from vidunmask.training.masked_faces import KINDS, MaskSynthesizer
from vidunmask.training.morphology import dilate
from vidunmask.training.objectives import Objective, Supervision, Target
from vidunmask.training.pack import STILL, Jitter, Order, Pack, draw_batch, open_pack, spread, turned_more_often
from vidunmask.training.running.beginning import check_dark, critics_from, start_from
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
from vidunmask.training.sizes import add_size, check_size, shrink, shrink_hole
from vidunmask.training.synthesis.framing import cut_some
from vidunmask.training.synthesis.tone import darken_some
from vidunmask.training.synthesis.turn import turn_some
from vidunmask.training.teacher import Teacher

NETWORK = "gated_mcsam"
JITTER = Jitter()
GROW = 10  # px
DRAWN_KINDS = [kind for kind in KINDS if kind not in ("none", "template")]
WEIGHTS = ("reconstruction", "perceptual", "style", "adversarial")  # that have a flag of their own


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, preset="paper", batch=16, images=120 * 158_003)
    add = parser.add_argument
    add_size(parser)
    add("--network", default=NETWORK, choices=methods.names(), help="(default: %(default)s)")
    teacher = "an inpainter whose fills are learned from too, such as paper-inpainter (default: none)"
    add("--teacher", metavar="WEIGHTS", help=teacher)
    add("--teacher-weight", type=float, default=1.0, metavar="W", help="of the distance to them (default: %(default)s)")
    add("--vgg", type=Path, help="VGG-16 weights on disk (default: torchvision downloads them)")
    add("--feature-scale", type=float, default=1.0, help="size at which VGG sees the pictures (default: %(default)s)")
    for name in WEIGHTS:
        add(f"--weight-{name}", type=float, metavar="W", help="(default: the network's own paper's)")
    add("--weight", action="append", default=[], metavar="TERM=W", help="the same for any term of the network's objective")
    add(
        "--close-ups",
        type=float,
        default=0.0,
        help="share of steps in which a --feature-scale below 1 is a window at full size instead (default: %(default)s)",
    )
    add("--adversarial-from", type=int, default=0, help="images after which the critics join (default: %(default)s)")
    critics = "a run whose critics those of a new run begin with (default: they begin anew)"
    add("--critics-from", type=Path, metavar="RUN", help=critics)
    add("--critic-width", type=int, default=64, help="channels of the pixel critic's first layer (default: %(default)s)")
    supervision = parser.add_mutually_exclusive_group()
    full = "losses on the raw output instead of the composed image (Table 2)"
    supervision.add_argument("--full-supervision", action="store_true", help=full)
    local = "losses on the composed image, in networks whose own paper has them on the raw output"
    supervision.add_argument("--local-supervision", action="store_true", help=local)
    jitter = "times the crop's error in shift, scale and angle, 1 as large as the tracker's (default: %(default)s)"
    add("--jitter", type=float, default=1.0, metavar="F", help=jitter)
    bend = "px by which places of a photo are moved about, smoothly, to make other faces of it (default: %(default)s)"
    add("--bend", type=float, default=0.0, metavar="PX", help=bend)
    grow = "px by which holes are widened at most, beside the mask they come of (default: %(default)s)"
    add("--grow", type=int, default=GROW, metavar="PX", help=grow)
    camera = "how bad the cameras are that take the photos, 0 not at all to 1 as for the segmenter (default: %(default)s)"
    add("--camera", type=float, default=0.0, metavar="0..1", help=camera)
    worn = "faces about their holes as masks leave them: in their shadow, with colours run over the edge and hands in front"
    add("--worn", action="store_true", help=worn)
    cut = "share of faces that lie at the edge of a frame (default: %(default)s)"
    add("--cut", type=float, default=0.0, metavar="SHARE", help=cut)
    change = "another constructor argument of the network than its preset's, in JSON, such as modules=5"
    add("--set", action="append", default=[], metavar="NAME=VALUE", help=change)
    without = "a 3x3 convolution in place of CSAM (Table 3), or of the attention that another network has"
    add("--without-csam", "--without-attention", action="store_true", help=without)
    return parser.parse_args(arguments)


def arguments_of(options: argparse.Namespace) -> dict[str, Any]:
    """Constructor arguments of the network that the options name.

    Raises UsageError for an option that it does not have or that cannot be used.
    """
    check_least(options, 0, "jitter", "bend", "grow", "teacher_weight")
    check_least(options, 1, "critic_width")
    check_shares(options, "camera", "close_ups", "cut")
    if not 0 < options.feature_scale <= 1:
        raise UsageError(f"--feature-scale {options.feature_scale}: must lie above 0 and not above 1")
    method = methods.method(options.network)
    arguments = method.arguments(options.preset, attention=not options.without_csam, size=options.size)
    for given in options.set:
        name, separator, value = given.partition("=")
        if not separator:
            raise UsageError(f"--set {given}: must be NAME=VALUE, such as modules=5")
        try:
            arguments[name] = json.loads(value)
        except json.JSONDecodeError:
            arguments[name] = value  # a word
    if options.set:
        try:
            method.build(arguments)
        except WeightsError as error:
            raise UsageError(f"--set {' '.join(options.set)}: {error}") from error
    return arguments


def make_objective(options: argparse.Namespace, method: methods.Method, device: torch.device) -> Objective:
    """The objective of the network with what the options change in it. Raises UsageError for weights that it does not have."""
    changed: dict[str, float] = {}
    for given in options.weight:
        name, _, value = given.partition("=")
        try:
            changed[name] = float(value)
        except ValueError as error:
            raise UsageError(f"--weight {given}: must be TERM=NUMBER, such as style=120") from error
    for name in WEIGHTS:
        if getattr(options, f"weight_{name}") is not None:
            changed[name] = getattr(options, f"weight_{name}")
    supervision: Supervision = "full" if options.full_supervision else "local" if options.local_supervision else "own"
    objective = method.objective(
        weights=changed,
        supervision=supervision,
        critic_width=options.critic_width,
        vgg=options.vgg,
        feature_scale=options.feature_scale,
        close_ups=options.close_ups,
        device=device,
    )
    for name in WEIGHTS:  # what is noted of the run is what it runs with
        setattr(options, f"weight_{name}", objective.weights.get(name))
    return objective


def sees_masks(network: nn.Module) -> bool:
    """Whether a network sees the pixels of the face mask, as the paper's does, instead of hiding them from itself."""
    return not getattr(network, "hide_masked", True)


def draw_masks(
    images: Tensor, landmarks: Tensor, synthesizer: MaskSynthesizer, generator: torch.Generator, *, grow: int, cloth: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Truth (B, 3, S, S), binary mask (B, 1, S, S) and masked face (B, 3, S, S) for a batch, the masks widened by up to
    ``grow`` pixels.

    The pipeline widens the segmented mask before it inpaints, so that no rim of fabric is left; training sees widened masks
    too. With ``cloth`` the masks are of cloth and the synthesizer's camera takes both pictures; otherwise they are shapes of
    one colour.
    """
    if cloth:
        made = synthesizer(images, landmarks, generator, kinds=DRAWN_KINDS)
    else:
        made = synthesizer(images, landmarks, generator, shapes_only=True)
    mask = (made.mask > 0.5).float()
    if grow:
        radius = int(torch.randint(1, grow + 1, (1,), generator=generator))
        mask = dilate(mask, radius)
    return made.truth, mask, made.masked


def hidden(face: Tensor, mask: Tensor) -> Tensor:
    """What a network is shown that is not to see masks: the face (B, 3, S, S), grey under the mask (B, 1, S, S)."""
    return losses.compose(face, torch.full_like(face, 0.5), mask)


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


def preparation(
    pack: Pack,
    synthesizer: MaskSynthesizer,
    device: torch.device,
    *,
    turn: float,
    size: int = 256,
    jitter: Jitter = JITTER,
    grow: int = GROW,
    photograph: bool = False,
    cut: float = 0.0,
    dark: float = 0.0,
    worn: bool = False,
    seen: bool = False,
) -> Prepare:
    """What a step works on, from rows of the pack: truth, mask, what the network is shown, where the truth is known, and the
    box about the masks.

    photograph: the truth is as the synthesizer's camera takes it. cut: share 0..1 of faces that the edge of a frame cuts; no
    truth is known beyond it. dark: share of faces that get darker skin. worn: what is left of the face is as it is with the
    mask on. seen: the network sees the cloth of the masks, and so all that ``worn`` shows.
    """
    cloth = worn or seen

    def prepare(rows: np.ndarray, generator: torch.Generator) -> tuple[Any, ...]:
        faces, landmarks, valid = draw_batch(pack, rows, jitter=jitter, generator=generator, device=device)
        faces = darken_some(faces, landmarks, generator, share=dark)
        faces, landmarks, valid = turn_some(faces, landmarks, valid, generator, share=turn, jitter=jitter)
        truth, mask, masked = draw_masks(faces, landmarks, synthesizer, generator, grow=grow, cloth=cloth)
        if not cloth:
            truth = synthesizer.photograph(truth[:, None], generator)[:, 0] if photograph else truth
            masked = truth
        if cut:
            pictures, mask, within = cut_some(torch.cat([truth, masked], 1), mask, generator, share=cut)
            truth, masked, valid = pictures[:, :3], pictures[:, 3:], valid * within
        truth, mask, valid = shrink(truth, size), shrink_hole(mask, size), 1 - shrink_hole(1 - valid, size)
        shown = shrink(masked, size) if seen else hidden(shrink(masked, size), mask)
        truth, shown = (picture.contiguous(memory_format=torch.channels_last) for picture in (truth, shown))
        return truth, mask, shown, valid, region(mask)

    return prepare


@torch.no_grad()
def evaluate(
    network: nn.Module,
    pack: Pack,
    synthesizer: MaskSynthesizer,
    device: torch.device,
    *,
    dtype: torch.dtype,
    size: int,
    limit: int | None = None,
) -> tuple[dict[str, float], Tensor]:
    """Mean figures of the composed image on ``val`` with fixed masks, and a sheet of 24 faces: masked, filled, truth."""
    generator = torch.Generator().manual_seed(2024)
    sums: dict[str, list[Tensor]] = {name: [] for name in ("psnr", "ssim", "l1", "psnr_masked", "l1_masked")}
    rows = spread(pack.rows, limit)
    sheet: list[Tensor] = []
    seen = sees_masks(network)
    network.eval()
    for start in range(0, len(rows), 16):
        images, landmarks, valid = draw_batch(pack, rows[start : start + 16], jitter=STILL, generator=generator, device=device)
        truth, mask, masked = draw_masks(images, landmarks, synthesizer, generator, grow=0, cloth=seen)
        truth, mask = shrink(truth, size), shrink_hole(mask, size)
        shown = shrink(masked, size) if seen else hidden(truth, mask)
        with autocast(device, dtype):
            fill = network(shown, mask)
        result = losses.compose(truth, fill.float(), mask)
        sums["psnr"].append(metrics.psnr(result, truth))
        sums["ssim"].append(metrics.ssim(result, truth))
        sums["l1"].append(metrics.l1(result, truth))
        inside = mask * (1 - shrink_hole(1 - valid, size))  # beyond the photo's edge there is no truth
        sums["psnr_masked"].append(metrics.psnr(result, truth, inside))
        sums["l1_masked"].append(metrics.l1(result, truth, inside))
        if len(sheet) < 24 and (start // 16) % max(1, len(rows) // 48) == 0:
            for index in range(min(8, len(images))):
                sheet += [torch.stack([truth[index] * (1 - mask[index]), result[index], truth[index]])]
    return {name: float(torch.cat(values).mean()) for name, values in sums.items()}, torch.cat(sheet[:24])


def main(arguments: list[str] | None = None) -> Run:
    """Runs or resumes a training."""
    options = parse(arguments)
    check_size(options.size)
    settings = arguments_of(options)
    team = Team(check_options(options))
    device = team.device
    dtype = choose_dtype(options.precision, device)
    log = log_to(options.run, team)

    # --- network and data ---------------------------------------------------------------------------------------------
    method = methods.method(options.network)
    network = weights.channels_last(method.build(settings).to(device))
    teacher = Teacher(options.teacher, weight=options.teacher_weight, device=device) if options.teacher else None
    seen = sees_masks(network) or (teacher is not None and sees_masks(teacher.network))  # one that hides them still does
    # what is read of a dataset with stored masks
    layers = ("truth", "mask", "masked") if seen or options.worn else ("truth", "mask")
    train, where = hold(open_pack(options.pack, "train", tiers=options.tiers, layers=layers, bare=False), options.data, device)
    check_dark(options, train)
    val = open_pack(options.pack, "val", layers=layers, bare=False)  # where nothing is hidden nothing is to be filled
    synthesizer = masks_for(train, camera=options.camera)
    order = Order(turned_more_often(train), seed=options.seed)
    jitter = dataclasses.replace(JITTER.times(options.jitter), bend=options.bend)
    prepare = preparation(
        train,
        synthesizer,
        device,
        turn=options.turn,
        size=options.size,
        jitter=jitter,
        grow=options.grow,
        photograph=options.camera > 0,
        cut=options.cut,
        dark=options.dark,
        worn=options.worn,
        seen=seen,
    )

    # --- objective ----------------------------------------------------------------------------------------------------
    start_from(network, options, kind=method.kind, log=log)
    average = Average(network, decay=options.ema)
    objective = make_objective(options, method, device)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.lr, betas=(0.5, 0.999))
    critics_from(objective.critics, options, log=log)
    parts: dict[str, Any] = {"network": network, "critics": objective.critics, "optimizer": optimizer}
    optimizers = [optimizer]
    if len(objective.critics):
        critic_optimizer = torch.optim.Adam(objective.critics.parameters(), lr=options.lr, betas=(0.5, 0.999))
        parts["critic_optimizer"] = critic_optimizer
        optimizers.append(critic_optimizer)
    forward: Callable[[Tensor, Tensor], Completion] = team.wrap(Trainable(network), compiled=options.compile)
    team.share(objective.critics)

    # --- resume -------------------------------------------------------------------------------------------------------
    run = Run(options, parts, average=average, order=order, team=team, log=log)
    parameters = sum(p.numel() for p in network.parameters())
    log(f"{method.name} {options.preset}, {parameters / 1e6:.2f}M parameters, {len(train)} faces {where}; {vars(options)}")

    def report() -> dict[str, float]:
        figures, sheet = evaluate(
            average.network, val, synthesizer, device, dtype=dtype, size=options.size, limit=options.val_faces
        )
        run.show(figures, sheet, columns=12)
        with (options.run / "val.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"images": run.clock.images, **figures}) + "\n")
        return figures

    # --- the loop -----------------------------------------------------------------------------------------------------
    with run:
        for batch in run.batches(prepare):
            rate = run.learning_rate(batch, epoch=len(train))
            for group in (group for each in optimizers for group in each.param_groups):
                group["lr"] = rate

            truth, mask, shown, valid, box = batch.data
            adversarial = objective.has_critics and run.position(batch) >= options.adversarial_from

            with autocast(device, dtype):
                made = forward(shown, mask)
                judgement = objective.judge(made, Target(truth, mask, valid, box, batch.generator), adversarial=adversarial)
                terms, total = dict(judgement.terms), judgement.total
                if teacher is not None:
                    terms["teacher"] = teacher.distance(made.fill, shown, mask)
                    total = total + teacher.weight * terms["teacher"]
            run.backward(total)

            if adversarial:
                with autocast(device, dtype):
                    terms["critics"] = objective.criticise(judgement.pairs)
                run.backward(terms["critics"])
            if batch.last:
                run.step(optimizer, network, wrapped=True, clip=1.0)
                if adversarial:
                    run.step(critic_optimizer, objective.critics, wrapped=False)
                average.update(network)
            run.after(batch, terms, report)

        # --- the end --------------------------------------------------------------------------------------------------
        run.end()
        figures = report() if team.first else {}
        if options.export and team.first:
            provenance = run.provenance(options, train, figures) | {
                "losses": objective.weights,
                "adversarial_from": options.adversarial_from,
                "size": options.size,
                "teacher": teacher.name if teacher else None,
            }
            made = {"kind": method.kind, "network": method.name, "arguments": settings, "provenance": provenance}
            log(export(options.export, average, **made, store=options.store))
    return run


if __name__ == "__main__":
    ending.run(lambda: main().exit_code)
