"""The camera: what exposure, lens, sensor, scaling and compression do to a photo, in batched torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.training.dice import Dice

SIDES = (1.0, 0.75, 0.5625, 0.4375, 0.3125)  # of the crop's side: a face of 300 to 60 pixels fills a crop of 256
# Quantisation tables of ITU-T T.81, annex K.1.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92), (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    (99,) * 8, (99,) * 8, (99,) * 8, (99,) * 8,
)  # fmt: skip
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class Camera:
    """Takes the same picture of two scenes: every random choice, noise included, is shared by both.

    ``strength`` 0..1 scales both how often and how much; 0 changes nothing.
    """

    def __init__(self, strength: float = 1.0) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"camera strength is {strength}, expected 0..1")
        self.strength = strength

    def __call__(self, first: Tensor, second: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
        """Both scenes (B, 3, S, S) 0..1 as photographed; S a multiple of 16, else nothing is compressed or scaled."""
        if self.strength == 0:
            return first, second
        s, size = self.strength, first.shape[-1]
        both = torch.stack([first, second], 1)  # (B, 2, 3, S, S)
        both = self._expose(both, dice)
        both = self._smear(both, dice)
        weights = (1.6, 1.0 * s, 1.0 * s, 0.8 * s * s, 0.6 * s * s)
        side = dice.choose(weights)
        quality = torch.where(dice.chance(0.65 * s), dice.uniform(95 - 70 * s, 96), 100.0)
        shot, read = s * 0.0006 * torch.exp2(dice.uniform(-3, 3.2)), s * 0.006 * torch.exp2(dice.uniform(-3, 2.2))
        noisy = dice.chance(0.25 + 0.5 * s).float()
        grain = dice.rand()
        sharpen = s * dice.uniform(0.2, 1.2) * dice.chance(0.3)
        out = torch.empty_like(both)
        for index, factor in enumerate(SIDES):
            chosen = (side == index).nonzero()[:, 0]
            if not len(chosen):
                continue
            part = both[chosen].flatten(0, 1)
            small = max(16, round(size * factor / 16) * 16) if size % 16 == 0 else size
            if small != size:
                part = F.interpolate(part, size=(small, small), mode="bilinear", antialias=True, align_corners=False)
            part = part.unflatten(0, (-1, 2))
            part = _noise(part, dice.of(len(chosen)), shot[chosen] * noisy[chosen], read[chosen] * noisy[chosen], grain[chosen])
            part = part.clamp(0, 1)
            compressed = (quality[chosen] < 100).nonzero()[:, 0]
            if len(compressed) and small % 16 == 0:
                part[compressed] = compress(part[compressed].flatten(0, 1), quality[chosen][compressed].repeat_interleave(2)).unflatten(0, (-1, 2))
            part = part.flatten(0, 1)
            if small != size:
                part = F.interpolate(part, size=(size, size), mode="bicubic", align_corners=False)
            out[chosen] = part.unflatten(0, (-1, 2))
        crisp = (sharpen > 0).nonzero()[:, 0]
        if len(crisp):
            part = out[crisp].flatten(0, 1)
            soft = F.avg_pool2d(F.pad(part, (1, 1, 1, 1), mode="replicate"), 3, 1)
            out[crisp] = (part + sharpen[crisp].repeat_interleave(2)[:, None, None, None] * (part - soft)).unflatten(0, (-1, 2))
        out = out.clamp(0, 1)
        return out[:, 0], out[:, 1]

    def _expose(self, both: Tensor, dice: Dice) -> Tensor:
        """White balance, exposure, contrast, gamma and saturation; some pictures dark, some nearly grey."""
        s = self.strength
        gain = torch.exp2(s * (0.22 * dice.randn(1) + 0.10 * dice.randn(3)))
        dark = dice.chance(0.12 * s)[:, None]
        gain = torch.where(dark, gain * torch.exp2(-dice.uniform(0.3, 1.7))[:, None], gain)
        gamma = torch.exp2(s * 0.25 * dice.randn(1))[:, :, None, None, None]
        contrast = torch.exp2(s * 0.15 * dice.randn(1))[:, :, None, None, None]
        lift = (s * dice.uniform(-0.02, 0.06))[:, None, None, None, None]
        x = (both * gain[:, None, :, None, None]).clamp(1e-4, 1) ** gamma
        x = (x - 0.45) * contrast + 0.45 + lift
        pale = torch.where(dice.chance(0.06 * s), 0.0, torch.exp2(s * 0.3 * dice.randn(1)[:, 0]).clamp_max(1.5))[:, None, None, None, None]
        grey = x.mean(2, keepdim=True)
        return (grey + (x - grey) * pale).clamp(0, 1)

    def _smear(self, both: Tensor, dice: Dice) -> Tensor:
        """Motion along a line and defocus over a disc, for some of the pictures."""
        s, radius = self.strength, 5
        moved, soft = dice.chance(0.15 * s), dice.chance(0.2 * s)
        length, angle, spread = dice.uniform(1.5, 4.5), dice.uniform(0, torch.pi), dice.uniform(0.5, 2.6)
        blurred = (moved | soft).nonzero()[:, 0]
        if not len(blurred):
            return both
        r = torch.arange(-radius, radius + 1, device=both.device, dtype=both.dtype)
        y, x = r[:, None], r[None, :]
        cos, sin = (f(angle)[:, None, None] for f in (torch.cos, torch.sin))
        along, beside = x * cos + y * sin, y * cos - x * sin
        line = (length[:, None, None] + 0.5 - along.abs()).clamp(0, 1) * (1 - beside.abs()).clamp_min(0)
        disc = (spread[:, None, None] + 0.5 - (x * x + y * y).sqrt()).clamp(0, 1) + 1e-6
        kernel = torch.where(moved[:, None, None], line, disc)[blurred]
        kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(6, 0)[:, None]
        picture = both[blurred]
        flat = F.pad(picture.reshape(1, -1, *picture.shape[-2:]), (radius,) * 4, mode="replicate")
        both = both.clone()
        both[blurred] = F.conv2d(flat, kernel, groups=len(kernel)).view_as(picture)
        return both


def _noise(part: Tensor, dice: Dice, shot: Tensor, read: Tensor, grain: Tensor) -> Tensor:
    """Sensor noise with variance shot·x + read² on (B, 2, 3, H, W), the same for both scenes; coarser where ``grain`` is high."""
    if float(read.max()) == 0:
        return part
    noise = dice.randn(3, *part.shape[-2:])
    noise = 0.6 * noise + 0.4 * noise.mean(1, keepdim=True) * 3**0.5
    coarse = F.avg_pool2d(noise, 3, 1, 1) * 2
    noise = torch.where((grain > 0.6)[:, None, None, None], coarse, noise)
    sigma = (shot[:, None, None, None, None] * part + (read**2)[:, None, None, None, None]).sqrt()
    return part + sigma * noise[:, None]


def _dct(device: torch.device, dtype: torch.dtype) -> Tensor:
    k = torch.arange(8, device=device, dtype=dtype)
    matrix = 0.5 * (torch.pi * (2 * k[None] + 1) * k[:, None] / 16).cos()
    matrix[0] *= 0.5**0.5
    return matrix


def _quantise(plane: Tensor, table: Tensor, matrix: Tensor) -> Tensor:
    """One plane (N, H, W) about 0 through 8 × 8 blocks whose coefficients are rounded to steps ``table`` (N, 8, 8)."""
    n, height, width = plane.shape
    blocks = plane.view(n, height // 8, 8, width // 8, 8).transpose(2, 3)  # (N, h, w, 8, 8)
    steps = table[:, None, None]
    coefficients = ((matrix @ blocks @ matrix.T) / steps).round() * steps
    return (matrix.T @ coefficients @ matrix).transpose(2, 3).reshape(n, height, width)


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """images (N, 3, H, W) 0..1 through JPEG's lossy steps at quality (N,) 1..100, colour at half resolution; H, W multiples of 16."""
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
