"""The five kinds of mask of §4.1, and a scarf that is no mask, each with what varies among real ones."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vidunmask.training.synthesis import mask_fabrics as fabric
from vidunmask.training.synthesis.dice import Dice, per_sample
from vidunmask.training.synthesis.garments import (
    Form,
    Garment,
    Sources,
    bent,
    finish,
    finish_plain,
    noted,
    over,
    pleats,
    puckers,
    sheet,
    valve,
    worn,
    wrinkles,
)
from vidunmask.training.synthesis.head_surface import chart
from vidunmask.training.synthesis.mask_shapes import Lookup, cover, lay, line, random_cut, where_cut

DARK_INK: fabric.Palette = ((0.12, 0.12, 0.2, 3), (0.2, 0.3, 0.6, 1), (0.5, 0.5, 0.5, 1.5))
ANY_INK: fabric.Palette = ((0.96, 0.96, 0.96, 3), (0.05, 0.05, 0.05, 2), (0.8, 0.1, 0.1, 1))


def surgical(dice: Dice, sources: Sources) -> Garment:
    """Pleats between a wired top edge and a bottom edge under the chin, sewn sides, thin loops."""
    on = sheet(dice, sources, -0.3, 1.35)
    cut = worn(
        random_cut(
            dice,
            side=(0.9, 1.28),
            top=(0.08, 0.28),
            top_side=(0.24, 0.44),
            top_power=(1.1, 2.2),
            bottom=(0.98, 1.14),
            bottom_side=(0.68, 0.94),
            bottom_power=(1.5, 3.2),
            tilt=(-0.05, 0.05),
            shift=(-0.05, 0.05),
            pinch=(-0.02, 0.1),
            corner=(0.005, 0.05),
        ),
        dice,
    )
    laid, base = lay(cut, on.phi, on.t), dice.colour(fabric.SURGICAL)
    white = dice.uniform(0.85, 0.97)[:, None].expand(-1, 3)
    form = Form(
        bulge=dice.uniform(-0.02, 0.2),
        low=dice.uniform(-0.4, 0.5),
        tent=dice.uniform(0.35, 0.8),
        ridge=dice.uniform(0.1, 0.45),
        flare=dice.uniform(-0.1, 0.14),
        strap=dice.uniform(0.025, 0.07) * ~dice.chance(0.12),
        strap_colour=torch.where(dice.chance(0.6)[:, None], white, base),
        about_head=dice.chance(0.06),
    )
    if sources.plain:
        return finish_plain(on, laid, cut, form, dice, colour=base)
    colour = fabric.dye(base, laid, dice, prints=0.1, photos=sources.photos, fabrics=sources.fabrics)
    table = Lookup(-0.1, 1.1, colour.device)
    fold, shadow = pleats(table, dice)
    hem = (cover(0.09 - table.at, 0.02) + cover(table.at - 0.93, 0.02)) * dice.uniform(0.0, 0.5)[:, None]
    stitches = line(table.at, 0.09, 0.012) + line(table.at, 0.93, 0.012)
    fold, shadow, hem, stitches = table(bent(laid, dice), fold, shadow, hem, dice.uniform(0.0, 0.15)[:, None] * stitches)
    open_ = per_sample(dice.uniform(0.1, 0.8))
    closed = (open_ + (1 - open_) * laid.a.abs().clamp_max(1) ** 1.5) * per_sample(dice.uniform(0.3, 1.2))  # (B, 1, W)
    seam = cover(laid.a.abs() - per_sample(dice.uniform(0.92, 0.97))) * per_sample(dice.uniform(0.0, 0.8) * dice.chance(0.6))
    trim = torch.lerp(base, white, dice.rand(1))
    colour = over(colour, trim, torch.maximum(hem, seam))
    colour = fabric.lettering(
        colour, laid, dice, share=0.1, ink=DARK_INK, box=((-0.3, 0.3), (-0.3, 0.3), (0.2, 0.6), (0.05, 0.2))
    )
    tone = (
        fabric.fibres(dice, sources.size, amount=(0.0, 0.03))
        - shadow * closed * per_sample(dice.uniform(0.02, 0.22))
        - stitches
    )
    height = fold * closed + wrinkles(laid, dice, amount=(0.0, 0.055)) + puckers(laid, dice)
    return finish(on, laid, cut, form, dice, colour=colour, tone=tone, height=height)


def cloth(dice: Dice, sources: Sources) -> Garment:
    """Sewn or moulded cloth: two panels with a seam in the middle, pleated, or one stretched piece out to the ears."""
    on = sheet(dice, sources, -0.3, 1.35)
    fitted = random_cut(
        dice,
        side=(1.0, 1.42),
        top=(0.06, 0.28),
        top_side=(0.28, 0.5),
        top_power=(1.0, 2.0),
        bottom=(0.98, 1.16),
        bottom_side=(0.52, 0.8),
        bottom_power=(1.2, 2.6),
        tilt=(-0.05, 0.05),
        shift=(-0.05, 0.05),
        pinch=(-0.05, 0.12),
        corner=(0.01, 0.12),
    )
    square = random_cut(
        dice,
        side=(0.95, 1.35),
        top=(0.08, 0.32),
        top_side=(0.2, 0.45),
        top_power=(1.3, 2.5),
        bottom=(1.0, 1.2),
        bottom_side=(0.75, 1.0),
        bottom_power=(1.5, 3.5),
        tilt=(-0.06, 0.06),
        shift=(-0.05, 0.05),
        pinch=(-0.02, 0.1),
        corner=(0.005, 0.06),
    )
    boxy = dice.chance(0.35)
    cut = worn(where_cut(boxy, square, fitted), dice)
    laid, base = lay(cut, on.phi, on.t), dice.colour(fabric.CLOTH, wild=0.2)
    form = Form(
        bulge=dice.uniform(-0.02, 0.25),
        low=dice.uniform(-0.5, 0.5),
        tent=dice.uniform(0.3, 0.95),
        ridge=dice.uniform(0.04, 0.4),
        flare=dice.uniform(-0.15, 0.12),
        strap=dice.uniform(0.03, 0.16) * ~dice.chance(0.2),
        strap_colour=torch.where(dice.chance(0.6)[:, None], base, dice.colour(fabric.STRAP)),
        about_head=dice.chance(0.06),
    )
    if sources.plain:
        return finish_plain(on, laid, cut, form, dice, colour=base)
    colour = fabric.dye(base, laid, dice, prints=0.5, photos=sources.photos, fabrics=sources.fabrics)
    colour = fabric.logo(
        colour, laid, dice, share=0.12, ink=ANY_INK, box=((-0.7, 0.7), (-0.35, 0.45), (0.06, 0.35), (0.06, 0.35))
    )
    colour = fabric.lettering(
        colour, laid, dice, share=0.12, ink=ANY_INK, box=((-0.5, 0.5), (-0.35, 0.45), (0.15, 0.7), (0.05, 0.3))
    )
    cap, pressed, raised = valve(laid, dice, share=0.08)
    colour = over(colour, dice.colour(fabric.CLOTH), cap)
    bound = dice.chance(0.3)[:, None]
    edges = Lookup(-0.02, 0.2, colour.device)
    border = bound * cover(dice.uniform(0.03, 0.1)[:, None] - edges.at)
    hem = ~bound * line(edges.at, 0.06, 0.012) * dice.uniform(0.0, 0.35)[:, None]
    border, hem = edges(laid.inside, border, hem)
    colour = over(colour, dice.colour(fabric.CLOTH, wild=0.3), border)
    seamed = per_sample((dice.chance(0.55) & ~boxy).float())
    seam = seamed * line(laid.x, 0.0, 0.02)  # (B, 1, W)
    stitches = seamed * 0.06 * line(laid.x.abs(), 0.05, 0.012)
    table = Lookup(-0.1, 1.1, colour.device)
    fold, shadow = table(bent(laid, dice), *pleats(table, dice))
    closed = (0.3 + 0.7 * laid.a.abs().clamp_max(1)) * per_sample(dice.uniform(0.3, 1.3) * (boxy & dice.chance(0.5)))
    tone = fabric.fibres(dice, sources.size, amount=(0.0, 0.07)) - 0.35 * seam - stitches - hem - 0.25 * closed * shadow
    height = fold * closed + wrinkles(laid, dice, amount=(0.0, 0.07)) + 0.5 * puckers(laid, dice) - 0.01 * seam + 0.012 * border
    return finish(on, laid, cut, form, dice, colour=colour, tone=tone.mul_(pressed), height=height + raised)


def n95(dice: Dice, sources: Sources) -> Garment:
    """A stiff cup with a flat rim, lettering, often a valve, held by two bands about the head."""
    on = sheet(dice, sources, -0.3, 1.35)
    cut = worn(
        random_cut(
            dice,
            side=(0.8, 1.1),
            top=(0.04, 0.2),
            top_side=(0.38, 0.52),
            top_power=(1.3, 2.4),
            bottom=(0.96, 1.1),
            bottom_side=(0.66, 0.9),
            bottom_power=(1.8, 3.4),
            tilt=(-0.05, 0.05),
            shift=(-0.05, 0.05),
            pinch=(-0.05, 0.05),
            corner=(0.02, 0.2),
            oval=(0.4, 1.0),
        ),
        dice,
        low=0.06,
    )
    laid, base = lay(cut, on.phi, on.t), dice.colour(fabric.RESPIRATOR, wild=0.05)
    form = Form(
        bulge=dice.uniform(0.12, 0.6),
        low=dice.uniform(-0.5, 0.4),
        tent=dice.uniform(0.0, 0.5),
        ridge=dice.uniform(0.3, 0.6),
        flare=dice.uniform(-0.15, 0.05),
        strap=dice.uniform(0.03, 0.11) * ~dice.chance(0.04),
        strap_colour=dice.colour(fabric.STRAP),
        about_head=dice.chance(0.8),
    )
    if sources.plain:
        return finish_plain(on, laid, cut, form, dice, colour=base)
    colour = fabric.dye(base, laid, dice, prints=0.03, photos=sources.photos, fabrics=sources.fabrics)
    clip = line(laid.v, 0.09, 0.03) * cover(0.3 - laid.x.abs(), 0.05) * per_sample(dice.chance(0.45).float())
    colour = over(colour, dice.colour(((0.6, 0.62, 0.64, 3), (0.2, 0.3, 0.6, 1), (0.85, 0.7, 0.2, 1))), clip)
    colour = fabric.lettering(
        colour, laid, dice, share=0.6, ink=DARK_INK, box=((-0.35, 0.35), (-0.35, 0.4), (0.15, 0.45), (0.06, 0.22))
    )
    cap, pressed, raised = valve(laid, dice, share=0.4)
    colour = over(
        colour,
        dice.colour(
            ((0.93, 0.93, 0.92, 4), (0.55, 0.56, 0.58, 1.5), (0.1, 0.45, 0.3, 1), (0.08, 0.08, 0.09, 1), (0.2, 0.5, 0.7, 1))
        ),
        cap,
    )
    width = dice.uniform(0.03, 0.1)[:, None]
    edges = Lookup(-0.02, 0.25, colour.device)
    groove = line(edges.at, width, 0.012) * dice.chance(0.7)[:, None]
    groove, step = edges(laid.inside, groove, 0.015 * cover(edges.at - width, 0.02) - 0.02 * groove)
    rib = line(laid.v, per_sample(dice.uniform(0.3, 0.75)), 0.02) * per_sample(dice.chance(0.35).float())
    tone = (fabric.fibres(dice, sources.size, amount=(0.0, 0.03)) - 0.18 * groove - 0.12 * rib).mul_(pressed)
    height = step + 0.02 * rib + raised + wrinkles(laid, dice, amount=(0.0, 0.03), rows=6, columns=6)
    return finish(on, laid, cut, form, dice, colour=colour, tone=tone, height=height)


def kn95(dice: Dice, sources: Sources) -> Garment:
    """Folded down the middle to a beak, or in three panels, with welded seams along the edges; loops or head bands."""
    on = sheet(dice, sources, -0.3, 1.35)
    cut = worn(
        random_cut(
            dice,
            side=(0.92, 1.28),
            top=(0.04, 0.2),
            top_side=(0.32, 0.5),
            top_power=(0.9, 1.3),
            bottom=(0.98, 1.14),
            bottom_side=(0.6, 0.84),
            bottom_power=(0.9, 1.6),
            tilt=(-0.05, 0.05),
            shift=(-0.05, 0.05),
            pinch=(-0.12, 0.05),
            corner=(0.005, 0.06),
            oval=(0.0, 0.15),
        ),
        dice,
        low=0.08,
    )
    laid, base = lay(cut, on.phi, on.t), dice.colour(fabric.RESPIRATOR, wild=0.08)
    boat = dice.chance(0.25)  # three panels across instead of a fold down
    form = Form(
        bulge=dice.uniform(0.05, 0.6),
        low=dice.uniform(-0.4, 0.9),
        tent=torch.where(boat, 0.5, dice.uniform(0.75, 1.0)),
        ridge=torch.where(boat, 0.4, dice.uniform(0.005, 0.12)),
        flare=dice.uniform(-0.2, 0.05),
        strap=dice.uniform(0.025, 0.08) * ~dice.chance(0.08),
        strap_colour=dice.colour(fabric.STRAP),
        about_head=dice.chance(0.15),
    )
    if sources.plain:
        return finish_plain(on, laid, cut, form, dice, colour=base)
    colour = fabric.dye(base, laid, dice, prints=0.05, photos=sources.photos, fabrics=sources.fabrics)
    side = (0.3, 0.6) if float(dice.of(1).rand()) < 0.5 else (-0.6, -0.3)
    colour = fabric.lettering(
        colour, laid, dice, share=0.5, ink=DARK_INK, box=(side, (-0.2, 0.3), (0.12, 0.3), (0.05, 0.14)), strength=0.8
    )
    cap, pressed, raised = valve(laid, dice, share=0.15)
    colour = over(colour, dice.colour(((0.9, 0.9, 0.9, 2), (0.5, 0.5, 0.52, 2), (0.1, 0.1, 0.1, 1))), cap)
    edges = Lookup(-0.02, 0.25, colour.device)
    (weld,) = edges(laid.inside, line(edges.at, dice.uniform(0.04, 0.11)[:, None], 0.014) * dice.chance(0.8)[:, None])
    weld = weld * (0.6 + 0.4 * (90 * laid.x + 60 * laid.y).sin_())
    crease = line(laid.x, 0.0, 0.014) * per_sample(dice.uniform(0.0, 0.16) * ~boat)  # (B, 1, W)
    panels = Lookup(-0.1, 1.1, colour.device)
    (joints,) = panels(bent(laid, dice), boat[:, None] * (line(panels.at, 0.28, 0.012) + line(panels.at, 0.74, 0.012)))
    tone = (fabric.fibres(dice, sources.size, amount=(0.0, 0.025)) - 0.16 * weld - crease - 0.22 * joints).mul_(pressed)
    height = raised - 0.02 * weld + 0.02 * joints + wrinkles(laid, dice, amount=(0.0, 0.055), rows=7, columns=6)
    return finish(on, laid, cut, form, dice, colour=colour, tone=tone, height=height)


def scarf(dice: Dice, sources: Sources, *, loose: bool = False) -> Garment:
    """A scarf, gaiter or bandana from the nose down over the neck; ``loose`` hangs below the chin and is no mask."""
    on = sheet(dice, sources, -0.2, 2.4)
    cut = random_cut(
        dice,
        side=(2.4, 2.6),
        top=(1.12, 1.4) if loose else (0.08, 0.42),
        top_side=(1.3, 1.7) if loose else (0.2, 0.75),
        top_power=(1.2, 2.6),
        bottom=(2.8, 3.0),
        bottom_side=(2.8, 3.0),
        bottom_power=(2.0, 2.0),
        tilt=(-0.06, 0.06),
        corner=(0.01, 0.01),
    )
    laid, base = lay(cut, on.phi, on.t), dice.colour(fabric.SCARF, wild=0.2)
    # a bandana ends in a corner on the chest; everything else goes on past the picture
    corner = per_sample(dice.uniform(1.25, 2.2)) - per_sample(dice.uniform(0.25, 0.75)) * on.phi.abs() - on.t
    bandana = per_sample(dice.chance(0.0 if loose else 0.3))
    alpha = cover(torch.where(bandana, torch.minimum(laid.inside, corner), laid.inside), 0.02)
    vertices = chart(on.t_low, on.t_high)
    lift = 0.02 * dice.noise(6, 8, (vertices[1].shape[1], vertices[0].shape[2]))[:, 0] + per_sample(dice.uniform(0.0, 0.06))
    tent, ridge, flare = dice.uniform(0.1, 0.9), dice.uniform(0.1, 0.45), dice.uniform(-0.05, 0.55) + (0.2 if loose else 0.0)
    form = (tent, ridge, flare, lift, noted(cut, tent=tent, ridge=ridge, flare=flare))
    if sources.plain:
        flat = torch.ones_like(alpha)
        return Garment(base[:, :, None, None], flat, alpha, torch.zeros_like(alpha), on.t_low, on.t_high, *form)
    colour = fabric.dye(base, laid, dice, prints=0.5, photos=sources.photos, fabrics=sources.fabrics)
    sag = (
        laid.y
        - per_sample(dice.uniform(-0.5, 0.6)) * laid.x.abs()
        + per_sample(dice.uniform(0.0, 0.35)) * dice.noise(5, 7, sources.size)[:, 0]
    )
    rate = per_sample(dice.uniform(3.0, 14.0))
    folds = (rate * sag + 2.5 * dice.noise(4, 6, sources.size)[:, 0]).sin_()
    folds = folds + 0.5 * (2.3 * rate * sag + 3 * dice.noise(6, 9, sources.size)[:, 0]).sin_()
    tight = per_sample(dice.uniform(0.05, 1.0))
    edges = Lookup(-0.02, 0.2, colour.device)
    (hem,) = edges(laid.inside, line(edges.at, 0.05, 0.014) * dice.uniform(0.0, 0.4)[:, None])
    tone = fabric.fibres(dice, sources.size, amount=(0.0, 0.1)) + 0.1 * tight * folds.clamp(-1.5, 1.0) - hem
    height = (0.27 / rate * tight * folds + wrinkles(laid, dice, amount=(0.0, 0.07), rows=9, columns=10)) * alpha
    return Garment(colour, tone, alpha, height, on.t_low, on.t_high, *form)


DRAWN: dict[str, Callable[[Dice, Sources], Garment]] = {
    "surgical": surgical,
    "cloth": cloth,
    "n95": n95,
    "kn95": kn95,
    "scarf": scarf,
}
