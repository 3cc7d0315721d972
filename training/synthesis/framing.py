"""Faces as a tracker's crops show them: beside the middle, cut by the frame's edge, few pixels wide."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.training.pack import Jitter
from vidunmask.training.synthesis.degrade import compress
from vidunmask.training.synthesis.turn import similarities

# the landmarks of a profile lie on the cheek, half a face behind the mask
STRAY = Jitter(shift=26.0, scale=0.12, angle=0.25, flip=False)
SIDES = (32, 48, 64, 80)  # pixels of a frame that make up the crop of a distant face; multiples of `degrade.compress`'s 16
DEEPEST = 0.5  # of the crop's side that may lie beyond the frame


def stray_some(images: Tensor, mask: Tensor, generator: torch.Generator, *, share: float) -> tuple[Tensor, Tensor]:
    """Moves a ``share`` 0..1 of pictures (B, 3, S, S) and their masks (B, 1, S, S) as crops that miss the face by far.

    Beyond the edge stands what stands at the edge, as in the pipeline's crops beyond a frame's.
    """
    if share <= 0:
        return images, mask
    chosen = torch.rand(len(images), generator=generator) < share
    size = images.shape[-1]
    there = similarities(size, *STRAY.draw(len(images), generator))  # (B, 2, 3) pixels
    index = chosen.nonzero()[:, 0].to(images.device)
    if not len(index):
        return images, mask
    # grid_sample wants, for pixels of the result, places in the source, both over -1..1 about the centre
    there[:, :, 2] += there[:, :, :2].sum(2) * ((size - 1) / 2) - (size - 1) / 2
    there[:, :, 2] *= 2 / size
    both = torch.cat([images[index], mask[index]], 1)
    grid = F.affine_grid(there[chosen].to(images), list(both.shape), align_corners=False)
    moved = F.grid_sample(both, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _replaced(images, mask, index, moved[:, :3], moved[:, 3:])


def cut_some(
    images: Tensor, mask: Tensor, generator: torch.Generator, *, share: float
) -> tuple[Tensor, Tensor, Tensor | float]:
    """Lays a frame's edge through a ``share`` 0..1 of pictures (B, C, S, S) and their masks (B, 1, S, S); with them comes
    where the frame is, (B, 1, S, S) of 0 and 1, or plain 1 where none is cut.

    Up to ``DEEPEST`` of the crop lies beyond it, on one side, and shows what stands at the edge, as in the pipeline's crops;
    in eight of ten it is a side of the frame, else its foot or its top.
    """
    if share <= 0:
        return images, mask, 1.0
    count, size = len(images), images.shape[-1]
    chosen = (torch.rand(count, generator=generator) < share).nonzero()[:, 0]
    side = torch.rand(count, generator=generator)[chosen, None]  # left, right, foot, top
    depth = (torch.rand(count, generator=generator)[chosen, None] * DEEPEST * size).long()
    if not len(chosen):
        return images, mask, 1.0
    at = torch.arange(size).expand(len(chosen), size)
    low, high = torch.maximum(at, depth), torch.minimum(at, size - 1 - depth)
    columns = torch.where(side < 0.4, low, torch.where(side < 0.8, high, at)).to(images.device)
    rows = torch.where(side < 0.8, at, torch.where(side < 0.95, high, low)).to(images.device)
    index = chosen.to(images.device)
    both = torch.cat([images[index], mask[index]], 1).permute(0, 2, 3, 1)
    number = torch.arange(len(index), device=images.device)
    cut = both[number[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    within = torch.ones_like(mask)
    at = at.to(images.device)
    within[index] = ((rows == at)[:, None, :, None] & (columns == at)[:, None, None, :]).to(mask)
    return *_replaced(images, mask, index, cut[:, :-1], cut[:, -1:]), within


def distant_some(
    images: Tensor, mask: Tensor, bare: Callable[[Tensor], Tensor], generator: torch.Generator, *, share: float
) -> tuple[Tensor, Tensor]:
    """Sees a ``share`` 0..1 of pictures (B, 3, S, S) from so far that a face has 16 to 40 pixels; masks (B, 1, S, S) stay.

    Half of them become the same pictures without a mask, which ``bare`` gives for their numbers (N,): of the people in a crowd
    most wear none, and few pixels of a bare face look like many things. Seven of ten are compressed.
    """
    if share <= 0:
        return images, mask
    count, size = len(images), images.shape[-1]
    chosen = torch.rand(count, generator=generator) < share
    which = torch.randint(len(SIDES), (count,), generator=generator)
    worn = torch.rand(count, generator=generator) < 0.5
    quality = torch.where(torch.rand(count, generator=generator) < 0.7, 25 + 70 * torch.rand(count, generator=generator), 100.0)
    images, mask = images.clone(), mask.clone()
    without = (chosen & ~worn).nonzero()[:, 0].to(images.device)
    if len(without):
        images[without], mask[without] = bare(without), 0.0
    for number, side in enumerate(SIDES):
        rows = (chosen & (which == number)).nonzero()[:, 0]
        if not len(rows):
            continue
        index = rows.to(images.device)
        small = F.interpolate(images[index], size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        lossy = (quality[rows] < 100).nonzero()[:, 0].to(images.device)
        if len(lossy):
            small[lossy] = compress(small[lossy], quality[rows].to(images.device)[lossy])
        images[index] = F.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
    return images, mask


def _replaced(images: Tensor, mask: Tensor, index: Tensor, new: Tensor, new_mask: Tensor) -> tuple[Tensor, Tensor]:
    images, mask = images.clone(), mask.clone()
    images[index], mask[index] = new, new_mask
    return images, mask
