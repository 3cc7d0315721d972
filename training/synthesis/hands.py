"""Hands before a face: fingers that are spread, closed, curled or pointing, lit as the face is, with dark sleeves.

There are no gloves and no light sleeves: a network that has seen those before masks doubts masks of their colours.

Lengths are in distances between the eyes. A finger is as thick as a quarter of that, a hand almost three long.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidunmask.training.synthesis.dice import Dice, per_sample

BOTH = 0.25  # of the hands come in pairs
SLEEVES = ((0.1, 0.1, 0.12, 4.0), (0.16, 0.19, 0.3, 2.0), (0.35, 0.31, 0.28, 1.0))
_LENGTHS = (0.9, 1.0, 0.94, 0.74)  # of the fingers, the middle one 1
_KNUCKLES = (0.42, 0.72)  # along a finger
_LOW = -9.0  # far outside of anything


@dataclass(slots=True, eq=False)
class _Relief:
    """What of the hand lies on top at every place (B, R, R)."""

    inside: Tensor  # distance inside the outline, negative outside
    height: Tensor  # towards the viewer
    paint: Tensor  # factor on the skin's colour: creases dark, nails light

    def lay(self, inside: Tensor, height: Tensor, paint: Tensor) -> None:
        """Adds a part; where two parts meet the higher one is seen."""
        higher = (inside > 0) & ((height > self.height) | (self.inside <= 0))
        self.paint = torch.where(higher, paint, self.paint)
        self.height = torch.where(higher, height, self.height)
        self.inside = torch.maximum(self.inside, inside)


def hand(x: Tensor, y: Tensor, pixel: Tensor, skin: Tensor, light: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Colour (B, 3, R, R) and alpha (B, 1, R, R) of one or two hands on a raster.

    x (B, 1 or R, R) and y: places in eye distances about the top of the nose, upright to the head; pixel (B, 1, 1) a cell's
    side there; skin (B, 3) the colour of the face; light (B, 3) towards the light.
    """
    tone = skin * torch.exp2(0.2 * dice.randn(1) + 0.04 * dice.randn(3))
    colour, alpha = _one(x, y, pixel, tone, light, dice)
    other, above = _one(-x, y, pixel, tone, light * light.new_tensor((-1.0, 1.0, 1.0)), dice)
    above = above * dice.chance(BOTH)[:, None, None, None]
    return torch.lerp(colour, other, above), 1 - (1 - alpha) * (1 - above)


def _one(x: Tensor, y: Tensor, pixel: Tensor, tone: Tensor, light: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """One hand, its thumb to the left of its fingers."""
    n, empty = dice.count, torch.zeros_like(x + y)
    knuckles = torch.stack([dice.uniform(-0.9, 0.9), dice.uniform(0.6, 1.9)], 1)
    angle = dice.uniform(-torch.pi, torch.pi)
    upwards = torch.where(dice.chance(0.88), -angle.cos().abs(), angle.cos().abs())  # fingers seldom point down
    ahead = torch.stack([angle.sin(), upwards], 1)
    across = torch.stack([-ahead[:, 1], ahead[:, 0]], 1)
    thick = dice.uniform(0.115, 0.165)
    length = thick * dice.uniform(7.0, 9.0)
    closed = dice.chance(0.5)
    fan = torch.where(closed, dice.uniform(-0.03, 0.03), dice.uniform(0.05, 0.22))
    curl = torch.where(dice.chance(0.3), dice.uniform(0.35, 0.7), dice.uniform(0.8, 1.0))
    pointing = dice.chance(0.15)
    nails = dice.chance(0.5)
    relief = _Relief(empty + _LOW, empty.clone(), torch.ones_like(empty))

    # the back of the hand, and the arm that goes on from the wrist
    u, v = _turned(x, y, knuckles, across, ahead)
    broad = 3.6 * thick
    palm_inside = _box(u, v + per_sample(4.6 * thick), per_sample(broad), per_sample(4.8 * thick), per_sample(1.7 * thick))
    swell = (palm_inside / per_sample(2.5 * thick)).clamp(0, 1)
    bones = 1 - 0.06 * nails.to(x.dtype)[:, None, None] * (u / per_sample(2.0 * thick) * torch.pi).cos()
    relief.lay(palm_inside, per_sample(thick) * (1.1 * (2 * swell - swell.square()).clamp_min(1e-6).sqrt()), bones)
    wrist = per_sample(dice.uniform(7.5, 10.0) * thick)
    arm_width = torch.where(-v > wrist, per_sample(2.9 * thick), per_sample(2.4 * thick))
    arm_inside = torch.minimum(arm_width - u.abs(), -v - per_sample(4.6 * thick))
    round_ = (1 - (u / arm_width).square()).clamp_min(0).sqrt()
    relief.lay(arm_inside, per_sample(1.3 * thick) * round_, torch.ones_like(u))

    for i, share in enumerate(_LENGTHS):
        place = (i - 1.5) * 2.0 * thick * dice.uniform(0.94, 1.04)
        lean = fan * (i - 1.5) + 0.04 * dice.randn(1)[:, 0]
        along = _bent(ahead, across, lean)
        folded = torch.where(pointing & (torch.full_like(place, i) > 0), 0.4 * curl, curl)
        reach = length * share * folded * dice.uniform(0.94, 1.04)
        base = knuckles + across * place[:, None] - ahead * (0.5 * thick * abs(i - 1.4))[:, None]
        bow = _bent(along, across, 0.12 * dice.randn(1)[:, 0] * torch.where(closed, 0.2, 1.0))
        _finger(relief, x, y, base, along, bow, reach, thick * (0.98, 1.04, 1.0, 0.86)[i], nails & (folded > 0.5), dice)
    # the thumb lies aside, or along the fingers of a closed hand
    lean = -torch.where(closed, dice.uniform(0.1, 0.6), dice.uniform(0.4, 1.2))
    base = knuckles - across * (3.2 * thick)[:, None] - ahead * (4.0 * thick)[:, None]
    along = _bent(ahead, across, lean)
    bow = _bent(ahead, across, lean + dice.uniform(-0.1, 0.5))
    _finger(relief, x, y, base, along, bow, length * 0.85 * dice.uniform(0.8, 1.0), 1.12 * thick, nails, dice)

    shade = _lit(relief.height, pixel, light, dice)
    deep = (relief.height / per_sample(thick)).clamp(0, 1)
    size = (shade.shape[1], shade.shape[2])
    blotches = 0.05 * dice.noise(7, 7, size, channels=3) + 0.07 * dice.noise(9, 9, size)
    pores = 0.05 * dice.noise(64, 64, size)
    warm = torch.stack([torch.full_like(shade, 1.02), 0.8 + 0.2 * deep, 0.7 + 0.3 * deep], 1)  # between fingers skin is red
    skin = tone[:, :, None, None] * warm * relief.paint[:, None] * (1 + blotches + pores)
    sleeve = (-v > wrist)[:, None] & dice.chance(0.3)[:, None, None, None]
    cloth = dice.colour(SLEEVES, wild=0.0)[:, :, None, None] * (1 + 0.25 * dice.noise(14, 14, size))
    colour = torch.where(sleeve, cloth, skin) * (shade * (0.62 + 0.38 * deep**0.6))[:, None]
    assert len(colour) == n
    return colour.clamp(0, 1), (relief.inside / pixel + 0.5).clamp(0, 1)[:, None]


def _turned(x: Tensor, y: Tensor, origin: Tensor, across: Tensor, ahead: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates along ``across`` and ``ahead`` (B, 2) from an origin (B, 2)."""
    dx, dy = x - per_sample(origin[:, 0]), y - per_sample(origin[:, 1])
    u = dx * per_sample(across[:, 0]) + dy * per_sample(across[:, 1])
    return u, dx * per_sample(ahead[:, 0]) + dy * per_sample(ahead[:, 1])


def _bent(ahead: Tensor, across: Tensor, by: Tensor) -> Tensor:
    """The direction ``ahead`` (B, 2) turned by radians (B,) towards ``across``."""
    return ahead * by.cos()[:, None] + across * by.sin()[:, None]


def _box(u: Tensor, v: Tensor, width: Tensor, height: Tensor, radius: Tensor) -> Tensor:
    """Distance inside of a box of half sides ``width`` and ``height`` whose corners are round."""
    qx, qy = u.abs() - (width - radius), v.abs() - (height - radius)
    beyond = (qx.clamp_min(0).square() + qy.clamp_min(0).square() + 1e-9).sqrt()
    return radius - beyond - torch.maximum(qx, qy).clamp_max(0)


def _finger(
    relief: _Relief,
    x: Tensor,
    y: Tensor,
    base: Tensor,
    along: Tensor,
    bow: Tensor,
    reach: Tensor,
    radius: Tensor,
    nail: Tensor,
    dice: Dice,
) -> None:
    """Lays a finger of two straight halves, the second in the direction ``bow`` (B, 2), over the relief."""
    middle = base + along * (0.5 * reach)[:, None]
    raised = per_sample(0.5 * radius * dice.uniform(0.8, 1.2))
    for start, direction, first in ((base, along, 0.0), (middle, bow, 0.5)):
        side = torch.stack([-direction[:, 1], direction[:, 0]], 1)
        u, v = _turned(x, y, start, side, direction)
        half = per_sample(0.5 * reach)
        t = first + 0.5 * (v / half).clamp(0, 1)  # along the finger, 0..1
        r = per_sample(radius) * (1 - 0.16 * t)
        distance = (u.square() + (v - v.clamp(torch.zeros_like(half), half)).square() + 1e-9).sqrt()
        height = raised + r * (1 - (distance / r).square()).clamp_min(0).sqrt()
        paint = torch.ones_like(t)
        for at in _KNUCKLES:
            paint = paint - 0.1 * torch.exp(-((t - at) / 0.03).square()) * torch.exp(-(u / (0.8 * r)).square())
        if first:
            tip = ((u / (0.62 * r)).square() + ((v - half + 0.1 * r) / (0.75 * r)).square()) < 1
            paint = torch.where(tip & nail[:, None, None], paint + 0.14, paint)
        relief.lay(r - distance, height, paint)


def _lit(height: Tensor, pixel: Tensor, light: Tensor, dice: Dice) -> Tensor:
    """Brightness (B, R, R) of a relief under a light; 1 where it faces the viewer under a light from the front."""
    slope_x, slope_y = torch.zeros_like(height), torch.zeros_like(height)
    slope_x[:, :, 1:-1] = (height[:, :, 2:] - height[:, :, :-2]) / (2 * pixel)
    slope_y[:, 1:-1] = (height[:, 2:] - height[:, :-2]) / (2 * pixel)
    slope_x, slope_y = slope_x.clamp(-3, 3), slope_y.clamp(-3, 3)
    length = (1 + slope_x.square() + slope_y.square()).rsqrt()
    towards = light + 0.25 * dice.randn(3)
    x, y, z = (per_sample(towards[:, i]) for i in range(3))
    facing = (z - slope_x * x - slope_y * y) * length
    ambient = per_sample(dice.uniform(0.55, 0.85))
    return ambient + (1 - ambient) * (1 + facing - z).clamp(0, 1.7)
