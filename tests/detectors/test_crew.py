"""Several detectors under one roof: they work at the same time, and find what one finds."""

import threading

import numpy as np
import pytest

from tests.stages.drawn_faces import DiscDetector, frame_with
from vidunmask import detectors
from vidunmask.detectors import Detector
from vidunmask.detectors._crew import Crew
from vidunmask.pipelines import build
from vidunmask.stages.detect import FaceFinder, detect


def a_film():
    """Faces that come, go, cross and move, with a cut, over three seconds."""
    for i in range(80):
        discs = [(60 + 2 * i, 60, 20)]
        if i >= 11:
            discs.append((280 - 2 * i if i < 120 else 40, 130, 22))
        if 20 <= i < 33:
            discs.append((250, 50, 18))
        if i >= 47:
            discs = [(100 + i, 90, 30), (200, 40 + i / 2, 16)]
        yield frame_with(discs, i, scene=i >= 47)


@pytest.mark.parametrize("every", [1, 3, 5])
def test_a_crew_finds_what_one_detector_finds(every):
    alone = list(detect(a_film(), DiscDetector(), every=every))
    crew = Crew(DiscDetector, 3)
    assert isinstance(crew, Detector)
    together = list(detect(a_film(), crew, every=every))
    assert [s.frame.index for s in together] == [s.frame.index for s in alone] == list(range(80))
    assert [s.cut for s in together] == [s.cut for s in alone]
    for one, other in zip(alone, together, strict=True):
        assert [face.detected for face in other.faces] == [face.detected for face in one.faces]
        for a, b in zip(one.faces, other.faces, strict=True):
            np.testing.assert_array_equal(b.landmarks, a.landmarks)
            assert (b.score, b.trust) == (a.score, a.trust)


class _Together(DiscDetector):
    """Reads landmarks only while another one does too."""

    meeting = threading.Barrier(2, timeout=20)
    met = 0

    def landmarks(self, region):
        self.meeting.wait()
        type(self).met += 1
        return super().landmarks(region)


def test_two_faces_are_followed_at_the_same_time():
    frames = [frame_with([(60 + i, 60, 20), (220, 60 + i, 20)], i) for i in range(8)]
    seen = list(detect(frames, Crew(_Together, 2), every=4))
    assert [len(s.faces) for s in seen] == [2] * 8
    assert _Together.met == 16
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vidunmask-flow")]


def test_passes_are_made_before_their_frames_are_due():
    passes = []

    class Noting(DiscDetector):
        def detect(self, image, *, thorough=False):
            if image.shape[0] != image.shape[1]:
                passes.append(thorough)
            return super().detect(image, thorough=thorough)

    crew = Crew(Noting, 2)
    finder = FaceFinder(crew, every=3)
    assert finder.foresight == 6
    assert FaceFinder(DiscDetector(), every=3).foresight == 0
    frames = [frame_with([(60 + i, 60, 20)], i) for i in range(10)]
    finder.step(frames[0], frames[1:7])
    for begun in [job for _, job in finder._begun.values()]:
        begun.result()
    assert sorted(finder._begun) == [3, 6]
    assert passes == [True, False, False]
    for i in range(1, 4):
        finder.step(frames[i], frames[i + 1 : i + 7])
    assert sorted(finder._begun) == [6, 9]
    finder.close()


def test_an_error_of_a_pass_made_ahead_is_not_lost():
    class Failing(DiscDetector):
        def detect(self, image, *, thorough=False):
            if not thorough:
                raise ValueError("out of order")
            return super().detect(image)

    with pytest.raises(ValueError, match="out of order"):
        list(detect([frame_with([(60, 60, 20)], i) for i in range(8)], Crew(Failing, 2)))


def test_a_crew_of_none_is_refused():
    with pytest.raises(ValueError, match="at least 1 detector"):
        Crew(DiscDetector, 0)


def test_how_many_there_are_depends_on_the_cores(monkeypatch):
    import cv2

    for cores, expected in ((1, 1), (2, 1), (4, 1), (8, 2), (16, 5), (64, 6)):
        monkeypatch.setattr(cv2, "getNumThreads", lambda cores=cores: cores)
        assert build.detectors_at_once() == expected
    assert isinstance(detectors.create("yunet", workers=2), Crew)
    assert not isinstance(detectors.create("yunet", workers=1), Crew)
