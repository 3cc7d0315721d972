"""From stored code values to R'G'B' and back, for every matrix, range and depth. Pure numpy.

Sources: ITU-T H.273 tables 2-4 (numbers of matrices, primaries and transfer functions), BT.601, BT.709, BT.2020; the guess for
untagged video is the one that mpv and VLC make.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from vidunmask.types import FloatArray
from vidunmask.video.formats import Layout

if TYPE_CHECKING:
    import av

RANGE_LIMITED, RANGE_FULL = 1, 2  # AVColorRange
SPACE_RGB, SPACE_709, SPACE_UNSPECIFIED, SPACE_YCGCO = 0, 1, 2, 8  # AVColorSpace = H.273 matrix coefficients
TRANSFER_PQ = 16  # SMPTE ST 2084
PRIMARIES_2020 = 9

_BT601, _BT709, _BT2020, _SMPTE240M = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593), (0.212, 0.087)
_LUMA_WEIGHTS = {1: _BT709, 4: (0.3, 0.11), 5: _BT601, 6: _BT601, 7: _SMPTE240M, 9: _BT2020, 10: _BT2020}  # Kr, Kb

# Of light (BT.2087). Of signals it is right to the first order where the three are alike, as in skin, whatever their curve.
_709_TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """The affine maps between the stored codes of a frame and R'G'B' in 0..1; that of BT.2020 is in BT.709's colours."""

    to_rgb: FloatArray  # (3, 4) or (3, 2) for gray: codes and a one to RGB
    from_rgb: FloatArray  # (3, 4) or (1, 4): RGB and a one to codes
    maximum: int  # the largest code
    is_pq: bool = False  # R'G'B' is in PQ and goes through `from_pq` and `to_pq`


def coding_of(native: av.VideoFrame, layout: Layout) -> Coding:
    """The coding of one frame, by its tags and, where it has none, as players guess."""
    space = space_of(native, layout)
    full = layout.always_full or native.color_range == RANGE_FULL
    if len(layout.components) == 1 and native.color_range != RANGE_LIMITED:
        full = True  # FFmpeg reads untagged gray as full range
    wide = getattr(native, "color_primaries", 2) == PRIMARIES_2020
    is_pq = getattr(native, "color_trc", 2) == TRANSFER_PQ
    return _coding(space, full, layout.depth, len(layout.components), is_pq, wide)


def space_of(native: av.VideoFrame, layout: Layout) -> int:
    """The matrix of one frame (H.273), by its tag and, where it has none, as players guess."""
    space = native.colorspace
    if layout.is_rgb:
        return SPACE_RGB
    return int(space) if space in _LUMA_WEIGHTS or space == SPACE_YCGCO else _guess_space(native)


def from_pq(signal: FloatArray) -> FloatArray:
    """PQ in 0..1 as a picture that looks like SDR, in 0..1 and without loss of highlights; the inverse of `to_pq`.

    Networks are trained on SDR, and PQ taken for SDR is dim and flat. Per channel: light by ST 2084, extended Reinhard with
    the reference white of 203 cd/m2 (BT.2408) in the middle, a gamma of 2.2.
    """
    codes, shown = _pq_curve()
    return np.interp(signal, codes, shown).astype(np.float32)


def to_pq(shown: FloatArray) -> FloatArray:
    """The PQ signal in 0..1 of a picture from `from_pq`."""
    codes, values = _pq_curve()
    return np.interp(shown, values, codes).astype(np.float32)


@lru_cache(maxsize=1)
def _pq_curve() -> tuple[FloatArray, FloatArray]:
    codes = np.linspace(0, 1, 4096)
    root = codes ** (1 / 78.84375)
    light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125) * 10000 / 203
    peak = 10000 / 203
    return codes, (light * (1 + light / peak**2) / (1 + light)) ** (1 / 2.2)


def _guess_space(native: av.VideoFrame) -> int:
    if getattr(native, "color_primaries", 2) == PRIMARIES_2020:  # nobody encodes those with an older matrix
        return 9
    return 1 if native.width >= 1280 or native.height > 576 else 6


@lru_cache(maxsize=64)
def _coding(space: int, full: bool, depth: int, components: int, is_pq: bool, wide: bool) -> Coding:
    maximum = (1 << depth) - 1
    unit = 1 << (depth - 8)
    if full or space == SPACE_RGB:
        luma_black, luma_span, chroma_span = 0.0, float(maximum), float(maximum)
    else:
        luma_black, luma_span, chroma_span = 16.0 * unit, 219.0 * unit, 224.0 * unit
    scale: FloatArray = np.array([luma_span, chroma_span, chroma_span])
    offset: FloatArray = np.array([luma_black, 128.0 * unit, 128.0 * unit])
    if space == SPACE_RGB:
        linear: FloatArray = np.eye(3)
        scale, offset = np.full(3, luma_span), np.zeros(3)
    else:
        linear = _yuv_from_rgb(space)
    if wide:
        linear = linear @ _709_TO_2020
    if components == 1:  # gray is luma alone
        linear, scale, offset = linear[:1], scale[:1], offset[:1]
        to_linear: FloatArray = np.ones((3, 1))
    else:
        to_linear = np.linalg.inv(linear)
    from_rgb = np.concatenate([linear * scale[:, None], offset[:, None]], axis=1)
    to_rgb = np.concatenate([to_linear / scale, -(to_linear @ (offset / scale))[:, None]], axis=1)
    return Coding(to_rgb, from_rgb, maximum, is_pq)


def _yuv_from_rgb(space: int) -> FloatArray:
    """(3, 3) R'G'B' to Y in 0..1 and chroma in -0.5..0.5."""
    if space == SPACE_YCGCO:
        return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]])
    red, blue = _LUMA_WEIGHTS[space]
    luma = np.array([red, 1 - red - blue, blue])
    return np.stack([luma, (np.array([0, 0, 1]) - luma) / (2 * (1 - blue)), (np.array([1, 0, 0]) - luma) / (2 * (1 - red))])
