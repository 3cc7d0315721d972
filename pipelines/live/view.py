"""The picture that the window shows: before, after or both, with boxes, masks and figures over it. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from vidunmask import geometry
from vidunmask.types import ByteArray, Fill, FloatArray

HELP = (
    "q, Esc  quit",
    "space   pause",
    "b       before / after",
    "s       split view",
    "o       boxes, masks, timings",
    "p       save this picture",
    "r       record / stop",
    "h       this help",
)
_WHITE, _DARK, _GREEN, _AMBER, _RED = (255, 255, 255), (24, 24, 24), (90, 220, 90), (60, 180, 255), (60, 60, 235)  # BGR
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(slots=True)
class View:
    """What the viewer has asked for; the keys change it."""

    before: bool = False
    split: bool = False
    overlay: bool = False
    paused: bool = False
    help: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """What the strip under the picture says."""

    captured: float = 0.0  # pictures a second
    shown: float = 0.0
    p50: float = 0.0  # milliseconds
    p95: float = 0.0
    reduced: str = ""  # what has been given up to hold the rate
    recording: float | None = None  # seconds
    failed: str = ""  # what a key asked for and could not be done
    waiting: str | None = None  # why no pictures come
    stages: Mapping[str, float] = field(default_factory=dict)  # milliseconds a picture


def compose(
    after: ByteArray,
    before: ByteArray | None,
    view: View,
    faces: Sequence[Fill],
    frame_to_shown: FloatArray,
    figures: Figures,
) -> ByteArray:
    """The window's picture (H, W, 3) BGR, from pictures (h, w, 3) RGB; ``frame_to_shown`` (2, 3) goes with their size."""
    picture = after
    if before is not None and before.shape == after.shape:
        if view.split:
            picture = after.copy()
            middle = after.shape[1] // 2
            picture[:, :middle] = before[:, :middle]
            picture[:, middle - 1 : middle + 1] = 255
        elif view.before:
            picture = before
    canvas = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    unit = _unit(*canvas.shape[:2])
    if view.overlay:
        for face in faces:
            _draw_face(canvas, face, frame_to_shown, unit)
        lines = [f"{name:<8} {spent:5.1f} ms" for name, spent in figures.stages.items()]
        _text_block(canvas, lines, (10, 10), unit)
    if view.split:
        _label(canvas, "before", (0.25, 1), unit)
        _label(canvas, "after", (0.75, 1), unit)
    elif view.before:
        _label(canvas, "before", (0.5, 1), unit)
    if view.help:
        _text_block(canvas, HELP, (canvas.shape[1] // 4, canvas.shape[0] // 6), 1.3 * unit)
    if view.paused:
        _banner(canvas, "paused", unit)
    elif figures.waiting:
        _banner(canvas, figures.waiting, unit)
    return np.concatenate([canvas, _strip(canvas.shape[:2], faces, figures)])


def strip_height(width: int, height: int) -> int:
    """How many rows `compose` adds below a picture of that size."""
    return round(44 * _unit(height, width)) // 2 * 2


def _unit(height: int, width: int) -> float:
    """What sizes of letters and lines are measured by: 1 for a picture whose shorter side has 1000 pixels."""
    return max(0.4, min(height, width) / 1000)


def _strip(size: tuple[int, int], faces: Sequence[Fill], figures: Figures) -> ByteArray:
    """What stands under a picture of that size (height, width)."""
    unit, width, height = _unit(*size), size[1], strip_height(size[1], size[0])
    strip = np.full((height, width, 3), _DARK, np.uint8)
    masked = sum(face.opacity > 0 for face in faces)
    parts = [(figures.failed, _RED)] if figures.failed else []
    parts += [
        (f"{figures.shown:.1f} of {figures.captured:.1f} pictures/s", _WHITE),
        (f"latency {figures.p50:.0f} ms, p95 {figures.p95:.0f}", _WHITE),
        (f"{masked} of {len(faces)} masked", _WHITE),
    ]
    if figures.recording is not None:
        parts.append((f"REC {int(figures.recording) // 60}:{int(figures.recording) % 60:02d}", _RED))
    if figures.reduced:
        parts.append((figures.reduced, _AMBER))
    parts.append(("h: help", (150, 150, 150)))
    x, scale = round(10 * unit), 0.75 * unit
    for text, colour in parts:
        (wide, tall), _ = cv2.getTextSize(text, _FONT, scale, 1)
        if x + wide > width:
            break
        cv2.putText(strip, text, (x, (height + tall) // 2), _FONT, scale, colour, 1, cv2.LINE_AA)
        x += wide + round(28 * unit)
    return strip


def _draw_face(canvas: ByteArray, face: Fill, frame_to_shown: FloatArray, unit: float) -> None:
    size = face.mask.shape[0]
    crop_to_shown = geometry.compose(geometry.invert(face.frame_to_crop), frame_to_shown)
    corners = geometry.apply(crop_to_shown, np.array([[0, 0], [size, 0], [size, size], [0, size]], float))
    colour = _GREEN if face.opacity > 0 else _AMBER
    cv2.polylines(canvas, [np.round(corners).astype(np.int32)], True, colour, max(1, round(2 * unit)), cv2.LINE_AA)
    if face.opacity > 0:
        outlines, _ = cv2.findContours((face.mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        shown = [np.round(geometry.apply(crop_to_shown, line[:, 0].astype(float))).astype(np.int32) for line in outlines]
        cv2.polylines(canvas, shown, True, _WHITE, 1, cv2.LINE_AA)
    text = f"{face.track_id}: " + (f"mask, {face.confidence:.2f} sure" if face.opacity > 0 else "no mask")
    x, y = corners[np.argmin(corners.sum(axis=1))]
    at = (max(4, round(x + 6 * unit)), max(round(24 * unit), round(y + 24 * unit)))
    _shadowed(canvas, text, at, max(0.42, 0.7 * unit), colour)


def _label(canvas: ByteArray, text: str, at: tuple[float, float], unit: float) -> None:
    (wide, tall), _ = cv2.getTextSize(text, _FONT, 0.9 * unit, 1)
    x = round(at[0] * canvas.shape[1] - wide / 2)
    _shadowed(canvas, text, (x, canvas.shape[0] - tall), 0.9 * unit, _WHITE)


def _banner(canvas: ByteArray, text: str, unit: float) -> None:
    scale = 1.1 * unit
    (wide, tall), _ = cv2.getTextSize(text, _FONT, scale, 2)
    scale *= min(1.0, 0.9 * canvas.shape[1] / max(1, wide))
    (wide, tall), _ = cv2.getTextSize(text, _FONT, scale, 2)
    y = canvas.shape[0] // 2
    canvas[y - 2 * tall : y + 2 * tall] = canvas[y - 2 * tall : y + 2 * tall] // 3
    cv2.putText(canvas, text, ((canvas.shape[1] - wide) // 2, y + tall // 2), _FONT, scale, _WHITE, 2, cv2.LINE_AA)


def _text_block(canvas: ByteArray, lines: Sequence[str], at: tuple[int, int], unit: float) -> None:
    if not lines:
        return
    scale, step = 0.65 * unit, round(30 * unit)
    # Columns are aligned by drawing what stands left and right of the first run of blanks apart.
    split = [(line.split("  ", 1)[0].strip(), line.split("  ", 1)[-1].strip() if "  " in line else "") for line in lines]
    left = max(cv2.getTextSize(a, _FONT, scale, 1)[0][0] for a, _ in split)
    right = max(cv2.getTextSize(b, _FONT, scale, 1)[0][0] for _, b in split)
    x, y, gap = at[0], at[1], round(18 * unit)
    area = canvas[y : y + step * len(lines) + step // 3, x : x + left + right + 3 * gap]
    area[:] = area // 3
    for number, (a, b) in enumerate(split):
        base = y + step * (number + 1) - step // 6
        cv2.putText(canvas, a, (x + gap, base), _FONT, scale, _WHITE, 1, cv2.LINE_AA)
        cv2.putText(canvas, b, (x + left + 2 * gap, base), _FONT, scale, _WHITE, 1, cv2.LINE_AA)


def _shadowed(canvas: ByteArray, text: str, at: tuple[int, int], scale: float, colour: tuple[int, int, int]) -> None:
    """Text with its baseline's left end ``at``, on a darkened ground."""
    (wide, tall), below = cv2.getTextSize(text, _FONT, scale, 1)
    x, y = max(0, at[0] - 3), max(0, at[1] - tall - 3)
    ground = canvas[y : at[1] + below, x : at[0] + wide + 3]
    ground[:] = ground // 3
    cv2.putText(canvas, text, at, _FONT, scale, colour, 1, cv2.LINE_AA)
