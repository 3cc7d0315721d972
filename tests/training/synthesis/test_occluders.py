"""What comes before a mask: where it is drawn, and what of the mask it takes away."""

from __future__ import annotations

import torch

from tests.training.test_masked_faces import draw, head_landmarks
from vidunmask.training.masked_faces import MaskSynthesizer
from vidunmask.training.synthesis import occluders
from vidunmask.training.synthesis.dice import Dice
from vidunmask.training.synthesis.head_surface import fit_pose


def _dice(count: int) -> Dice:
    return Dice(torch.Generator().manual_seed(0), torch.device("cpu"), count)


def test_glasses_ring_the_eyes_and_leave_them_free() -> None:
    landmarks = head_landmarks()[None].expand(8, -1, -1)
    _, alpha = occluders.glasses(landmarks, fit_pose(landmarks), 256, _dice(8))
    for eye in (range(36, 42), range(42, 48)):
        x, y = landmarks[0, list(eye)].mean(0).round().long().tolist()
        free = alpha[:, 0, y - 3 : y + 3, x - 3 : x + 3].amax((1, 2)) < 0.05
        assert 3 <= free.sum() < 8  # the others are dark
        assert (alpha[:, 0, y - 40 : y + 40, x].amax(1) > 0.5).all()
    assert alpha[:, 0, 160:].max() == 0


def test_dark_lenses_hide_both_eyes_with_one_colour() -> None:
    landmarks = head_landmarks()[None].expand(24, -1, -1)
    colour, alpha = occluders.glasses(landmarks, fit_pose(landmarks), 256, _dice(24))
    places = [landmarks[0, list(eye)].mean(0).round().long().tolist() for eye in (range(36, 42), range(42, 48))]
    left, right = (alpha[:, 0, y, x] for x, y in places)
    dark = left > 0.3
    assert 4 <= dark.sum() <= 14
    assert torch.equal(dark, right > 0.3)
    assert (colour * alpha)[dark][:, :, places[0][1], places[0][0]].mean() < 0.4


def test_hands_have_the_colour_of_the_skin_and_reach_the_lower_face() -> None:
    landmarks = head_landmarks()[None].expand(32, -1, -1)
    skin = torch.tensor([0.6, 0.4, 0.3]).expand(32, 3)
    light = torch.tensor([0.1, -0.2, 0.3]).expand(32, 3)
    colour, alpha = occluders.hand(fit_pose(landmarks), skin, light, 256, _dice(32))
    lower = alpha[:, 0, 120:240, 64:192].mean((1, 2))
    assert (lower > 0.03).float().mean() > 0.8
    tone = (colour * alpha).sum((2, 3)) / alpha.sum((2, 3))
    assert ((tone[:, 0] > tone[:, 1]) & (tone[:, 1] > tone[:, 2])).float().mean() > 0.9


def _one_hand(light: tuple[float, float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    landmarks = head_landmarks()[None].expand(16, -1, -1)
    skin = torch.tensor([0.6, 0.4, 0.3]).expand(16, 3)
    return occluders.hand(fit_pose(landmarks), skin, torch.tensor(light).expand(16, 3), 256, _dice(16))


def test_fingers_are_brighter_on_the_side_of_the_light() -> None:
    left, alpha = _one_hand((-0.6, 0.0, 0.2))
    right, same = _one_hand((0.6, 0.0, 0.2))
    assert torch.equal(alpha, same)
    difference = (left - right).mean(1)
    inside = alpha[:, 0] > 0.99
    ends = alpha[:, 0].roll(4, 2) - alpha[:, 0].roll(-4, 2)  # positive where the hand ends to the right
    assert difference[inside & (ends < -0.5)].mean() > 0.02
    assert difference[inside & (ends > 0.5)].mean() < -0.02


def test_dark_hair_beside_the_face_covers_the_sides_of_a_mask_and_light_hair_does_not() -> None:
    phi = torch.linspace(-1.8, 1.8, 64).expand(12, 64, 64)
    mask = torch.ones(12, 1, 64, 64)
    skin = torch.full((12,), 0.7)
    face = torch.where(phi.abs() < 1.0, 0.7, 0.1)[:, None].expand(-1, 3, -1, -1)
    left = occluders.behind_hair(mask, face, skin, phi, _dice(12), share=1.0)
    assert left[:, 0, :, :8].max() == 0
    assert left[:, 0, :, 20:44].min() == 1
    pale = torch.full_like(face, 0.6)
    assert torch.equal(occluders.behind_hair(mask, pale, skin, phi, _dice(12), share=1.0), mask)


def test_what_is_before_a_mask_is_no_mask() -> None:
    free = draw(MaskSynthesizer(camera=0.0, occlusion=0.0), 24, kinds=["cloth"])
    hidden = draw(MaskSynthesizer(camera=0.0, occlusion=5.0), 24, kinds=["cloth"])
    assert hidden.mask.mean() < 0.95 * free.mask.mean()
    change = (hidden.masked - hidden.truth).abs() * (hidden.mask == 0)
    assert (change > 0.05).float().mean() < 0.05  # it is in the truth as well
