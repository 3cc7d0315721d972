"""A sheet of what the program makes of a folder of photos: crop, segmentation, hole, result, one row of cells a face.

    python benchmarks/photo_sheet.py PHOTOS SHEET.png [--limit 100] [--columns 8]

For looking at, not for figures: whether a mask is found as it should be is judged by eye.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config
from vidunmask.stages.aim import aim
from vidunmask.stages.blend import TemporalBlender
from vidunmask.stages.crop import crop
from vidunmask.stages.detect import detect
from vidunmask.stages.track import Tracker, track
from vidunmask.stages.unmask import Unmasker, probabilities_of, unmask
from vidunmask.types import ByteArray, FaceCrop, FrameFaces
from vidunmask.video.images import read_image

CELL = 128


def faces(path: Path, parts: object, config: Config) -> Iterator[tuple[ByteArray, ByteArray, ByteArray, str]]:
    """For each face of a photo: crop, crop with the segmentation in red and the hole's outline in green, result, and a
    label."""
    unmasker: Unmasker = parts.unmasker  # type: ignore[attr-defined]
    frame = read_image(path).frame
    seen = detect([frame], parts.detector, every=1, tiles=True)  # type: ignore[attr-defined]
    crops: list[FrameFaces[FaceCrop]] = list(crop(aim(track(seen, Tracker()), unmasker)))
    for item in unmask(crops, unmasker, temporal=False):
        by_track = {face.track_id: face for face in crops[0].faces}
        blender = TemporalBlender(strength=0.0)
        for fill in item.faces:
            picture = by_track[fill.track_id].image
            probability = probabilities_of([by_track[fill.track_id]], unmasker)[0]
            shown = picture.astype(np.float32)
            shown = shown + (np.array([255, 25, 25]) - shown) * (0.5 * (probability > 0.5))[..., None]
            shown = shown.astype(np.uint8)
            outlines, _ = cv2.findContours((fill.mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(shown, outlines, -1, (40, 255, 40), 1)
            blended = blender.step(fill, 0)
            result = picture
            if blended is not None:
                colour, alpha = blended
                result = (picture + (colour * 255 - picture) * alpha[..., None]).astype(np.uint8)
            yield picture, shown, result, f"{path.stem[-9:]} {fill.opacity:.0f}"


def tile(cells: Iterable[tuple[ByteArray, ByteArray, ByteArray, str]], columns: int) -> ByteArray:
    """One column of three cells for each face, ``columns`` faces in a row."""
    strips = []
    for *pictures, label in cells:
        strip = np.concatenate([cv2.resize(p, (CELL, CELL), interpolation=cv2.INTER_AREA) for p in pictures])
        cv2.putText(strip, label, (3, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (255, 255, 0), 1, cv2.LINE_AA)
        strips.append(strip)
    while len(strips) % columns:
        strips.append(np.zeros_like(strips[0]))
    return np.concatenate([np.concatenate(strips[i : i + columns], axis=1) for i in range(0, len(strips), columns)])


def main() -> None:
    """Command line of the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("sheet", type=Path, help="PNG to write; with many faces -1, -2 ... is added to its name")
    parser.add_argument("--limit", type=int, default=100, help="photos to take")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--rows", type=int, default=2, help="rows of faces on a sheet")
    parser.add_argument("--segmenter", default="compact-segmenter")
    parser.add_argument("--inpainter", default="compact-inpainter")
    options = parser.parse_args()
    config = Config(segmenter=options.segmenter, inpainter=options.inpainter)
    parts = build(config)
    photos = sorted(p for p in options.photos.iterdir() if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    step = max(1, len(photos) // options.limit)
    cells = [cell for path in photos[::step][: options.limit] for cell in faces(path, parts, config)]
    per_sheet = options.columns * options.rows
    for number, start in enumerate(range(0, len(cells), per_sheet), 1):
        sheet = tile(cells[start : start + per_sheet], options.columns)
        target = options.sheet.with_stem(f"{options.sheet.stem}-{number}")
        cv2.imwrite(str(target), sheet[..., ::-1])
        print(target)


if __name__ == "__main__":
    main()
