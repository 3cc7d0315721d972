import numpy as np
import pytest

from tests.stages.drawn_faces import seen, seen_face
from vidunmask.stages.track import Tracker, track
from vidunmask.types import KnownFace


def run(frames, **options):
    return list(track(frames, Tracker(**options)))


def ids(tracked) -> list[list[int]]:
    return [[face.track_id for face in t.faces] for t in tracked]


def centre_x(face) -> float:
    return float(face.box[0] + face.box[2]) / 2


def test_every_frame_comes_out_once_and_in_order() -> None:
    frames = [seen(i, seen_face(100, 90)) for i in range(40)]
    assert [t.frame.index for t in run(frames)] == list(range(40))


def test_a_moving_face_keeps_its_identity() -> None:
    tracked = run([seen(i, seen_face(50 + 8 * i, 90)) for i in range(20)])
    assert ids(tracked) == [[0]] * 20
    assert [t.faces[0].reset for t in tracked] == [True] + [False] * 19


def test_a_gap_of_less_than_half_a_second_is_interpolated() -> None:
    frames = [seen(i, *([] if 8 <= i < 16 else [seen_face(100 + i, 90)])) for i in range(30)]
    tracked = run(frames)
    assert ids(tracked) == [[0]] * 30
    assert [centre_x(t.faces[0]) for t in tracked] == pytest.approx([100 + i for i in range(30)])
    assert not tracked[10].faces[0].detected
    assert sum(t.faces[0].reset for t in tracked) == 1


def test_a_gap_longer_than_half_a_second_ends_the_track() -> None:
    frames = [seen(i, *([] if 10 <= i < 30 else [seen_face(100, 90)])) for i in range(40)]
    tracked = run(frames)
    assert ids(tracked) == [[0]] * 10 + [[]] * 20 + [[1]] * 10
    assert tracked[30].faces[0].reset


def test_the_length_of_a_gap_is_measured_in_seconds_not_in_frames() -> None:
    def frames(fps):
        return [seen(i, *([] if 20 <= i < 40 else [seen_face(100, 90)]), fps=fps) for i in range(60)]

    assert ids(run(frames(60))) == [[0]] * 60  # a third of a second
    assert ids(run(frames(25)))[30] == []  # 0.8 seconds


def test_a_track_starts_at_the_start_threshold_and_takes_in_the_weaker_sightings_before() -> None:
    frames = [seen(i, seen_face(100, 90, score=0.4 if i < 6 else 0.7)) for i in range(20)]
    assert ids(run(frames)) == [[0]] * 20
    weak = [seen(i, seen_face(100, 90, score=0.5)) for i in range(20)]
    assert ids(run(weak)) == [[]] * 20


def test_a_track_goes_on_at_the_keep_threshold_and_not_below() -> None:
    frames = [seen(i, seen_face(100, 90, score=0.9 if i < 10 else 0.35 if i < 20 else 0.2)) for i in range(40)]
    assert ids(run(frames)) == [[0]] * 20 + [[]] * 20


def test_a_face_that_was_only_followed_starts_no_track() -> None:
    frames = [seen(i, seen_face(100, 90, score=0.9, detected=False)) for i in range(20)]
    assert ids(run(frames)) == [[]] * 20


def test_a_flicker_of_two_frames_is_no_face() -> None:
    frames = [seen(i, *([seen_face(100, 90)] if i in (10, 11) else [])) for i in range(30)]
    assert ids(run(frames)) == [[]] * 30


def test_a_video_of_one_frame_keeps_its_face() -> None:
    assert ids(run([seen(0, seen_face(100, 90))])) == [[0]]


def test_a_shot_too_short_for_a_track_keeps_a_face_that_fills_it() -> None:
    frames = [seen(i, seen_face(100 if i < 20 else 250, 90), cut=i in (20, 22)) for i in range(40)]
    tracked = run(frames)
    assert ids(tracked) == [[0]] * 20 + [[1]] * 2 + [[2]] * 18


def test_a_cut_ends_tracks_and_fills_no_gap() -> None:
    frames = [seen(i, *([] if i in (9, 10, 11) else [seen_face(100, 90)]), cut=i == 10) for i in range(25)]
    tracked = run(frames)
    assert ids(tracked) == [[0]] * 9 + [[]] * 3 + [[1]] * 13
    assert [t.frame.index for t in tracked if t.cut] == [10]
    assert tracked[12].faces[0].reset


def test_faces_that_cross_keep_their_identities() -> None:
    frames = [seen(i, seen_face(40 + 8 * i, 90, 50), seen_face(280 - 8 * i, 105, 70)) for i in range(30)]
    tracked = run(frames)
    for i, t in enumerate(tracked):
        by_id = {face.track_id: centre_x(face) for face in t.faces}
        assert by_id == pytest.approx({0: 40 + 8 * i, 1: 280 - 8 * i})


def test_faces_enter_and_leave() -> None:
    def present(i):
        return [seen_face(60, 90)] * (i < 20) + [seen_face(240, 90)] * (10 <= i < 40)

    tracked = run([seen(i, *present(i)) for i in range(50)])
    assert ids(tracked) == [[0]] * 10 + [[0, 1]] * 10 + [[1]] * 20 + [[]] * 10


def test_a_face_that_jumps_is_reset() -> None:
    frames = [seen(i, seen_face(100 if i < 15 else 138, 90)) for i in range(30)]
    tracked = run(frames)
    resets = [t.frame.index for t in tracked for face in t.faces if face.reset]
    assert resets == [0, 15]


def test_without_look_ahead_frames_are_returned_at_once_and_a_lost_face_coasts() -> None:
    tracker = Tracker(look_ahead=0)
    faces = []
    for i in range(30):
        missing = i in (10, 11) or i >= 20
        done = tracker.step(seen(i, *([] if missing else [seen_face(100 + 2 * i, 90)])))
        assert [t.frame.index for t in done] == [i]
        faces.append(done[0].faces)
    assert [len(f) for f in faces[:20]] == [1] * 20
    assert {f[0].track_id for f in faces[:20]} == {0}
    assert centre_x(faces[10][0]) == pytest.approx(120, abs=1.5)
    assert [len(f) for f in faces[20:]] == [1] * 3 + [0] * 7  # 0.15 seconds
    assert tracker.flush() == []


def test_backward_and_repeated_time_stamps_neither_stall_nor_grow_the_window() -> None:
    order = [0, 1, 2, 2, 2, 1, 0, 5, 4, 3] * 20
    tracker = Tracker(max_frames=16)
    released = 0
    for number, stamp in enumerate(order):
        released += len(tracker.step(seen(stamp, seen_face(100, 90))))
        assert number + 1 - released <= 16
    assert released + len(tracker.flush()) == len(order)


def test_large_frames_shorten_the_window() -> None:
    frames = [seen(i, seen_face(100, 90)) for i in range(20)]
    tracker = Tracker(max_bytes=4 * frames[0].nbytes)
    released = 0
    for number, frame in enumerate(frames):
        released += len(tracker.step(frame))
        assert number + 1 - released <= 4


def test_a_track_loses_no_frames_where_the_window_is_shorter_than_its_least_duration() -> None:
    frames = [seen(i, *([] if i < 6 else [seen_face(100, 90)])) for i in range(20)]
    for bound in ({"max_bytes": 3 * frames[0].nbytes}, {"max_frames": 3}):
        assert ids(run(frames, **bound, min_duration=0.4)) == [[]] * 6 + [[0]] * 14


def test_a_flicker_is_no_face_in_a_short_window_either() -> None:
    frames = [seen(i, *([seen_face(100, 90)] if 6 <= i < 8 else [])) for i in range(20)]
    assert ids(run(frames, max_frames=3)) == [[]] * 20


def test_interpolated_landmarks_lie_between_those_at_the_ends() -> None:
    frames = [seen(i, *([] if i == 5 else [seen_face(100 + 4 * i, 90, 60 + i)])) for i in range(12)]
    t = run(frames)
    expected = (t[4].faces[0].landmarks + t[6].faces[0].landmarks) / 2
    assert np.allclose(t[5].faces[0].landmarks, expected)


@pytest.mark.parametrize("options", [{"start": 0.2}, {"max_gap": -1.0}, {"max_frames": 0}])
def test_impossible_options_are_refused(options) -> None:
    with pytest.raises(ValueError, match="must"):
        Tracker(**options)


def test_a_face_known_from_before_goes_on_under_its_number_however_little_it_scores() -> None:
    frames = [seen(i, seen_face(100, 90, score=0.4)) for i in range(10, 30)]
    face = seen_face(100, 90)
    known = [KnownFace(7, face.landmarks, 9 / 25, worn=True)]
    assert ids(run(frames)) == [[]] * 20
    assert ids(run(frames, known=known)) == [[7]] * 20
    elsewhere = [seen(i, seen_face(400, 90)) for i in range(10, 30)]
    assert ids(run(elsewhere, known=known))[-1] == [8]
