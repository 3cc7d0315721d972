"""Where faces lie in the crops that the segmenter learns from."""

import torch

from vidunmask.training.synthesis.framing import DEEPEST, SIDES, STRAY, cut_some, distant_some, stray_some
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
    assert cut_some(images, mask, generator, share=0.0)[::2] == (images, 1.0)
    assert distant_some(images, mask, images.__getitem__, generator, share=0.0)[0] is images
    assert torch.equal(generator.get_state(), state)


def test_beyond_the_edge_of_a_frame_stands_what_stands_at_the_edge():
    size = 64
    images = torch.rand(64, 3, size, size, generator=torch.Generator().manual_seed(2))
    mask = images[:, :1].clone()
    cut, cut_mask, within = cut_some(images, mask, torch.Generator().manual_seed(3), share=1.0)
    assert torch.equal(within[:, 0] == 1, (images == cut).all(1))
    torch.testing.assert_close(cut[:, :1], cut_mask, rtol=0, atol=0)
    seen = set()
    for before, after in zip(images, cut, strict=True):
        same = (before == after).all(0)
        columns, rows = same.all(0), same.all(1)  # that are as they were
        if same.all():
            continue
        assert columns.any() != rows.any()
        lines, kept = (after, columns) if columns.any() else (after.transpose(1, 2), rows)
        inside = kept.nonzero()[:, 0]
        first, last = int(inside[0]), int(inside[-1])
        assert first == 0 or last == size - 1  # one side only
        assert len(inside) == last - first + 1 > size * (1 - DEEPEST)
        beyond, edge = (lines[..., :first], first) if first else (lines[..., last + 1 :], last)
        assert (beyond == lines[..., edge, None]).all()
        seen.add((bool(columns.any()), first > 0))
    assert {(True, True), (True, False)} <= seen  # left and right
    assert len(seen) >= 3  # and foot or top


def test_a_share_of_the_crops_is_cut_and_the_others_stay_as_they_are():
    images = torch.rand(60, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    cut, _, within = cut_some(images, images[:, :1], torch.Generator().manual_seed(1), share=0.3)
    same = (cut == images).flatten(1).all(dim=1)
    assert 34 <= same.sum() <= 50
    assert torch.equal(same, within.flatten(1).all(dim=1))


def test_distant_faces_have_few_pixels_and_half_of_them_no_mask():
    size, count = 256, 80
    generator = torch.Generator().manual_seed(4)
    bare = torch.full((count, 3, size, size), 0.25)
    images = torch.where(torch.rand(count, 1, size, size, generator=generator) < 0.5, 0.6, 0.9).expand(-1, 3, -1, -1).clone()
    mask = torch.ones(count, 1, size, size)
    far, far_mask = distant_some(images, mask, bare.__getitem__, torch.Generator().manual_seed(5), share=1.0)
    worn = far_mask.flatten(1).amin(1) == 1
    assert torch.equal(worn, far_mask.flatten(1).amax(1) == 1)  # all of a mask or nothing
    assert 0.3 * count < worn.sum() < 0.7 * count
    assert (far[worn].mean(dim=(1, 2, 3)) - 0.75).abs().max() < 0.02
    assert (far[~worn] - 0.25).abs().max() < 0.02
    # of noise as fine as a pixel a picture of `side` pixels keeps side / size, or less where it is compressed
    assert far[worn].std(dim=(1, 2, 3)).max() < 0.15 * max(SIDES) / size * 1.5
    assert far[worn].std(dim=(1, 2, 3)).min() > 0


def test_a_share_of_the_faces_is_distant_and_the_others_keep_their_picture_and_mask():
    images, mask = spots(count=60)
    far, far_mask = distant_some(
        images, mask, torch.zeros_like(images).__getitem__, torch.Generator().manual_seed(6), share=0.3
    )
    same = (far == images).flatten(1).all(dim=1)
    assert 34 <= same.sum() <= 50
    assert torch.equal(far_mask[same], mask[same])
