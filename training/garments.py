"""The five kinds of mask of §4.1, and what is no mask: how each is cut, coloured and formed. Lengths are eye distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.training import mask_fabrics as fabric
from vidunmask.training.dice import Dice, per_sample
from vidunmask.training.head_surface import chart
from vidunmask.training.mask_shapes import DOWN, Cut, Laid, cover, lay, lowered, random_cut, relief, straps, where_cut
from vidunmask.training.templates import REACH, Templates

TEXTURE = (128, 256)  # rows and columns of the chart's texture: about a pixel of a 256-pixel crop
PLAIN_TEXTURE = (72, 128)  # enough for an outline


@dataclass(frozen=True, slots=True, eq=False)
class Garment:
    """What is worn in every picture of a batch: a texture on the chart and the surface that carries it."""

    colour: Tensor  # (B, 3, H, W) 0..1
    alpha: Tensor  # (B, H, W) 0..1, of body and straps together
    height: Tensor  # (B, H, W) eye distances, of folds and pleats above the surface
    t_low: Tensor  # (B,) the chart's upper border
    t_high: Tensor  # (B,)
    tent: Tensor  # (B,) see head_surface.drape
    ridge: Tensor  # (B,)
    flare: Tensor  # (B,)
    lift: Tensor  # (B, R, C) eye distances towards the viewer, on the surface's vertices


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How a mask stands and is held: its surface and straps. All (B,), but the colour (B, 3)."""

    bulge: Tensor  # see mask_shapes.relief
    low: Tensor
    tent: Tensor  # see head_surface.drape
    ridge: Tensor
    flare: Tensor
    strap: Tensor  # width in eye distances, 0 where no strap is seen
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


def _sheet(dice: Dice, sources: Sources, low: float, high: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    t_low, t_high = dice.uniform(low, low), dice.uniform(high, high)
    return t_low, t_high, *chart(t_low, t_high, *sources.size)


def _over(base: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    """(B, 3, H, W) with colour (B, 3) or (B, 3, H, W) laid over by alpha (B, H, W)."""
    colour = colour[:, :, None, None] if colour.ndim == 2 else colour
    return base + (colour - base) * alpha[:, None]


def _pleats(laid: Laid, dice: Dice, *, amount: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Height and shadow (B, H, W) of two to four folds across, closed at the sides and pulled open over the nose."""
    strength, open_ = per_sample(dice.uniform(*amount)), per_sample(dice.uniform(0.1, 0.8))
    height, shadow = torch.zeros_like(laid.a), torch.zeros_like(laid.a)
    closed = open_ + (1 - open_) * laid.a.abs().clamp_max(1) ** 1.5
    count = dice.choose((0.5, 2, 1))
    up = per_sample(torch.where(dice.chance(0.85), 1.0, -1.0))
    for i in range(4):
        shown = per_sample((i < count + 2).float()) * strength
        middle = per_sample((i + 1.2) / (count + 3.4) + dice.uniform(-0.03, 0.03))
        line = middle + per_sample(dice.uniform(-0.06, 0.1)) * (1 - laid.a.square()) + per_sample(dice.uniform(-0.03, 0.03)) * laid.a
        x = up * (laid.v - line)
        height = height + shown * closed * 0.035 * torch.where(x < 0, torch.exp(x / 0.09), 0.0)
        shadow = shadow + shown * closed * torch.exp(-x.abs() / 0.014) + 0.4 * shown * closed * ((x > 0) & (x < 0.06)) * (1 - x / 0.06)
    return height, shadow.clamp(0, 1)


def _wrinkles(laid: Laid, dice: Dice, *, amount: tuple[float, float], rows: int = 10, columns: int = 8) -> Tensor:
    """(B, H, W) creases: ridged noise, stronger towards the sides where the straps pull."""
    size = (laid.a.shape[1], laid.a.shape[2])
    ridged = 1 - (2.2 * dice.noise(rows, columns, size)[:, 0]).abs().clamp_max(1)
    soft = dice.noise(5, 7, size)[:, 0]
    side = 0.35 + 0.65 * laid.a.abs().clamp_max(1) ** 2
    return per_sample(dice.uniform(*amount)) * (side * ridged.square() + 0.7 * soft)


def _puckers(laid: Laid, dice: Dice) -> Tensor:
    phase = per_sample(6.28 * dice.rand()) + 1.5 * laid.a
    near = torch.exp(-(1 - laid.a.abs()).clamp_min(0) / per_sample(dice.uniform(0.05, 0.2)))
    return per_sample(dice.uniform(0.0, 0.025)) * near * (per_sample(dice.uniform(18, 45)) * laid.v + phase).sin()


def _weave(laid: Laid, dice: Dice, *, amount: tuple[float, float]) -> Tensor:
    """(B, 1, H, W) brightness of threads and fibres, about 1."""
    grain = dice.randn(*laid.a.shape[1:])
    coarse = dice.noise(32, 64, (laid.a.shape[1], laid.a.shape[2]))[:, 0]
    return 1 + (per_sample(dice.uniform(*amount)) * (grain + coarse))[:, None]


def _finish(
    dice: Dice, laid: Laid, sheet: tuple[Tensor, Tensor, Tensor, Tensor], cut: Cut, form: Form, *, colour: Tensor, height: Tensor | None
) -> Garment:
    """Adds straps, rim and thickness, and puts the garment together; colour (B, 3) or (B, 3, H, W)."""
    t_low, t_high, phi, t = sheet
    body = cover(laid.inside, DOWN * 1.65 / laid.a.shape[1])
    band = straps(laid, phi, t, cut, dice, width=form.strap, head=form.about_head)
    if colour.ndim == 2:
        colour = colour[:, :, None, None].expand(-1, -1, *body.shape[1:])
    if height is None:
        height = torch.zeros_like(body)
    else:
        rim = torch.exp(-laid.inside.clamp_min(0) / 0.02)
        colour = colour * (1 - per_sample(dice.uniform(-0.08, 0.3)) * rim)[:, None]
        height = (height - per_sample(dice.uniform(0.0, 0.02)) * rim) * body  # the edge turns in
        colour = form.strap_colour[:, :, None, None] + (colour - form.strap_colour[:, :, None, None]) * body[:, None]
    lift = relief(lay(cut, *chart(t_low, t_high)), bulge=form.bulge, low=form.low)
    return Garment(colour.clamp(0, 1), torch.maximum(body, band), height, t_low, t_high, form.tent, form.ridge, form.flare, lift)


def _worn(cut: Cut, dice: Dice, *, low: float = 0.12) -> Cut:
    """A share ``low`` worn low, down to bare nostrils or a bare nose; few pulled under the chin."""
    slipped = dice.uniform(0.08, 0.36) * dice.chance(low)
    chin = random_cut(
        dice, side=(0.9, 1.3), top=(0.78, 1.02), top_side=(0.55, 0.8), top_power=(1.2, 2.5), bottom=(1.16, 1.28), bottom_side=(0.9, 1.1),
        bottom_power=(1.5, 3.0), tilt=(-0.05, 0.05), corner=(0.01, 0.05),
    )  # fmt: skip
    return where_cut(dice.chance(0.03), chin, lowered(cut, slipped))


def surgical(dice: Dice, sources: Sources) -> Garment:
    """Three pleats between a wired top edge and a bottom edge under the chin, sewn sides, thin loops."""
    sheet = _sheet(dice, sources, -0.3, 1.35)
    cut = _worn(
        random_cut(
            dice, side=(0.88, 1.25), top=(0.1, 0.29), top_side=(0.26, 0.46), top_power=(1.1, 2.2), bottom=(0.98, 1.14),
            bottom_side=(0.66, 0.9), bottom_power=(1.5, 3.0), tilt=(-0.05, 0.05), shift=(-0.05, 0.05), pinch=(-0.02, 0.1),
            corner=(0.005, 0.05),
        ), dice,
    )  # fmt: skip
    laid = lay(cut, *sheet[2:])
    base = dice.colour(fabric.SURGICAL)
    form = Form(
        bulge=dice.uniform(-0.02, 0.12), low=dice.uniform(-0.4, 0.4), tent=dice.uniform(0.35, 0.8), ridge=dice.uniform(0.1, 0.45),
        flare=dice.uniform(-0.1, 0.14), strap=dice.uniform(0.025, 0.07) * ~dice.chance(0.12),
        strap_colour=torch.where(dice.chance(0.6)[:, None], dice.uniform(0.85, 0.97)[:, None].expand(-1, 3), base), about_head=dice.chance(0.06),
    )  # fmt: skip
    if sources.plain:
        return _finish(dice, laid, sheet, cut, form, colour=base, height=None)
    colour = fabric.dye(base, laid, dice, prints=0.1, photos=sources.photos, fabrics=sources.fabrics)
    pleats, shadow = _pleats(laid, dice, amount=(0.3, 1.2))
    hem = torch.maximum(cover(0.09 - laid.v), cover(laid.v - 0.93)) * per_sample(dice.uniform(0.0, 0.5))
    seam = cover(laid.a.abs() - per_sample(dice.uniform(0.92, 0.97))) * per_sample(dice.uniform(0.0, 0.8) * dice.chance(0.6))
    trim = base + (dice.uniform(0.85, 1.0)[:, None] - base) * dice.uniform(0.0, 1.0)[:, None]
    colour = _over(_over(colour, trim, hem), trim, seam)
    stitches = torch.exp(-((laid.v - 0.09).abs() / 0.012)) + torch.exp(-((laid.v - 0.93).abs() / 0.012))
    colour = colour * (1 - 0.3 * shadow * per_sample(dice.uniform(0.2, 1.0)) - 0.12 * stitches)[:, None]
    marked = dice.chance(0.12)
    text = fabric.lettering(laid, dice, centre=(dice.uniform(-0.3, 0.3), dice.uniform(-0.3, 0.3)),
                            size=(dice.uniform(0.2, 0.6), dice.uniform(0.05, 0.2)))  # fmt: skip
    colour = _over(colour, dice.colour(((0.1, 0.1, 0.2, 2), (0.2, 0.3, 0.6, 1), (0.95, 0.95, 0.95, 1))), text * per_sample(marked.float()))
    colour = colour * _weave(laid, dice, amount=(0.0, 0.02))
    wire = torch.exp(-((laid.v - 0.05) / 0.03).square()) * (laid.a.abs() < 0.4)
    height = pleats + _wrinkles(laid, dice, amount=(0.0, 0.03)) + _puckers(laid, dice) + 0.008 * wire
    return _finish(dice, laid, sheet, cut, form, colour=colour, height=height)


def cloth(dice: Dice, sources: Sources) -> Garment:
    """Sewn or moulded cloth: two panels with a seam in the middle, pleated, or one stretched piece that runs out to the ears."""
    sheet = _sheet(dice, sources, -0.3, 1.35)
    fitted = random_cut(
        dice, side=(1.0, 1.42), top=(0.08, 0.28), top_side=(0.3, 0.5), top_power=(1.0, 2.0), bottom=(0.98, 1.16), bottom_side=(0.52, 0.78),
        bottom_power=(1.2, 2.6), tilt=(-0.05, 0.05), shift=(-0.05, 0.05), pinch=(-0.05, 0.12), corner=(0.01, 0.12),
    )  # fmt: skip
    square = random_cut(
        dice, side=(0.95, 1.35), top=(0.1, 0.32), top_side=(0.22, 0.45), top_power=(1.3, 2.5), bottom=(1.0, 1.2), bottom_side=(0.75, 1.0),
        bottom_power=(1.5, 3.5), tilt=(-0.06, 0.06), shift=(-0.05, 0.05), pinch=(-0.02, 0.1), corner=(0.005, 0.06),
    )  # fmt: skip
    boxy = dice.chance(0.35)
    cut = _worn(where_cut(boxy, square, fitted), dice)
    laid = lay(cut, *sheet[2:])
    base = dice.colour(fabric.CLOTH, wild=0.2)
    form = Form(
        bulge=dice.uniform(-0.02, 0.16), low=dice.uniform(-0.5, 0.3), tent=dice.uniform(0.3, 0.95), ridge=dice.uniform(0.04, 0.4),
        flare=dice.uniform(-0.15, 0.12), strap=dice.uniform(0.03, 0.16) * ~dice.chance(0.2),
        strap_colour=torch.where(dice.chance(0.6)[:, None], base, dice.colour(fabric.STRAP)), about_head=dice.chance(0.06),
    )  # fmt: skip
    if sources.plain:
        return _finish(dice, laid, sheet, cut, form, colour=base, height=None)
    colour = fabric.dye(base, laid, dice, prints=0.5, photos=sources.photos, fabrics=sources.fabrics)
    seamed = per_sample((dice.chance(0.55) & ~boxy).float())
    seam = seamed * torch.exp(-(laid.x / 0.02).square())
    colour = colour * (1 - 0.35 * seam - 0.06 * seamed * torch.exp(-((laid.x.abs() - 0.05) / 0.012).square()))[:, None]
    bound = per_sample(dice.chance(0.3).float())
    border = bound * cover(per_sample(dice.uniform(0.03, 0.1)) - laid.inside)
    colour = _over(colour, dice.colour(fabric.CLOTH, wild=0.3), border)
    hem = (1 - bound) * torch.exp(-((laid.inside - 0.06) / 0.012).square()) * per_sample(dice.uniform(0.0, 0.35))
    colour = colour * (1 - hem)[:, None]
    where = (dice.uniform(-0.7, 0.7), dice.uniform(-0.35, 0.45))
    ink = dice.colour(((0.96, 0.96, 0.96, 3), (0.05, 0.05, 0.05, 2), (0.8, 0.1, 0.1, 1)), wild=0.3)
    marks = fabric.logo(laid, dice, centre=where, size=dice.uniform(0.06, 0.35)) * per_sample(dice.chance(0.12).float())
    text = fabric.lettering(laid, dice, centre=where, size=(dice.uniform(0.15, 0.7), dice.uniform(0.05, 0.3)))
    colour = _over(_over(colour, ink, marks), ink, text * per_sample(dice.chance(0.15).float()))
    pleats, shadow = _pleats(laid, dice, amount=(0.3, 1.3))
    pleated = per_sample((boxy & dice.chance(0.5)).float())
    colour = colour * (1 - 0.3 * pleated * shadow)[:, None] * _weave(laid, dice, amount=(0.0, 0.05))
    height = pleated * pleats + _wrinkles(laid, dice, amount=(0.0, 0.05)) + 0.5 * _puckers(laid, dice) - 0.01 * seam + 0.012 * border
    return _finish(dice, laid, sheet, cut, form, colour=colour, height=height)


def _valve(laid: Laid, dice: Dice, *, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cover, shade and height (B, H, W) of an exhalation valve: a round or square cap with rings or slots."""
    sideways = dice.uniform(0.25, 0.6) * torch.where(dice.chance(0.5), 1.0, -1.0) * dice.chance(0.5)
    x = laid.x - per_sample(sideways)
    y = laid.y - per_sample(dice.uniform(-0.05, 0.28))
    size = per_sample(dice.uniform(0.15, 0.25))
    square = per_sample(dice.chance(0.35).float())
    radius = (x * x + y * y).sqrt() * (1 - square) + torch.maximum(x.abs(), 0.9 * y.abs()) * square
    has = per_sample(dice.chance(share).float())
    inside = cover(size - radius) * has
    rings = 0.5 + 0.5 * (radius / size * per_sample(dice.uniform(6, 22))).cos()
    slots = 0.5 + 0.5 * (y / size * per_sample(dice.uniform(8, 16))).cos()
    pattern = torch.where(per_sample(dice.chance(0.4)), slots, rings)
    shade = 1 - inside * per_sample(dice.uniform(0.05, 0.4)) * pattern
    halo = 1 - 0.3 * has * torch.exp(-((radius - size) / 0.018).square())
    return inside, shade * halo, 0.06 * has * cover(size - radius, 0.06)


def n95(dice: Dice, sources: Sources) -> Garment:
    """A stiff cup with a flat rim, lettering, often a valve, held by two bands about the head."""
    sheet = _sheet(dice, sources, -0.3, 1.35)
    cut = _worn(
        random_cut(
            dice, side=(0.78, 1.08), top=(0.06, 0.22), top_side=(0.4, 0.52), top_power=(1.2, 2.0), bottom=(0.96, 1.08), bottom_side=(0.62, 0.8),
            bottom_power=(1.5, 2.5), tilt=(-0.05, 0.05), shift=(-0.05, 0.05), pinch=(-0.05, 0.05), corner=(0.02, 0.2), oval=(0.55, 1.0),
        ), dice, low=0.06,
    )  # fmt: skip
    laid = lay(cut, *sheet[2:])
    base = dice.colour(fabric.RESPIRATOR, wild=0.05)
    form = Form(
        bulge=dice.uniform(0.12, 0.45), low=dice.uniform(-0.5, 0.3), tent=dice.uniform(0.0, 0.5), ridge=dice.uniform(0.3, 0.6),
        flare=dice.uniform(-0.15, 0.05), strap=dice.uniform(0.03, 0.11) * ~dice.chance(0.04),
        strap_colour=dice.colour(fabric.STRAP), about_head=dice.chance(0.8),
    )  # fmt: skip
    if sources.plain:
        return _finish(dice, laid, sheet, cut, form, colour=base, height=None)
    colour = fabric.dye(base, laid, dice, prints=0.03, photos=sources.photos, fabrics=sources.fabrics)
    width = per_sample(dice.uniform(0.03, 0.1))
    rim_line = torch.exp(-((laid.inside - width) / 0.012).square()) * per_sample(dice.chance(0.7).float())
    rim = cover(width - laid.inside)
    folds = per_sample(dice.uniform(0.3, 0.75))
    band = torch.exp(-((laid.v - folds) / 0.02).square()) * per_sample(dice.chance(0.35).float())
    height = -0.02 * rim_line + 0.015 * (1 - rim) + 0.02 * band + _wrinkles(laid, dice, amount=(0.0, 0.02), rows=6, columns=6)
    colour = colour * (1 - 0.18 * rim_line - 0.12 * band)[:, None]
    clip = cover(0.3 - laid.x.abs(), 0.05) * torch.exp(-((laid.v - 0.09) / 0.03).square()) * per_sample(dice.chance(0.45).float())
    colour = _over(colour, dice.colour(((0.6, 0.62, 0.64, 3), (0.2, 0.3, 0.6, 1), (0.85, 0.7, 0.2, 1))), clip)
    text = fabric.lettering(laid, dice, centre=(dice.uniform(-0.35, 0.35), dice.uniform(-0.35, 0.4)),
                            size=(dice.uniform(0.15, 0.45), dice.uniform(0.06, 0.22)))  # fmt: skip
    colour = _over(colour, dice.colour(((0.15, 0.15, 0.2, 3), (0.2, 0.3, 0.6, 1), (0.5, 0.5, 0.5, 1))), 0.85 * text * per_sample(dice.chance(0.6).float()))
    valve, shade, raised = _valve(laid, dice, share=0.4)
    cap = dice.colour(((0.93, 0.93, 0.92, 4), (0.55, 0.56, 0.58, 1.5), (0.1, 0.45, 0.3, 1), (0.08, 0.08, 0.09, 1), (0.2, 0.5, 0.7, 1), (0.7, 0.15, 0.15, 0.5)))
    colour = _over(colour, cap, valve) * shade[:, None] * _weave(laid, dice, amount=(0.0, 0.02))
    return _finish(dice, laid, sheet, cut, form, colour=colour, height=height + raised)


def kn95(dice: Dice, sources: Sources) -> Garment:
    """Folded down the middle to a beak, with welded seams along the edges; loops or head bands."""
    sheet = _sheet(dice, sources, -0.3, 1.35)
    cut = _worn(
        random_cut(
            dice, side=(0.92, 1.25), top=(0.06, 0.22), top_side=(0.34, 0.5), top_power=(0.9, 1.3), bottom=(0.98, 1.14), bottom_side=(0.6, 0.8),
            bottom_power=(0.9, 1.5), tilt=(-0.05, 0.05), shift=(-0.05, 0.05), pinch=(-0.12, 0.05), corner=(0.005, 0.06), oval=(0.0, 0.15),
        ), dice, low=0.08,
    )  # fmt: skip
    laid = lay(cut, *sheet[2:])
    base = dice.colour(fabric.RESPIRATOR, wild=0.08)
    form = Form(
        bulge=dice.uniform(0.05, 0.3), low=dice.uniform(-0.6, 0.4), tent=dice.uniform(0.75, 1.0), ridge=dice.uniform(0.005, 0.12),
        flare=dice.uniform(-0.2, 0.05), strap=dice.uniform(0.025, 0.08) * ~dice.chance(0.08),
        strap_colour=dice.colour(fabric.STRAP), about_head=dice.chance(0.15),
    )  # fmt: skip
    if sources.plain:
        return _finish(dice, laid, sheet, cut, form, colour=base, height=None)
    colour = fabric.dye(base, laid, dice, prints=0.05, photos=sources.photos, fabrics=sources.fabrics)
    weld = per_sample(dice.uniform(0.04, 0.11))
    dashes = 0.6 + 0.4 * (90 * (laid.x + 0.7 * laid.y)).sin()
    seam = torch.exp(-((laid.inside - weld) / 0.014).square()) * dashes * per_sample(dice.chance(0.8).float())
    crease = torch.exp(-(laid.x.abs() / 0.014))
    slant = per_sample(dice.uniform(0.2, 0.8))
    strut = torch.exp(-((laid.v - 0.5 - slant * (laid.a.abs() - 0.5)) / 0.016).square()) * per_sample(dice.chance(0.25).float())
    boat = per_sample(dice.chance(0.2).float())  # three panels across instead of a fold down
    panels = boat * (torch.exp(-((laid.v - 0.28 - 0.08 * laid.a.square()) / 0.012).square()) + torch.exp(-((laid.v - 0.74 + 0.1 * laid.a.square()) / 0.012).square()))
    colour = colour * (1 - 0.16 * seam - per_sample(dice.uniform(0.0, 0.16)) * crease * (1 - boat) - 0.1 * strut - 0.22 * panels)[:, None]
    text = fabric.lettering(laid, dice, centre=(dice.uniform(0.3, 0.6) * torch.where(dice.chance(0.5), 1.0, -1.0), dice.uniform(-0.2, 0.3)),
                            size=(dice.uniform(0.12, 0.3), dice.uniform(0.05, 0.14)))  # fmt: skip
    colour = _over(colour, dice.colour(((0.2, 0.2, 0.25, 3), (0.3, 0.4, 0.6, 1), (0.6, 0.6, 0.6, 2))), 0.8 * text * per_sample(dice.chance(0.5).float()))
    valve, shade, raised = _valve(laid, dice, share=0.15)
    colour = _over(colour, dice.colour(((0.9, 0.9, 0.9, 2), (0.5, 0.5, 0.52, 2), (0.1, 0.1, 0.1, 1))), valve) * shade[:, None]
    height = -0.02 * seam + raised + _wrinkles(laid, dice, amount=(0.0, 0.035), rows=7, columns=6) + 0.02 * panels
    colour = colour * _weave(laid, dice, amount=(0.0, 0.015))
    return _finish(dice, laid, sheet, cut, form, colour=colour, height=height)


def scarf(dice: Dice, sources: Sources, *, loose: bool = False) -> Garment:
    """A scarf, gaiter or bandana from the nose down over the neck; ``loose`` hangs below the chin and is no mask."""
    sheet = _sheet(dice, sources, -0.2, 2.4)
    t_low, t_high, phi, t = sheet
    cut = random_cut(
        dice, side=(2.4, 2.6), top=(1.12, 1.4) if loose else (0.08, 0.42), top_side=(1.3, 1.7) if loose else (0.2, 0.75), top_power=(1.2, 2.6),
        bottom=(2.8, 3.0), bottom_side=(2.8, 3.0), bottom_power=(2.0, 2.0), tilt=(-0.06, 0.06), corner=(0.01, 0.01),
    )  # fmt: skip
    laid = lay(cut, phi, t)
    base = dice.colour(fabric.SCARF, wild=0.2)
    colour = fabric.dye(base, laid, dice, prints=0.5, photos=sources.photos, fabrics=sources.fabrics)
    size = sources.size
    sag = laid.y - per_sample(dice.uniform(-0.5, 0.6)) * laid.x.abs() + per_sample(dice.uniform(0.0, 0.35)) * dice.noise(5, 7, size)[:, 0]
    rate = per_sample(dice.uniform(3.0, 14.0))
    folds = (rate * sag + 2.5 * dice.noise(4, 6, size)[:, 0]).sin() + 0.5 * (2.3 * rate * sag + 3 * dice.noise(6, 9, size)[:, 0]).sin()
    tight = per_sample(dice.uniform(0.05, 1.0))
    height = 0.09 / rate * 6 * 0.5 * tight * folds + _wrinkles(laid, dice, amount=(0.0, 0.07), rows=9, columns=10)
    colour = colour * (1 + 0.1 * tight * folds.clamp(-1.5, 1.0))[:, None] * _weave(laid, dice, amount=(0.0, 0.08))
    hem = torch.exp(-((laid.inside - 0.05) / 0.014).square()) * per_sample(dice.uniform(0.0, 0.4))
    colour = colour * (1 - hem)[:, None]
    # a bandana ends in a corner on the chest; everything else goes on past the picture
    bandana = per_sample(dice.chance(0.3).float()) * (0.0 if loose else 1.0)
    corner = (per_sample(dice.uniform(1.25, 2.2)) - per_sample(dice.uniform(0.25, 0.75)) * phi.abs() - t) * 1.0
    inside = torch.where(bandana > 0, torch.minimum(laid.inside, corner), laid.inside)
    alpha = cover(inside)
    return Garment(
        colour.clamp(0, 1), alpha, height * alpha, t_low, t_high, dice.uniform(0.1, 0.9), dice.uniform(0.1, 0.45),
        dice.uniform(-0.05, 0.3) + (0.2 if loose else 0.0),
        per_sample(dice.uniform(0.0, 0.06)) + 0.02 * dice.noise(6, 8, (chart(t_low, t_high)[1].shape[1], chart(t_low, t_high)[0].shape[2]))[:, 0],
    )  # fmt: skip


def template(dice: Dice, sources: Sources, turned: Tensor) -> Garment:
    """A picture of a mask from a folder, recoloured or covered with cloth; ``turned`` (B,) is the head's yaw, positive to the right."""
    assert sources.templates is not None
    masks, sides = sources.templates.masks, sources.templates.sides
    sheet = _sheet(dice, sources, -0.3, 1.35)
    cut = _worn(
        random_cut(
            dice, side=(0.95, 1.2), top=(0.08, 0.26), top_side=(0.28, 0.44), top_power=(1.2, 2.0), bottom=(1.0, 1.12), bottom_side=(0.68, 0.86),
            bottom_power=(1.6, 2.6), tilt=(-0.05, 0.05), shift=(-0.05, 0.05),
        ), dice,
    )  # fmt: skip
    laid = lay(cut, *sheet[2:])
    side = torch.where(turned > 0.35, 1, torch.where(turned < -0.35, -1, 0))
    score = dice.rand(len(masks)) + (sides[None] == side[:, None]).float()
    score = score - 2.0 * (sides[None] * side[:, None] < 0) - 2.0 * ((side[:, None] == 0) & (sides[None] != 0))
    picture = masks[score.argmax(1)]
    grid = torch.stack([laid.a / REACH[0], (laid.v - 0.5) / REACH[1]], -1)
    texture = F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    colour, alpha = texture[:, :3], texture[:, 3]
    grey = colour.mean(1, keepdim=True)
    level = (grey * alpha[:, None]).sum((2, 3), keepdim=True) / alpha[:, None].sum((2, 3), keepdim=True).clamp_min(1)
    base = dice.colour(fabric.CLOTH + fabric.SURGICAL, wild=0.3)
    dyed = fabric.dye(base, laid, dice, prints=0.5, photos=sources.photos, fabrics=sources.fabrics) * (grey / level.clamp_min(0.05)).clamp(0, 1.6)
    colour = torch.where(dice.chance(0.55)[:, None, None, None], dyed, colour)
    bulge = dice.uniform(0.0, 0.2)
    return Garment(
        colour.clamp(0, 1), alpha, _wrinkles(laid, dice, amount=(0.0, 0.02)) * alpha, sheet[0], sheet[1], dice.uniform(0.3, 0.9),
        dice.uniform(0.05, 0.4), dice.uniform(-0.1, 0.1), relief(lay(cut, *chart(sheet[0], sheet[1])), bulge=bulge, low=dice.uniform(-0.4, 0.4)),
    )  # fmt: skip


DRAWN: dict[str, Callable[[Dice, Sources], Garment]] = {"surgical": surgical, "cloth": cloth, "n95": n95, "kn95": kn95, "scarf": scarf}


def gather(garments: list[Garment], order: Tensor) -> Garment:
    """One garment of all batches, sample i of the result being sample order[i] of their concatenation."""
    return Garment(*(torch.cat([getattr(g, f.name) for g in garments])[order] for f in fields(Garment)))
