"""How masks are cut: outlines, straps and the relief of their surface, on the chart of `head_surface`.

Inside its outline a mask has coordinates of its own: ``a`` from -1 at the left edge to 1 at the right edge, ``v`` from 0 at the
top edge to 1 at the bottom edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidunmask.training.dice import Dice, per_sample

# Eye distances a radian across and a unit of t down, near the middle of the chart: distances on the chart are measured with them.
ACROSS, DOWN = 1.05, 1.25


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """The outline of a mask on the chart. All (B,); angles in radians, t and widths in the chart's units."""

    side: Tensor  # angle of the side edges
    top: Tensor  # t of the top edge in the middle
    top_side: Tensor  # and at the side edges
    top_power: Tensor  # 1: straight lines from a peak, 2: round
    bottom: Tensor
    bottom_side: Tensor
    bottom_power: Tensor
    tilt: Tensor  # t, the right edge lower than the middle
    shift: Tensor  # radians, to the right
    pinch: Tensor  # how far the middle of the side edges is drawn in
    corner: Tensor  # eye distances, radius of the corners
    oval: Tensor  # 0: four edges, 1: one oval


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """A cut laid on a lattice of the chart: each (B, H, W)."""

    a: Tensor
    v: Tensor
    inside: Tensor  # eye distances to the outline, positive inside
    x: Tensor  # eye distances across and down from the middle of the mask, for prints and marks
    y: Tensor


def lay(cut: Cut, phi: Tensor, t: Tensor) -> Laid:
    """The mask's own coordinates at angles (1, 1, W) and profile coordinates (B, H, 1)."""
    c = {name: per_sample(getattr(cut, name)) for name in Cut.__slots__}
    a = (phi - c["shift"]) / c["side"]
    r = a.abs().clamp_max(1.0)
    lean = c["tilt"] * a.clamp(-1.2, 1.2)
    top = c["top"] + (c["top_side"] - c["top"]) * r ** c["top_power"] + lean
    bottom = c["bottom"] + (c["bottom_side"] - c["bottom"]) * r ** c["bottom_power"] + lean
    v = (t - top) / (bottom - top)
    down = torch.minimum(v, 1 - v) * (bottom - top) * DOWN
    bow = c["pinch"] * (torch.pi * v.clamp(0, 1)).sin()
    across = (1 - a.abs() - bow) * c["side"] * ACROSS
    four = 0.5 * (down + across - ((down - across).square() + c["corner"].square()).sqrt())
    radius = (a.abs() ** 2.3 + (2 * v - 1).abs() ** 2.3).clamp_min(1e-6) ** (1 / 2.3)
    oval = (1 - radius) * 0.5 * (c["bottom"] - c["top"]) * DOWN
    x, y = (phi - c["shift"]) * ACROSS + 0 * t, (t - 0.5 * (c["top"] + c["bottom"])) * DOWN + 0 * phi
    return Laid(a + 0 * t, v, four + (oval - four) * c["oval"], x, y)


def cover(distance: Tensor, soft: float = 0.012) -> Tensor:
    """0..1 from a distance in eye distances, positive inside; ``soft`` is about a pixel."""
    return (distance / soft + 0.5).clamp(0, 1)


def straps(laid: Laid, phi: Tensor, t: Tensor, cut: Cut, dice: Dice, *, width: Tensor, head: Tensor) -> Tensor:
    """(B, H, W) 0..1 two straps of ``width`` (B,) a side, from the corners of the mask: loops to the ears, or bands about the head where ``head`` (B,).

    Every strap is a curve t(phi), drawn straight into the chart.
    """
    half = 0.5 * per_sample(width)
    texel = DOWN * 1.65 / laid.a.shape[1]
    total = torch.zeros_like(laid.a)
    for sign in (-1.0, 1.0):
        start = 0.86 * per_sample(cut.side)  # the body lies over the beginning
        angle = sign * (phi - per_sample(cut.shift))
        reach = per_sample(torch.where(head, 2.2, dice.uniform(1.45, 1.75)))
        step = (angle - start) / (reach - start)
        for upper in (True, False):
            margin = dice.uniform(0.02, 0.12) if upper else dice.uniform(-0.1, -0.02)
            edge = (cut.top_side if upper else cut.bottom_side) + cut.tilt * sign
            oval = 0.5 * (cut.top_side + cut.bottom_side) + (-1.0 if upper else 1.0) * dice.uniform(0.1, 0.22)
            begin = per_sample(torch.where(cut.oval > 0.5, oval, edge + margin))
            loop_end = dice.uniform(0.08, 0.24) if upper else dice.uniform(0.28, 0.46)
            band_end = dice.uniform(-0.3, 0.05) if upper else dice.uniform(0.55, 0.95)
            end = per_sample(torch.where(head, band_end, loop_end))
            sag = per_sample(dice.uniform(-0.05, 0.05) * (1.0 - 0.6 * head.float()))
            middle = begin + (end - begin) * step + sag * 4 * step * (1 - step)
            slope = (end - begin) * DOWN / ((reach - start) * ACROSS)
            distance = half - (t - middle).abs() * DOWN / (1 + slope * slope).sqrt()
            total = torch.maximum(total, cover(distance, texel) * (step > 0) * (step < 1))
    return total * (half > 0)


def relief(laid: Laid, *, bulge: Tensor, low: Tensor) -> Tensor:
    """(B, H, W) eye distances that a formed mask stands off the tight hull: 0 at its outline, ``bulge`` (B,) at most.

    ``low`` (B,) moves the highest point down from the middle, -1..1.
    """
    across = (1 - laid.a.square()).clamp_min(0)
    v = laid.v.clamp(0, 1)
    down = (4 * v * (1 - v)) * (1 + per_sample(low) * (2 * v - 1))
    return per_sample(bulge) * across**0.8 * down.clamp_min(0) ** 0.7


def random_cut(dice: Dice, **ranges: tuple[float, float]) -> Cut:
    """A cut with every parameter drawn uniformly from its range; what is not named is 0."""
    return Cut(**{name: dice.uniform(*ranges.get(name, (0.0, 0.0))) for name in Cut.__slots__})


def lowered(cut: Cut, by: Tensor) -> Cut:
    """The cut worn lower by (B,) units of t: the top edge slides down the nose, the bottom edge by less."""
    values = {name: getattr(cut, name) for name in Cut.__slots__}
    values["top"], values["top_side"] = cut.top + by, cut.top_side + 0.8 * by
    values["bottom"], values["bottom_side"] = cut.bottom + 0.35 * by, cut.bottom_side + 0.6 * by
    return Cut(**values)


def where_cut(condition: Tensor, yes: Cut, no: Cut) -> Cut:
    """One of two cuts for each sample, by condition (B,)."""
    return Cut(**{name: torch.where(condition, getattr(yes, name), getattr(no, name)) for name in Cut.__slots__})
