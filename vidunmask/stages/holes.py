"""From the segmentation's probability to the hole that is filled: steady in time, whole, and a little larger than the mask."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

from vidunmask.stages.motion import along, enlarged
from vidunmask.types import ByteArray, FloatArray

# Pixels of a 256-pixel crop. A segmentation ends within about two pixels of the mask's edge where it is sure of it. Where it is
# not, some probability is left further out. What lies beyond is skin that both the camera and the network show, where the
# blend can compare the two.
SAFETY, DOUBT = 2, 5
SMEAR, MOST = 1.5, 4  # pixels of the frame over which an encoder smears the mask's colour, and of the crop that this takes
RIM = 4

_GUIDE = 128  # side of the small picture on which frames are compared
_BLUR = 2.0  # pixels of it; noise and what moved by less does not count
_STILL = 4.0  # grey levels: pictures that differ less everywhere show a face at rest
_SIGMA = 10.0  # grey levels: pixels that differ by this much do not vouch for each other
_SURE, _MAYBE = 0.5, 0.25  # what may be mask belongs to it where it hangs together with what surely is
_DOUBTED = 0.08  # and from here on still, within `DOUBT` pixels
_THIN, _FAINT = 3, 0.12  # pixels of a 256-pixel crop, half the width of a loop, and by how much it stands out at least
_BARE = 0.1  # a face that nowhere looks more like a mask, before and after, has nothing to be smoothed
_SPECK = 0.002  # of the crop's area: smaller parts are noise
_PIECE = 0.0003  # of the crop's area: smaller pieces of a loop are noise too
_REACH = 10  # pixels of a 256-pixel crop from the mask, or from another piece, to where a loop goes on behind hair or glasses
_GAP = 0.03  # of the crop's area: enclosed holes up to this size are prints and valves of the mask itself


class MaskSmoother:
    """Averages one track's probabilities over neighbouring frames where the picture itself stayed the same.

    A temporal bilateral filter along the motion of the picture: the crop decides where a pixel was in a neighbour and how much
    that has to say about it. So a mask that is being pulled off is not smeared over the frames before and after, and a loop of
    four pixels survives the sway of a profile's crops. Symmetric where frames ahead are known.
    """

    def __init__(self, *, reach: int = 2) -> None:
        self._past: deque[tuple[FloatArray, ByteArray]] = deque(maxlen=reach)
        self._reach = reach
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.sums: tuple[FloatArray, FloatArray] | None = None  # of the last step: weighted probabilities (S, S), weights

    def step(self, probability: FloatArray, guide: ByteArray, ahead: Sequence[tuple[FloatArray, ByteArray]] = ()) -> FloatArray:
        """The smoothed probability (S, S) float32, for one and its neighbours ``ahead``, each (probability, guide)."""
        size = probability.shape[0]
        total = probability.copy()
        weights = np.ones_like(probability)
        neighbours = [
            *((len(self._past) - i, past) for i, past in enumerate(self._past)),
            *((i + 1, future) for i, future in enumerate(ahead[: self._reach])),
        ]
        if max(float(p.max()) for p in (probability, *(other for _, (other, _) in neighbours))) < _BARE:
            neighbours = []
        for distance, (other, other_guide) in neighbours:
            other, difference = self._moved(other, guide, other_guide)
            alike = np.exp(-((difference / _SIGMA) ** 2)) * (0.7**distance)
            weight = cv2.resize(alike, (size, size), interpolation=cv2.INTER_LINEAR)
            total += weight * other
            weights += weight
        self._past.append((probability, guide))
        self.sums = (total, weights)
        return total / weights

    def _moved(self, other: FloatArray, guide: ByteArray, other_guide: ByteArray) -> tuple[FloatArray, FloatArray]:
        """A neighbour's probability (S, S) where the face is now, and how much the pictures differ even so (G, G)."""
        difference = _difference(guide, other_guide)
        if max(float(difference.max()), -float(difference.min())) < _STILL:
            return other, difference
        flow = self._flow.calc(guide, other_guide, None)  # (G, G, 2), from now to the neighbour
        return along(enlarged(flow, len(other)), other), _difference(guide, along(flow, other_guide))


def _difference(a: ByteArray, b: ByteArray) -> FloatArray:
    """How much two guides (G, G) differ, in grey levels, noise apart."""
    return cv2.GaussianBlur(cv2.subtract(a, b, dtype=cv2.CV_32F), (0, 0), _BLUR)


def guide_of(crop: ByteArray) -> ByteArray:
    """A small grey picture (128, 128) uint8 of a crop (S, S, 3), on which frames are compared."""
    return cv2.cvtColor(cv2.resize(crop, (_GUIDE, _GUIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.uint8)


def hole_of(probability: FloatArray, region: ByteArray, *, scale: float = 1.0) -> FloatArray:
    """The hole (S, S) float32 0/1 to fill, for a probability (S, S) of a crop that is ``scale`` times the frame.

    Parts that do not touch the lower face ``region`` (S, S) 0/1 are somebody's collar or noise and are left alone, but for
    small pieces close to the mask: hair and glasses cut loops into them. Thin lines that hang together with the mask belong to
    it even where they are faint. Prints and valves that the mask encloses are closed. The result reaches `SAFETY` + `RIM`
    pixels beyond the mask, further where the face is small in the frame and where the edge of the mask is in doubt.
    """
    size = probability.shape[0]
    sure = probability > _SURE
    lines = cv2.morphologyEx(probability, cv2.MORPH_TOPHAT, _disc(max(1, round(_THIN * size / 256)))) > _FAINT
    count, labels = cv2.connectedComponents(((probability > _MAYBE) | lines).astype(np.uint8), connectivity=8)
    area = np.bincount(labels[sure], minlength=count)
    touching = np.bincount(labels[sure & (region > 0)], minlength=count)
    keep = (touching > _SPECK * size * size / 2) & (area > _SPECK * size * size)
    pieces = ~keep & (area > _PIECE * size * size) & (area < 4 * _SPECK * size * size)
    while keep.any() and pieces.any():
        near = cv2.dilate(keep[labels].astype(np.uint8), _disc(max(1, round(_REACH * size / 256))))
        reached = pieces & (np.bincount(labels[near > 0], minlength=count) > 0)
        if not reached.any():
            break
        keep, pieces = keep | reached, pieces & ~reached
    binary = keep[labels].astype(np.uint8)
    if not binary.any():
        return binary.astype(np.float32)
    smear = min(MOST, SMEAR * scale * 256 / size)
    safety, doubt, rim = (max(1, round(pixels * size / 256)) for pixels in (max(SAFETY, smear), DOUBT, RIM))
    doubted = cv2.dilate(binary, _disc(doubt)) & (probability > _DOUBTED).astype(np.uint8)
    binary = cv2.dilate(cv2.dilate(binary, _disc(safety)) | doubted, _disc(rim))
    # Closing comes after growing: a gap that the growth nearly closed is not worth a seam of its own.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - binary, connectivity=4)
    inside = (
        (stats[:, cv2.CC_STAT_LEFT] > 0)
        & (stats[:, cv2.CC_STAT_TOP] > 0)
        & (stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_WIDTH] < size)
        & (stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] < size)
    )
    small = stats[:, cv2.CC_STAT_AREA] < _GAP * size * size
    fill = inside & small
    fill[0] = False
    return np.maximum(binary, fill[labels].astype(np.uint8)).astype(np.float32)


def _disc(radius: int) -> ByteArray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.uint8)
