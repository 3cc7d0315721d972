"""What every detector found must do. One whose weights are not on this machine is skipped."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vidunmask import detectors, geometry
from vidunmask.errors import UsageError

DOWNLOADED = {"face-alignment": ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar")}


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """A public-domain portrait (512, 512, 3) that ships with scikit-image; the face is about 100 px wide about (222, 115)."""
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="module", params=detectors.names())
def detector(request: pytest.FixtureRequest) -> detectors.Detector:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not all((folder / file).is_file() for file in DOWNLOADED.get(request.param, ())):
        pytest.skip(f"the weights of {request.param} are not on this machine")
    return detectors.create(request.param)


def test_it_satisfies_the_protocol(detector) -> None:
    assert isinstance(detector, detectors.Detector)


def test_the_face_of_a_portrait_is_found(detector, portrait) -> None:
    found = detector.detect(portrait)
    assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
    best = found[0]
    assert best.score > 0.6
    centre = (best.box[:2] + best.box[2:]) / 2
    assert np.abs(centre - [222, 120]).max() < 30
    assert best.landmarks.shape == (5, 2)
    assert 60 < best.box[2] - best.box[0] < 160


def test_a_picture_without_faces_gives_none(detector) -> None:
    assert detector.detect(np.full((240, 320, 3), 128, np.uint8)) == []


def test_the_picture_is_left_as_it_was(detector, portrait) -> None:
    before = portrait.copy()
    detector.detect(portrait, thorough=True)
    assert np.array_equal(before, portrait)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3), (200, 5, 3)])
def test_a_tiny_or_thin_picture_is_no_error(detector, shape) -> None:
    assert detector.detect(np.zeros(shape, np.uint8), thorough=True) == []


def test_landmarks_lie_in_dlibs_order(detector, portrait) -> None:
    found = detectors.find_landmarks(detector, portrait, detector.detect(portrait)[0])
    points = found.points
    assert points.shape == (68, 2)
    assert points.dtype == np.float32
    assert found.presence > 0.3
    eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    assert eyes[0][0] < eyes[1][0]  # left eye of the picture first
    assert points[0][0] < points[8][0] < points[16][0]  # jaw from left to right, chin between
    assert points[8][1] > points[57][1] > points[51][1] > points[33][1] > points[27][1]  # chin, lips, nose from below to above
    assert points[19][1] < points[37][1]  # brow above eye
    apart = geometry.apply(geometry.align(points), points.astype(float)) - geometry.TEMPLATE68
    assert np.hypot(*apart.T).mean() < 15  # pixels of the canonical crop


def test_landmarks_move_with_the_picture(detector, portrait) -> None:
    face = detector.detect(portrait)[0]
    points = detectors.find_landmarks(detector, portrait, face).points
    moved = np.roll(portrait, (20, 40), axis=(0, 1))
    again = detectors.find_landmarks(detector, moved, np.add(points, (40.0, 20.0))).points
    assert np.hypot(*(again - points - [40, 20]).T).mean() < 2.5


def test_a_face_followed_by_its_landmarks_stays_where_it_is(detector, portrait) -> None:
    points = first = detectors.find_landmarks(detector, portrait, detector.detect(portrait)[0]).points
    for _ in range(6):
        found = detectors.find_landmarks(detector, portrait, points.astype(float))
        points = found.points
    assert found.presence > 0.3
    assert np.hypot(*(points - first).T).mean() < 4


def test_the_region_turns_with_the_face(detector) -> None:
    upright = geometry.TEMPLATE68
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    turned = upright @ turn.T
    a = geometry.apply(detector.region(upright), upright)
    b = geometry.apply(detector.region(turned), turned)
    assert np.allclose(a, b, atol=0.5)
    assert a.min() >= 0
    assert a.max() <= detector.region_size - 1


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(UsageError, match="yunet"):
        detectors.create("haar")


def test_listing_the_names_imports_no_heavy_library() -> None:
    program = (
        "import sys; from vidunmask import detectors; names = detectors.names();"
        "assert names == ('face-alignment', 'yunet'), names;"
        "assert not {'cv2', 'torch', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
