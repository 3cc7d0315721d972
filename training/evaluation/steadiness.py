"""What a viewer of a video minds: flicker, what does not move with the face, and the seam around the fill."""

from __future__ import annotations

import cv2
import numpy as np

from vidunmask.stages.motion import along
from vidunmask.training.evaluation.masks import body_of
from vidunmask.types import ByteArray, FloatArray

_AGREE = 1.0  # px by which motion there and back may miss: beyond it a pixel was hidden
_INNER = 6.0  # px inside the mask's edge where the fill's colour is read
_OUTER = (10.0, 16.0)  # px outside of it where the untouched skin is: the pipeline fills up to 9
_SPREAD = 8.0  # px over which colours along the edge are averaged


class Steadiness:
    """Compares each frame of one face with the frames before, as filled and as it truly was; crops (S, S, 3) RGB.

    Warp error (Lai et al., Learning Blind Video Temporal Consistency, ECCV 2018): mean absolute difference between a frame and
    the frame before, moved along the optical flow of the truth, where that flow can be trusted. Flicker: mean absolute
    difference between a frame and the mean of its neighbours in time, in the aligned crop. Both in 0..1, within the region
    under the mask.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._past: list[tuple[ByteArray, ByteArray]] = []  # (truth, result), up to two frames

    def step(self, truth: ByteArray, result: ByteArray, region: ByteArray, *, reset: bool) -> dict[str, float]:
        """The figures that this frame completes; ``region`` (S, S) 0/1."""
        if reset:
            self._past.clear()
        figures: dict[str, float] = {}
        if self._past and region.any():
            before_truth, before_result = self._past[-1]
            motion, trusted = self._motion(before_truth, truth)
            inside = (region > 0) & trusted
            if inside.any():
                figures["warp error"] = _apart(result, _moved(before_result, motion), inside)
                figures["warp error of the truth"] = _apart(truth, _moved(before_truth, motion), inside)
        if len(self._past) == 2 and region.any():
            for name, index, now in (("flicker", 1, result), ("flicker of the truth", 0, truth)):
                first, second = (past[index].astype(np.float32) for past in self._past)
                deviation = np.abs(second - (first + now.astype(np.float32)) / 2)
                figures[name] = float(deviation[region > 0].mean()) / 255
        self._past = [*self._past[-1:], (truth, result)]
        return figures

    def _motion(self, before: ByteArray, now: ByteArray) -> tuple[FloatArray, ByteArray]:
        """How far off each pixel of ``now`` was before (S, S, 2), and whether that can be trusted (S, S)."""
        a, b = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (before, now))
        back, forth = self._flow.calc(b, a, None), self._flow.calc(a, b, None)
        return back, np.linalg.norm(back + along(back, forth), axis=2) < _AGREE


def _moved(picture: ByteArray, motion: FloatArray) -> ByteArray:
    return along(motion, picture, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def _apart(a: ByteArray, b: ByteArray, where: ByteArray) -> float:
    return float(cv2.absdiff(a, b)[where].mean()) / 255


def seam(truth: ByteArray, result: ByteArray, mask: FloatArray) -> dict[str, float]:
    """The colour step (CIE 1976 difference) across the edge of the mask's body, mean along it; empty where there is none.

    ``seam``: between the fill just inside and the skin just outside. ``seam of the truth``: the same in the true face, which
    has a jaw and a neck there. ``seam too much``: how far one step is from the other.
    """
    body = body_of((mask > 0.5).astype(np.uint8))
    inside = cv2.distanceTransform(body, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(1 - cv2.dilate(body, np.ones((3, 3), np.uint8)), cv2.DIST_L2, 3)
    inner = ((inside > 0) & (inside <= _INNER)).astype(np.float32)
    outer = ((outside > _OUTER[0]) & (outside <= _OUTER[1])).astype(np.float32)
    weights = [cv2.GaussianBlur(ring, (0, 0), _SPREAD) for ring in (inner, outer)]
    edge = (inside > 0) & (inside <= 1.5) & (weights[0] > 0.02) & (weights[1] > 0.02)
    if not edge.any():
        return {}
    steps = []
    for picture in (result, truth):
        lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        near, far = (
            cv2.GaussianBlur(lab * ring[..., None], (0, 0), _SPREAD)[edge] / weight[edge][:, None]
            for ring, weight in zip((inner, outer), weights, strict=True)
        )
        steps.append(near - far)
    return {
        "seam": float(np.linalg.norm(steps[0], axis=1).mean()),
        "seam of the truth": float(np.linalg.norm(steps[1], axis=1).mean()),
        "seam too much": float(np.linalg.norm(steps[0] - steps[1], axis=1).mean()),
    }
