"""The camera: what exposure, lens, sensor, scaling and compression do to a photo, in batched torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.training.synthesis.dice import Dice

SIDES = (1.0, 0.75, 0.5625, 0.4375, 0.3125)  # of the crop's side: a face of 300 to 60 pixels fills a crop of 256
# Quantisation tables of ITU-T T.81, annex K.1.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99,) * 8,
    (99,) * 8,
    (99,) * 8,
    (99,) * 8,
)
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class Camera:
    """Takes the same picture of one or more scenes: every random choice, noise included, is shared by them.

    ``strength`` 0..1 scales both how often and how much; 0 changes nothing.
    """

    def __init__(self, strength: float = 1.0) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"camera strength is {strength}, expected 0..1")
        self.strength = strength

    def __call__(self, scenes: Tensor, dice: Dice) -> Tensor:
        """N scenes (B, N, 3, S, S) 0..1 as photographed; neither scaled nor compressed where 16 does not divide S."""
        if self.strength == 0:
            return scenes
        s, size = self.strength, scenes.shape[-1]
        scenes = _blur(self._expose(scenes, dice), dice, s)
        divides = size % 16 == 0
        side = dice.choose((1.6, 1.0 * s, 1.0 * s, 0.7 * s * s, 0.4 * s * s) if divides else (1.0,))
        quality = torch.where(dice.chance(0.65 * s if divides else 0.0), dice.uniform(95 - 65 * s, 96), 100.0)
        noise = _noise(size, dice, s)
        for index in side.unique().tolist():
            chosen = (side == index).nonzero()[:, 0]
            small = max(16, round(size * SIDES[index] / 16) * 16) if divides else size
            part, some = scenes[chosen], dice.of(len(chosen))
            if small != size:
                part = _resized(part, small, mode="bilinear", antialias=True)
            part = noise(part, chosen, some)
            compressed = (quality[chosen] < 100).nonzero()[:, 0]
            if len(compressed):
                pieces = part[compressed]
                tables = quality[chosen][compressed].repeat_interleave(pieces.shape[1])
                part[compressed] = compress(pieces.flatten(0, 1), tables).view_as(pieces)
            if small != size:
                part = _resized(part, size, mode="bicubic", antialias=False)
            scenes[chosen] = part
        return _sharpen(scenes, dice, s).clamp_(0, 1)

    def _expose(self, scenes: Tensor, dice: Dice) -> Tensor:
        """White balance, exposure, gamma, contrast and saturation; some pictures dark, some without colour."""
        s = self.strength
        gain = torch.exp2(s * (0.16 * dice.randn(1) + 0.08 * dice.randn(3)))
        gain = torch.where(dice.chance(0.08 * s)[:, None], gain * torch.exp2(-dice.uniform(0.3, 1.3))[:, None], gain)
        five = (slice(None), None, None, None, None)
        x = (scenes * gain[:, None, :, None, None]).clamp_(1e-4, 1)
        bent = dice.chance(0.6).nonzero()[:, 0]
        if len(bent):
            x[bent] = x[bent].pow_(torch.exp2(s * 0.25 * dice.of(len(bent)).randn(1)[:, 0])[five])
        contrast = torch.exp2(s * 0.13 * dice.randn(1)[:, 0])
        x = torch.addcmul((0.45 * (1 - contrast) + s * dice.uniform(-0.02, 0.06))[five], x, contrast[five])
        pale = torch.where(dice.chance(0.05 * s), 0.0, torch.exp2(s * 0.3 * dice.randn(1)[:, 0]).clamp_max(1.5))
        return torch.lerp(x.mean(2, keepdim=True), x, pale[five]).clamp_(0, 1)


def _resized(scenes: Tensor, size: int, *, mode: str, antialias: bool) -> Tensor:
    flat = F.interpolate(scenes.flatten(0, 1), size=(size, size), mode=mode, antialias=antialias, align_corners=False)
    return flat.unflatten(0, scenes.shape[:2])


def _blur(scenes: Tensor, dice: Dice, strength: float) -> Tensor:
    """Motion along a line or defocus over a disc, for some of the pictures."""
    radius = 5
    moved, soft = dice.chance(0.13 * strength), dice.chance(0.17 * strength)
    length, angle, spread = dice.uniform(1.5, 4.5), dice.uniform(0, torch.pi), dice.uniform(0.5, 2.6)
    blurred = (moved | soft).nonzero()[:, 0]
    if not len(blurred):
        return scenes
    r = torch.arange(-radius, radius + 1, device=scenes.device, dtype=scenes.dtype)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, beside = r * cos + r[:, None] * sin, r[:, None] * cos - r * sin
    streak = (length[:, None, None] + 0.5 - along.abs()).clamp(0, 1) * (1 - beside.abs()).clamp_min(0)
    disc = (spread[:, None, None] + 0.5 - torch.hypot(r, r[:, None])).clamp(0, 1) + 1e-6
    kernel = torch.where(moved[:, None, None], streak, disc)[blurred]
    picture = scenes[blurred]
    channels = picture.shape[1] * picture.shape[2]
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(channels, 0)[:, None]
    flat = F.pad(picture.reshape(1, -1, *picture.shape[-2:]), (radius,) * 4, mode="replicate")
    scenes[blurred] = F.conv2d(flat, kernel, groups=len(kernel)).view_as(picture)
    return scenes


def _sharpen(scenes: Tensor, dice: Dice, strength: float) -> Tensor:
    """The halos of a camera's own sharpening, on some of the pictures."""
    amount = strength * dice.uniform(0.2, 1.2)
    crisp = dice.chance(0.25 * strength).nonzero()[:, 0]
    if len(crisp):
        part = scenes[crisp].flatten(0, 1)
        soft = F.avg_pool2d(part, 3, 1, 1, count_include_pad=False)
        weight = -amount[crisp].repeat_interleave(scenes.shape[1])[:, None, None, None]
        scenes[crisp] = torch.lerp(part, soft, weight).unflatten(0, (-1, scenes.shape[1]))
    return scenes


def _noise(size: int, dice: Dice, strength: float) -> Callable[[Tensor, Tensor, Dice], Tensor]:
    """What adds sensor noise of variance shot·x + read² to some of the pictures, fine or coarse, the same to every scene.

    All pieces come from one random plane: normal numbers for every pixel of every picture would cost more than all else here.
    """
    plane = dice.of(1).randn(3, size + 96, size + 96)[0]
    plane = 0.75 * plane + 0.65 * plane.mean(0, keepdim=True) * 3**0.5  # grain is mostly grey
    coarse = F.avg_pool2d(plane, 3, 1, 1) * 1.8
    shot, read = strength * 0.0004 * torch.exp2(dice.uniform(-4, 2)), strength * 0.004 * torch.exp2(dice.uniform(-3, 1.8))
    noisy, grainy = dice.chance(0.25 + 0.4 * strength).tolist(), dice.chance(0.35).tolist()

    def add(part: Tensor, index: Tensor, some: Dice) -> Tensor:
        side = part.shape[-1]
        corners = (some.rand(2) * (plane.shape[-1] - side)).long().tolist()
        for i, ((row, column), n) in enumerate(zip(corners, index.tolist(), strict=True)):
            if noisy[n]:
                piece = (coarse if grainy[n] else plane)[:, row : row + side, column : column + side]
                sigma = (part[i].mean(1, keepdim=True) * shot[n] + read[n] ** 2).sqrt_()
                part[i].addcmul_(sigma, piece).clamp_(0, 1)
        return part

    return add


def _dct(device: torch.device, dtype: torch.dtype) -> Tensor:
    k = torch.arange(8, device=device, dtype=dtype)
    matrix = 0.5 * (torch.pi * (2 * k[None] + 1) * k[:, None] / 16).cos()
    matrix[0] *= 0.5**0.5
    return matrix


def _quantise(plane: Tensor, table: Tensor, matrix: Tensor) -> Tensor:
    """One plane (N, H, W) about 0 through 8 × 8 blocks whose coefficients are rounded to steps ``table`` (N, 8, 8)."""
    n, height, width = plane.shape
    steps = table[:, None, :, None, :]
    rows = (matrix @ plane.view(n, height // 8, 8, width)).view(n, height // 8, 8, width // 8, 8)
    coefficients = (rows @ matrix.T).div_(steps).round_().mul_(steps)
    rows = (coefficients @ matrix).view(n, height // 8, 8, width)
    return (matrix.T @ rows).view(n, height, width)


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """images (N, 3, H, W) 0..1 through JPEG's lossy steps at quality (N,) 1..100; H and W multiples of 16."""
    matrix = _dct(images.device, images.dtype)
    ycc = images.new_tensor(_YCC)
    scale = torch.where(quality < 50, 5000 / quality.clamp_min(1), 200 - 2 * quality) / 100
    tables = [(images.new_tensor(t)[None] * scale[:, None, None]).round().clamp_min(1) / 255 for t in (_LUMA, _CHROMA)]
    planes = torch.einsum("kc,nchw->nkhw", ycc, images)
    luma = _quantise(planes[:, 0] - 0.5, tables[0], matrix) + 0.5
    chroma = F.avg_pool2d(planes[:, 1:], 2)
    chroma = torch.stack([_quantise(chroma[:, 0], tables[1], matrix), _quantise(chroma[:, 1], tables[1], matrix)], 1)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.einsum("ck,nkhw->nchw", torch.linalg.inv(ycc), torch.cat([luma[:, None], chroma], 1)).clamp(0, 1)
