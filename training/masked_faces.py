"""Face masks drawn on photos in batched torch, on the fly (paper §4.1: five kinds, placed by 21 landmarks)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("none", "surgical", "cloth", "n95", "kn95", "scarf", "template")  # `SynthesizedBatch.kind` indexes this


@dataclass(frozen=True, slots=True, eq=False)
class SynthesizedBatch:
    """Photos with masks drawn on them and what is under the masks."""

    masked: Tensor  # (B, 3, H, W) float 0..1
    mask: Tensor  # (B, 1, H, W) float 0..1, 1 = face mask to remove; soft over about a pixel at its boundary
    truth: Tensor  # (B, 3, H, W) float 0..1, the photo through the same camera without a mask
    kind: Tensor  # (B,) int64, index into KINDS


class MaskSynthesizer:
    """Draws masks on aligned photos; every random choice comes from the generator that the call is given."""

    def __init__(self, *, templates_folder: str | None = None, camera: float = 1.0, bare: float = 0.15) -> None:
        self.templates_folder = templates_folder
        self.camera = camera
        self.bare = bare

    @torch.no_grad()
    def __call__(
        self, images: Tensor, landmarks: Tensor, generator: torch.Generator, *, kinds: Sequence[str] | None = None,
        shapes_only: bool = False,
    ) -> SynthesizedBatch:
        """Masks for images (B, 3, S, S) float 0..1 with landmarks (B, 68, 2) in pixels of the image, dlib order."""
        batch, _, size, _ = images.shape
        device = images.device

        def rand(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=generator.device).to(device)

        names = list(kinds) if kinds else ["surgical", "cloth", "n95", "kn95", "scarf"]
        table = torch.tensor([KINDS.index(n) for n in names], device=device)
        kind = table[(rand(batch) * len(names)).long().clamp_max(len(names) - 1)]
        if kinds is None and not shapes_only:
            kind = torch.where(rand(batch) < self.bare, 0, kind)
        jaw = landmarks[:, 1:16]
        top = landmarks[:, 28] + (landmarks[:, 30] - landmarks[:, 28]) * rand(batch, 1)
        polygon = torch.cat([jaw, top[:, None]], 1).clone()
        centre = polygon.mean(1, keepdim=True)
        polygon = centre + (polygon - centre) * (1.0 + 0.12 * rand(batch, 1, 1))
        mask = _star_shape(polygon - centre, centre, size) * (kind > 0).float()[:, None, None, None]
        colour = rand(batch, 3, 1, 1)
        luma = F.avg_pool2d(images.mean(1, keepdim=True), 31, 1, 15, count_include_pad=False)
        fabric = colour if shapes_only else (colour * (0.4 + luma)).clamp(0, 1)
        return SynthesizedBatch(images * (1 - mask) + fabric * mask, mask, images, kind)


def _star_shape(points: Tensor, centre: Tensor, size: int) -> Tensor:
    """(B, 1, S, S) inside of a star-shaped polygon (B, N, 2) about centre (B, 1, 2)."""
    rays = torch.arange(96, device=points.device) * (2 * torch.pi / 96) - torch.pi
    direction = torch.stack([rays.cos(), rays.sin()], -1)  # (R, 2)
    a, b = points[:, None], points.roll(-1, 1)[:, None]
    edge, d = b - a, direction[None, :, None]
    cross = d[..., 0] * edge[..., 1] - d[..., 1] * edge[..., 0]
    t = (a[..., 0] * edge[..., 1] - a[..., 1] * edge[..., 0]) / torch.where(cross.abs() < 1e-6, 1e-6, cross)
    s = (a[..., 0] * d[..., 1] - a[..., 1] * d[..., 0]) / torch.where(cross.abs() < 1e-6, 1e-6, cross)
    radius = torch.where((t > 0) & (s >= 0) & (s <= 1), t, 0.0).amax(2)  # (B, R)
    grid = torch.arange(size, device=points.device, dtype=points.dtype)
    x, y = grid[None, None, :] - centre[..., :1], grid[None, :, None] - centre[..., 1:]
    angle = (torch.atan2(y, x) + torch.pi) * (96 / (2 * torch.pi))
    low = angle.floor().long().clamp(0, 95)
    frac = angle - low
    flat = low.flatten(1)
    r = radius.gather(1, flat) * (1 - frac.flatten(1)) + radius.gather(1, (flat + 1) % 96) * frac.flatten(1)
    return (r.view_as(x + y) - torch.hypot(x + 0 * y, y + 0 * x) + 0.5).clamp(0, 1)[:, None]
