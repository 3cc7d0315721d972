"""A mask on a clip: the face is followed by the pipeline's own detector, and wears one mask from first frame to last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch

from vidunmask import geometry
from vidunmask.detectors import Detector
from vidunmask.stages.crop import crop
from vidunmask.stages.detect import detect
from vidunmask.stages.track import Tracker, track
from vidunmask.training.masked_faces import MaskSynthesizer, SynthesizedBatch
from vidunmask.types import ByteArray, FloatArray, Frame
from vidunmask.video import pixels

_WIDER = 1.5  # the mask is drawn in a square this much wider than the crop: a scarf hangs out of the crop
_BATCH = 8  # frames drawn at once
_STEADY = 1.5  # frames: standard deviation of the smoothing of the landmarks
_WORN = (33, 48, 54, 57)  # dlib indices that a worn mask covers: under the nose, mouth corners, lower lip
_TRIES = 50
_LARGE = 1.4  # frame pixels a crop pixel from which the mask is drawn finer


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where the face is in one frame."""

    frame_to_crop: FloatArray  # (2, 3), to a crop of `geometry.CROP_SIZE`
    landmarks: FloatArray  # (68, 2) display pixels, smoothed
    reset: bool  # nothing may be compared across it


@dataclass(frozen=True, slots=True, eq=False)
class Dressed:
    """A frame's face before and after the mask was put on, in the crop (S, S)."""

    place: Place
    truth: ByteArray  # (S, S, 3) RGB
    masked: ByteArray  # (S, S, 3) RGB
    mask: FloatArray  # (S, S) float32 0..1


def trace(frames: Iterable[Frame], detector: Detector) -> dict[int, Place]:
    """The largest face that stays longest, by the index of the frame; empty where there is none."""
    paths: dict[int, dict[int, Place]] = defaultdict(dict)
    for item in crop(track(detect(frames, detector), Tracker())):
        for face in item.faces:
            landmarks = geometry.apply(geometry.invert(face.frame_to_crop), face.landmarks)
            paths[face.track_id][item.frame.index] = Place(face.frame_to_crop, landmarks, face.reset or item.cut)
    if not paths:
        return {}
    area = {n: sum(geometry.scale_of(p.frame_to_crop) ** -2 for p in path.values()) for n, path in paths.items()}
    return _steadied(paths[max(area, key=lambda number: area[number])])


def _steadied(path: dict[int, Place]) -> dict[int, Place]:
    """The same with landmarks averaged over neighbouring frames: a real mask does not tremble as detected landmarks do."""
    reach = round(3 * _STEADY)
    indices = sorted(path)
    shots = np.cumsum([path[index].reset for index in indices])
    steadied = {}
    for at, index in enumerate(indices):
        near = [i for i in range(max(0, at - reach), min(len(indices), at + reach + 1)) if shots[i] == shots[at]]
        weights = np.exp(-0.5 * ((np.array([indices[i] for i in near]) - index) / _STEADY) ** 2)
        points = np.stack([path[indices[i]].landmarks for i in near])
        mean = np.tensordot(weights / weights.sum(), points, axes=1)
        steadied[index] = Place(path[index].frame_to_crop, mean, path[index].reset)
    return steadied


class ClipMask:
    """One mask, drawn from ``seed`` and of one ``kind`` of `masked_faces.KINDS`, put on frame after frame.

    What `dress` leaves of each frame stands in ``dressed`` by the frame's index, until somebody takes it.
    """

    def __init__(self, path: dict[int, Place], *, kind: str, seed: int) -> None:
        self.dressed: dict[int, Dressed] = {}
        self._path, self._kind, self._seed = path, kind, seed
        self._synthesizer = MaskSynthesizer(camera=0.0, occlusion=0.0)
        self._prints: torch.Tensor | None = None
        pixel = np.median([1 / geometry.scale_of(place.frame_to_crop) for place in path.values()])
        self._side = round(geometry.CROP_SIZE * _WIDER * (1.5 if pixel > _LARGE else 1.0))

    def dress(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames with the mask on; what the frames held before is kept in ``dressed``."""
        frames = iter(frames)
        while batch := list(islice(frames, _BATCH)):
            worn = [frame for frame in batch if frame.index in self._path]
            if worn:
                self._put_on(worn)
            yield from batch

    def _put_on(self, frames: list[Frame]) -> None:
        side, places = self._side, [self._path[frame.index] for frame in frames]
        wide = [_widened(place.frame_to_crop, side) for place in places]
        pictures = [pixels.read_crop(frame, to_wide, side) for frame, to_wide in zip(frames, wide, strict=True)]
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        points = np.stack([geometry.apply(to_wide, place.landmarks) for to_wide, place in zip(wide, places, strict=True)])
        landmarks = torch.from_numpy(points).float()
        if self._prints is None:
            self._prints = images[:1].clone()
            self._seed = self._worn_seed(images[:1], landmarks[:1])
        made = self._draw(images, landmarks, self._seed)
        for frame, place, to_wide, before, after, mask in zip(
            frames, places, wide, images.numpy(), made.masked.numpy(), made.mask[:, 0].numpy(), strict=True
        ):
            size = geometry.CROP_SIZE
            truth = pixels.read_crop(frame, place.frame_to_crop, size)
            changed = (np.abs(after - before).max(axis=0) > 1.5 / 255).astype(np.uint8)
            alpha = cv2.GaussianBlur(cv2.dilate(changed, np.ones((5, 5), np.uint8)).astype(np.float32), (0, 0), 1.0)
            pixels.paste_crop(pixels.editable(frame), after.transpose(1, 2, 0), alpha, to_wide)
            back = geometry.compose(geometry.invert(to_wide), place.frame_to_crop)
            there = cv2.warpAffine(mask, back, (size, size), flags=cv2.INTER_LINEAR)
            masked = pixels.read_crop(frame, place.frame_to_crop, size)
            self.dressed[frame.index] = Dressed(place, truth, masked, there)

    def _draw(self, images: torch.Tensor, landmarks: torch.Tensor, seed: int) -> SynthesizedBatch:
        generator = torch.Generator().manual_seed(seed)
        return self._synthesizer(images, landmarks, generator, kinds=[self._kind], alike=True, prints=self._prints)

    def _worn_seed(self, image: torch.Tensor, landmarks: torch.Tensor) -> int:
        """The seed, or the next one whose mask is not pulled under nose or chin: the pipeline leaves those on."""
        x, y = landmarks[0, list(_WORN)].round().long().clamp(0, self._side - 1).unbind(1)
        for seed in range(self._seed, self._seed + 1000 * _TRIES, 1000):
            if self._draw(image, landmarks, seed).mask[0, 0, y, x].min() > 0.9:
                break
        return seed


def _widened(frame_to_crop: FloatArray, side: int) -> FloatArray:
    """The transform to a square of ``side`` pixels that shows `_WIDER` times as much, about the same centre."""
    scale = side / (geometry.CROP_SIZE * _WIDER)
    shift = (side - 1) / 2 - scale * (geometry.CROP_SIZE - 1) / 2
    return geometry.compose(frame_to_crop, np.array([[scale, 0.0, shift], [0.0, scale, shift]]))
