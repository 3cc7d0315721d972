"""One shard of Masked-Faces: photos in, samples out. Runs in a worker process. Needs OpenCV and Pillow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidunmask import geometry
from vidunmask.errors import OutputError
from vidunmask.training.dataset import align
from vidunmask.training.dataset.shards import ShardWriter, encode
from vidunmask.training.masked_faces import KINDS, MaskSynthesizer, SynthesizedBatch
from vidunmask.training.synthesis.garments import PARAMETERS
from vidunmask.training.synthesis.head_surface import SHAPE, Pose, fit_pose
from vidunmask.types import ByteArray, FloatArray

GROUP = 16  # photos whose masks are drawn in one batch: a third of the time of drawing them one by one
MIN_SCORE = 0.5  # of the detection and of the landmarks
# A landmark may lie this far outside of the photo or the crop, in distances between the eyes: a chin at the very edge.
BEYOND = 0.1


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The photos of one shard."""

    name: str  # such as train-00000
    rows: tuple[tuple[int, dict[str, str]], ...]  # number of the photo in the whole list, and its row


@dataclass(frozen=True, slots=True)
class _Face:
    key: str
    row: dict[str, str]
    crop: ByteArray  # (S, S, 3)
    landmarks: FloatArray  # (68, 2) crop pixels
    photo_to_crop: FloatArray
    photo_size: tuple[int, int]
    score: float


@dataclass(slots=True)
class SampleMaker:
    """Makes shards; travels to a worker as its settings, and loads detector and synthesizer there at the first shard."""

    photos: Path
    shards: Path
    seed: int
    kinds: tuple[str, ...]
    crop: str
    templates: Path | None
    camera: float
    occlusion: float
    pictures: str
    detector: str
    _loaded: tuple[Any, MaskSynthesizer] | None = field(default=None, repr=False)

    def __call__(self, task: ShardTask, progress: Callable[[int], None]) -> str:
        """Writes the shard and then the list beside it; returns its name."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums depend on the number of threads, and the shard must not
        try:
            return self._make(task, progress)
        except OSError as error:
            raise OutputError(f"{self.shards}: cannot write {task.name} ({error}); make room and run it again") from error
        finally:
            torch.set_num_threads(threads)

    def _make(self, task: ShardTask, progress: Callable[[int], None]) -> str:
        detector, synthesizer = self._load()
        lines: list[dict[str, Any]] = []
        with ShardWriter(self.shards / f"{task.name}.tar") as shard:
            for start in range(0, len(task.rows), GROUP):
                part = task.rows[start : start + GROUP]
                found = [self._face(number, row, detector) for number, row in part]
                faces = [face for face in found if isinstance(face, _Face)]
                samples = iter(self._draw(faces, part[0][0], synthesizer, shard) if faces else [])
                for (_, row), face in zip(part, found, strict=True):
                    failed = {"photo": row["file"], "split": row["split"], "failed": face}
                    lines.append(next(samples) if isinstance(face, _Face) else failed)
                progress(len(part))
        partial = self.shards / f"{task.name}.jsonl.partial"
        partial.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), encoding="utf-8")
        partial.replace(self.shards / f"{task.name}.jsonl")
        return task.name

    def _load(self) -> tuple[Any, MaskSynthesizer]:
        if self._loaded is None:
            import cv2

            from vidunmask import detectors

            cv2.setNumThreads(1)
            synthesizer = MaskSynthesizer(templates_folder=self.templates, camera=self.camera, occlusion=self.occlusion)
            self._loaded = (detectors.create(self.detector), synthesizer)
        return self._loaded

    def _face(self, number: int, row: dict[str, str], detector: Any) -> _Face | str:
        """The face of a photo, or why there is none."""
        import cv2

        try:
            photo = align.read_photo(self.photos / row["file"])
            if photo is None:
                return "not there" if not (self.photos / row["file"]).exists() else "unreadable"
            about = row.get("about")
            x_y = tuple(float(n) for n in about.split()) if about else None
            face = align.find_face(photo, detector, about=x_y)  # type: ignore[arg-type]
        except cv2.error:  # a photo one pixel high, or larger than OpenCV takes
            return "unreadable"
        if face is None or face.score < MIN_SCORE:
            return "no face found"
        if face.presence < MIN_SCORE:
            return "landmarks uncertain"
        size = geometry.CROP_SIZE
        to_crop = geometry.align(face.points) if self.crop == "aligned" else _centre_square(face, size)
        landmarks = geometry.apply(to_crop, face.points)
        seen = face.in_photo[list(SHAPE)]
        room = BEYOND * float(np.hypot(*(face.points[36:42].mean(0) - face.points[42:48].mean(0))))
        height, width = face.photo_size
        if (seen < -room).any() or (seen > np.array([width, height]) - 1 + room).any():
            return "landmarks outside the photo"
        room *= geometry.scale_of(to_crop)
        if (landmarks[list(SHAPE)] < -room).any() or (landmarks[list(SHAPE)] > size - 1 + room).any():
            return "landmarks outside the crop"
        crop = align.cut_out(face, to_crop, size)
        return _Face(f"{number:06d}", row, crop, landmarks, face.from_photo(to_crop), face.photo_size, face.score)

    def _draw(self, faces: list[_Face], number: int, synthesizer: MaskSynthesizer, shard: ShardWriter) -> list[dict[str, Any]]:
        """Draws masks on the faces of a group, writes the samples and returns their lines of the manifest."""
        images = torch.from_numpy(np.stack([face.crop for face in faces])).permute(0, 3, 1, 2).float() / 255
        landmarks = torch.from_numpy(np.stack([face.landmarks for face in faces])).float()
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1, np.uint64)[0] >> 1)
        made = synthesizer(images, landmarks, torch.Generator().manual_seed(seed), kinds=self.kinds)
        pose = fit_pose(landmarks)
        truth, masked = (_bytes(x) for x in (made.truth, made.masked))
        masks = (made.mask[:, 0] > 0.5).numpy()
        lines = []
        for i, face in enumerate(faces):
            kind = KINDS[int(made.kind[i])]
            line: dict[str, Any] = {
                "key": face.key,
                "photo": face.row["file"],
                "split": face.row["split"],
                "tier": face.row["tier"],
                "source": face.row["source"],
                "kind": kind,
                "seed": seed,  # of the group of faces whose masks were drawn together, and the place in it
                "place": i,
                "parameters": _parameters(made, i) if kind != "none" else {},
                "mask": _measured(masks[i], masked[i]),
                "pose": _degrees(pose, i),
                "score": round(face.score, 3),
                "landmarks21": np.round(face.landmarks[list(SHAPE)], 2).tolist(),
                "landmarks68": np.round(face.landmarks, 2).tolist(),
                "photo_to_crop": np.round(face.photo_to_crop, 6).tolist(),
                "photo_size": list(face.photo_size),
            }
            ending = self.pictures
            members = {
                "truth": shard.add(f"{face.key}.truth.{ending}", encode(truth[i], ending)),
                "masked": shard.add(f"{face.key}.masked.{ending}", encode(masked[i], ending)),
                "mask": shard.add(f"{face.key}.mask.png", encode(masks[i].astype(np.uint8) * 255, "png")),
            }
            shard.add(f"{face.key}.json", json.dumps(line, separators=(",", ":")).encode())
            lines.append(line | {"members": members})
        return lines


def _centre_square(face: align.PhotoFace, size: int) -> FloatArray:
    """The padded_to_crop (2, 3) that takes the middle square of the photo, as the paper's figures show CelebA."""
    height, width = face.photo_size
    scale = size / min(height, width)
    middle = np.array([width - 1, height - 1]) / 2 + face.border
    return np.concatenate([np.eye(2) * scale, ((size - 1) / 2 - scale * middle)[:, None]], axis=1)


def _bytes(pictures: Tensor) -> ByteArray:
    return (pictures * 255).round().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def _parameters(made: SynthesizedBatch, index: int) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(PARAMETERS, made.parameters[index], strict=True)}


def _measured(mask: ByteArray, masked: ByteArray) -> dict[str, Any]:
    """What the mask came out as: its share of the crop, its box xyxy, its mean colour."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return {"area": 0.0}
    box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    return {"area": round(float(mask.mean()), 5), "box": box, "colour": masked[mask].mean(0).round().astype(int).tolist()}


def _degrees(pose: Pose, index: int) -> dict[str, float]:
    """Which way the head is turned: yaw to the right of the picture, pitch down, roll clockwise, in degrees."""
    rotation = pose.rotation[index]
    angles = {
        "yaw": torch.asin(rotation[0, 2].clamp(-1, 1)),
        "pitch": torch.asin(rotation[1, 2].clamp(-1, 1)),
        "roll": torch.atan2(rotation[1, 0], rotation[0, 0]),
    }
    return {name: round(float(torch.rad2deg(value)), 1) for name, value in angles.items()}
