"""One mask on a clip, from the sample whose faces wear none."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from vidunmask import detectors
from vidunmask.training.evaluation.clip_masks import ClipMask, trace
from vidunmask.video.reader import VideoReader

TRUTH = Path(__file__).resolve().parents[3] / "samples" / "astronaut_truth.mp4"
FRAMES = 10


@pytest.fixture(scope="module")
def path():
    with VideoReader(TRUTH) as reader:
        return trace(islice(reader, FRAMES), detectors.create("yunet"))


def dress(path, **options):
    mask = ClipMask(path, **{"kind": "surgical", "seed": 3, **options})
    with VideoReader(TRUTH) as reader:
        frames = list(mask.dress(islice(reader, FRAMES)))
    return mask.dressed, frames


def test_the_face_is_followed_through_the_clip(path):
    assert sorted(path) == list(range(FRAMES))
    assert [place.reset for place in path.values()] == [True] + [False] * (FRAMES - 1)


def test_the_mask_stays_the_same_on_every_frame(path):
    dressed, _ = dress(path)
    core = np.all([face.mask > 0.99 for face in dressed.values()], axis=0)
    assert core.mean() > 0.08
    colours = np.stack([face.masked[core].astype(float) for face in dressed.values()])
    assert np.abs(np.diff(colours, axis=0)).mean() < 6
    assert np.abs(dressed[0].masked[core].astype(float) - dressed[0].truth[core]).mean() > 20


def test_only_the_masks_own_pixels_change(path):
    _, frames = dress(path)
    with VideoReader(TRUTH) as reader:
        before = next(iter(reader)).native.to_ndarray()
    after = frames[0].native.to_ndarray()
    share = (before != after).mean()
    assert 0.005 < share < 0.3
    assert np.array_equal(before[:10], after[:10])


def test_one_seed_gives_one_mask(path):
    first, again, other = (dress(path, seed=seed)[0][4].masked for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_mask_that_slipped_off_the_mouth_is_drawn_again(path):
    landmarks = path[0].landmarks @ path[0].frame_to_crop[:, :2].T + path[0].frame_to_crop[:, 2]
    x, y = landmarks[57].round().astype(int)
    assert all(dress({0: path[0]}, seed=seed, kind="n95")[0][0].mask[y, x] > 0.8 for seed in range(6))


def test_a_clip_without_a_face_has_no_path():
    assert trace([], detectors.create("yunet")) == {}
