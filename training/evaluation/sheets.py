"""Pictures of what was measured: sheets of faces and frames, and the reliability plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vidunmask.training.evaluation.fills import Shown
from vidunmask.training.evaluation.masks import Segmentation
from vidunmask.types import ByteArray

if TYPE_CHECKING:
    from PIL.Image import Image

_INK, _PAPER, _GREY = (20, 20, 20), (255, 255, 255), (200, 200, 200)
_HUES = ((31, 119, 180), (214, 120, 20), (44, 140, 60))


def sheet(rows: Sequence[Shown], heads: Sequence[str], *, side: int = 160, across: int = 1) -> Image:
    """Rows of pictures under the names of their columns, each row with its caption, ``across`` rows side by side."""
    from PIL import Image, ImageDraw

    font = _font(max(11, side // 12))
    line = font.size + 8
    columns, lines = len(heads), -(-len(rows) // across)
    width, height = across * (columns * side + 8) - 8, line + lines * (side + line)
    canvas = Image.new("RGB", (width, max(line, height)), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for block in range(min(across, max(1, len(rows)))):
        for column, head in enumerate(heads):
            draw.text((block * (columns * side + 8) + column * side + 3, 3), _fit(head, font, side - 4), _INK, font)
    for index, row in enumerate(rows):
        left, top = index % across * (columns * side + 8), line + index // across * (side + line)
        for column, picture in enumerate(row.pictures):
            canvas.paste(Image.fromarray(_scaled(picture, side)), (left + column * side, top))
        draw.text((left + 3, top + side + 2), _fit(row.caption, font, columns * side - 6), _INK, font)
    return canvas


def reliability(measured: Sequence[Segmentation]) -> Image:
    """Of the pixels near the edge of a mask that the network gives a probability, how many are mask: a line a camera."""
    from PIL import Image, ImageDraw

    size, margin = 400, 56
    canvas = Image.new("RGB", (size + 2 * margin, size + 2 * margin), _PAPER)
    draw, font = ImageDraw.Draw(canvas), _font(13)

    def at(x: float, y: float) -> tuple[float, float]:
        return margin + x * size, margin + (1 - y) * size

    for step in range(0, 11, 2):
        value = step / 10
        draw.line([at(value, 0), at(value, 1)], _GREY)
        draw.line([at(0, value), at(1, value)], _GREY)
        draw.text((at(value, 0)[0] - 9, margin + size + 6), f"{value:.1f}", _INK, font)
        draw.text((margin - 28, at(0, value)[1] - 8), f"{value:.1f}", _INK, font)
    draw.line([at(0, 0), at(1, 1)], _INK)
    for index, result in enumerate(measured):
        hue = _HUES[index % len(_HUES)]
        points = [at(predicted, true) for predicted, true, _ in result.edges.curve()]
        if len(points) > 1:
            draw.line(points, hue, 2)
        for x, y in points:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), hue)
        text = (
            f"camera {result.camera:g}: error {result.edges.error:.3f} near the edge, {result.everywhere.error:.4f} everywhere"
        )
        draw.text((margin + 8, margin + 6 + 17 * index), text, hue, font)
    draw.text((margin, margin + size + 28), "probability of mask, mean of each bin", _INK, font)
    draw.text((6, 12), "share of these pixels, near the edge, that are mask", _INK, font)
    return canvas


def _scaled(picture: ByteArray, side: int) -> ByteArray:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _font(size: int):  # type: ignore[no-untyped-def]  # Pillow's own type differs with the libraries it was built with
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _fit(text: str, font, width: float) -> str:  # type: ignore[no-untyped-def]
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
