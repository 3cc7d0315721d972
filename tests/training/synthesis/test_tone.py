"""Darker skin than a photo's."""

import numpy as np
import pytest
import torch

from tests.training.test_masked_faces import head_landmarks
from vidunmask.training.evaluation.groups import typology_angle
from vidunmask.training.synthesis.tone import darken_some

LIGHT, LIPS, HAIR, WALL, EYES = (0.85, 0.66, 0.54), (0.72, 0.42, 0.40), (0.07, 0.06, 0.06), (0.3, 0.45, 0.7), (0.9, 0.9, 0.92)


def face(skin=LIGHT, count=1):
    """Pictures (B, 3, 256, 256) of a face with hair, eyes and lips before a blue wall, its landmarks, and where what is."""
    landmarks = head_landmarks()
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")

    def disc(at, across, down):
        return ((x - at[0]) / across) ** 2 + ((y - at[1]) / down) ** 2 < 1

    middle = landmarks.mean(0)
    where = {"hair": disc(middle - torch.tensor([0.0, 40.0]), 95, 120), "skin": disc(middle, 80, 105)}
    where["lips"] = disc(landmarks[48:].mean(0), 22, 8)
    where["eyes"] = disc(landmarks[36:42].mean(0), 9, 9) | disc(landmarks[42:48].mean(0), 9, 9)
    picture = torch.tensor(WALL).view(3, 1, 1).expand(3, 256, 256).clone()
    for name, colour in {"hair": HAIR, "skin": skin, "lips": LIPS, "eyes": EYES}.items():
        picture = torch.where(where[name], torch.tensor(colour).view(3, 1, 1), picture)
    where["wall"] = ~(where["hair"] | where["skin"])
    where["skin"] &= ~(where["lips"] | where["eyes"])
    return picture.expand(count, 3, 256, 256).clone(), landmarks.expand(count, 68, 2).clone(), where


def mean(picture, place):
    inner = torch.nn.functional.avg_pool2d(place[None, None].float(), 9, 1, 4)[0, 0] > 0.99  # away from edges
    return picture[:, inner].mean(1)


def test_skin_gets_darker_and_browner_and_what_is_no_skin_keeps_its_colour():
    images, landmarks, where = face(count=8)
    dark = darken_some(images, landmarks, torch.Generator().manual_seed(0), share=1.0)
    for before, after in zip(images, dark, strict=True):
        skin = mean(after, where["skin"]) / mean(before, where["skin"])
        assert skin.max() < 0.97
        assert skin[0] > skin[1] > skin[2]  # melanin takes blue light first
        for name in ("eyes", "wall"):
            rest = mean(after, where[name]) / mean(before, where[name])
            assert rest.min() > 0.97  # a longer exposure makes it lighter, if anything
            assert rest.min() > 1.1 * skin.mean()
        lips = mean(after, where["lips"]) / mean(before, where["lips"])
        assert lips.mean() < 1
    tones = [typology_angle((p.permute(1, 2, 0).numpy() * 255).astype(np.uint8), landmarks[0].numpy()) for p in dark]
    before = typology_angle((images[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8), landmarks[0].numpy())
    assert before > 41
    assert max(tones) < before - 5
    assert min(tones) < 10  # brown


def test_skin_that_is_dark_already_stays_as_it_is():
    images, landmarks, _ = face(skin=(0.30, 0.20, 0.15))
    dark = darken_some(images, landmarks, torch.Generator().manual_seed(0), share=1.0)
    torch.testing.assert_close(dark, images, rtol=0, atol=1e-3)


def test_a_share_of_the_faces_gets_darker_and_the_others_stay_as_they_are():
    images, landmarks, _ = face(count=40)
    dark = darken_some(images, landmarks, torch.Generator().manual_seed(1), share=0.3)
    same = (dark == images).flatten(1).all(1)
    assert 20 <= same.sum() <= 36


def test_without_a_share_nothing_is_drawn_from_the_generator():
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    images, landmarks, _ = face()
    assert darken_some(images, landmarks, generator, share=0.0) is images
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("picture", [torch.zeros(1, 3, 256, 256), torch.ones(1, 3, 256, 256)], ids=["black", "white"])
def test_a_picture_without_skin_stays_one(picture):
    dark = darken_some(picture, head_landmarks()[None], torch.Generator().manual_seed(0), share=1.0)
    assert dark.isfinite().all()
    assert 0 <= dark.min() <= dark.max() <= 1
