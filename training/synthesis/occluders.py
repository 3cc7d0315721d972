"""What comes between camera and mask: hair that is in the photo, and drawn hands, microphones, cups and glasses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.training.synthesis import hands
from vidunmask.training.synthesis.dice import Dice, per_sample
from vidunmask.training.synthesis.head_surface import Pose


def behind_hair(mask: Tensor, images: Tensor, skin: Tensor, phi: Tensor, dice: Dice, *, share: float) -> Tensor:
    """The mask (B, 1, S, S) without what dark hair of the photo covers, for a share of the faces with hair over the sides.

    images (B, 3, S, S), skin (B,) the brightness of the skin, phi (B, S, S) the angle about the head. A side counts as covered
    where most of the strip from cheek to ear is far darker than the skin; beards end before the ear.
    """
    chosen = (dice.chance(share) & (skin > 0.28)).nonzero()[:, 0]
    if not len(chosen):
        return mask
    some = dice.of(len(chosen))
    luma, angle, level = images[chosen].mean(1), phi[chosen], per_sample(skin[chosen])
    dark = ((0.6 * level - luma) / (0.16 * level + 0.02)).clamp_(0, 1)
    coarse_dark, coarse_angle = dark[:, ::4, ::4], angle[:, ::4, ::4]
    covered = []
    for sign in (-1.0, 1.0):
        strip = ((sign * coarse_angle > 1.1) & (sign * coarse_angle < 1.6)).to(luma.dtype)
        covered.append((coarse_dark * strip).sum((1, 2)) / strip.sum((1, 2)).clamp_min(1) > 0.6)
    here = torch.where(angle < 0, per_sample(covered[0]), per_sample(covered[1]))
    reach = ((angle.abs() - per_sample(some.uniform(0.6, 0.95))) * 8).clamp_(0, 1)
    mask = mask.clone()
    mask[chosen] *= 1 - (dark * reach * here)[:, None]
    return mask


def _capsule(x: Tensor, y: Tensor, a: Tensor, b: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Distance inside (positive) of a capsule from a to b (B, 2), and the height of its round surface 0..1."""
    ax, ay, dx, dy = (per_sample(v) for v in (a[:, 0], a[:, 1], b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]))
    along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy).clamp_min(1e-6)).clamp(0, 1)
    distance = ((x - ax - along * dx).square() + (y - ay - along * dy).square()).sqrt()
    r = per_sample(radius)
    return r - distance, (1 - (distance / r).square()).clamp_min(0).sqrt()


def _face_frame(pose: Pose, size: int, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """A coarser raster in eye distances about the top of the nose, upright to the head, and a pixel's length there."""
    raster = size // stride
    grid = torch.arange(raster, device=pose.scale.device, dtype=pose.scale.dtype) * stride + (stride - 1) / 2
    dx, dy = grid[None, None, :] - per_sample(pose.offset[:, 0]), grid[None, :, None] - per_sample(pose.offset[:, 1])
    cos, sin, scale = per_sample(pose.roll.cos()), per_sample(pose.roll.sin()), per_sample(pose.scale)
    return (dx * cos + dy * sin) / scale, (dy * cos - dx * sin) / scale, stride / scale


def hand(pose: Pose, skin: Tensor, light: Tensor, size: int, dice: Dice) -> tuple[Tensor, Tensor]:
    """Colour (B, 3, S, S) and alpha (B, 1, S, S) of hands before the mouth or on the cheek; skin (B, 3), light (B, 3) towards
    it."""
    colour, alpha = hands.hand(*_face_frame(pose, size, 2), skin, light, dice)
    return _enlarge(colour, size), _enlarge(alpha, size)


def thing(pose: Pose, size: int, dice: Dice) -> tuple[Tensor, Tensor]:
    """Colour and alpha of a microphone (a ball on a stick) or of a cup, phone or sheet (a box) before the mouth."""
    x, y, pixel = _face_frame(pose, size, 2)
    centre = torch.stack([dice.uniform(-0.7, 0.7), dice.uniform(1.0, 1.8)], 1)
    angle = 0.5 * dice.randn(1)[:, 0]
    down = torch.stack([angle.sin(), angle.cos()], 1)
    ball = dice.uniform(0.2, 0.4)
    head, dome = _capsule(x, y, centre, centre + 0.15 * down, ball)
    stick, tube = _capsule(x, y, centre + 0.2 * down, centre + 3 * down, 0.55 * ball)
    cx, cy = x - per_sample(centre[:, 0]), y - per_sample(centre[:, 1])
    u = cx * per_sample(angle.cos()) - cy * per_sample(angle.sin())
    v = cx * per_sample(angle.sin()) + cy * per_sample(angle.cos())
    half = (per_sample(dice.uniform(0.25, 0.7)), per_sample(dice.uniform(0.35, 0.9)))
    box = torch.minimum(half[0] - u.abs(), half[1] - (v - 0.3).abs())
    is_box = per_sample(dice.chance(0.45))
    first, second = (
        dice.colour(((0.07, 0.07, 0.08, 4), (0.4, 0.4, 0.42, 1), (0.9, 0.9, 0.9, 1)), wild=0.35)[:, :, None, None]
        for _ in range(2)
    )
    mesh = 0.8 + 0.2 * (per_sample(40 / ball) * u).sin() * (per_sample(40 / ball) * v).sin()
    mic = torch.where((head > 0)[:, None], first * (0.4 + 0.7 * dome * mesh)[:, None], second * (0.4 + 0.7 * tube)[:, None])
    round_ = 0.5 + 0.6 * (1 - (u / half[0]).square()).clamp_min(0).sqrt() * (x > -9)
    band = ((v - 0.3).abs() < per_sample(dice.uniform(0.0, 0.3)))[:, None]
    cup = torch.where(band, second, first) * round_[:, None]
    inside = torch.where(is_box, box, torch.maximum(head, stick))
    colour = torch.where(is_box[:, None], cup, mic)
    return _enlarge(colour.clamp(0, 1), size), _enlarge((inside / pixel + 0.5).clamp(0, 1)[:, None], size)


def glasses(landmarks: Tensor, pose: Pose, size: int, dice: Dice) -> tuple[Tensor, Tensor]:
    """Colour (B, 3, S, S) and alpha (B, 1, S, S) of a pair of glasses on the nose; a third have dark lenses."""
    x, y, _ = _face_frame(pose, size, 2)
    scale = per_sample(pose.scale)
    dark = dice.chance(0.35)
    line = per_sample(dice.uniform(0.012, 0.05))
    width, height = per_sample(dice.uniform(0.34, 0.46)), per_sample(dice.uniform(0.22, 0.4))
    power = per_sample(2 + 3 * dice.rand())
    low = per_sample(dice.uniform(0.02, 0.16))
    rings, lenses = torch.zeros_like(x + y), torch.zeros_like(x + y)
    middle = []
    for eye in (range(36, 42), range(42, 48)):
        point = landmarks[:, list(eye)].mean(1) - pose.offset
        cos, sin = pose.roll.cos(), pose.roll.sin()
        ex, ey = (
            per_sample(point[:, 0] * cos + point[:, 1] * sin) / scale,
            per_sample(point[:, 1] * cos - point[:, 0] * sin) / scale,
        )
        middle.append((ex, ey + low))
        radius = (((x - ex) / width).abs() ** power + ((y - ey - low) / height).abs() ** power).clamp_min(1e-6) ** (1 / power)
        inside = (1 - radius) * torch.minimum(width, height)
        rings = torch.maximum(rings, ((line - inside.abs()) * scale * 0.5 + 0.5).clamp(0, 1))
        lenses = torch.maximum(lenses, (inside * scale * 0.5 + 0.5).clamp(0, 1))
    (lx, ly), (rx, ry) = middle
    bridge = line - (y - 0.5 * (ly + ry) + 0.06).abs()
    rings = torch.maximum(rings, (bridge * scale * 0.5 + 0.5).clamp(0, 1) * (x > lx + width) * (x < rx - width))
    frame = dice.colour(((0.06, 0.06, 0.07, 5), (0.25, 0.15, 0.1, 2), (0.7, 0.68, 0.62, 1.5), (0.4, 0.4, 0.42, 1)))
    tint = dice.colour(((0.04, 0.04, 0.05, 5), (0.16, 0.09, 0.05, 2), (0.08, 0.1, 0.16, 1), (0.5, 0.55, 0.6, 0.7)), wild=0.05)
    # lenses are lighter below, and mirror a patch of what is before them
    fall = (0.6 - 0.4 * (y - 0.5 * (ly + ry)) / height * per_sample(dice.uniform(0.0, 1.0))).clamp(0, 1)
    mirrored = dice.noise(5, 5, (x.shape[1], x.shape[2]))[:, 0].clamp_min(0) * per_sample(dice.uniform(0.0, 0.35))
    lens = (tint[:, :, None, None] + mirrored[:, None]).clamp(0, 1)
    opaque = lenses * (0.5 + fall).clamp(0, 1) * per_sample(dice.uniform(0.65, 1.0) * dark)
    alpha = rings + (1 - rings) * opaque
    colour = torch.lerp(lens, frame[:, :, None, None].expand_as(lens), (rings / alpha.clamp_min(1e-4))[:, None])
    return _enlarge(colour, size), _enlarge(alpha[:, None], size)


def _enlarge(field: Tensor, size: int) -> Tensor:
    return F.interpolate(field, size=(size, size), mode="bilinear", align_corners=False)
