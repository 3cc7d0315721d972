import numpy as np
import pytest

from vidunmask import detectors
from vidunmask.errors import WeightsError
from vidunmask.training.evaluation import identity


@pytest.fixture(scope="module")
def embedder():
    pytest.importorskip("dlib", reason="dlib-bin is not installed")
    try:
        return identity.Identity()
    except WeightsError as error:
        pytest.skip(str(error))


def test_a_face_is_nearer_to_itself_in_other_light_than_to_a_spoilt_one(embedder):
    data = pytest.importorskip("skimage.data")
    picture = np.ascontiguousarray(data.astronaut()[:300, 60:360])
    detector = detectors.create("yunet")
    points = detectors.find_landmarks(detector, picture, detector.detect(picture)[0]).points
    darker = (picture * 0.7).astype(np.uint8)
    spoilt = picture.copy()
    top, bottom = int(points[30, 1]), int(points[8, 1])
    spoilt[top:bottom] = np.random.default_rng(0).integers(0, 255, spoilt[top:bottom].shape, dtype=np.uint8)
    true, dark, bad = embedder.embed([picture, darker, spoilt], [points] * 3)
    assert np.linalg.norm(true - dark) < 0.3 < np.linalg.norm(true - bad)
    assert embedder.embed([], []).shape == (0, 128)


def test_without_dlib_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(identity.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"vidunmask\[eval\]"):
        identity.Identity()
