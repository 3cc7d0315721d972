"""The face-alignment backend without its weights: what is missing is said, and regions agree with the package's own crops."""

import io
import sys
import types
import urllib.error

import numpy as np
import pytest
import torch

from vidunmask import geometry
from vidunmask.detectors import create, face_alignment
from vidunmask.detectors.face_alignment import FILES, FaceAlignmentDetector
from vidunmask.errors import WeightsError
from vidunmask.types import Detection


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch hub folder; returns its checkpoints folder."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


class FakePackage:
    """What `FaceAlignmentDetector` uses of the package; remembers how it was made."""

    LandmarksType = types.SimpleNamespace(TWO_D=1)

    def __init__(self) -> None:
        self.options: dict = {}
        self.face_detector = types.SimpleNamespace(
            detect_from_image=lambda image: [np.array([10, 10, 40, 50, 0.5]), np.array([60, 20, 100, 70, 0.99])]
        )

    def FaceAlignment(self, kind, **options):  # noqa: N802 (the package's name)
        self.options = options
        return self

    def get_landmarks_from_image(self, image, *, detected_faces, return_landmark_score):
        self.box = np.asarray(detected_faces[0])
        return [geometry.TEMPLATE68], [np.full(68, 0.7)], None


@pytest.fixture
def fake(hub, monkeypatch):
    hub.mkdir()
    for file in FILES:
        (hub / file).write_bytes(b"")
    package = FakePackage()
    monkeypatch.setitem(sys.modules, "face_alignment", package)
    return package


def test_weights_that_cannot_be_fetched_are_named_with_the_folder_to_put_them_in(hub, monkeypatch) -> None:
    def offline(url, timeout):
        assert timeout <= 60
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(face_alignment.urllib.request, "urlopen", offline)
    with pytest.raises(WeightsError) as failure:
        create("face-alignment")
    assert FILES[0] in str(failure.value)
    assert str(hub) in str(failure.value)
    assert list(hub.iterdir()) == []


def test_a_stalled_download_ends_in_an_error(hub, monkeypatch) -> None:
    class Stalled(io.BytesIO):
        def read(self, size=-1):
            raise TimeoutError("timed out")

    monkeypatch.setattr(face_alignment.urllib.request, "urlopen", lambda url, timeout: Stalled())
    with pytest.raises(WeightsError, match="timed out"):
        FaceAlignmentDetector()
    assert list(hub.iterdir()) == []


def test_a_download_of_something_else_is_refused_and_removed(hub, monkeypatch) -> None:
    monkeypatch.setattr(face_alignment.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"<html>"))
    with pytest.raises(WeightsError, match="SHA-256"):
        FaceAlignmentDetector()
    assert list(hub.iterdir()) == []


def test_damaged_weights_are_an_error_that_names_the_folder(hub) -> None:
    pytest.importorskip("face_alignment")
    hub.mkdir()
    for file in FILES:
        (hub / file).write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="delete them"):
        FaceAlignmentDetector()


def test_the_package_is_made_without_compiling_on_the_chosen_device(fake) -> None:
    create("face-alignment", device="cuda")
    assert fake.options["compile"] is False
    assert fake.options["device"] == "cuda"
    assert fake.options["face_detector"] == "sfd"


def test_detections_come_best_first_with_landmarks_in_their_boxes(fake) -> None:
    found = FaceAlignmentDetector().detect(np.zeros((100, 120, 3), np.uint8))
    assert [face.score for face in found] == pytest.approx([0.99, 0.5])
    for face in found:
        assert (face.landmarks > face.box[:2]).all()
        assert (face.landmarks < face.box[2:]).all()


def test_the_region_is_the_packages_own_crop_of_the_box(fake) -> None:
    """face_alignment.api: centre lifted by 0.12 of the height, side 200 (w + h) / 195."""
    detector = FaceAlignmentDetector()
    box = np.array([100.0, 50, 180, 150])
    region = detector.region(Detection(box=box, landmarks=np.zeros((5, 2)), score=1.0))
    assert np.allclose(geometry.apply(region, np.array([140, 100 - 12.0])), 127.5)
    assert geometry.scale_of(region) == pytest.approx(256 / (200 * 180 / 195))


def test_the_box_handed_to_the_package_makes_it_crop_the_whole_region(fake) -> None:
    detector = FaceAlignmentDetector()
    found = detector.landmarks(np.zeros((256, 256, 3), np.uint8))
    assert found.points.dtype == np.float32
    assert found.presence == pytest.approx(0.7)
    again = detector.region(Detection(box=fake.box[:4], landmarks=np.zeros((5, 2)), score=1.0))
    assert np.allclose(again, [[1, 0, 0], [0, 1, 0]], atol=1e-6)
