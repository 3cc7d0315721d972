"""Whether a filled face still looks like the person: distances between dlib's face embeddings.

dlib's ResNet gives 128 numbers a face; its author takes two faces closer than 0.6 for the same person. What lies under a mask
is not known, so this says how much the invented part disturbs what the rest of the face tells, not that the person was
recovered.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidunmask.errors import WeightsError
from vidunmask.types import ByteArray, FloatArray

_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"


class Identity:
    """Embeds faces. Raises WeightsError where dlib or its weights are not installed."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("face_recognition_models")
        if spec is None or importlib.util.find_spec("dlib") is None:
            raise WeightsError("identity needs dlib-bin and face_recognition_models; pip install 'vidunmask[eval]'")
        # Not imported: the package asks for pkg_resources, which newer setuptools lack.
        path = Path((spec.submodule_search_locations or [""])[0]) / _FILE
        if not path.is_file():
            raise WeightsError(f"{path}: missing; pip install --force-reinstall face_recognition_models")
        import dlib

        self._dlib: Any = dlib
        self._network = dlib.face_recognition_model_v1(str(path))

    def embed(self, images: Sequence[ByteArray], landmarks: Sequence[FloatArray]) -> FloatArray:
        """Embeddings (N, 128) of faces in images (S, S, 3) RGB with landmarks (68, 2).

        The landmarks are to be those of the true face for all versions of it, so that each is cut out alike.
        """
        chips = [self._chip(image, points) for image, points in zip(images, landmarks, strict=True)]
        return np.array([np.array(self._network.compute_face_descriptor(chip)) for chip in chips]).reshape(-1, 128)

    def _chip(self, image: ByteArray, points: FloatArray) -> ByteArray:
        dlib = self._dlib
        (left, top), (right, bottom) = points.min(axis=0).round().astype(int), points.max(axis=0).round().astype(int)
        parts = dlib.points([dlib.point(int(x), int(y)) for x, y in points.round()])
        face = dlib.full_object_detection(dlib.rectangle(int(left), int(top), int(right), int(bottom)), parts)
        return dlib.get_face_chip(np.ascontiguousarray(image), face, size=150, padding=0.25)
