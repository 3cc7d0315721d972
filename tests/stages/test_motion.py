import cv2
import numpy as np
import pytest

from tests.stages.drawn_faces import landmarks_in
from vidunmask import geometry
from vidunmask.stages.motion import along, enlarged, head_motion

SIDE = 256
FACE = landmarks_in(np.array([88.0, 70, 168, 190]))


def texture(seed: int = 0) -> np.ndarray:
    """A picture (256, 256, 3) of blurred noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def moved(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def similarity(x: float, y: float, *, scale: float = 1.0, degrees: float = 0.0) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((128, 128), degrees, scale)
    matrix[:, 2] += (x, y)
    return np.asarray(matrix)


@pytest.mark.parametrize("motion", [similarity(0, 0), similarity(14, -9), similarity(-6, 4, scale=1.05, degrees=5)])
def test_the_motion_of_a_picture_is_found(motion: np.ndarray) -> None:
    found = head_motion(texture(), moved(texture(), motion), FACE)
    assert found is not None
    assert np.abs(geometry.apply(found, FACE) - geometry.apply(motion, FACE)).max() < 0.7


def test_the_head_counts_and_not_what_is_behind_it() -> None:
    head = np.zeros((SIDE, SIDE, 1), np.float32)
    cv2.ellipse(head, ((128.0, 130.0), (150.0, 230.0), 0.0), 1.0, -1)
    behind, there = texture(1), moved(texture(), similarity(8, 3))
    before = texture() * head + behind * (1 - head)
    after = there * head + moved(behind, similarity(-11, 5)) * (1 - head)
    found = head_motion(before.astype(np.uint8), after.astype(np.uint8), FACE)
    assert found is not None
    assert np.abs(geometry.apply(found, FACE) - FACE - [8, 3]).max() < 1.0


def test_pictures_without_features_or_without_anything_in_common_tell_nothing() -> None:
    flat = np.full((SIDE, SIDE, 3), 90, np.uint8)
    assert head_motion(flat, flat, FACE) is None
    assert head_motion(texture(), flat, FACE) is None
    assert head_motion(texture(), texture(5), FACE) is None


def test_a_picture_moved_along_a_flow_is_fetched_from_where_it_points():
    y, x = np.mgrid[:64, :64].astype(np.float32)
    picture = np.stack([x, y], axis=2)
    flow = np.zeros((32, 32, 2), np.float32)
    flow[...] = (3, -1)  # half a picture's pixels, so 6 and -2 of the whole one
    moved = along(enlarged(flow, 64), picture)
    np.testing.assert_allclose(moved[10, 20], [26, 8], atol=1e-4)
    np.testing.assert_allclose(moved[10, 62], [63, 8], atol=1e-4)  # beyond the edge stands the edge
