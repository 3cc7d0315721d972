import numpy as np
import pytest

from vidunmask.stages.smoothing import CausalSmoother, Path


def parameters(x: float = 0.0, angle: float = 0.0) -> np.ndarray:
    return np.array([x, 50.0, 0.0, angle])


def smoothed(values: list[np.ndarray], *, reach: float = 0.25, fps: int = 25) -> np.ndarray:
    path = Path()
    for i, value in enumerate(values):
        path.append(i / fps, value)
    return np.array([path.smoothed(i / fps, reach) for i in range(len(values))])


def test_a_path_of_one_sample_is_that_sample() -> None:
    assert np.allclose(smoothed([parameters(7, 0.3)]), [parameters(7, 0.3)])


def test_a_constant_acceleration_is_not_flattened() -> None:
    xs = [0.4 * (i - 20) ** 2 for i in range(41)]
    result = smoothed([parameters(x) for x in xs])
    assert np.allclose(result[8:-8, 0], xs[8:-8], atol=0.05)


def test_the_angle_may_pass_half_a_turn() -> None:
    angles = np.linspace(3.0, 3.4, 30)
    wrapped = [parameters(angle=(a + np.pi) % (2 * np.pi) - np.pi) for a in angles]
    assert np.allclose(smoothed(wrapped)[:, 3], angles, atol=0.01)


def test_a_distrusted_sample_moves_the_path_less() -> None:
    def pull(weight: float) -> float:
        path = Path()
        for i in range(21):
            path.append(i / 25, parameters(3.0 if i == 10 else 0.0), weight=weight if i == 10 else 1.0)
        return abs(float(path.smoothed(10 / 25, 0.25)[0]))

    assert pull(0.1) < 0.5 * pull(1.0)


def test_the_sway_of_samples_that_are_not_trusted_is_no_motion() -> None:
    def sway(weight: float) -> float:
        path, noise = Path(), np.random.default_rng(1).normal(0, 8, (40, 4)) * [1, 1, 1 / 50, 1 / 70]
        for i, error in enumerate(noise):
            path.append(i / 25, parameters() + error, weight=weight)
        smooth = [path.smoothed(i / 25, 0.25)[0] for i in range(40)]
        return float(np.abs(np.diff(smooth, 2)).mean())

    assert sway(0.25) < 0.4 * sway(0.9)


def test_the_causal_filter_follows_what_is_not_trusted_more_slowly() -> None:
    def after_a_jump(weight: float) -> float:
        smoother = CausalSmoother()
        smoother.step(0.0, parameters(0), weight=weight)
        return float([smoother.step(i / 25, parameters(30), weight=weight) for i in range(1, 4)][-1][0])

    assert 30 - after_a_jump(0.2) > 3 * (30 - after_a_jump(0.9))


def test_forgotten_samples_are_gone_and_later_ones_stay() -> None:
    path = Path()
    for i in range(10):
        path.append(i, parameters(float(i)))
    path.forget(before=5.0)
    assert path.smoothed(7.0, 0.1)[0] == pytest.approx(7.0)
    with pytest.raises(ValueError, match="no sample"):
        path.smoothed(3.0, 0.5)


def test_the_causal_filter_starts_at_the_first_sample_and_settles_on_a_constant() -> None:
    smoother = CausalSmoother()
    assert np.allclose(smoother.step(0.0, parameters(10)), parameters(10))
    for i in range(1, 100):
        last = smoother.step(i / 25, parameters(20))
    assert last[0] == pytest.approx(20, abs=0.1)


def test_the_causal_filter_turns_the_short_way_round() -> None:
    smoother = CausalSmoother()
    smoother.step(0.0, parameters(angle=3.1))
    after = smoother.step(0.04, parameters(angle=-3.1))[3]
    assert 3.1 <= after <= 2 * np.pi - 3.1
