"""Masks drawn on synthetic heads: where they lie, what they leave alone, what they return."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vidunmask.errors import InputError
from vidunmask.training.masked_faces import KINDS, MaskSynthesizer, SynthesizedBatch
from vidunmask.training.synthesis.head_surface import HEAD
from vidunmask.training.synthesis.templates import load_templates

DRAWN = ("surgical", "cloth", "n95", "kn95", "scarf")


def head_landmarks(*, yaw: float = 0.0, roll: float = 0.0, size: int = 256) -> torch.Tensor:
    """(68, 2) landmarks of the mean head, turned to the right of the picture and then clockwise by degrees."""
    points = torch.tensor(HEAD)
    a, b = torch.deg2rad(torch.tensor([yaw, roll]))
    turn = torch.tensor([[a.cos(), 0, a.sin()], [0, 1, 0], [-a.sin(), 0, a.cos()]])
    lean = torch.tensor([[b.cos(), -b.sin(), 0], [b.sin(), b.cos(), 0], [0, 0, 1]])
    return (points @ (lean @ turn).T)[:, :2] * (size / 4) + torch.tensor([0.5, 0.42]) * size


def faces(count: int, *, size: int = 256, **turn: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth random pictures with a head's landmarks."""
    generator = torch.Generator().manual_seed(7)
    coarse = 0.2 + 0.6 * torch.rand(count, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return images, head_landmarks(size=size, **turn).expand(count, -1, -1)


def draw(
    synthesizer: MaskSynthesizer, count: int, *, seed: int = 0, size: int = 256, yaw: float = 0.0, **options
) -> SynthesizedBatch:
    return synthesizer(*faces(count, size=size, yaw=yaw), torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("kind", DRAWN)
def test_masks_cover_mouth_and_chin_and_leave_the_eyes(kind: str) -> None:
    mask = draw(MaskSynthesizer(camera=0.0, occlusion=0.0), 16, kinds=[kind]).mask[:, 0]
    x, y = head_landmarks()[51].round().long().tolist()
    covered = mask[:, y : y + 12, x - 8 : x + 8].mean((1, 2))
    assert (covered > 0.9).float().mean() > 0.85  # the rest hang under the chin
    for eye in (37, 44):
        x, y = head_landmarks()[eye].round().long().tolist()
        assert mask[:, y - 3 : y + 3, x - 3 : x + 3].max() < 0.5


@pytest.mark.parametrize("yaw", [-75, 60])
def test_masks_of_turned_heads_are_whole(yaw: float) -> None:
    cv2 = pytest.importorskip("cv2")
    mask = draw(MaskSynthesizer(), 24, yaw=yaw, kinds=["surgical", "cloth", "n95", "kn95"], shapes_only=True).mask[:, 0]
    pieces = [cv2.connectedComponents(one)[0] - 1 for one in (mask > 0.5).byte().numpy()]
    assert np.median(pieces) == 1  # thin straps of a few come in pieces


@pytest.mark.parametrize("yaw", [-85, 85])
def test_in_profile_respirators_stand_before_the_lips_and_other_masks_lie_close(yaw: float) -> None:
    """On clips the fronts of folded respirators stand up to half an eye distance before the lips."""
    x, y = head_landmarks(yaw=yaw)[57].tolist()

    def before_the_lips(kind: str) -> torch.Tensor:
        made = draw(MaskSynthesizer(), 48, yaw=yaw, kinds=[kind], shapes_only=True)
        row = made.mask[:, 0, round(y)] > 0.5
        reach = (torch.arange(row.shape[1]) - x) * np.sign(yaw)
        return torch.where(row, reach, -torch.inf).amax(1) / 64

    for kind in ("n95", "kn95"):
        assert 0.3 < before_the_lips(kind).median() < 0.5
        assert before_the_lips(kind).quantile(0.9) > 0.5
    for kind in ("surgical", "cloth"):
        assert before_the_lips(kind).median() < 0.25


@pytest.mark.parametrize("kind", DRAWN)
def test_outside_the_mask_only_a_shadow_is_left(kind: str) -> None:
    made = draw(MaskSynthesizer(camera=0.0), 8, kinds=[kind])
    change = (made.masked - made.truth) * (made.mask == 0)
    assert change.max() <= 1e-6
    assert change.min() > -0.5
    assert (change.abs() > 0.05).float().mean() < 0.05


def test_pictures_without_a_mask_are_the_truth() -> None:
    made = draw(MaskSynthesizer(camera=0.0), 16, kinds=["none"])
    assert made.mask.max() == 0
    assert (made.kind == 0).all()
    torch.testing.assert_close(made.masked, made.truth)


def test_values_and_shapes_are_as_promised() -> None:
    made = draw(MaskSynthesizer(), 20)
    assert made.masked.shape == made.truth.shape == (20, 3, 256, 256)
    assert made.mask.shape == (20, 1, 256, 256)
    assert made.kind.shape == (20,)
    for picture in (made.masked, made.truth, made.mask):
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert picture.isfinite().all()
    assert set(made.kind.tolist()) <= set(range(len(KINDS)))


def test_one_seed_gives_one_batch_and_another_seed_another() -> None:
    synthesizer = MaskSynthesizer()
    first, again, other = (draw(synthesizer, 6, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.masked, again.masked)
    assert torch.equal(first.mask, again.mask)
    assert not torch.equal(first.mask, other.mask)


def test_the_photos_given_are_not_written_to() -> None:
    images, landmarks = faces(8)
    kept = images.clone()
    MaskSynthesizer()(images, landmarks, torch.Generator().manual_seed(0))
    assert torch.equal(images, kept)


def test_shapes_alone_fill_every_mask_with_one_colour() -> None:
    made = draw(MaskSynthesizer(), 12, shapes_only=True)
    assert (made.mask.flatten(1).mean(1) > 0.02).all()
    for masked, mask in zip(made.masked, made.mask, strict=True):
        solid = masked[:, mask[0] == 1]
        assert solid.std(dim=1).max() < 1e-5
    torch.testing.assert_close(made.masked * (made.mask == 0), made.truth * (made.mask == 0))


def test_on_a_turned_head_the_mask_is_wider_on_the_near_side() -> None:
    size = 256
    landmarks = head_landmarks(yaw=35)
    mask = draw(MaskSynthesizer(camera=0.0, occlusion=0.0), 24, kinds=["surgical", "n95", "kn95"], yaw=35).mask[:, 0]
    nose = int(landmarks[30, 0])
    assert nose > landmarks[27, 0]  # turned to the right of the picture
    assert mask[:, :, :nose].sum() > 2 * mask[:, :, nose:size].sum()


@pytest.mark.parametrize("size", [128, 192])
def test_other_sizes_give_the_same_share_of_mask(size: int) -> None:
    synthesizer = MaskSynthesizer(camera=0.0, occlusion=0.0)
    large, small = (draw(synthesizer, 8, size=s, kinds=["cloth"], shapes_only=True) for s in (256, size))
    torch.testing.assert_close(large.mask.mean((1, 2, 3)), small.mask.mean((1, 2, 3)), atol=0.006, rtol=0.0)


def test_without_truth_the_masked_picture_stays_the_same() -> None:
    both, alone = (draw(MaskSynthesizer(), 4, with_truth=flag) for flag in (True, False))
    torch.testing.assert_close(both.masked, alone.masked)


def test_wrong_requests_are_refused_with_what_would_be_right() -> None:
    images, landmarks = faces(2)
    generator = torch.Generator()
    with pytest.raises(ValueError, match="surgical"):
        MaskSynthesizer()(images, landmarks, generator, kinds=["gas"])
    with pytest.raises(ValueError, match="templates_folder"):
        MaskSynthesizer()(images, landmarks, generator, kinds=["template"])
    with pytest.raises(ValueError, match="expected"):
        MaskSynthesizer()(images[:, :, :200], landmarks, generator)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        MaskSynthesizer(camera=2.0)


def write_template(path: Path) -> None:
    picture = np.zeros((120, 200, 4), np.uint8)
    picture[20:100, 20:180] = (200, 30, 30, 255)
    Image.fromarray(picture).save(path)


def test_template_pictures_are_worn_where_their_points_say(tmp_path: Path) -> None:
    write_template(tmp_path / "red.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "texture_noise.png")
    templates = load_templates(tmp_path)
    assert len(templates.masks) == 1
    assert templates.fabrics is not None
    assert len(templates.fabrics) == 1
    middle = templates.masks[0, :, templates.masks.shape[2] // 2, templates.masks.shape[3] // 2]
    torch.testing.assert_close(middle, torch.tensor([200, 30, 30, 255]) / 255, atol=0.01, rtol=0)
    made = draw(MaskSynthesizer(templates_folder=tmp_path, camera=0.0, occlusion=0.0), 12, kinds=["template"])
    x, y = head_landmarks()[51].round().long().tolist()
    assert (made.mask[:, 0, y + 10, x] > 0.9).float().mean() > 0.85


def test_key_points_of_a_list_beat_the_outline(tmp_path: Path) -> None:
    write_template(tmp_path / "red.png")
    outline = load_templates(tmp_path).masks
    points = {"a": "0, 0", "b": "100, 0", "c": "199, 0", "d": "0, 119", "e": "100, 119", "f": "199, 119"}
    lines = ["[red]", "template: masks/red.png", *(f"mask_{k}: {v}" for k, v in points.items())]
    (tmp_path / "masks.cfg").write_text("\n".join(lines))
    listed = load_templates(tmp_path).masks
    assert listed[:, 3].mean() < 0.8 * outline[:, 3].mean()  # the same mask takes up less of its box


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mask picture"):
        load_templates(tmp_path)
