import numpy as np
import pytest

from tests.stages.drawn_faces import frame_with, landmarks_in
from vidunmask import geometry
from vidunmask.stages.crop import CropCutter, crop
from vidunmask.types import FrameFaces, TrackedFace


def tracked(index, *faces, fps=25):
    """A frame with (track_id, x, y, reset) faces of 60 px."""
    out = []
    for track_id, x, y, reset in faces:
        box = np.array([x - 30, y - 30, x + 30, y + 30], float)
        out.append(TrackedFace(track_id, box, landmarks_in(box), 0.9, True, reset))
    return FrameFaces(frame_with([(f[1], f[2], 30) for f in faces], index, fps=fps), tuple(out))


def centres(crops, track_id=0) -> np.ndarray:
    """(N, 2) where the middle of the crop lies in the frame."""
    middle = np.full(2, 127.5)
    found = [face for c in crops for face in c.faces if face.track_id == track_id]
    return np.array([geometry.apply(geometry.invert(face.frame_to_crop), middle) for face in found])


def test_a_crop_shows_the_aligned_face() -> None:
    frames = [tracked(0, (0, 160, 90, True))]
    (result,) = crop(frames)
    face = result.faces[0]
    assert face.image.shape == (256, 256, 3)
    assert face.image.dtype == np.uint8
    expected = geometry.align(frames[0].faces[0].landmarks)
    assert np.allclose(face.frame_to_crop, expected, atol=1e-6)
    assert face.image[128, 128, 0] > 200  # the red disc
    assert face.image[128, 128, 1] < 60


def test_the_size_of_the_crops_scales_the_same_picture_area() -> None:
    (small,) = crop([tracked(0, (0, 160, 90, True))], size=128)
    (large,) = crop([tracked(0, (0, 160, 90, True))])
    assert small.faces[0].image.shape == (128, 128, 3)
    assert np.allclose(small.faces[0].frame_to_crop, geometry.resize(large.faces[0].frame_to_crop, 128))


def test_jitter_of_a_still_face_is_removed() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.3, (80, 2))
    crops = list(crop([tracked(i, (0, 160 + noise[i, 0], 90 + noise[i, 1], i == 0)) for i in range(80)]))
    smooth = centres(crops)[10:-10]
    raw = noise[10:-10]
    assert np.diff(smooth, 2, axis=0).std() < 0.15 * np.diff(raw, 2, axis=0).std()


@pytest.mark.parametrize("speed", [2.0, 6.0])
def test_steady_motion_is_followed_without_lag(speed: float) -> None:
    crops = list(crop([tracked(i, (0, 40 + speed * i, 90, i == 0)) for i in range(40)]))
    motion = np.diff(centres(crops)[:, 0])
    assert np.allclose(motion, speed, rtol=1e-3)


def test_a_sudden_start_is_followed_to_within_a_few_pixels_of_the_crop() -> None:
    xs = [60.0] * 25 + [60 + 8.0 * i for i in range(1, 20)]
    crops = list(crop([tracked(i, (0, x, 90, i == 0)) for i, x in enumerate(xs)]))
    offset = centres(crops)[:, 0] - xs
    offset -= offset[0]
    scale = geometry.scale_of(crops[0].faces[0].frame_to_crop)
    assert np.abs(offset * scale).max() < 5.0


def test_a_single_bad_alignment_is_ignored() -> None:
    xs = [160.0 + (25 if i == 20 else 0) for i in range(40)]
    crops = list(crop([tracked(i, (0, x, 90, i == 0)) for i, x in enumerate(xs)]))
    path = centres(crops)[:, 0]
    assert np.ptp(path) < 1.0


def test_nothing_is_smoothed_across_a_reset() -> None:
    xs = [100.0] * 20 + [200.0] * 20
    crops = list(crop([tracked(i, (0, x, 90, i in (0, 20))) for i, x in enumerate(xs)]))
    path = centres(crops)[:, 0]
    assert np.ptp(path[:20]) < 1e-6
    assert np.ptp(path[20:]) < 1e-6
    assert path[20] - path[19] == pytest.approx(100)


def test_tracks_do_not_mix() -> None:
    crops = list(crop([tracked(i, (3, 80, 60, i == 0), (5, 240, 120, i == 0)) for i in range(15)]))
    assert [[face.track_id for face in c.faces] for c in crops] == [[3, 5]] * 15
    assert np.ptp(centres(crops, 3), axis=0).max() < 1e-6
    assert np.allclose(centres(crops, 5)[0] - centres(crops, 3)[0], [160, 60])


def test_frames_come_out_in_order_and_no_more_are_held_than_the_bound() -> None:
    cutter = CropCutter(look_ahead=10.0, max_frames=6)
    released = []
    for i in range(30):
        released += [c.frame.index for c in cutter.step(tracked(i))]
        assert i + 1 - len(released) <= 6
    released += [c.frame.index for c in cutter.flush()]
    assert released == list(range(30))


def test_without_look_ahead_frames_are_returned_at_once_and_jitter_is_less() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.3, (60, 2))
    cutter = CropCutter(look_ahead=0)
    crops = []
    for i in range(60):
        done = cutter.step(tracked(i, (0, 160 + noise[i, 0], 90 + noise[i, 1], i == 0)))
        assert [c.frame.index for c in done] == [i]
        crops += done
    smooth = centres(crops)[10:]
    assert np.diff(smooth, 2, axis=0).std() < 0.5 * np.diff(noise[10:], 2, axis=0).std()


def test_without_look_ahead_motion_is_followed_closely() -> None:
    cutter = CropCutter(look_ahead=0)
    crops = [c for i in range(40) for c in cutter.step(tracked(i, (0, 40 + 5.0 * i, 90, i == 0)))]
    lag = 40 + 5.0 * 39 - centres(crops)[-1, 0]
    assert abs(lag) < 5.0 * 1.0  # less than a frame


def test_repeated_time_stamps_do_no_harm() -> None:
    for look_ahead in (0.0, 0.25):
        crops = list(crop([tracked(i // 3, (0, 160, 90, i == 0)) for i in range(20)], look_ahead=look_ahead))
        assert len(crops) == 20
        assert np.isfinite(centres(crops)).all()
