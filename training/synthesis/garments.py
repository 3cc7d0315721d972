"""What is worn: a texture on the chart of the head, the surface that carries it, and the parts of a mask.

Lengths are distances between the eyes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vidunmask.training.synthesis.dice import Dice, per_sample
from vidunmask.training.synthesis.head_surface import chart
from vidunmask.training.synthesis.mask_shapes import (
    DOWN,
    Cut,
    Laid,
    Lookup,
    cover,
    lay,
    line,
    lowered,
    random_cut,
    relief,
    straps,
    where_cut,
)

if TYPE_CHECKING:
    from vidunmask.training.synthesis.templates import Templates

TEXTURE = (112, 224)  # rows and columns of the chart's texture: about a pixel of a 256-pixel crop
PLAIN_TEXTURE = (64, 112)  # enough for an outline
# What `Garment.parameters` holds, in this order: the cut, then how the mask stands and is held; 0 where a kind has none.
PARAMETERS = (*Cut.__slots__, "bulge", "low", "tent", "ridge", "flare", "strap", "about_head")


@dataclass(frozen=True, slots=True, eq=False)
class Garment:
    """What is worn in every picture of a batch: a texture on the chart and the surface that carries it."""

    colour: Tensor  # (B, 3, H, W) 0..1
    tone: Tensor  # (B, H, W) brightness of the colour, about 1: seams, creases, fibres
    alpha: Tensor  # (B, H, W) 0..1, of body and straps together
    height: Tensor  # (B, H, W) of folds and pleats above the surface
    t_low: Tensor  # (B,) the chart's upper border
    t_high: Tensor  # (B,)
    tent: Tensor  # (B,) see head_surface.drape
    ridge: Tensor  # (B,)
    flare: Tensor  # (B,)
    lift: Tensor  # (B, R, C) towards the viewer, on the surface's vertices
    parameters: Tensor  # (B, len(PARAMETERS)) what was drawn, for manifests


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How a mask stands and is held: its surface and straps. All (B,), but the colour (B, 3)."""

    bulge: Tensor  # see mask_shapes.relief
    low: Tensor
    tent: Tensor  # see head_surface.drape
    ridge: Tensor
    flare: Tensor
    strap: Tensor  # width, 0 where no strap is seen
    strap_colour: Tensor
    about_head: Tensor  # bool, bands about the head instead of loops


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """Pictures that prints are cut from, and how finely to draw."""

    size: tuple[int, int]  # rows and columns of the texture
    plain: bool  # outlines in a flat colour
    photos: Tensor  # (B, 3, S, S)
    templates: Templates | None

    @property
    def fabrics(self) -> Tensor | None:
        """(L, 3, T, T) pictures of cloth, where there are any."""
        return self.templates.fabrics if self.templates else None


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The lattice of a garment's texture."""

    t_low: Tensor  # (B,)
    t_high: Tensor  # (B,)
    phi: Tensor  # (1, 1, W)
    t: Tensor  # (B, H, 1)


def noted(cut: Cut, **form: Tensor) -> Tensor:
    """(B, len(PARAMETERS)) what a garment was drawn with."""
    known = {name: getattr(cut, name) for name in Cut.__slots__} | form
    nothing = torch.zeros_like(cut.side)
    return torch.stack([known.get(name, nothing).to(nothing.dtype) for name in PARAMETERS], 1)


def sheet(dice: Dice, sources: Sources, low: float, high: float) -> Sheet:
    """A texture's lattice over profile coordinates low to high."""
    t_low, t_high = dice.zeros() + low, dice.zeros() + high
    return Sheet(t_low, t_high, *chart(t_low, t_high, *sources.size))


def worn(cut: Cut, dice: Dice, *, low: float = 0.12) -> Cut:
    """A share ``low`` worn low, down to bare nostrils or a bare nose; few pulled under the chin."""
    slipped = dice.uniform(0.08, 0.36) * dice.chance(low)
    chin = random_cut(
        dice,
        side=(0.9, 1.3),
        top=(0.78, 1.02),
        top_side=(0.55, 0.8),
        top_power=(1.2, 2.5),
        bottom=(1.16, 1.28),
        bottom_side=(0.9, 1.1),
        bottom_power=(1.5, 3.0),
        tilt=(-0.05, 0.05),
        corner=(0.01, 0.05),
    )
    return where_cut(dice.chance(0.03), chin, lowered(cut, slipped))


def pleats(table: Lookup, dice: Dice) -> tuple[Tensor, Tensor]:
    """Height and shadow (B, N) down a mask of two to four folds across."""
    height, shadow = torch.zeros_like(table.at), torch.zeros_like(table.at)
    count = dice.choose((0.5, 2, 1))
    up = torch.where(dice.chance(0.85), 1.0, -1.0)[:, None]
    for i in range(4):
        shown = (i < count + 2).float()[:, None]
        middle = ((i + 1.2) / (count + 3.4) + dice.uniform(-0.03, 0.03))[:, None]
        x = up * (table.at - middle)
        height = height + shown * 0.035 * torch.where(x < 0, torch.exp(x / 0.09), 0.0)
        shadow = shadow + shown * (torch.exp(-x.abs() / 0.014) + 0.4 * ((x > 0) & (x < 0.06)) * (1 - x / 0.06))
    return height, shadow.clamp(0, 1)


def bent(laid: Laid, dice: Dice) -> Tensor:
    """(B, H, W) v along folds: they sag towards the middle and lean a little."""
    return (
        laid.v - per_sample(dice.uniform(-0.06, 0.1)) * (1 - laid.a.square()) - per_sample(dice.uniform(-0.04, 0.04)) * laid.a
    )


def wrinkles(laid: Laid, dice: Dice, *, amount: tuple[float, float], rows: int = 10, columns: int = 8) -> Tensor:
    """(B, H, W) height of creases: ridged noise, stronger towards the sides where the straps pull."""
    size = (laid.v.shape[1], laid.v.shape[2])
    strength = per_sample(dice.uniform(*amount))
    side = (0.35 + 0.65 * laid.a.abs().clamp_max(1) ** 2) * strength  # (B, 1, W)
    ridged = dice.noise(rows, columns, size)[:, 0].mul_(2.2).abs_().clamp_max_(1).sub_(1).square_()
    return torch.addcmul(0.7 * strength * dice.noise(5, 7, size)[:, 0], ridged, side)


def puckers(laid: Laid, dice: Dice) -> Tensor:
    """(B, H, W) height of gathers along the side edges."""
    near = torch.exp(-(1 - laid.a.abs()).clamp_min(0) / per_sample(dice.uniform(0.05, 0.2))) * per_sample(
        dice.uniform(0.0, 0.025)
    )
    phase = per_sample(6.28 * dice.rand()) + 1.5 * laid.a
    return (per_sample(dice.uniform(18, 45)) * laid.v + phase).sin_().mul_(near)


def valve(laid: Laid, dice: Dice, *, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cover, tone and height (B, H, W) of a valve on a share of the masks: a round or square cap with rings or slots."""
    sideways = dice.uniform(0.25, 0.6) * torch.where(dice.chance(0.5), 1.0, -1.0) * dice.chance(0.5)
    x = laid.x - per_sample(sideways)
    y = laid.y - per_sample(dice.uniform(-0.05, 0.28))
    size = per_sample(dice.uniform(0.15, 0.25))
    square = per_sample(dice.chance(0.35))
    radius = torch.where(square, torch.maximum(x.abs(), 0.9 * y.abs()), (x * x + y * y).sqrt())
    has = per_sample(dice.chance(share).float())
    inside = cover(size - radius).mul_(has)
    slotted = per_sample(dice.chance(0.4))
    pattern = torch.where(slotted, y, radius).mul_(per_sample(dice.uniform(7, 20)) / size).cos_().mul_(0.5).add_(0.5)
    tone = 1 - inside * per_sample(dice.uniform(0.05, 0.4)) * pattern
    tone = tone.mul_(1 - 0.3 * has * torch.exp(-((radius - size) / 0.018).square()))
    return inside, tone, cover(size - radius, 0.06).mul_(0.06 * has)


def over(base: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    """(B, 3, H, W) with colour (B, 3) laid over by alpha (B, H, W)."""
    return torch.lerp(base, colour[:, :, None, None], alpha[:, None])


def finish(on: Sheet, laid: Laid, cut: Cut, form: Form, dice: Dice, *, colour: Tensor, tone: Tensor, height: Tensor) -> Garment:
    """Adds straps, rim and thickness, and puts the garment together; colour (B, 3, H, W), tone and height (B, H, W)."""
    body = cover(laid.inside)
    band = straps(cut, on.phi, on.t, dice, width=form.strap, about_head=form.about_head)
    table = Lookup(-0.02, 0.14, body.device)
    edge = line(table.at.clamp_min(0), 0.0, dice.uniform(0.01, 0.04)[:, None])
    dark, turned = table(laid.inside, 1 - dice.uniform(-0.08, 0.3)[:, None] * edge, dice.uniform(0.0, 0.02)[:, None] * edge)
    tone = torch.lerp(torch.ones_like(tone), tone * dark, body)
    height = (height - turned).mul_(body)
    colour = torch.lerp(form.strap_colour[:, :, None, None], colour, body[:, None])
    lift = relief(lay(cut, *chart(on.t_low, on.t_high)), bulge=form.bulge, low=form.low, tent=form.tent)
    alpha = torch.maximum(body, band)
    drawn = _noted_form(cut, form)
    return Garment(colour, tone, alpha, height, on.t_low, on.t_high, form.tent, form.ridge, form.flare, lift, drawn)


def finish_plain(on: Sheet, laid: Laid, cut: Cut, form: Form, dice: Dice, *, colour: Tensor) -> Garment:
    """The outline alone, in one colour (B, 3)."""
    body = cover(laid.inside, DOWN * 1.65 / laid.v.shape[1])
    alpha = torch.maximum(body, straps(cut, on.phi, on.t, dice, width=form.strap, about_head=form.about_head))
    flat = torch.ones_like(body)
    lift = relief(lay(cut, *chart(on.t_low, on.t_high)), bulge=form.bulge, low=form.low, tent=form.tent)
    return Garment(
        colour[:, :, None, None],
        flat,
        alpha,
        torch.zeros_like(body),
        on.t_low,
        on.t_high,
        form.tent,
        form.ridge,
        form.flare,
        lift,
        _noted_form(cut, form),
    )


def _noted_form(cut: Cut, form: Form) -> Tensor:
    names = [name for name in Form.__slots__ if name in PARAMETERS]
    return noted(cut, **{name: getattr(form, name) for name in names})


def gather(garments: list[Garment], order: Tensor) -> Garment:
    """One garment of all batches, sample i of the result being sample order[i] of their concatenation."""
    return Garment(*(torch.cat([getattr(g, f.name) for g in garments])[order] for f in fields(Garment)))
