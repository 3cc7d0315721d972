import numpy as np
import pytest

from vidunmask import geometry
from vidunmask.errors import UsageError
from vidunmask.stages.wearing import MaskWearing, Thresholds, lower_face

FPS = 25


def opacities(covered, look_ahead=8):
    """Runs a track of coverages at 25 frames/s."""
    wearing = MaskWearing()
    series = [(index / FPS, share) for index, share in enumerate(covered)]
    return np.array(
        [
            wearing.step(time, share, series[index + 1 : index + 1 + look_ahead] if look_ahead else None)
            for index, (time, share) in enumerate(series)
        ]
    )


def face68():
    """A plain frontal face: jaw on a half ellipse, nose and mouth in the middle, in a 256-pixel crop."""
    points = np.full((68, 2), 128.0)
    angles = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([128 + 80 * np.cos(angles), 110 + 110 * np.sin(angles)], axis=1)
    points[30] = (128, 130)
    points[31:36] = [(112, 140), (120, 143), (128, 145), (136, 143), (144, 140)]
    points[48], points[54] = (100, 170), (156, 170)
    points[55], points[57], points[59] = (145, 182), (128, 188), (111, 182)
    return points


def test_a_steady_mask_is_removed_from_the_first_frame_on():
    assert (opacities([0.95] * 30) == 1).all()


def test_a_bare_face_is_never_touched():
    assert (opacities([0.03] * 30) == 0).all()


def test_a_decision_goes_on_from_what_another_one_remembered():
    covered = [0.9] * 10 + [0.4] * 10 + [0.1] * 10  # 0.4 is enough to go on and too little to begin
    series = [(index / FPS, share) for index, share in enumerate(covered)]
    whole = MaskWearing()
    for index, (time, share) in enumerate(series):
        before, ahead = whole.past, series[index + 1 : index + 5]
        opacity = whole.step(time, share, ahead)
        assert MaskWearing(past=before).step(time, share, ahead) == opacity
        if index == 14:
            assert opacity == 1
            assert MaskWearing().step(time, share, ahead) == 0


def test_a_single_frame_of_wrong_segmentation_changes_nothing():
    covered = np.full(40, 0.02)
    covered[20] = 1.0
    assert (opacities(covered) == 0).all()
    assert (opacities(1 - covered) == 1).all()


def test_between_the_thresholds_the_last_decision_stands():
    assert (opacities([0.9] * 20 + [0.45] * 40)[-20:] == 1).all()
    assert (opacities([0.1] * 20 + [0.45] * 40)[-20:] == 0).all()


def test_a_mask_put_on_fades_in_without_a_jump_and_around_the_change():
    opacity = opacities([0.0] * 25 + [1.0] * 25)
    assert opacity[:20].max() == 0
    assert opacity[30:].min() == 1
    assert (np.diff(opacity) >= 0).all()
    assert np.diff(opacity).max() <= 0.5
    assert 0.2 <= opacity[25] <= 0.9


@pytest.mark.parametrize("left", range(1, 10))
def test_a_fade_that_begins_shortly_before_the_end_of_a_track_only_rises(left):
    assert (np.diff(opacities([0.0] * 25 + [1.0] * left)) >= 0).all()


def test_without_look_ahead_the_fade_follows_the_change():
    opacity = opacities([0.0] * 25 + [1.0] * 25, look_ahead=0)
    assert opacity[:26].max() == 0
    assert opacity[-10:].min() == 1


def test_a_chin_mask_stays_below_the_threshold_and_a_mask_below_the_nose_lies_above():
    zones = lower_face(face68(), 256)
    rows = np.arange(256)[:, None]
    below_the_mouth = np.broadcast_to(rows > 188, (256, 256)).astype(np.float32)
    below_the_nose = np.broadcast_to(rows > 148, (256, 256)).astype(np.float32)
    assert zones.covered(np.ones((256, 256), np.float32)) == pytest.approx(1, abs=1e-4)
    assert zones.covered(below_the_mouth) < Thresholds().stop
    assert zones.covered(below_the_nose) > Thresholds().start


def test_a_hand_before_the_masked_mouth_does_not_bring_the_mask_back():
    mask = np.zeros((256, 256), np.float32)
    mask[125:220, 60:196] = 1
    mask[130:256, 90:166] = 0  # a hand, which the segmentation leaves out
    assert lower_face(face68(), 256).covered(mask) > Thresholds().stop


def test_thresholds_in_the_wrong_order_are_refused_with_their_values():
    with pytest.raises(UsageError, match=r"start 0\.2, stop 0\.5"):
        Thresholds(start=0.2, stop=0.5)


def test_landmarks_that_are_no_face_leave_the_canonical_one():
    zones = lower_face(np.full((68, 2), -500.0), 256)
    expected = lower_face(geometry.TEMPLATE68, 256)
    np.testing.assert_array_equal(zones.front, expected.front)
    np.testing.assert_array_equal(zones.region, expected.region)


def test_the_lower_face_follows_a_turned_head():
    turned = geometry.TEMPLATE68.copy()
    turned[:, 0] = 128 + (turned[:, 0] - 128) * 0.5 + 20
    front = lower_face(turned, 256).front
    columns = np.arange(256)
    assert (front.sum(axis=0) * columns).sum() == pytest.approx(148, abs=3)


@pytest.mark.parametrize(("worn", "covered", "opacity"), [(True, 0.4, 1), (False, 0.5, 0)])
def test_what_was_decided_before_the_first_frame_goes_on_between_the_thresholds(worn, covered, opacity):
    wearing = MaskWearing()
    assert wearing.step(0.0, covered) == 1 - opacity  # on its own it decides otherwise
    wearing = MaskWearing()
    wearing.begin(worn=worn)
    assert [wearing.step(index / FPS, covered) for index in range(20)] == [opacity] * 20


def test_what_another_run_decided_for_the_first_frames_is_kept_to_and_gone_on_from():
    def run(decisions):
        wearing = MaskWearing()
        wearing.begin(worn=True, decisions=decisions)
        series = [(index / FPS, 0.45) for index in range(30)]  # between the thresholds: what was decided goes on
        return [wearing.step(time, share, series[index + 1 : index + 9]) for index, (time, share) in enumerate(series)]

    assert run([]) == [1.0] * 30
    off = run([(index / FPS, index < 10) for index in range(12)])
    assert off[:8] == [1.0] * 8
    assert 0 < off[9] < 1
    assert off[12:] == [0.0] * 18


def test_on_a_profile_a_mask_beside_the_guessed_landmarks_counts() -> None:
    mask = np.zeros((256, 256), np.float32)
    mask[128:224, 8:84] = 1  # a head that looks to the left, whose detector saw half a face
    sure, doubtful = lower_face(face68(), 256), lower_face(face68(), 256, trust=0.1)
    assert sure.covered(mask) < Thresholds().stop
    assert doubtful.covered(mask) > Thresholds().start
    assert doubtful.covered(mask[:, ::-1]) > Thresholds().start
    assert doubtful.region[150, 30] == 1
    assert sure.region[150, 30] == 0


def test_on_a_profile_a_mask_under_the_chin_is_still_none() -> None:
    mask = np.zeros((256, 256), np.float32)
    mask[200:] = 1
    assert lower_face(face68(), 256, trust=0.0).covered(mask) < Thresholds().start


def test_of_a_small_face_a_doubtful_mask_goes_on_and_does_not_begin() -> None:
    zones, small = lower_face(face68(), 256), lower_face(face68(), 256, small=True)
    clear, half = (np.where(np.arange(256)[:, None] > 120, p, 0.0) * np.ones((1, 256)) for p in (0.95, 0.65))
    assert small.covered(clear.astype(np.float32)) == zones.covered(clear.astype(np.float32)) > Thresholds().start
    assert zones.covered(half.astype(np.float32)) > Thresholds().start
    share = small.covered(half.astype(np.float32))
    assert opacities([share] * 20).max() == 0
    assert opacities([1.0] * 10 + [share] * 20).min() == 1
