"""Small faces in large still pictures, which a copy of the size that a video's frame is searched at does not show."""

from __future__ import annotations

import math

import numpy as np

from vidunmask.detectors import Detector
from vidunmask.stages.regions import carried, each_once
from vidunmask.types import ByteArray, Detection

_TILE = 1280  # side in pixels; a detector's thorough pass looks at one as it is
_OVERLAP = 320  # pixels; a face that is cut by a tile's edge lies whole in the next one, and a larger one needs no tiles
_MOST_PIXELS = 11_000_000  # of the copy that is searched, of a picture of 24 megapixels two thirds along each side


def side_of_copy(size: tuple[int, int]) -> int:
    """The longer side, in pixels, of the copy of a picture of ``size`` (height, width) that is worth a search in tiles."""
    return math.floor(max(size) * min(1.0, math.sqrt(_MOST_PIXELS / (size[0] * size[1]))))


def in_tiles(image: ByteArray, detector: Detector) -> list[Detection]:
    """The faces (each once) in the tiles of a picture (H, W, 3) RGB that lie whole in one, in pixels of the picture."""
    found: list[Detection] = []
    height, width = image.shape[:2]
    for y in _starts(height):
        for x in _starts(width):
            tile = np.ascontiguousarray(image[y : y + _TILE, x : x + _TILE])
            low = np.array([1.0 if x else -np.inf, 1.0 if y else -np.inf])
            high = np.array([_TILE - 1 if x + _TILE < width else np.inf, _TILE - 1 if y + _TILE < height else np.inf])
            for face in detector.detect(tile, thorough=True):
                if (face.box[:2] >= low).all() and (face.box[2:] <= high).all():
                    found.append(carried(face, np.array([[1.0, 0, x], [0, 1, y]])))
    return each_once(found, lambda face: face)


def _starts(length: int) -> list[int]:
    """Where tiles begin along a side, evenly."""
    if length <= _TILE:
        return [0]
    count = math.ceil((length - _OVERLAP) / (_TILE - _OVERLAP))
    return [round(start) for start in np.linspace(0, length - _TILE, count)]
