"""Curves of several runs in one picture, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, floor, log10
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Curve = Sequence[tuple[float, float]]
# distinct for readers who cannot tell red from green (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
SIZE = (960, 540)
LEFT, RIGHT, TOP, BOTTOM = 80, 140, 70, 60  # RIGHT at least; names may need more
INK, PALE = "#222222", "#dddddd"


def draw_curves(path: Path, curves: Mapping[str, Curve], *, title: str, x_label: str, y_label: str) -> None:
    """Writes a PNG of curves by name; those without points are left out."""
    curves = {name: sorted(points) for name, points in curves.items() if points}
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    font, small = ImageFont.load_default(18), ImageFont.load_default(14)
    width, height = SIZE
    names = [f"{name} {curve[-1][1]:.4g}" for name, curve in curves.items()]
    right = max([RIGHT, *(56 + ceil(small.getlength(name)) for name in names)])
    draw.text((LEFT, 14), title, INK, font)
    draw.text(((LEFT + width - right) / 2, height - 26), x_label, INK, small, anchor="mm")
    draw.text((LEFT, TOP - 12), y_label, INK, small, anchor="ls")
    points = [point for curve in curves.values() for point in curve]
    if points:
        xs, ys = ticks([x for x, _ in points]), ticks([y for _, y in points])

        def place(x: float, y: float) -> tuple[float, float]:
            across, up = (x - xs[0]) / (xs[-1] - xs[0]), (y - ys[0]) / (ys[-1] - ys[0])
            return LEFT + across * (width - LEFT - right), height - BOTTOM - up * (height - TOP - BOTTOM)

        for x in xs:
            draw.line([place(x, ys[0]), place(x, ys[-1])], PALE)
            draw.text((place(x, ys[0])[0], height - BOTTOM + 6), f"{x:g}", INK, small, anchor="mt")
        for y in ys:
            draw.line([place(xs[0], y), place(xs[-1], y)], PALE)
            draw.text((LEFT - 8, place(xs[0], y)[1]), f"{y:g}", INK, small, anchor="rm")
        for index, curve in enumerate(curves.values()):
            colour = COLOURS[index % len(COLOURS)]
            for a, b in pairwise(curve):
                draw.line([place(*a), place(*b)], colour, 2)
            for point in curve:
                x, y = place(*point)
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
            row = TOP + 22 * index
            draw.line([(width - right + 16, row), (width - right + 40, row)], colour, 3)
            draw.text((width - right + 48, row), names[index], INK, small, anchor="lm")
    picture.save(path)


def ticks(values: Sequence[float], *, about: int = 6) -> list[float]:
    """Round numbers around the values, two at least."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** floor(log10(span / about))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= about)
    first, last = floor(low / step), ceil(high / step)
    last += last == first
    return [round(step * index, 10) for index in range(first, last + 1)]
