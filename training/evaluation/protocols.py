"""Under which conditions is measured: the paper's and harder ones, with drawn masks or with masks of another synthesis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidunmask.training.evaluation.pasted import PastedMasks
from vidunmask.training.masked_faces import KINDS, MaskSynthesizer
from vidunmask.training.pack import STILL, Pack, draw_batch
from vidunmask.training.synthesis.head_surface import fit_pose
from vidunmask.training.synthesis.turn import turn_some

DRAWN = ("surgical", "cloth", "n95", "kn95", "scarf")  # the five types of §4.1
CHUNK = 16  # faces drawn at once; part of what a seed means
CAMERAS = (0.0, 0.3, 1.0)  # at which segmentation is measured


@dataclass(frozen=True, slots=True)
class Protocol:
    """How bad the cameras are (0..1), how often something is in front of the face (1 as in training), and a sentence on it."""

    name: str
    camera: float
    occlusion: float
    summary: str


PROTOCOLS = {
    "paper": Protocol(
        "paper",
        0.0,
        0.0,
        "as in §4: photos as they are, no camera, nothing in front, one of five types of mask on each; SSIM, PSNR and l1 over "
        "the whole 256 x 256 image. Unlike the paper's, faces are aligned closely, so that masks cover more of the image.",
    ),
    "hard": Protocol(
        "hard",
        1.0,
        1.0,
        "masked and true picture through the same bad camera (exposure, blur, noise, scaling, compression), hands and things "
        "in front of some faces, hair over some masks.",
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class MaskedFaces:
    """Faces with masks on, and what is under them."""

    masked: Tensor  # (B, 3, S, S) 0..1
    mask: Tensor  # (B, 1, S, S) 0..1
    truth: Tensor  # (B, 3, S, S) 0..1
    types: tuple[str, ...]  # of mask; "none" for a bare face


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some faces of a pack, and the randomness for what is done to them."""

    rows: np.ndarray  # (B,)
    images: Tensor  # (B, 3, S, S) 0..1
    landmarks: Tensor  # (B, 68, 2) pixels of the images
    valid: Tensor  # (B, 1, S, S), 1 where the photo had a picture; beyond its edge the edge is repeated
    generator: torch.Generator
    yaws: tuple[float, ...] | None = None  # degrees to the right of the picture, where heads were turned


class Masks:
    """Puts masks on aligned faces: drawn ones, those of ``templates`` too where given, or pasted pictures from ``held_out``."""

    def __init__(self, *, camera: float, occlusion: float, templates: Path | None = None, held_out: Path | None = None) -> None:
        self._synthesizer = MaskSynthesizer(templates_folder=templates, camera=camera, occlusion=occlusion)
        self._types = DRAWN if templates is None else (*DRAWN, "template")
        self._pasted = None if held_out is None else PastedMasks(held_out)

    def __call__(self, chunk: Chunk, *, bare: bool = False) -> MaskedFaces:
        """Masks on the faces, or the faces ``bare``, all through the camera."""
        images, landmarks, generator = chunk.images, chunk.landmarks, chunk.generator
        if bare or self._pasted is None:
            made = self._synthesizer(images, landmarks, generator, kinds=["none"] if bare else self._types)
            return MaskedFaces(made.masked, made.mask, made.truth, tuple(KINDS[number] for number in made.kind.tolist()))
        masked, mask, types = self._pasted(images, landmarks, generator)
        pair = self._synthesizer.photograph(torch.stack([masked, images], 1), generator)
        return MaskedFaces(pair[:, 0], mask, pair[:, 1], types)


def chunks(
    pack: Pack, rows: np.ndarray, *, seed: int, stream: int, device: torch.device, turned: float = 0.0
) -> Iterator[Chunk]:
    """Some faces at a time, a share ``turned`` of them turned aside up to profile and a little past it, as `turn` does it.

    Each chunk has a generator of its own, so that a face gets the same mask whatever else is measured. ``stream`` keeps the
    randomness of different measurements apart; heads turn alike in all.
    """
    for start in range(0, len(rows), CHUNK):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + stream * 10_007 + start)
        some = rows[start : start + CHUNK]
        images, landmarks, valid = draw_batch(pack, some, jitter=STILL, generator=generator, device=device)
        yaws = None
        if turned:
            apart = torch.Generator().manual_seed(seed + int(some[0]))
            images, landmarks, valid = turn_some(images, landmarks, valid, apart, share=turned, jitter=STILL)
            yaws = tuple(round(yaw, 1) for yaw in fit_pose(landmarks).yaw.rad2deg().tolist())
        yield Chunk(some, images, landmarks, valid, generator, yaws)
