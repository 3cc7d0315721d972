import warnings

import cv2
import numpy as np
import pytest

from vidunmask.stages.cuts import CutDetector, _is_pan


def scene(seed: int, *, width: int = 64) -> np.ndarray:
    """A smooth picture (36, width, 3), another one for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, width // 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, 36), interpolation=cv2.INTER_CUBIC)


def cuts_of(thumbnails: list[np.ndarray]) -> list[int]:
    detector = CutDetector()
    return [i for i, thumbnail in enumerate(thumbnails) if detector.step(thumbnail)]


def test_a_new_scene_is_a_cut_and_the_first_frame_is_none() -> None:
    assert cuts_of([scene(1)] * 5 + [scene(2)] * 5 + [scene(3)] * 2) == [5, 10]


def test_grain_is_no_cut() -> None:
    random = np.random.default_rng(0)
    noisy = [np.clip(scene(1) + random.normal(0, 12, (36, 64, 3)), 0, 255).astype(np.uint8) for _ in range(10)]
    assert cuts_of(noisy) == []


@pytest.mark.parametrize("gain", [0.5, 1.6])
def test_a_flash_is_no_cut(gain: float) -> None:
    picture = scene(1) // 2 + 30
    flash = np.clip(picture * gain, 0, 255).astype(np.uint8)
    assert cuts_of([picture] * 5 + [flash] + [picture] * 5) == []


def test_a_fast_pan_is_no_cut() -> None:
    wide = scene(4, width=300)
    assert cuts_of([wide[:, x : x + 64] for x in range(0, 200, 10)]) == []


def test_a_cut_to_black_and_back_is_found_and_black_itself_is_still() -> None:
    black = np.zeros((36, 64, 3), np.uint8)
    assert cuts_of([scene(1)] * 4 + [black] * 4 + [scene(2)] * 4) == [4, 8]


@pytest.mark.parametrize("shape", [(1, 64, 3), (64, 1, 3)])
def test_a_frame_as_thin_as_a_banner_has_cuts_too(shape) -> None:
    dark, light = np.full(shape, 20, np.uint8), np.full(shape, 200, np.uint8)
    dark[:, :32], light[32:] = 90, 40
    assert cuts_of([dark] * 3 + [light] * 3) == [3]


def test_no_overlap_at_all_is_no_pan() -> None:
    half = np.zeros((36, 64), np.float32)
    half[:, :32] = 100
    noise = 10 * np.random.default_rng(381).standard_normal((36, 64)).astype(np.float32)
    with np.errstate(all="raise"), warnings.catch_warnings(action="error"):  # found 300 pixels apart, both ways
        assert not _is_pan(half, noise)


def test_a_change_of_picture_size_is_a_cut() -> None:
    assert cuts_of([scene(1), scene(1), scene(1)[:, :48]]) == [2]
