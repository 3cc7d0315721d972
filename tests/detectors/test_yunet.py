import cv2
import numpy as np
import pytest

from vidunmask.detectors import find_landmarks, yunet
from vidunmask.detectors.yunet import YuNet
from vidunmask.errors import WeightsError
from vidunmask.types import Detection


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="module")
def detector() -> YuNet:
    return YuNet()


def scaled(portrait: np.ndarray, factor: float) -> np.ndarray:
    """The portrait, smaller, in the corner of a 640 x 360 picture."""
    small = cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    canvas = np.full((360, 640, 3), 90, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small[:360]
    return canvas


def test_a_face_of_20_px_is_found_by_a_thorough_pass(detector, portrait) -> None:
    picture = scaled(portrait, 0.16)
    assert max(face.score for face in detector.detect(picture, thorough=True)) > 0.6


def test_a_face_that_fills_the_picture_is_found(detector, portrait) -> None:
    face = cv2.resize(portrait[50:190, 150:290], (900, 900), interpolation=cv2.INTER_CUBIC)
    found = detector.detect(face)
    assert found[0].score > 0.6
    assert found[0].box[2] - found[0].box[0] > 400


def test_passes_at_several_sizes_do_not_count_a_face_twice(detector, portrait) -> None:
    good = [face for face in detector.detect(portrait, thorough=True) if face.score > 0.6]
    assert len(good) == 1


def test_the_face_is_found_and_laid_out_with_its_lower_half_covered(detector, portrait) -> None:
    bare = find_landmarks(detector, portrait, detector.detect(portrait)[0]).points
    masked = portrait.copy()
    outline = np.concatenate([bare[2:15], bare[[28]]]).astype(np.int32)
    cv2.fillPoly(masked, [outline], (150, 190, 220))
    face = detector.detect(masked)[0]
    assert face.score > 0.6
    found = find_landmarks(detector, masked, face)
    assert found.presence > 0.3
    eyes_apart = np.hypot(*(bare[42:48].mean(axis=0) - bare[36:42].mean(axis=0)))
    moved = np.hypot(*(found.points - bare).T) / eyes_apart
    assert moved[36:48].mean() < 0.08
    assert moved[:17].mean() < 0.25


def test_a_region_without_a_face_has_no_presence(detector) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    assert detector.landmarks(noise).presence == 0.0


def test_where_the_mesh_collapses_the_canonical_face_is_laid_into_the_box(detector) -> None:
    face = Detection(
        box=np.array([40.0, 30.0, 200.0, 220.0]),
        landmarks=np.array([[90.0, 100], [160, 100], [125, 140], [97, 168], [153, 168]]),
        score=0.9,
    )
    laid = yunet._laid_into(face)
    assert yunet._trust(laid, face) == pytest.approx(1.0)
    collapsed = laid * [0.2, 1.0] + [90, 0]
    assert yunet._trust(collapsed, face) == 0.0


def test_the_canonical_face_lies_where_the_features_of_a_profile_are(detector) -> None:
    box = np.array([40.0, 30.0, 200.0, 220.0])
    straight = np.array([[90.0, 100], [160, 100], [125, 140], [97, 168], [153, 168]])
    profile = (straight - straight.mean(axis=0)) * [0.3, 1.0] + straight.mean(axis=0) + [50, 0]
    laid = yunet._five(yunet._laid_into(Detection(box=box, landmarks=profile, score=0.8)))
    middle = 127.5 + 0.7 * (profile[:, 0].mean() - 127.5)  # damped, as the place of the box is
    assert laid[:, 0].mean() == pytest.approx(middle, abs=4)


def test_the_line_through_the_eyes_of_a_profile_does_not_turn_the_region(detector) -> None:
    profile = Detection(  # the eyes nearly coincide, so that the line between them is steep
        box=np.array([40.0, 30.0, 170.0, 220.0]),
        landmarks=np.array([[152.0, 95], [154, 104], [168, 130], [140, 168], [144, 170]]),
        score=0.8,
    )
    turn = detector.region(profile)
    assert abs(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))) < 25


def test_missing_weights_are_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(yunet.resources, "files", lambda package: tmp_path)
    with pytest.raises(WeightsError, match="face_detection_yunet_2023mar"):
        YuNet()


def test_damaged_weights_are_named(monkeypatch, tmp_path) -> None:
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"not a network")
    monkeypatch.setattr(yunet.resources, "files", lambda package: tmp_path)
    with pytest.raises(WeightsError, match="damaged"):
        YuNet()


def test_most_faces_of_real_masked_photos_are_found(detector, shared_dir) -> None:
    import csv

    folder = shared_dir / "data" / "masked_photos"
    with (folder / "face_boxes.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["x0"]][::4]
    hits = 0
    for row in rows:
        image = cv2.cvtColor(cv2.imread(str(folder / row["file"])), cv2.COLOR_BGR2RGB)
        x0, y0, x1, y1 = (float(row[key]) for key in ("x0", "y0", "x1", "y1"))
        for face in detector.detect(image):
            x, y = (face.box[:2] + face.box[2:]) / 2
            if x0 < x < x1 and y0 < y < y1 and face.score >= 0.6:
                hits += 1
                break
    assert hits >= 0.93 * len(rows)
