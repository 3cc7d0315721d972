"""Darker skin than a photo's: of fifteen faces of our own pack one has brown or dark skin (`evaluation.groups`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GAMMA = 2.2  # of the pictures, about
FLOOR = 0.004  # added to linear light before logarithms, the noise of a photo's shadows
# Log ratio of light skin to darker skin in red, green and blue, over red's. From very light to brown it is 1, 1.5, 1.8 in the
# portraits of the Face Research Lab London Set, to dark 1, 1.1, 1.2; in red 0.7 and 1.5.
MELANIN = (1.0, 1.25, 1.42)
DEPTHS = (0.3, 1.3)  # log ratio in red: tan skin to dark
DARK = 0.12  # linear luminance of skin that gets no darker
SPREAD = 0.4  # log chroma by which skin differs from skin on one face
LIPS = 3.0  # times as far towards red
LUMA = (0.2126, 0.7152, 0.0722)


def darken_some(images: Tensor, landmarks: Tensor, generator: torch.Generator, *, share: float) -> Tensor:
    """Gives a ``share`` 0..1 of pictures (B, 3, S, S) 0..1 darker skin than the photo's; landmarks (B, 68, 2) in pixels.

    What has the chroma of the cheeks and of the brow loses light as more melanin takes it, blue more than red; eyes, teeth and
    cloth of other colours stay, and a highlight loses a third less. A camera makes up for some of it by a longer exposure.
    Faces that are dark already stay as they are.
    """
    if share <= 0:
        return images
    count = len(images)
    chosen = torch.rand(count, generator=generator) < share
    low, high = DEPTHS
    depth = (low + (high - low) * torch.rand(count, generator=generator))[chosen].to(images)
    exposure = (0.5 * torch.rand(count, generator=generator))[chosen].to(images)
    index = chosen.nonzero()[:, 0].to(images.device)
    if not len(index):
        return images
    light = (images[index].float().clamp(0, 1) ** GAMMA + FLOOR).log()  # (N, 3, S, S)
    skin = _skin(light, landmarks[index])  # (N, 3)
    luma = light.new_tensor(LUMA)
    bright = (skin.exp() * luma).sum(1)  # (N,)
    depth = torch.where(bright > DARK, depth.minimum((bright / (0.25 * DARK)).log()), 0.0)
    melanin = light.new_tensor(MELANIN)
    loss = _like_skin(light, skin) * (depth[:, None] * melanin)[:, :, None, None]
    gain = exposure * (depth[:, None] * melanin * luma).sum(1)
    darker = (light - loss + gain[:, None, None, None]).exp() - FLOOR
    made = images.clone()
    made[index] = darker.clamp(1e-6, 1).pow(1 / GAMMA).to(images)
    return made


def _like_skin(light: Tensor, skin: Tensor) -> Tensor:
    """How much each place of log linear light (N, 3, S, S) is of the colour (N, 3), (N, 1, S, S) of 0 to 1."""
    skin = skin[:, :, None, None]
    red = (light[:, :1] - light[:, 1:2]) - (skin[:, :1] - skin[:, 1:2])
    blue = (light[:, 1:2] - light[:, 2:]) - (skin[:, 1:2] - skin[:, 2:])
    red = red / torch.where(red > 0, LIPS * SPREAD, SPREAD)
    close = torch.exp(-0.5 * (red.square() + (blue / SPREAD).square()))
    above = (light - skin).mean(1, keepdim=True)  # of a highlight: light that the surface throws back
    close = close * (1 - 0.35 * ((above - 0.3) / 0.5).clamp(0, 1))
    return F.avg_pool2d(close, 5, 1, 2, count_include_pad=False)


def _skin(light: Tensor, landmarks: Tensor) -> Tensor:
    """The colour (N, 3) of a face in log linear light (N, 3, S, S): the median of spots on its cheeks and its brow."""
    size = light.shape[-1]
    right, left = landmarks[:, 36:42].mean(1), landmarks[:, 42:48].mean(1)
    across = left - right
    down = torch.stack([-across[:, 1], across[:, 0]], 1)
    brow = landmarks[:, [21, 22]].mean(1)
    spots = torch.stack([right + 0.4 * down, left + 0.4 * down, right + 0.6 * down, left + 0.6 * down, brow - 0.2 * down], 1)
    grid = ((spots.to(light) + 0.5) * (2 / size) - 1)[:, :, None]  # (N, 5, 1, 2)
    seen = F.grid_sample(F.avg_pool2d(light, 7, 1, 3), grid, padding_mode="border", align_corners=False)[..., 0]  # (N, 3, 5)
    return seen.median(2).values
