"""The light of the photo falls on the mask."""

from __future__ import annotations

import torch

from tests.training.test_masked_faces import head_landmarks
from vidunmask.training.masked_faces import MaskSynthesizer, SynthesizedBatch
from vidunmask.training.synthesis.dice import Dice
from vidunmask.training.synthesis.lighting import sun_and_shade


def _lit(brightness: torch.Tensor) -> SynthesizedBatch:
    images = brightness.expand(24, 3, 256, 256).contiguous()
    landmarks = head_landmarks()[None].expand(24, -1, -1)
    synthesizer = MaskSynthesizer(camera=0.0, occlusion=0.0)
    return synthesizer(images, landmarks, torch.Generator().manual_seed(0), kinds=["n95"])


def test_a_mask_is_brighter_on_the_side_that_the_light_comes_from() -> None:
    made = _lit(torch.linspace(0.1, 0.9, 256))
    solid = (made.mask > 0.9).float()
    left, right = (
        (made.masked * solid)[..., s].sum((1, 2, 3)) / solid[..., s].sum((1, 2, 3)) for s in (slice(0, 128), slice(128, 256))
    )
    assert (right > left).float().mean() > 0.8


def test_a_mask_in_a_dark_picture_is_dark() -> None:
    level = []
    for brightness in (0.15, 0.6):
        made = _lit(torch.full((256,), brightness))
        solid = (made.mask > 0.9).float()
        level.append(float((made.masked * solid).sum() / (3 * solid.sum())))
    assert level[0] < 0.45 * level[1]


def test_shade_falls_on_the_share_of_pictures_asked_for() -> None:
    dice = Dice(torch.Generator().manual_seed(0), torch.device("cpu"), 64)
    assert (sun_and_shade(32, dice, share=0.0) == 1).all()
    patches = sun_and_shade(32, dice, share=0.5)
    assert patches.shape == (64, 1, 32, 32)
    assert 0.3 <= patches.min() < patches.max() <= 1
    assert 0.3 < (patches.flatten(1).amin(1) < 0.99).float().mean() < 0.7
