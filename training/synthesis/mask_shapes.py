"""How masks are cut: outlines, straps and the relief of their surface, on the chart of `head_surface`.

Inside its outline a mask has coordinates of its own: ``a`` from -1 at the left edge to 1 at the right edge, ``v`` from 0 at the
top edge to 1 at the bottom edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.training.synthesis.dice import Dice, per_sample

# Eye distances a radian across and a unit of t down, near the middle of the chart: its measure of distance.
ACROSS, DOWN = 1.05, 1.25
_LOOKUP = 160  # entries of a lookup table


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
    """A cut laid on a lattice of the chart with H rows and W columns."""

    a: Tensor  # (B, 1, W)
    v: Tensor  # (B, H, W)
    inside: Tensor  # (B, H, W) eye distances to the outline, positive inside
    x: Tensor  # (B, 1, W) eye distances across from the middle of the mask, for prints and marks
    y: Tensor  # (B, H, 1) and down


def lay(cut: Cut, phi: Tensor, t: Tensor) -> Laid:
    """The mask's own coordinates at angles (1, 1, W) and profile coordinates (B, H, 1)."""
    c = {name: per_sample(getattr(cut, name)) for name in Cut.__slots__}
    a = (phi - c["shift"]) / c["side"]
    r = a.abs().clamp_max(1.0)
    lean = c["tilt"] * a.clamp(-1.2, 1.2)
    top = c["top"] + (c["top_side"] - c["top"]) * r ** c["top_power"] + lean  # (B, 1, W)
    bottom = c["bottom"] + (c["bottom_side"] - c["bottom"]) * r ** c["bottom_power"] + lean
    v = (t - top) / (bottom - top)
    down = (0.5 - (v - 0.5).abs()).mul_((bottom - top) * DOWN)
    near = v.clamp(0, 1)
    bow = (near * (1 - near)).mul_(-4 * c["pinch"] * c["side"] * ACROSS)
    across = bow.add_((1 - a.abs()) * c["side"] * ACROSS)
    inside = (down + across).sub_((down - across).square_().add_(c["corner"].square()).sqrt_()).mul_(0.5)
    if bool((cut.oval > 0).any()):
        radius = ((2 * v - 1).abs_() + 1e-3).pow_(2.3).add_((a.abs() + 1e-3) ** 2.3).pow_(1 / 2.3)
        oval = (1 - radius).mul_(0.5 * (c["bottom"] - c["top"]) * DOWN)
        inside = torch.lerp(inside, oval, c["oval"])
    x, y = (phi - c["shift"]) * ACROSS, (t - 0.5 * (c["top"] + c["bottom"])) * DOWN
    return Laid(a, v, inside, x, y)


def cover(distance: Tensor, soft: float | Tensor = 0.012) -> Tensor:
    """0..1 from a distance in eye distances, positive inside; ``soft`` is about a pixel."""
    return (distance / soft).add_(0.5).clamp_(0, 1)


class Lookup:
    """Functions of one coordinate of a field, drawn finely in one dimension and looked up for every pixel.

    ``at`` (1, N) are the coordinate's values from low to high at which the tables are drawn.
    """

    def __init__(self, low: float, high: float, device: torch.device) -> None:
        self.low, self.high = low, high
        self.at = torch.linspace(low, high, _LOOKUP, device=device)[None]

    def __call__(self, field: Tensor, *tables: Tensor) -> tuple[Tensor, ...]:
        """The tables, each (B, N), at field (B, H, W); beyond the ends they stay at their last value."""
        u = (field - 0.5 * (self.low + self.high)).mul_(2 / (self.high - self.low))
        grid = torch.stack([u, torch.zeros_like(u)], -1)
        stacked = torch.stack([table.expand(len(field), -1) for table in tables], 1)[:, :, None]
        return F.grid_sample(stacked, grid, mode="bilinear", padding_mode="border", align_corners=True).unbind(1)


def line(at: Tensor, where: Tensor | float, width: Tensor | float) -> Tensor:
    """A soft line for a `Lookup`'s table: 1 at ``where``, falling over ``width``; both (B, 1) or numbers."""
    return torch.exp(-((at - where) / width).square())


def straps(cut: Cut, phi: Tensor, t: Tensor, dice: Dice, *, width: Tensor, about_head: Tensor) -> Tensor:
    """(B, H, W) 0..1 two straps a side of ``width`` (B,), to the ears or, where ``about_head`` (B,), about the head.

    Every strap is a curve t(phi), drawn straight into the chart at angles (1, 1, W) and profile coordinates (B, H, 1).
    """
    right = phi > 0
    angle = phi.abs() - torch.where(right, 1.0, -1.0) * per_sample(cut.shift)

    def each(low: float, high: float) -> Tensor:  # one draw a side
        return torch.where(right, per_sample(dice.uniform(low, high)), per_sample(dice.uniform(low, high)))

    head = per_sample(about_head)
    start = 0.86 * per_sample(cut.side)  # the body lies over the beginning
    reach = torch.where(head, torch.full_like(angle, 2.2), each(1.3, 1.75))  # hair hides an ear and the loop's end
    step = (angle - start) / (reach - start)
    within = (step > 0) & (step < 1)
    middle_of_side = per_sample(0.5 * (cut.top_side + cut.bottom_side))
    nearest = None
    for upper in (True, False):
        edge = per_sample(cut.top_side if upper else cut.bottom_side) + torch.where(right, 1.0, -1.0) * per_sample(cut.tilt)
        margin = each(0.02, 0.12) if upper else each(-0.1, -0.02)
        oval = middle_of_side + (-1.0 if upper else 1.0) * each(0.1, 0.22)
        begin = torch.where(per_sample(cut.oval) > 0.5, oval, edge + margin)
        loop_end = each(-0.06, 0.24) if upper else each(0.28, 0.46)
        band_end = each(-0.3, 0.05) if upper else each(0.55, 0.95)
        end = torch.where(head, band_end, loop_end)
        middle = begin + (end - begin) * step + torch.where(head, 0.08, 0.2) * each(-1.0, 1.0) * step * (1 - step)
        steep = DOWN / (1 + ((end - begin) * DOWN / ((reach - start) * ACROSS)).square()).sqrt()
        distance = (t - torch.where(within, middle, 99.0)).abs_().mul_(steep)
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
    assert nearest is not None
    half = 0.5 * per_sample(width)
    return cover(half - nearest, DOWN * (t[:, -1:] - t[:, :1]) / t.shape[1]).mul_(half > 0)


def relief(laid: Laid, *, bulge: Tensor, low: Tensor, tent: Tensor) -> Tensor:
    """(B, H, W) eye distances that a formed mask stands off the tight hull: 0 at its outline, about ``bulge`` (B,) at most.

    ``low`` (B,) moves the highest point down from the middle, -1..1. ``tent`` (B,) is that of `head_surface.drape`: what is
    folded to a ridge stands off nearly as far below the lips and above them, and in profile has a straight front, as the beak
    of a folded respirator does.
    """
    across = (1 - laid.a.square()).clamp_min(0)
    v = laid.v.clamp(0, 1)
    down = (4 * v * (1 - v)) * (1 + per_sample(low) * (2 * v - 1))
    return per_sample(bulge) * across**0.8 * down.clamp_min(0) ** per_sample(0.7 - 0.35 * tent)


def random_cut(dice: Dice, **ranges: tuple[float, float]) -> Cut:
    """A cut with every parameter drawn uniformly from its range; what is not named is 0."""
    return Cut(**{name: dice.uniform(*ranges[name]) if name in ranges else dice.zeros() for name in Cut.__slots__})


def lowered(cut: Cut, by: Tensor) -> Cut:
    """The cut worn lower by (B,) units of t: the top edge slides down the nose, the bottom edge by less."""
    values = {name: getattr(cut, name) for name in Cut.__slots__}
    values["top"], values["top_side"] = cut.top + by, cut.top_side + 0.8 * by
    values["bottom"], values["bottom_side"] = cut.bottom + 0.35 * by, cut.bottom_side + 0.6 * by
    return Cut(**values)


def where_cut(condition: Tensor, yes: Cut, no: Cut) -> Cut:
    """One of two cuts for each sample, by condition (B,)."""
    return Cut(**{name: torch.where(condition, getattr(yes, name), getattr(no, name)) for name in Cut.__slots__})
