"""Smooths the path of one aligned crop over time. Pure numpy.

A path is a series of `geometry.similarity_parameters` (4,): crop centre x, y in frame pixels, log2 of the scale, angle.
What matters is how far the picture moves inside the crop, so distances are taken in crop pixels.
"""

from __future__ import annotations

import math

import numpy as np

from vidunmask.types import FloatArray

_RADIUS = 70.0  # crop pixels from the centre to the features whose place the scale and the angle decide
_FINEST = 0.35  # crop pixels; measured spread of FaceMesh's alignment on a still face
_COARSEST = 2.0  # crop pixels; what spreads more than this is motion
_TRUSTED = 0.5  # weight from which on that holds; the less samples are trusted, the more of their motion is error
_LEAST = 0.25  # weight of profiles, whose samples sway by 8 crop pixels


class Path:
    """The raw alignments of one track between two resets, and the smoothed ones."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._raw: list[FloatArray] = []
        self._weights: list[float] = []

    def append(self, time: float, parameters: FloatArray, *, weight: float = 1.0) -> None:
        """Adds a sample. Times must not decrease; weight (> 0) is how far the sample is trusted."""
        parameters = parameters.copy()
        if self._raw:  # the angle must not jump by a full turn
            parameters[3] -= 2 * math.pi * round((parameters[3] - self._raw[-1][3]) / (2 * math.pi))
        self._times.append(time)
        self._raw.append(parameters)
        self._weights.append(max(weight, 1e-3))

    def forget(self, before: float) -> None:
        """Drops the samples older than ``before``."""
        first = next((i for i, time in enumerate(self._times) if time >= before), len(self._times))
        del self._times[:first], self._raw[:first], self._weights[:first]

    def smoothed(self, time: float, reach: float) -> FloatArray:
        """The parameters (4,) at ``time``, from the samples up to ``reach`` seconds on either side; no lag.

        A weighted polynomial is fitted at two widths. The wide fit holds while it agrees with the narrow one up to the noise of
        the samples; where the head moves faster than the wide fit can follow, the narrow one takes over.
        """
        times = np.array(self._times) - time
        near = np.abs(times) <= reach + 1e-9
        times, raw, trust = times[near], np.array(self._raw)[near], np.array(self._weights)[near]
        if len(times) == 0:
            raise ValueError(f"the path has no sample within {reach} s of {time} s")
        if len(times) < 3:
            return np.array(raw[np.argmin(np.abs(times))])
        unit = _crop_pixels(raw)
        values = raw * unit  # (N, 4) crop pixels
        noise = _noise(values, coarsest=_COARSEST / _doubtless(float(np.median(trust))))
        trust = trust * _agreement(times, values)
        wide, narrow = _fit(times, values, trust, reach / 2), _fit(times, values, trust, reach / 6)
        apart = float(np.sqrt(np.mean((wide - narrow) ** 2))) / noise
        share = math.exp(-((apart / 1.5) ** 2))
        return (share * wide + (1 - share) * narrow) / unit


class CausalSmoother:
    """One-Euro filter of a path: little delay in motion, little jitter at rest (Casiez et al., CHI 2012), for live use."""

    def __init__(self, *, min_cutoff: float = 1.2, beta: float = 0.06) -> None:
        """min_cutoff: Hz at rest; beta: Hz more for each crop pixel a second."""
        self._min_cutoff = min_cutoff
        self._beta = beta
        self._last: tuple[float, FloatArray, FloatArray] | None = None  # time, filtered, filtered speed

    def step(self, time: float, parameters: FloatArray, *, weight: float = 1.0) -> FloatArray:
        """The filtered parameters (4,) at ``time``, given the raw ones and how far (0..1) they are trusted."""
        if self._last is None or time <= self._last[0]:
            speed = np.zeros(4) if self._last is None else self._last[2]
            self._last = (time, parameters.copy(), speed)
            return parameters.copy()
        last_time, filtered, speed = self._last
        dt = time - last_time
        change = parameters - filtered
        change[3] -= 2 * math.pi * round(change[3] / (2 * math.pi))
        unit = _crop_pixels(parameters[None])
        speed = speed + _gain(1.0, dt) * (change * unit / dt - speed)
        # what is not trusted moves, so it seems, all the time
        cutoff = self._min_cutoff + self._beta * _doubtless(weight) * float(np.sqrt(np.mean(speed**2)))
        filtered = filtered + _gain(cutoff, dt) * change
        self._last = (time, filtered, speed)
        return filtered.copy()


def _gain(cutoff: float, dt: float) -> float:
    """Share of the new value in an exponential filter with that cutoff in Hz."""
    r = 2 * math.pi * cutoff * dt
    return r / (r + 1)


def _crop_pixels(raw: FloatArray) -> FloatArray:
    """(4,) factors from parameters (N, 4) to crop pixels."""
    scale = 2.0 ** float(np.median(raw[:, 2]))
    return np.array([scale, scale, _RADIUS * math.log(2), _RADIUS])


def _doubtless(weight: float) -> float:
    """From 1 for samples of usual weight down to a sixth for those that are hardly trusted."""
    return min(max(weight, _LEAST) / _TRUSTED, 1.0) ** 2.6


def _noise(values: FloatArray, *, coarsest: float) -> float:
    """Spread of the samples (N, 4) in crop pixels, from second differences, which steady motion does not enter.

    Above ``coarsest`` it is taken for motion.
    """
    if len(values) < 4:
        return _FINEST
    second = values[2:] - 2 * values[1:-1] + values[:-2]
    spread = 1.4826 * float(np.median(np.abs(second))) / math.sqrt(6)
    return min(max(spread, _FINEST), coarsest)


def _agreement(times: FloatArray, values: FloatArray) -> FloatArray:
    """(N,) weights that rule out a sample which both its neighbours contradict (a single bad fit, not a fast motion)."""
    weights = np.ones(len(times))
    before, after = values[:-2], values[2:]
    span = times[2:] - times[:-2]
    at = np.divide(times[1:-1] - times[:-2], span, out=np.full(len(span), 0.5), where=span > 0)[:, None]
    off = np.abs(values[1:-1] - ((1 - at) * before + at * after)).max(axis=1)
    weights[1:-1][off > 4.0 + np.abs(after - before).max(axis=1)] = 0.01  # crop pixels
    return weights


def _fit(times: FloatArray, values: FloatArray, trust: FloatArray, sigma: float) -> FloatArray:
    """Value (4,) at time 0 of a polynomial through values (N, 4), Gaussian weights of width ``sigma`` seconds.

    Second order with samples on both sides, where it does not flatten the turning points of a motion; first order at an end.
    """
    weights = trust * np.exp(-0.5 * (times / max(sigma, 1e-6)) ** 2)
    inside = min(int((times < 0).sum()), int((times > 0).sum())) >= 2
    powers = np.stack([times**k for k in range(3 if inside else 2)], axis=1) / (1, sigma, sigma**2)[: 3 if inside else 2]
    weighted = powers * weights[:, None]
    # a little ridge on slope and curvature, for the case that the weights leave fewer samples than coefficients
    ridge = np.diag([0.0, 1e-5, 1e-5][: powers.shape[1]]) * weights.sum()
    solution = np.linalg.solve(powers.T @ weighted + ridge + 1e-12 * np.eye(powers.shape[1]), weighted.T @ values)
    return np.array(solution[0])
