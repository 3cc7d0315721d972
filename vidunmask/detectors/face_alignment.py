"""S3FD and FAN from the face-alignment package: the optional backend, for machines with a GPU.

The package brings no weights. They are read from torch hub's folder and fetched there when they are missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import pickle
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from vidunmask import geometry
from vidunmask.detectors import Landmarks
from vidunmask.errors import WeightsError
from vidunmask.types import ByteArray, Detection, FloatArray

SOURCE = "https://www.adrianbulat.com/downloads/python-fan/"
FILES = ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar")  # a name ends in the first digits of the file's SHA-256

_STALLED = 20.0  # seconds without a byte
_DEADLINE = 900.0  # seconds for one file
_FAN_SIZE = 256  # side of FAN's input
_FAN_SCALE = 200 / 195  # side of that input over the mean of S3FD's box sides (face_alignment.api and utils)
_FAN_SHIFT = 0.12  # how far its centre lies above that of the box, in box heights

log = logging.getLogger(__name__)


class FaceAlignmentDetector:
    """`Detector` of the face-alignment package, in torch."""

    region_size = _FAN_SIZE

    def __init__(self, *, device: str = "cpu", min_score: float = 0.3) -> None:
        """Loads S3FD and FAN; raises WeightsError where a file is missing and cannot be fetched, or is damaged."""
        for file in FILES:
            _ensure(file)
        # the module of this name is the package's: absolute imports do not look beside this file
        import face_alignment

        try:
            self._net: Any = face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D,
                device=device,
                flip_input=False,
                face_detector="sfd",
                face_detector_kwargs={"filter_threshold": min_score},
                compile=False,  # compiling takes minutes and is kept in the user's home
            )
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
            cause = str(error).partition("\n")[0]
            files = " and ".join(FILES)
            raise WeightsError(f"cannot load {files} from {_folder()} ({cause}); delete them to have them fetched") from error

    def detect(self, image: ByteArray, *, thorough: bool = False) -> list[Detection]:
        """See `Detector.detect`. S3FD finds small faces in one pass, so ``thorough`` changes nothing.

        S3FD gives no landmarks; those of the detection are the canonical face's, laid upright into the box.
        """
        found = self._net.face_detector.detect_from_image(np.ascontiguousarray(image))
        detections = []
        for x0, y0, x1, y1, score in sorted((tuple(map(float, row)) for row in found), key=lambda row: -row[4]):
            box = np.array([x0, y0, x1, y1])
            detections.append(Detection(box=box, landmarks=_five_points(box), score=min(max(score, 0.0), 1.0)))
        return detections

    def region(self, face: Detection | FloatArray) -> FloatArray:
        """See `Detector.region`: FAN's own crop around S3FD's box, turned upright where landmarks are known."""
        if isinstance(face, Detection):
            along = np.array([1.0, 0.0])
            low, high = face.box[:2], face.box[2:]
        else:
            along = face[42:48].mean(axis=0) - face[36:42].mean(axis=0)
            along = along / max(float(np.hypot(*along)), 1e-6)
            upright = face @ np.array([[along[0], -along[1]], [along[1], along[0]]])
            low, high = upright.min(axis=0), upright.max(axis=0)
        turn = np.array([[along[0], along[1]], [-along[1], along[0]]])
        width, height = high - low
        centre = (low + high) / 2 - [0, _FAN_SHIFT * height]
        if not isinstance(face, Detection):
            centre = turn.T @ centre
        scale = _FAN_SIZE / max(_FAN_SCALE * (width + height), 1e-3)
        linear = scale * turn
        middle = np.full(2, (_FAN_SIZE - 1) / 2)
        return np.concatenate([linear, (middle - linear @ centre)[:, None]], axis=1)

    def landmarks(self, region: ByteArray) -> Landmarks:
        """See `Detector.landmarks`. The presence is the mean height of FAN's 68 heat map peaks."""
        side = _FAN_SIZE / (2 * _FAN_SCALE)  # of the box whose crop by FAN is the region itself
        middle = (_FAN_SIZE - 1) / 2
        low_x, low_y = middle - side / 2, middle - side / 2 + _FAN_SHIFT * side
        box = np.array([low_x, low_y, low_x + side, low_y + side, 1.0])
        points, scores, _ = self._net.get_landmarks_from_image(region, detected_faces=[box], return_landmark_score=True)
        presence = float(np.clip(np.mean(scores[0]), 0, 1))
        if not math.isfinite(presence):
            presence = 0.0
        return Landmarks(points=np.asarray(points[0], np.float32), presence=presence)


def _five_points(box: FloatArray) -> FloatArray:
    """(5, 2) eyes, nose, mouth corners of the canonical face in a box (4,) that reaches from its brows to its chin."""
    face = geometry.TEMPLATE68
    low, high = face.min(axis=0), face.max(axis=0)
    five = np.stack([face[36:42].mean(axis=0), face[42:48].mean(axis=0), face[30], face[48], face[54]])
    return box[:2] + (five - low) / (high - low) * (box[2:] - box[:2])


def _folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _ensure(file: str) -> None:
    """Makes sure that a weights file lies in torch hub's folder; fetches it with a time limit where it does not."""
    target = _folder() / file
    if target.is_file():
        return
    url = SOURCE + file
    remedy = f"put {file} (from {url}) into {target.parent}, or use --detector yunet"
    log.warning("fetching %s to %s", url, target)
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=file, suffix=".part")
        partial = Path(name)
        digest = hashlib.sha256()
        deadline = time.monotonic() + _DEADLINE
        with os.fdopen(handle, "wb") as out, urllib.request.urlopen(url, timeout=_STALLED) as response:
            while block := response.read(1 << 20):
                out.write(block)
                digest.update(block)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"took longer than {_DEADLINE:.0f} s")
        expected = file.split("-")[1].split(".")[0]
        if not digest.hexdigest().startswith(expected):
            raise WeightsError(f"{url} is not the expected file, its SHA-256 does not begin with {expected}; {remedy}")
        partial.replace(target)
    except OSError as error:  # URLError and time-outs are OSErrors
        raise WeightsError(f"cannot fetch the weights of --detector face-alignment ({error}); {remedy}") from error
    finally:
        if partial is not None:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
