"""What the training of the segmenter does to its crops."""

import pytest
import torch

from vidunmask.errors import UsageError
from vidunmask.training.segmenter import STRAY, parse, stray_some, thin_parts
from vidunmask.training.synthesis.turn import similarities


def spots(count=8, size=64):
    """Pictures that hold one soft spot each, which is their mask too."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    spot = torch.exp(-((x - 34.0) ** 2 + (y - 29.0) ** 2) / 18)
    return spot.expand(count, 3, size, size).clone(), spot.expand(count, 1, size, size).clone()


def centroid(mask):
    y, x = torch.meshgrid(torch.arange(mask.shape[2]), torch.arange(mask.shape[3]), indexing="ij")
    weight = mask[:, 0] / mask.sum(dim=(1, 2, 3))[:, None, None]
    return torch.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], 1)


def test_crops_stray_by_the_similarity_that_was_drawn_and_their_masks_with_them():
    images, mask = spots(count=12)
    moved, moved_mask = stray_some(images, mask, torch.Generator().manual_seed(5), share=1.0)
    torch.testing.assert_close(moved[:, :1], moved_mask)
    generator = torch.Generator().manual_seed(5)
    torch.rand(12, generator=generator)  # which crops stray
    there = similarities(64, *STRAY.draw(12, generator))
    back = torch.linalg.solve(there[:, :, :2], torch.tensor([34.0, 29.0]) - there[:, :, 2])
    inside = ((back > 10) & (back < 53)).all(dim=1)
    assert inside.sum() >= 3
    torch.testing.assert_close(centroid(moved_mask)[inside], back[inside], rtol=0, atol=0.1)


def test_loops_are_thin_parts_and_the_body_of_a_mask_is_not():
    mask = torch.zeros(1, 1, 96, 96)
    mask[:, :, 40:80, 30:70] = 1
    mask[:, :, 10:40, 32:35] = 1  # a loop up from the body's corner
    thin = thin_parts(mask)
    assert (thin[0, 0, 10:36, 28:39] == 1).all()  # the loop and the skin beside it
    assert thin[0, 0, 50:75, 35:65].max() == 0
    assert thin[0, 0, 60:, 80:].max() == 0


def test_a_negative_weight_of_thin_parts_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--weight-thin -1\.0: must not be negative"):
        parse(["--pack", str(tmp_path), "--run", str(tmp_path), "--weight-thin", "-1"])


def test_a_share_of_the_crops_strays_and_the_others_stay_as_they_are():
    images, mask = spots(count=40)
    moved, _ = stray_some(images, mask, torch.Generator().manual_seed(1), share=0.3)
    same = (moved == images).flatten(1).all(dim=1)
    assert 20 <= same.sum() <= 36


def test_without_a_share_nothing_is_drawn_from_the_generator():
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    images, mask = spots(count=2)
    assert stray_some(images, mask, generator, share=0.0)[0] is images
    assert torch.equal(generator.get_state(), state)
