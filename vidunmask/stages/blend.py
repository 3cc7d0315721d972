"""Lays the fills into the frames so that neither outline nor flicker is seen.

In crop space, per track: the fill takes on the colour of the skin at its rim (a membrane in the sense of Perez et al., Poisson
Image Editing, 2003, solved by pull-push), is averaged along the motion of the face, gets the grain of the picture around it,
and fades out over the rim. Only then is it warped into the frame's own pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vidunmask.stages.detail import SkinDetail
from vidunmask.stages.holes import RIM, guide_of
from vidunmask.stages.memory import TrackMemory
from vidunmask.stages.motion import along, enlarged
from vidunmask.stages.observe import Observer
from vidunmask.types import ByteArray, Fill, FloatArray, Frame, FrameFaces

_CAST = 6.0  # grey levels: differences at the rim beyond this lose their say in the colour cast of the fill
_REACH = 12.0  # pixels of 256 over which what remains at the rim is let go of
_LARGE = 24.0  # grey levels: a difference at the rim this large is an edge (jaw, collar), not a tint
_MOVED = 9.0  # grey levels by which a pixel may differ after motion compensation and still vouch for the past
_JUMP = 30.0  # mean grey levels between frames after compensation: not the same scene any more
_COARSE = 3.0  # pixels over which a fill is compared with the one before
_OTHER = 20.0  # grey levels: two fills so far apart are different faces, and between them lies neither but both at once
_BORDER = 10  # pixels over which the alpha fades towards the crop's border
_MAX_GRAIN = 3.0  # grey levels; more than that is texture, not noise


@dataclass(slots=True)
class Past:
    """What one track's last frame left behind."""

    composed: FloatArray | None = None  # (S, S, 3) float32, the face without mask
    small: ByteArray | None = None  # (G, G) grey crop, for motion
    tint: FloatArray | None = None  # (S/4, S/4, 3), the colour correction
    grain: float = 0.0  # grey levels
    noise: FloatArray | None = None  # (S, S) float32, unit variance, fixed to the face
    age: int = 0  # frames with grain


class TemporalBlender:
    """Turns fills into pictures to lay over the frames, one track's frame at a time.

    strength: weight of the past where the picture has not changed, 0..1; 0 treats every frame alone. grain: whether the fill
    gets the noise of its surroundings.
    """

    STRENGTH = 0.8

    def __init__(self, *, strength: float = STRENGTH, grain: bool = True) -> None:
        self.strength = strength
        self.grain = grain
        self._tracks: TrackMemory[Past] = TrackMemory(Past)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def past_of(self, fill: Fill, frame_index: int) -> Past:
        """What is remembered of the fill's track at a frame; empty where there is nothing to blend with."""
        return self._tracks.of(fill.track_id, frame_index, reset=fill.reset)

    def step(self, fill: Fill, frame_index: int) -> tuple[FloatArray, FloatArray] | None:
        """The picture (S, S, 3) and its alpha (S, S), float32 0..1, for one face; None where it must not be touched.

        Not rounded to bytes: a 10-bit frame gets the smooth shades that the colour correction makes.
        """
        if fill.opacity <= 0:
            self._tracks.drop(fill.track_id)
            return None
        past = self.past_of(fill, frame_index)
        hole = (fill.mask > 0.5).astype(np.uint8)
        depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3)  # pixels from the hole's edge
        rim = RIM * len(hole) / 256

        trust, before = self._motion(past, fill.crop) if self.strength > 0 else (None, None)
        tint = _tint(fill, depth, rim)
        if past.tint is not None and trust is not None:
            keep = self.strength * float(trust.mean())
            tint = keep * past.tint + (1 - keep) * tint
        size = len(hole)
        composed = fill.image + cv2.resize(tint, (size, size), interpolation=cv2.INTER_LINEAR)
        if trust is not None and before is not None:
            # plain cloth says nothing of the motion under it: what the fills themselves show has the last word
            apart = cv2.GaussianBlur(_grey(cv2.absdiff(before, composed)), (0, 0), _COARSE)
            keep_map = (self.strength * trust * np.exp(-((apart / _OTHER) ** 2)))[..., None]
            composed += keep_map * (before - composed)
        composed = cv2.copyTo(composed, hole, fill.crop.astype(np.float32))

        past.composed, past.tint = composed, tint
        picture = composed + self._grain(past, fill, composed, hole, depth > rim)[..., None] if self.grain else composed
        alpha = _smoothstep(depth / rim) * _border(size) * fill.opacity
        return np.clip(picture / 255, 0, 1, dtype=np.float32), alpha.astype(np.float32)

    def prune(self, frame_index: int) -> None:
        """Forgets the tracks that have been away too long."""
        self._tracks.prune(frame_index)

    def _motion(self, past: Past, crop: ByteArray) -> tuple[FloatArray | None, FloatArray | None]:
        """How much each pixel's past can be trusted (S, S) 0..1, and the past moved to where the face is now (S, S, 3).

        The motion is that of the masked face: cloth moves with the jaw under it. Where the last frame, moved along, does not
        look like this one, the past is not used.
        """
        size = len(crop)
        small = guide_of(crop)
        last, past.small = past.small, small
        if last is None or past.composed is None:
            return None, None
        flow = self._flow.calc(small, last, None)  # (G, G, 2), from now to before
        error = cv2.GaussianBlur(cv2.absdiff(small, along(flow, last)).astype(np.float32), (0, 0), 2.0)
        if float(error.mean()) > _JUMP:
            past.tint = None
            return None, None
        trust = cv2.resize(np.exp(-((error / _MOVED) ** 2)), (size, size), interpolation=cv2.INTER_LINEAR)
        full = enlarged(flow, size)
        # Every resampling softens a little and the past is resampled again and again, so a still face is not resampled at all.
        if float(np.abs(full).max()) < 0.3:
            return trust, past.composed
        return trust, along(full, past.composed, interpolation=cv2.INTER_CUBIC)

    def _grain(self, past: Past, fill: Fill, composed: FloatArray, hole: ByteArray, inner: ByteArray) -> FloatArray:
        """The noise (S, S) that the picture has around the hole and the fill has not."""
        if past.noise is None:
            # The same for every track, so that it is the same wherever in a video a run begins to count them.
            past.noise = noise_of(0, len(hole))
            past.grain = self._missing_grain(fill.crop, composed, hole, inner) or 0.0
        elif past.age % 5 == 0:  # it changes slowly
            measured = self._missing_grain(fill.crop, composed, hole, inner)
            past.grain += 0.0 if measured is None else 0.4 * (measured - past.grain)
        past.age += 1
        return past.grain * past.noise

    @staticmethod
    def _missing_grain(crop: ByteArray, composed: FloatArray, hole: ByteArray, inner: ByteArray) -> float | None:
        """By how much (standard deviation, grey levels) the surroundings are noisier than the fill; None if unknown."""
        if int(inner.sum()) < 500:
            return None
        around = (cv2.dilate(hole, np.ones((41, 41), np.uint8)) > 0) & (hole == 0)
        # Skin lies above the mask; below and beside it a knitted collar or foliage would pass for noise.
        around[int(np.flatnonzero(hole.any(axis=1)).mean()) :] = False
        around[:, : len(hole) // 4] = around[:, -len(hole) // 4 :] = False
        if int(around.sum()) < 500:
            return None
        # Hair, pores and edges are there too: the smooth quarter of the surroundings shows what is noise.
        there = float(np.percentile(_detail(crop.astype(np.float32))[around], 25))
        missing = there - float(np.median(_detail(composed)[inner]))
        return min(_MAX_GRAIN, max(0.0, missing) ** 0.5)


def blend(fills: Iterable[FrameFaces[Fill]], blender: TemporalBlender, *, observer: Observer | None = None) -> Iterator[Frame]:
    """Lays every fill into its frame. A frame without a mask worn in it passes through as the very same object."""
    from vidunmask.video import pixels

    detail = SkinDetail()
    for item in fills:
        frame = item.frame
        touched = False
        for fill in item.faces:
            if observer is not None and fill.opacity > 0:
                observer.blending(frame, fill, blender.past_of(fill, frame.index), detail.skin_of(fill, frame.index))
            result = blender.step(fill, frame.index)
            if result is None:
                continue
            if observer is not None:
                observer.blended(frame, fill, *result)
            if not touched:
                frame, touched = pixels.editable(frame), True
            pixels.paste_crop(frame, *detail.step(item.frame, fill, *result))
        blender.prune(frame.index)
        detail.prune(frame.index)
        yield frame


def _grey(image: FloatArray) -> FloatArray:
    """The mean (H, W) of the channels of a picture (H, W, 3) float32, in a twentieth of numpy's time."""
    return cv2.transform(image, np.full((1, 3), 1 / 3, np.float32))


def _detail(image: FloatArray) -> FloatArray:
    """Variance (S, S) of the finest detail of a picture (S, S, 3), over about nine pixels."""
    grey = _grey(image)
    return cv2.blur((grey - cv2.GaussianBlur(grey, (0, 0), 1.5)) ** 2, (9, 9))


def _tint(fill: Fill, depth: FloatArray, rim: float) -> FloatArray:
    """The colour (S/4, S/4, 3) to add to the fill so that it meets the skin around the hole; ``depth`` (S, S) in pixels.

    A network errs by a cast over the whole fill: a robust plane per channel. What differs from the plane on the rim itself is
    local (the mask's shadow, a jaw line drawn elsewhere), so it is met at the rim and let go of inside.
    """
    size = len(depth) // 4
    on_rim = ((depth > 0) & (depth <= rim)).astype(np.float32)
    difference = cv2.subtract(fill.crop, fill.image, dtype=cv2.CV_32F) * on_rim[..., None]
    share = cv2.resize(on_rim, (size, size), interpolation=cv2.INTER_AREA)
    mean = cv2.resize(difference, (size, size), interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-6)[..., None]
    small = cv2.resize(fill.crop, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    core = cv2.resize((depth > 2.5 * rim).astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    # Where the segmentation was too tight the rim shows the mask: what looks more like the cloth next to it than like the fill.
    cloth = np.abs(small - _pull_push(small * core[..., None], core)).mean(axis=2)
    skin = np.abs(mean).mean(axis=2)
    share = share / (1 + (skin / (cloth + 2)) ** 4)
    known = share > 0.05
    if int(known.sum()) < 20:
        return np.zeros((size, size, 3), np.float32)
    plane = _robust_plane(mean, known)
    rest = mean - plane
    trust = share / (1 + (np.abs(rest).max(axis=2) / _LARGE) ** 4)
    rest = _pull_push(rest * trust[..., None], trust)
    inside = cv2.resize(depth, (size, size), interpolation=cv2.INTER_AREA) / (_REACH * len(depth) / 256)
    return plane + rest * np.exp(-(inside**2))[..., None]


def _robust_plane(values: FloatArray, known: ByteArray) -> FloatArray:
    """The plane (H, W, 3) through values (H, W, 3) where ``known`` (H, W), outliers apart (Geman-McClure weights)."""
    height, width = known.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    basis = np.stack([np.ones_like(x), x / width - 0.5, y / height - 0.5], axis=2)  # (H, W, 3)
    a, b = basis[known], values[known]
    plane = np.zeros((3, 3), np.float32)
    plane[0] = np.median(b, axis=0)
    ridge = len(a) * np.diag(np.array([0, 0.03, 0.03], np.float32))
    for _ in range(4):
        error = np.abs(b - a @ plane).max(axis=1)
        weighted = a / (1 + (error / _CAST) ** 2)[:, None] ** 2
        plane = np.linalg.solve(weighted.T @ a + ridge, weighted.T @ b)
    return basis @ plane


def _pull_push(weighted: FloatArray, weights: FloatArray) -> FloatArray:
    """Spreads values (H, W, C), given times their weights (H, W), smoothly to where the weights are zero.

    Gortler et al., The Lumigraph, 1996, §3.3.2: averages at coarser and coarser levels, then filled back down.
    """
    if min(weights.shape) <= 2:
        total = float(weights.sum())
        mean = weighted.sum(axis=(0, 1)) / total if total > 1e-6 else np.zeros(weighted.shape[2], np.float32)
        return np.broadcast_to(mean, weighted.shape).astype(np.float32)
    coarse = _pull_push(cv2.pyrDown(weighted), cv2.pyrDown(weights))
    wide = cv2.pyrUp(coarse, dstsize=weights.shape[::-1])
    # A tenth of full coverage is enough to count as known.
    known = np.clip(weights * 10, 0, 1)[..., None]
    values = weighted / np.maximum(weights, 1e-6)[..., None]
    return known * values + (1 - known) * wide


def _smoothstep(x: FloatArray) -> FloatArray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


@lru_cache(maxsize=4)
def _border(size: int) -> FloatArray:
    """Alpha (S, S) that is zero on the crop's border and one `_BORDER` pixels inside."""
    ramp = _smoothstep(np.minimum(np.arange(size), np.arange(size)[::-1]).astype(np.float32) / _BORDER)
    return ramp[:, None] * ramp[None, :]


def noise_of(seed: int, size: int) -> FloatArray:
    """Noise (S, S) float32 of unit variance, about as coarse as a compressed picture's."""
    noise = np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.8)
    noise -= cv2.GaussianBlur(noise, (0, 0), 3.0)
    return noise / float(noise.std())
