"""Face detectors. A detector is one module of this folder; its file name is its name on the command line.

The module defines one class with the methods of `Detector`; ``face_alignment.py`` is registered as ``face-alignment``.
Finding the names imports none of the modules, so that they may import heavy libraries at the top.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from vidunmask.errors import UsageError
from vidunmask.types import ByteArray, Detection, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """Where the features of one face lie, and how sure it is that there is a face at all."""

    points: FloatArray  # (68, 2) float32, dlib order, pixels of the picture they were found in
    presence: float  # 0..1, comparable with the score of a detection
    trust: float = 1.0  # 0..1, how far the points are read from the picture; at 0 a mean face was laid where the face is


@runtime_checkable
class Detector(Protocol):
    """Finds faces in a picture, and the landmarks of one face in a region around it.

    The two halves are apart so that faces are searched for in a small copy of the frame, while landmarks are read from the
    frame's own pixels, and so that a face found once can be followed from frame to frame by its landmarks alone.
    """

    region_size: int  # R, side of the square that `landmarks` wants, in pixels

    def detect(self, image: ByteArray, *, thorough: bool = False) -> list[Detection]:
        """Faces in ``image`` (H, W, 3) RGB, best first, without duplicates; every score of 0.3 or more.

        ``thorough`` adds slow passes, for very small faces for instance. Deciding which score is enough is the tracker's task.
        """
        ...

    def region(self, face: Detection | FloatArray) -> FloatArray:
        """The similarity image_to_region (2, 3) that turns and scales a face to fill R x R pixels.

        ``face`` is a detection, or landmarks (68, 2) known from a frame before.
        """
        ...

    def landmarks(self, region: ByteArray) -> Landmarks:
        """Landmarks of the face in ``region`` (R, R, 3) RGB, in pixels of the region."""
        ...


def find_landmarks(detector: Detector, image: ByteArray, face: Detection | FloatArray) -> Landmarks:
    """Landmarks in pixels of ``image`` (H, W, 3) RGB, of a face detected there or of landmarks (68, 2) from a frame before."""
    import cv2

    from vidunmask import geometry

    image_to_region = detector.region(face)
    size = detector.region_size
    region = cv2.warpAffine(image, image_to_region, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    found = detector.landmarks(cast(ByteArray, region))
    points = geometry.apply(geometry.invert(image_to_region), found.points)
    return Landmarks(points=points.astype("float32"), presence=found.presence, trust=found.trust)


def names() -> tuple[str, ...]:
    """The names of all detectors, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in found if not name.startswith("_")))


def create(name: str, *, device: str = "cpu", workers: int = 1) -> Detector:
    """The detector of that name, ready to run.

    ``device`` is for detectors that run in torch. Of those that run on the CPU there are as many as ``workers``, under one roof
    and for several threads to use (`_crew.Crew`). Raises UsageError for an unknown name and WeightsError where the detector's
    weights are missing.
    """
    if name not in names():
        raise UsageError(f"unknown detector {name!r}; choose from {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    classes = [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and all(hasattr(value, part) for part in ("detect", "region", "landmarks"))
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__name__} must define exactly one detector class, it defines {len(classes)}")
    make = cast(Callable[..., Detector], classes[0])
    if "device" in inspect.signature(make).parameters:
        return make(device=device)
    if workers > 1:
        from vidunmask.detectors._crew import Crew

        return Crew(make, workers)
    return make()
