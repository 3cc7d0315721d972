"""What masks are made of: colours, prints, marks and lettering on the chart of a mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.training.synthesis.dice import Dice, per_sample
from vidunmask.training.synthesis.mask_shapes import Laid

Palette = tuple[tuple[float, float, float, float], ...]  # red, green, blue, weight
Range = tuple[float, float]
Box = tuple[Range, Range, Range, Range]  # middle across and down, half width and height

SURGICAL: Palette = (
    (0.64, 0.80, 0.90, 4),
    (0.55, 0.74, 0.88, 3),
    (0.93, 0.94, 0.95, 5),
    (0.62, 0.84, 0.80, 2),
    (0.45, 0.72, 0.68, 1),
    (0.94, 0.76, 0.80, 1),
    (0.06, 0.06, 0.07, 2),
    (0.55, 0.56, 0.60, 1),
    (0.25, 0.40, 0.65, 1),
    (0.72, 0.66, 0.86, 0.6),
)
CLOTH: Palette = (
    (0.05, 0.05, 0.06, 6),
    (0.12, 0.13, 0.16, 2),
    (0.92, 0.91, 0.89, 3),
    (0.45, 0.46, 0.48, 2),
    (0.70, 0.71, 0.73, 1),
    (0.12, 0.18, 0.36, 2),
    (0.80, 0.72, 0.60, 1.5),
    (0.62, 0.12, 0.14, 1),
    (0.90, 0.70, 0.74, 1),
    (0.20, 0.32, 0.24, 1),
    (0.35, 0.42, 0.50, 1),
)
RESPIRATOR: Palette = (
    (0.93, 0.93, 0.92, 8),
    (0.90, 0.88, 0.83, 2),
    (0.97, 0.97, 0.97, 2),
    (0.20, 0.62, 0.68, 1),
    (0.55, 0.57, 0.60, 1),
    (0.08, 0.08, 0.09, 1.5),
    (0.90, 0.74, 0.78, 0.7),
    (0.72, 0.82, 0.90, 0.6),
)
SCARF: Palette = (
    (0.05, 0.05, 0.06, 3),
    (0.30, 0.30, 0.33, 2),
    (0.75, 0.72, 0.68, 1.5),
    (0.55, 0.10, 0.12, 1.5),
    (0.14, 0.20, 0.40, 2),
    (0.36, 0.34, 0.22, 1),
    (0.88, 0.86, 0.83, 1),
    (0.72, 0.58, 0.42, 1),
    (0.20, 0.34, 0.30, 1),
    (0.80, 0.45, 0.50, 0.7),
)
STRAP: Palette = (
    (0.93, 0.93, 0.93, 6),
    (0.06, 0.06, 0.07, 2),
    (0.88, 0.80, 0.25, 1.2),
    (0.25, 0.40, 0.72, 1),
    (0.6, 0.6, 0.6, 1),
)


def _wave(x: Tensor, sharp: Tensor) -> Tensor:
    """0..1, a cosine of period 1 whose edges ``sharp`` makes steeper."""
    return (0.5 + 0.5 * sharp * (2 * torch.pi * x).cos()).clamp(0, 1)


def dye(base: Tensor, laid: Laid, dice: Dice, *, prints: float, photos: Tensor, fabrics: Tensor | None) -> Tensor:
    """The colour (B, 3, H, W) of cloth with base colour (B, 3): plain, or printed with probability ``prints``.

    Prints are stripes, checks, tartans, dots, flowers, camouflage, smears, pieces of ``photos`` (B, 3, S, S) and pictures of
    cloth ``fabrics`` (K, 3, T, T), where given.
    """
    out = base[:, :, None, None].expand(-1, -1, *laid.v.shape[1:]).clone()
    pictured = 2.5 if fabrics is not None else 0.0
    kind = torch.where(dice.chance(prints), 1 + dice.choose((1.6, 1.4, 1, 1.6, 1.6, 1.6, 1, 1.6, pictured)), 0)
    painters = (_stripes, _gingham, _tartan, _dots, _flowers, _camouflage, _smear)
    for number in kind.unique().tolist():
        chosen = (kind == number).nonzero()[:, 0]
        some = dice.of(len(chosen))
        x, y = laid.x[chosen], laid.y[chosen]
        if number > len(painters):
            source = photos if number == 8 else fabrics
            assert source is not None
            out[chosen] = _picture(x, y, source, some, tile=number == 9)
        elif number > 0:
            angle = some.uniform(-torch.pi, torch.pi) * some.chance(0.6)
            rate, cos, sin = (per_sample(v) for v in (torch.exp2(some.uniform(0.8, 3.4)), angle.cos(), angle.sin()))
            p, q = rate * (x * cos + y * sin), rate * (y * cos - x * sin)
            inks = some.rand(3, 3)
            inks = torch.where(some.chance(0.35)[:, None, None], inks[:, :, :1].expand(-1, -1, 3), inks).clamp(0.03, 0.97)
            one, two, three = (ink[:, :, None, None] for ink in inks.unbind(1))
            out[chosen] = painters[number - 1](p, q, out[chosen], (one, two, three), per_sample(some.uniform(1.0, 8.0)), some)
    return out


Colours = tuple[Tensor, Tensor, Tensor]


def _mix(a: Tensor, b: Tensor, amount: Tensor) -> Tensor:
    return torch.lerp(a, b, amount[:, None])


def _stripes(p: Tensor, q: Tensor, base: Tensor, colours: Colours, sharp: Tensor, dice: Dice) -> Tensor:
    out = _mix(base, colours[0], _wave(p, sharp))
    second = _wave(0.5 * p + 0.25, 4 * sharp) * dice.chance(0.4)[:, None, None]
    return _mix(out, colours[1], second)


def _gingham(p: Tensor, q: Tensor, base: Tensor, colours: Colours, sharp: Tensor, dice: Dice) -> Tensor:
    return _mix(base, colours[0], 0.5 * _wave(p, sharp + 2) + 0.5 * _wave(q, sharp + 2))


def _tartan(p: Tensor, q: Tensor, base: Tensor, colours: Colours, sharp: Tensor, dice: Dice) -> Tensor:
    out = base
    for colour, rate, thin in zip(colours, (0.5, 0.5, 1.0), (0.0, 0.75, 0.85), strict=True):
        shift = dice.rand(1, 1)
        lines = (_wave(rate * p + shift, 4 * sharp) + _wave(rate * q + shift, 4 * sharp)) * 0.5
        out = _mix(out, colour, ((lines - thin) / (1 - thin)).clamp(0, 1))
    return out


def _dots(p: Tensor, q: Tensor, base: Tensor, colours: Colours, sharp: Tensor, dice: Dice) -> Tensor:
    row = q.floor()
    x, y = (p + 0.5 * row).remainder(1) - 0.5, q.remainder(1) - 0.5
    radius = per_sample(dice.uniform(0.12, 0.42))
    return _mix(base, colours[0], ((radius - (x * x + y * y).sqrt()) * 10).clamp(0, 1))


def _flowers(p: Tensor, q: Tensor, base: Tensor, colours: Colours, sharp: Tensor, dice: Dice) -> Tensor:
    warp = dice.noise(5, 7, p.shape[1:], channels=2)
    p, q = 0.7 * p + 0.5 * warp[:, 0], 0.7 * q + 0.5 * warp[:, 1]
    out = base
    petals = per_sample(dice.choose((1, 1, 1, 1)) + 3.0)
    for colour, shift, size in zip(colours, (0.0, 0.37, 0.71), (0.42, 0.3, 0.22), strict=True):
        u, v = p + shift, q + 0.61 * shift
        row = v.floor()
        x, y = (u + 0.5 * row).remainder(1) - 0.5, v.remainder(1) - 0.5
        turn = 2.4 * row + 1.7 * (u + 0.5 * row).floor()
        radius, theta = (x * x + y * y).sqrt(), torch.atan2(y, x) + turn
        edge = size * (0.68 + 0.32 * (petals * theta).cos())
        out = _mix(out, colour, ((edge - radius) * 14).clamp(0, 1))
        out = _mix(out, base, ((0.22 * size - radius) * 20).clamp(0, 1))
    return out


def _camouflage(p: Tensor, q: Tensor, base: Tensor, colours: Colours, sharp: Tensor, dice: Dice) -> Tensor:
    out = base
    earthy = base.mean(1, keepdim=True)
    natural = dice.chance(0.7)[:, None, None, None]
    for colour, cut in zip(colours, (0.0, 0.25, 0.45), strict=True):
        blobs = dice.noise(9, 16, p.shape[1:])[:, 0] + 0.5 * dice.noise(20, 36, p.shape[1:])[:, 0]
        tone = torch.where(natural, 0.45 * colour + 0.35 * earthy + 0.1 * base, colour)
        out = _mix(out, tone, ((blobs - cut) * 9).clamp(0, 1))
    return out


def _smear(p: Tensor, q: Tensor, base: Tensor, colours: Colours, sharp: Tensor, dice: Dice) -> Tensor:
    field = dice.noise(4, 8, p.shape[1:], channels=3)
    twist = _wave(0.4 * p + 1.5 * field[:, 0], sharp)
    out = _mix(base, colours[0], twist)
    return _mix(
        _mix(out, colours[1], (2 * field[:, 1]).clamp(0, 1)), colours[2], _wave(0.4 * q + 2 * field[:, 2], 3 * sharp) * 0.6
    )


def _picture(x: Tensor, y: Tensor, source: Tensor, dice: Dice, *, tile: bool) -> Tensor:
    picture = source[(dice.rand() * len(source)).long().clamp_max(len(source) - 1)]
    scale = per_sample(torch.exp2(dice.uniform(-0.7, 0.9) if tile else dice.uniform(-1.6, -0.1)))
    x, y = x * scale + per_sample(dice.uniform(-0.5, 0.5)), y * scale + per_sample(dice.uniform(-0.4, 0.4))
    if tile:  # mirrored repetition hides the joints
        x, y = ((x + 1).remainder(4) - 2).abs() - 1, ((y + 1).remainder(4) - 2).abs() - 1
    flip = per_sample(torch.where(dice.chance(0.5), 1.0, -1.0))
    grid = torch.stack(torch.broadcast_tensors(x * flip, y), -1)
    out = F.grid_sample(picture, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    grey = out.mean(1, keepdim=True)
    tint = dice.rand(3)[:, :, None, None]
    return torch.where(dice.chance(0.25)[:, None, None, None], grey * (0.3 + 0.7 * tint), out)


def _box(x: Tensor, y: Tensor, dice: Dice, reach: Box) -> tuple[Tensor, Tensor]:
    """Coordinates -1..1 in a box whose middle and half size, in eye distances, are drawn from ``reach``."""
    cx, cy, width, height = (per_sample(dice.uniform(*r)) for r in reach)
    return (x - cx) / width, (y - cy) / height


def lettering(colour: Tensor, laid: Laid, dice: Dice, *, share: float, ink: Palette, box: Box, strength: float = 1.0) -> Tensor:
    """The colour (B, 3, H, W) with lines of marks that look like print from afar on a share of the masks."""
    chosen = dice.chance(share).nonzero()[:, 0]
    if not len(chosen):
        return colour
    some = dice.of(len(chosen))
    rows, columns = 11, 36
    glyphs = (some.rand(rows, columns) < 0.55).float()
    across = torch.arange(columns, device=glyphs.device)
    big = some.chance(0.4)
    blank = (torch.arange(rows, device=glyphs.device) % torch.where(big, 6, 3)[:, None]) >= torch.where(big, 5, 2)[:, None]
    words = some.rand(1, columns) > 0.12
    margin = 0.35 * columns * some.rand(rows, 1) * ~big[:, None, None]
    glyphs = glyphs * ~blank[:, :, None] * words * ((across - columns / 2).abs() < columns / 2 - margin)
    x, y = _box(laid.x[chosen], laid.y[chosen], some, box)
    grid = torch.stack(torch.broadcast_tensors(x, y), -1)
    text = F.grid_sample(glyphs[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    text = text * (strength * some.uniform(0.5, 1.0))[:, None, None, None]
    colour[chosen] = torch.lerp(colour[chosen], some.colour(ink)[:, :, None, None], text)
    return colour


def logo(colour: Tensor, laid: Laid, dice: Dice, *, share: float, ink: Palette, box: Box) -> Tensor:
    """The colour (B, 3, H, W) with one mark on a share of the masks: a disc, a ring, a star or a flower."""
    chosen = dice.chance(share).nonzero()[:, 0]
    if not len(chosen):
        return colour
    some = dice.of(len(chosen))
    x, y = _box(laid.x[chosen], laid.y[chosen], some, box)
    radius, theta = (x * x + y * y).sqrt(), torch.atan2(*torch.broadcast_tensors(y, x))
    depth = per_sample(some.uniform(0.0, 0.5))
    edge = 1 - depth + depth * ((per_sample(some.choose((1, 1, 1, 1, 1))) + 2.0) * theta).cos()
    hole = per_sample(some.uniform(0.0, 0.8) * some.chance(0.5))
    mark = ((edge - radius) * 8).clamp(0, 1) * ((radius - hole * edge) * 8 + 0.5 * (hole == 0)).clamp(0, 1)
    colour[chosen] = torch.lerp(colour[chosen], some.colour(ink, wild=0.3)[:, :, None, None], mark[:, None])
    return colour


def fibres(dice: Dice, size: tuple[int, int], *, amount: tuple[float, float]) -> Tensor:
    """(B, H, W) brightness of threads and fibres, about 1: pieces of one random plane, stretched for a few."""
    rows, columns = size
    plane = dice.of(1).randn(2 * rows, 2 * columns)[0]
    corner = (dice.rand(2) * torch.tensor([rows, columns], device=dice.device)).long().tolist()
    pieces = torch.stack([plane[r : r + rows, c : c + columns] for r, c in corner])
    return pieces.mul_(per_sample(dice.uniform(*amount))).add_(1)
