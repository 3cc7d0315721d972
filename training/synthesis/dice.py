"""Batched random choices from one seeded generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class Dice:
    """Draws one value for each of ``count`` samples; the draws come from ``generator`` and land on ``device``.

    Draws are made where the generator lives, so that one seed gives one result on any device if the generator stays on the CPU.
    """

    def __init__(self, generator: torch.Generator, device: torch.device, count: int) -> None:
        self.generator = generator
        self.device = device
        self.count = count

    def of(self, count: int) -> Dice:
        """The same dice for another number of samples."""
        return Dice(self.generator, self.device, count)

    def rand(self, *shape: int) -> Tensor:
        """(count, *shape) uniform in 0..1."""
        return torch.rand(self.count, *shape, generator=self.generator, device=self.generator.device).to(self.device)

    def randn(self, *shape: int) -> Tensor:
        """(count, *shape) standard normal."""
        return torch.randn(self.count, *shape, generator=self.generator, device=self.generator.device).to(self.device)

    def uniform(self, low: float, high: float) -> Tensor:
        """(count,) uniform in low..high."""
        return low + (high - low) * self.rand()

    def zeros(self) -> Tensor:
        """(count,) zeros, where nothing is to be drawn."""
        return torch.zeros(self.count, device=self.device)

    def chance(self, probability: float) -> Tensor:
        """(count,) bool, True with the given probability."""
        return self.rand() < probability

    def choose(self, weights: Sequence[float]) -> Tensor:
        """(count,) int64 index, drawn in proportion to the weights."""
        edges = torch.tensor(weights, device=self.device, dtype=torch.float32).cumsum(0)
        return torch.bucketize(self.rand() * edges[-1], edges).clamp_max(len(weights) - 1)

    def colour(
        self, palette: Sequence[tuple[float, float, float, float]], *, jitter: float = 0.05, wild: float = 0.1
    ) -> Tensor:
        """(count, 3) from a palette of (red, green, blue, weight), jittered; a share ``wild`` is any colour at all."""
        table = torch.tensor(palette, device=self.device)
        colour = table[self.choose([row[3] for row in palette]), :3]
        colour = colour + jitter * self.randn(1) + 0.6 * jitter * self.randn(3)
        grey, wild_colour = self.rand(1), self.rand(3)
        wild_colour = grey + (wild_colour - grey) * self.rand(1)
        return torch.where(self.chance(wild)[:, None], wild_colour, colour).clamp(0.02, 0.98)

    def noise(self, rows: int, columns: int, size: tuple[int, int], *, channels: int = 1) -> Tensor:
        """(count, channels, *size) smooth noise about 0 with spread about 0.5, from a (rows, columns) lattice."""
        lattice = self.randn(channels, rows, columns) * 0.6
        between = (max(rows, size[0] // 4), max(columns, size[1] // 4))  # bicubic where it shows, bilinear for the rest
        lattice = F.interpolate(lattice, size=between, mode="bicubic", align_corners=True)
        return F.interpolate(lattice, size=size, mode="bilinear", align_corners=True)


class Alike(Dice):
    """Dice that fall alike for every sample of a batch, so that all of them get the very same choices."""

    def of(self, count: int) -> Alike:
        """The same dice for another number of samples."""
        return Alike(self.generator, self.device, count)

    def rand(self, *shape: int) -> Tensor:
        """(count, *shape) uniform in 0..1, one draw repeated."""
        return Dice(self.generator, self.device, 1).rand(*shape).expand(self.count, *shape).clone()

    def randn(self, *shape: int) -> Tensor:
        """(count, *shape) standard normal, one draw repeated."""
        return Dice(self.generator, self.device, 1).randn(*shape).expand(self.count, *shape).clone()


def per_sample(value: Tensor) -> Tensor:
    """(B,) as (B, 1, 1), to meet a field (B, H, W)."""
    return value[:, None, None]
