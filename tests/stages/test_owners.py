"""Which face a mask belongs to where heads are close together."""

import numpy as np
import pytest

from vidunmask import geometry
from vidunmask.stages.owners import shared_out
from vidunmask.types import FaceCrop

ALL = np.ones((256, 256), np.float32)


def face(x, y=0.0, *, scale=1.0, score=0.9, size=256):
    """A crop whose corner lies at (x, y) of the frame, ``scale`` crop pixels to a pixel of the frame."""
    to_crop = geometry.resize(np.array([[scale, 0, -scale * x], [0, scale, -scale * y]]), size)
    landmarks = geometry.TEMPLATE68 * (size / 256)
    return FaceCrop(0, np.zeros((size, size, 3), np.uint8), to_crop, landmarks, score, reset=False)


def test_a_face_alone_keeps_everything():
    assert shared_out([ALL], [face(0)])[0] is ALL


def test_neighbours_share_what_lies_between_them():
    left, right = shared_out([ALL, ALL], [face(0), face(120)])
    assert left[178, 60:170].min() == 1
    assert left[178, 210:].max() == 0  # about the middle of the right face's mask
    assert right[178, 90:200].min() == 1
    assert right[178, :46].max() == 0
    # what is nearly as near to both stays with both, and nothing stays with none
    assert (np.pad(left, ((0, 0), (0, 120))) + np.pad(right, ((0, 0), (120, 0)))).min() == 1


def test_a_small_face_claims_little():
    own, _ = shared_out([ALL, ALL], [face(0), face(140, 60, scale=4.0)])  # its crop is 64 pixels wide
    equal, _ = shared_out([ALL, ALL], [face(0), face(140, 60)])
    assert 0 < (own == 0).sum() < (equal == 0).sum() / 2
    assert own[178, 60:150].min() == 1


@pytest.mark.parametrize("other", [face(20), face(0, scale=1.1), face(120, score=0.3), face(5000)])
def test_one_head_found_twice_a_doubtful_face_and_a_far_one_claim_nothing(other):
    assert shared_out([ALL, ALL], [face(0), other])[0].min() == 1


def test_crops_of_other_sizes_share_in_the_same_places():
    left = shared_out([ALL, ALL], [face(0), face(120)])[0]
    small = np.ones((128, 128), np.float32)
    mixed = shared_out([ALL, small], [face(0), face(120, size=128)])
    np.testing.assert_allclose(mixed[0].mean(), left.mean(), atol=0.01)
    assert mixed[1].dtype == np.float32
