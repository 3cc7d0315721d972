import time
from dataclasses import replace

import numpy as np
import pytest

from tests.stages.drawn_faces import DiscDetector, frame_with
from vidunmask import geometry
from vidunmask.detectors import Landmarks
from vidunmask.detectors._crew import Crew
from vidunmask.stages import detect as stage
from vidunmask.stages.detect import FaceFinder, detect
from vidunmask.stages.regions import angle_of
from vidunmask.types import Detection, Frame


def centre(face) -> np.ndarray:
    return (face.box[:2] + face.box[2:]) / 2


def test_faces_are_followed_between_passes_where_they_are() -> None:
    frames = [frame_with([(60 + 4 * i, 90, 20)], i) for i in range(12)]
    detector = DiscDetector()
    seen = list(detect(frames, detector, every=4))
    assert [s.frame.index for s in seen] == list(range(12))
    assert detector.passes == 3
    for i, s in enumerate(seen):
        assert len(s.faces) == 1
        assert np.allclose(centre(s.faces[0]), [60 + 4 * i, 90], atol=2.0)
        assert s.faces[0].detected == (i % 4 == 0)


class _Doubtful(DiscDetector):
    """Reads landmarks that sway by a fifth of the face, and trusts none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.random = np.random.default_rng(2)

    def landmarks(self, region: np.ndarray) -> Landmarks:
        found = super().landmarks(region)
        return replace(found, points=found.points + self.random.normal(0, 12, 2).astype(np.float32), trust=0.0)


def test_where_landmarks_are_not_trusted_the_picture_tells_how_the_face_moved() -> None:
    def frame(i: int) -> Frame:
        return frame_with([(60 + 4 * i, 90, 22)], i, spots=True)

    seen = list(detect([frame(i) for i in range(24)], _Doubtful(), every=4))
    assert all(len(s.faces) == 1 and s.faces[0].trust == 0 for s in seen)
    path = np.array([centre(s.faces[0]) for s in seen])[2:]
    assert np.abs(np.diff(path, axis=0) - [4, 0]).mean() < 1.5  # what is read sways by 9 px from frame to frame
    assert np.allclose(path[-8:].mean(axis=0), [60 + 4 * 19.5, 90], atol=6)


class _Leaning(DiscDetector):
    """Reads landmarks as upright as the region it reads them in, but for the first, and trusts none of them."""

    def __init__(self, lean: float) -> None:
        super().__init__()
        self.lean = np.deg2rad(lean)

    def region(self, face: Detection | np.ndarray) -> np.ndarray:
        level = super().region(face)
        return level if isinstance(face, Detection) else _about_middle(level, -lean_of(face))

    def landmarks(self, region: np.ndarray) -> Landmarks:
        found = super().landmarks(region)
        level = np.array([[1.0, 0, 0], [0, 1, 0]])
        leaning = geometry.apply(_about_middle(level, self.lean), found.points).astype(np.float32)
        self.lean = 0.0
        return replace(found, points=leaning, trust=0.0)


def _about_middle(to_region: np.ndarray, angle: float) -> np.ndarray:
    """The transform to a region that is then turned by so many radians, clockwise."""
    cos, sin = np.cos(angle), np.sin(angle)
    middle = np.full(2, (DiscDetector.region_size - 1) / 2)
    linear = np.array([[cos, -sin], [sin, cos]])
    return geometry.compose(to_region, np.concatenate([linear, (middle - linear @ middle)[:, None]], axis=1))


def lean_of(landmarks: np.ndarray) -> float:
    return -angle_of(geometry.align(landmarks))


@pytest.mark.parametrize("lean", [-28.0, 28.0])
def test_a_face_whose_landmarks_are_not_trusted_rights_itself_as_the_detector_has_it(lean: float) -> None:
    frames = [frame_with([(160, 90, 22)], i, spots=True) for i in range(24)]
    seen = list(detect(frames, _Leaning(lean), every=4))
    leans = np.rad2deg([lean_of(s.faces[0].landmarks) for s in seen]) * np.sign(lean)
    assert 8 < leans[0] < 20  # halfway, as far as the prior goes
    assert abs(leans[-1]) < 3
    assert np.diff(leans).max() < 1


def test_a_face_on_its_side_is_not_stood_up() -> None:
    frames = [frame_with([(160, 90, 22)], i, spots=True) for i in range(9)]
    seen = list(detect(frames, _Leaning(96.0), every=4))
    leans = np.rad2deg([lean_of(s.faces[0].landmarks) for s in seen])
    assert np.abs(leans - 90).max() < 6


class _Turning(DiscDetector):
    """Trusts its landmarks at first and never again, but for a single frame."""

    reads = 0

    def landmarks(self, region: np.ndarray) -> Landmarks:
        self.reads += 1
        return replace(super().landmarks(region), trust=1.0 if self.reads in (1, 2, 9) else 0.0)


def test_doubt_about_the_landmarks_is_believed_at_once_and_trust_only_in_the_long_run() -> None:
    seen = list(detect([frame_with([(80, 90, 22)], i, spots=True) for i in range(12)], _Turning(), every=60))
    trust = [s.faces[0].trust for s in seen]
    assert trust[:2] == [1, 1]
    assert trust[3] < 0.2  # two frames later
    assert 0 < max(trust[5:]) < 0.3  # one sure frame in profile


def test_a_face_that_appears_between_passes_is_followed_back_to_its_first_frame() -> None:
    frames = [frame_with([(100, 90, 20)] if i >= 5 else [], i) for i in range(12)]
    seen = list(detect(frames, DiscDetector(), every=4))
    assert [len(s.faces) for s in seen] == [0] * 5 + [1] * 7


def test_a_pass_that_misses_a_new_face_is_made_good_by_the_next() -> None:
    frames = [frame_with([(100, 90, 20)], i) for i in range(6)]
    seen = list(detect(frames, DiscDetector(blind=[0]), every=3))
    assert [len(s.faces) for s in seen] == [1] * 6


def test_without_look_back_every_frame_is_returned_at_once() -> None:
    finder = FaceFinder(DiscDetector(), every=3, look_back=0)
    for i in range(6):
        done = finder.step(frame_with([(100, 90, 20)], i))
        assert [s.frame.index for s in done] == [i]
    assert finder.flush() == []


def test_no_more_frames_are_held_than_look_back() -> None:
    finder = FaceFinder(DiscDetector(), look_back=4)
    returned = sum(len(finder.step(frame_with([], i))) for i in range(40))
    assert returned == 36
    assert len(finder.flush()) == 4


def test_large_frames_are_not_held_to_search_them_ahead(monkeypatch) -> None:
    frames = [frame_with([(100, 90, 20)], i) for i in range(40)]
    monkeypatch.setattr(stage, "_HELD_BYTES", 4 * frames[0].nbytes)
    source = iter(frames)
    seen = detect(source, Crew(DiscDetector, 2), every=15, look_back=0)
    assert next(seen).frame is frames[0]
    assert next(source) is frames[5]  # after the one that is done and four more
    assert all(len(item.faces) == 1 for item in seen)


def test_a_face_that_leaves_is_not_followed_any_more() -> None:
    frames = [frame_with([(100, 90, 20)] if i < 7 else [], i) for i in range(12)]
    assert [len(s.faces) for s in detect(frames, DiscDetector(), every=3)] == [1] * 7 + [0] * 5


def test_a_cut_is_marked_and_gets_a_pass_of_its_own() -> None:
    frames = [frame_with([(100, 90, 20)], i, scene=0) for i in range(5)]
    frames += [frame_with([(220, 60, 25)], i, scene=1) for i in range(5, 9)]
    seen = list(detect(frames, DiscDetector(), every=4))
    assert [s.cut for s in seen] == [i == 5 for i in range(9)]
    assert all(len(s.faces) == 1 for s in seen)
    assert seen[5].faces[0].detected
    assert np.allclose(centre(seen[5].faces[0]), [220, 60], atol=2.0)


def test_a_new_face_is_not_followed_back_across_a_cut() -> None:
    frames = [frame_with([(100, 90, 20)], i, scene=0) for i in range(3)]
    frames += [frame_with([(100, 90, 20)], i, scene=1) for i in range(3, 6)]
    seen = list(detect(frames, DiscDetector(blind=[0]), every=10))  # only the pass at the cut finds the face
    assert [len(s.faces) for s in seen] == [0, 0, 0, 1, 1, 1]


def test_several_faces_keep_apart() -> None:
    frames = [frame_with([(60, 60, 18), (160, 90, 24), (270, 120, 12)], i) for i in range(5)]
    for s in detect(frames, DiscDetector(), every=2):
        assert len(s.faces) == 3


def test_faces_below_the_least_size_are_left_alone() -> None:
    frames = [frame_with([(60, 60, 8), (160, 90, 24)], i) for i in range(3)]
    assert [len(s.faces) for s in detect(frames, DiscDetector(), min_size=30)] == [1, 1, 1]


def test_a_detection_that_the_second_look_does_not_confirm_is_no_face() -> None:
    class OnlyFromAfar(DiscDetector):
        def detect(self, image, *, thorough=False):
            return super().detect(image) if image.shape[0] != image.shape[1] else []

    frames = [frame_with([(100, 90, 20)], i) for i in range(4)]
    assert [len(s.faces) for s in detect(frames, OnlyFromAfar())] == [0, 0, 0, 0]


@pytest.mark.parametrize("options", [{"every": 0}, {"look_back": -1}])
def test_impossible_options_are_refused(options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        FaceFinder(DiscDetector(), **options)


def stepped(finder: FaceFinder, frames: list, pause: float = 0.03) -> list:
    """What a finder without look-back gives for each frame, with time for the pass beside between two."""
    out = []
    for frame in frames:
        done = finder.step(frame)
        assert [item.frame.index for item in done] == [frame.index]
        out.append(done[0])
        time.sleep(pause)
    return out


def test_passes_beside_find_follow_and_hold_no_frame_up() -> None:
    class Slow(DiscDetector):
        def detect(self, image: np.ndarray, *, thorough: bool = False) -> list:
            time.sleep(0.05)
            return super().detect(image, thorough=thorough)

    frames = [frame_with([(60 + 4 * i, 90, 20)], i) for i in range(12)]
    finder = FaceFinder(DiscDetector(), every=3, look_back=0, searcher=Slow())
    began = time.monotonic()
    assert finder.step(frames[0])[0].faces == ()  # its pass is still under way
    assert time.monotonic() - began < 0.05
    time.sleep(0.15)
    seen = stepped(finder, frames[1:])
    finder.close()
    assert all(len(item.faces) == 1 for item in seen)
    for item in seen:
        assert np.allclose(centre(item.faces[0]), [60 + 4 * item.frame.index, 90], atol=2.0)
    assert sum(item.faces[0].detected for item in seen) >= 3


def test_a_pass_beside_from_before_a_cut_is_not_believed() -> None:
    frames = [frame_with([(60, 90, 20)], i) for i in range(4)] + [frame_with([], i, scene=7) for i in range(4, 8)]
    finder = FaceFinder(DiscDetector(), every=1, look_back=0, searcher=DiscDetector())
    seen = stepped(finder, frames)
    finder.close()
    assert [item.cut for item in seen].index(True) == 4
    assert len(seen[3].faces) == 1
    assert all(item.faces == () for item in seen[4:])


def test_a_cut_while_a_pass_beside_is_under_way_gets_its_own_pass_afterwards() -> None:
    class Slow(DiscDetector):
        def detect(self, image: np.ndarray, *, thorough: bool = False) -> list:
            time.sleep(0.1)
            return super().detect(image, thorough=thorough)

    frames = [frame_with([], 0)] + [frame_with([(60, 90, 20)], i, scene=7) for i in range(1, 14)]
    finder = FaceFinder(DiscDetector(), every=100, look_back=0, searcher=Slow())
    seen = stepped(finder, frames)
    finder.close()
    assert seen[1].cut
    assert len(seen[-1].faces) == 1


def test_a_face_in_doubt_is_not_followed_between_passes_beside() -> None:
    frames = [frame_with([(60, 90, 20)], i) for i in range(10)]
    finder = FaceFinder(DiscDetector(score=0.45), every=4, look_back=0, searcher=DiscDetector(score=0.45))
    counts = [len(item.faces) for item in stepped(finder, frames)]
    finder.close()
    assert 1 <= sum(counts) <= 4
