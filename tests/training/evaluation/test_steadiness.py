import numpy as np
import pytest

from vidunmask.training.evaluation.steadiness import Steadiness, seam


@pytest.fixture
def face():
    coarse = np.random.default_rng(0).integers(60, 200, (16, 16, 3), dtype=np.uint8)
    import cv2

    return cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def region():
    region = np.zeros((256, 256), np.uint8)
    region[120:230, 70:190] = 1
    return region


def mean_of(steps):
    names = {name for step in steps for name in step}
    return {name: np.mean([step[name] for step in steps if name in step]) for name in names}


def test_a_still_face_is_steady(face, region):
    steadiness = Steadiness()
    steps = [steadiness.step(face, face, region, reset=index == 0) for index in range(4)]
    assert steps[0] == {}
    assert set(steps[1]) == {"warp error", "warp error of the truth"}
    assert all(value == 0 for step in steps for value in step.values())


def test_what_flickers_is_told_from_what_moves(face, region):
    random = np.random.default_rng(1)
    steadiness, flickering, moving = Steadiness(), [], []
    for index in range(6):
        light = random.integers(-12, 12)
        flickering.append(
            steadiness.step(face, np.clip(face.astype(int) + light, 0, 255).astype(np.uint8), region, reset=index == 0)
        )
    steadiness = Steadiness()
    for index in range(6):
        moved = np.roll(face, 2 * index, axis=1)
        moving.append(steadiness.step(moved, moved, region, reset=index == 0))
    assert mean_of(flickering)["flicker"] > 10 * (mean_of(flickering)["flicker of the truth"] + 1e-3)
    assert mean_of(flickering)["warp error"] > 0.01
    assert mean_of(moving)["warp error"] == pytest.approx(mean_of(moving)["warp error of the truth"])
    assert mean_of(moving)["warp error"] < 0.01


def test_nothing_is_compared_across_a_reset(face, region):
    steadiness = Steadiness()
    steadiness.step(face, face, region, reset=True)
    assert steadiness.step(255 - face, face, region, reset=True) == {}


def test_the_seam_is_the_step_that_the_truth_has_not(face, region):
    figures = seam(face, face, region.astype(np.float32))
    assert figures["seam too much"] == 0
    assert figures["seam"] == figures["seam of the truth"]
    grey = np.full((256, 256, 3), 128, np.uint8)
    brighter = np.where(region[..., None] > 0, 154, grey).astype(np.uint8)  # ten units of L*
    figures = seam(grey, brighter, region.astype(np.float32))
    assert figures["seam"] == pytest.approx(10, abs=0.5)
    assert figures["seam of the truth"] == pytest.approx(0, abs=1e-3)
    assert figures["seam too much"] == pytest.approx(10, abs=0.5)
    assert seam(grey, grey, np.zeros((256, 256), np.float32)) == {}
