"""Masks put on as the paper did it (§4.1): a picture of a mask is turned and scaled to the landmarks and laid on, no more.

Nothing of the training's synthesis takes part (no head, no light, no cloth, no shadow), so a network that has only learnt that
synthesis fails here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vidunmask.errors import InputError
from vidunmask.training.synthesis.head_surface import fit_pose
from vidunmask.training.synthesis.templates import key_points, outline_points
from vidunmask.types import FloatArray

_LARGEST = 512  # px: pictures of masks are brought down to this side, or they would alias
_TURNED = 0.35  # sine of the yaw from which a picture of a mask from the side is taken


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    name: str
    rgba: FloatArray  # (h, w, 4) float32, colour times alpha
    points: FloatArray  # (6, 2) pixels: edges left, middle and right, above and below
    side: int  # -1: of a head turned to the left of the picture, 1: to the right, 0: from the front


class PastedMasks:
    """Lays pictures of masks from a folder over faces. Raises InputError where it holds none."""

    def __init__(self, folder: Path) -> None:
        from PIL import Image

        if not folder.is_dir():
            raise InputError(f"--held-out-templates {folder}: no such folder")
        points = key_points(folder)
        self._pictures: list[_Picture] = []
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".png", ".webp"}):
            with Image.open(path) as image:
                if "texture" in path.name.lower() or "A" not in image.getbands():
                    continue
                rgba = np.asarray(image.convert("RGBA"), np.float32) / 255
            if not 0.02 < rgba[..., 3].mean() < 0.98:
                continue
            six = points.get(path.name, points.get(path.stem))
            six = outline_points(rgba[..., 3]) if six is None else six
            rgba[..., :3] *= rgba[..., 3:]
            scale = min(1.0, _LARGEST / max(rgba.shape[:2]))
            if scale < 1:
                rgba = cv2.resize(rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            side = -1 if path.stem.lower().endswith("_left") else 1 if path.stem.lower().endswith("_right") else 0
            self._pictures.append(_Picture(_type_of(path), rgba, (six + 0.5) * scale - 0.5, side))
        if not any(picture.side == 0 for picture in self._pictures):
            raise InputError(
                f"--held-out-templates {folder}: no picture of a mask with alpha in it; give a folder of PNG files"
            )

    def __call__(self, images: Tensor, landmarks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Images (B, 3, S, S) with masks on, the masks (B, 1, S, S), and the type of each, after the name of its picture."""
        turned = fit_pose(landmarks).rotation[:, 0, 2]
        size = images.shape[-1]
        layers, types = [], []
        for yaw, points in zip(turned.tolist(), landmarks.cpu().numpy(), strict=True):
            side = 0 if abs(yaw) < _TURNED else int(np.sign(yaw))
            fitting = [p for p in self._pictures if p.side == side] or [p for p in self._pictures if p.side == 0]
            picture = fitting[int(torch.randint(len(fitting), (1,), generator=generator))]
            matrix, _ = cv2.findHomography(picture.points, _targets(points), 0)
            layers.append(cv2.warpPerspective(picture.rgba, matrix, (size, size), flags=cv2.INTER_LINEAR))
            types.append(picture.name)
        layer = torch.from_numpy(np.stack(layers)).to(images.device).permute(0, 3, 1, 2)  # (B, 4, S, S)
        mask = layer[:, 3:].clamp(0, 1)
        return (images * (1 - mask) + layer[:, :3]).clamp(0, 1), mask, tuple(types)


def _targets(landmarks: FloatArray) -> FloatArray:
    """Where the six points of a mask go on a face with landmarks (68, 2): nose bridge, both ends of the jaw, chin."""
    chin = landmarks[8] + 0.06 * (landmarks[8] - landmarks[28])
    return np.stack([landmarks[1], landmarks[28], landmarks[15], landmarks[5], chin, landmarks[11]]).astype(np.float64)


def _type_of(path: Path) -> str:
    """The type of mask that a file's name tells, else "other"."""
    known = re.search(r"kn95|n95|surgical|cloth|gas", path.stem.lower())
    return known[0] if known else "other"
