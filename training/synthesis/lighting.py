"""The light on a face, and the same light on what the face wears."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.training.synthesis.dice import Dice, per_sample
from vidunmask.training.synthesis.garments import Garment
from vidunmask.training.synthesis.head_surface import MAX_ANGLE, chart
from vidunmask.training.synthesis.mask_shapes import ACROSS, DOWN


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """Brightness of a surface with outward normal n is ambient + direction · n, 1 on the average of the face."""

    ambient: Tensor  # (B,)
    direction: Tensor  # (B, 3) in the camera's frame
    white: Tensor  # (B, 3) what white cloth facing the viewer looks like in this photo
    skin: Tensor  # (B, 3) colour of the skin of the upper face
    patches: Tensor  # (B, 1, 64, 64) brightness of the photo over that of the skin, blurred, kept near 1


def fit_light(images: Tensor, xy: Tensor, frame: Tensor, seen: Tensor, garment: Garment, dice: Dice) -> Light:
    """Fits the light to images (B, 3, S, S) 0..1 at a surface's vertices.

    xy (B, R, C, 2), frame (B, 3, R, C, 3) and seen (B, R, C) are what `head_surface.place` and `unfold` return. Least squares
    over the skin between eyes and chin, drawn towards even light; then turned a little at random.
    """
    size = images.shape[-1]
    small = F.interpolate(images, size=(64, 64), mode="area")
    small = F.avg_pool2d(small, 3, 1, 1, count_include_pad=False)
    phi, t = chart(garment.t_low, garment.t_high)
    samples = F.grid_sample(small, (xy + 0.5) * (2 / size) - 1, mode="bilinear", padding_mode="border", align_corners=False)
    luma = samples.mean(1)
    upper = seen * (phi.abs() < 0.9) * (t > 0.08) * (t < 0.42) + 1e-4
    level = (luma * upper).sum((1, 2)) / upper.sum((1, 2))
    skin = (samples * upper[:, None]).sum((2, 3)) / upper.sum((1, 2))[:, None]
    face = seen * (phi.abs() < 1.25) * (t > 0.05) * (t < 0.95)
    spread = per_sample(0.4 * level + 0.04)
    weight = (face * torch.exp(-((luma - per_sample(level)) / spread).square())).flatten(1)
    normals = frame[:, 2].flatten(1, 2)
    x = torch.cat([torch.ones_like(normals[..., :1]), normals], -1)
    gram = (x * weight[..., None]).transpose(1, 2) @ x
    ridge = weight.sum(1)[:, None, None] * torch.diag(x.new_tensor([0.0, 0.02, 0.02, 0.05])) + 1e-5 * torch.eye(
        4, device=x.device
    )
    ratio = (luma / per_sample(level.clamp_min(0.02))).flatten(1)
    fit = torch.linalg.solve(gram + ridge, (x * (weight * ratio)[..., None]).sum(1))
    direction = fit[:, 1:] + 0.12 * dice.randn(3)
    direction = direction + torch.stack([torch.zeros_like(level), -dice.uniform(0.0, 0.2), dice.uniform(0.0, 0.15)], 1)
    harsh = dice.chance(0.2)[:, None]  # sun or a lamp from one side, that even skin in a studio photo does not show
    direction = torch.where(harsh, direction + 0.4 * dice.randn(3), direction)
    direction = direction * (1 / direction.norm(dim=1, keepdim=True).clamp_min(1))
    bright = small.mean(1).flatten(1).kthvalue(int(0.96 * 64 * 64), dim=1).values
    mix = dice.rand()
    white = mix * torch.maximum(bright, 1.25 * level) + (1 - mix) * (1.75 * level).clamp(0.2, 1.1)
    white = (white * dice.uniform(0.85, 1.2)).clamp(0.08, 1.2)
    mean = images.mean((2, 3))
    cast = (mean / mean.mean(1, keepdim=True).clamp_min(0.02)).clamp(0.75, 1.3) ** dice.uniform(0.0, 0.6)[:, None]
    patches = (small.mean(1, keepdim=True) / level.clamp_min(0.05)[:, None, None, None]).clamp(0.45, 1.35)
    patches = F.avg_pool2d(patches, 5, 1, 2, count_include_pad=False)
    return Light(1 - direction[:, 2] * 0.8, direction, white[:, None] * cast, skin, patches)


def shade(garment: Garment, frame: Tensor, light: Light, dice: Dice) -> Tensor:
    """(B, H, W) brightness of the garment's texture, 1 on cloth that faces the viewer, under the light and in its folds."""
    facing = (frame * light.direction[:, None, None, None]).sum(-1)  # (B, 3, R, C): across, down, outwards
    across, down, out = F.interpolate(facing, size=garment.height.shape[1:], mode="bilinear", align_corners=True).unbind(1)
    rows, columns = garment.height.shape[1:]
    h = garment.height * per_sample(dice.uniform(0.5, 1.4))
    step_x = 2 * MAX_ANGLE * ACROSS / (columns - 1)
    step_y = per_sample((garment.t_high - garment.t_low) * DOWN / (rows - 1))
    gx, gy = torch.zeros_like(h), torch.zeros_like(h)
    gx[..., 1:] = ((h[..., 1:] - h[..., :-1]) / step_x).clamp_(-1.5, 1.5)
    gy[:, 1:] = ((h[:, 1:] - h[:, :-1]) / step_y).clamp_(-1.5, 1.5)
    length = torch.addcmul(torch.addcmul(torch.ones_like(h), gx, gx), gy, gy).rsqrt_()
    lit = (
        torch.addcmul(torch.addcmul(out, gx, across, value=-1), gy, down, value=-1).mul_(length).add_(per_sample(light.ambient))
    )
    around = F.avg_pool2d(F.avg_pool2d(h[:, None], 4), 3, 1, 1, count_include_pad=False)
    hollow = F.interpolate(around, size=(rows, columns), mode="bilinear", align_corners=False)[:, 0] - h
    dark = (1 - hollow * per_sample(dice.uniform(2.0, 6.0))).clamp_(0.6, 1.2)
    return lit.mul_(dark).clamp_(0.12, 1.7)


def sun_and_shade(size: int, dice: Dice, *, share: float) -> Tensor:
    """(B, 1, S, S) brightness of patches of shade that fall on face and mask alike, in a share of the pictures; else 1."""
    chosen = dice.chance(share)
    field = dice.noise(4, 4, (64, 64)) + per_sample(0.4 * dice.randn(1)[:, 0])[:, None]
    edge = torch.sigmoid(field * torch.exp2(dice.uniform(2.0, 6.0))[:, None, None, None])
    depth = (dice.uniform(0.15, 0.65) * chosen)[:, None, None, None]
    return F.interpolate(1 - depth * edge, size=(size, size), mode="bilinear", align_corners=False)
