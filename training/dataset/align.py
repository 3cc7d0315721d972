"""From a photo to an aligned face: what a pack and the Masked-Faces dataset have in common. Needs OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from vidunmask import geometry
from vidunmask.types import ByteArray, FloatArray

if TYPE_CHECKING:
    from vidunmask.detectors import Detector


@dataclass(frozen=True, slots=True, eq=False)
class PhotoFace:
    """One face of a photo and its landmarks."""

    padded: ByteArray  # (H + 2 border, W + 2 border, 3) RGB, the photo with its edge repeated around it
    border: int  # px
    points: FloatArray  # (68, 2) float64, dlib order, px of ``padded``
    score: float  # 0..1 of the detection
    presence: float  # 0..1 of the landmarks

    @property
    def photo_size(self) -> tuple[int, int]:
        """Height and width of the photo itself."""
        return self.padded.shape[0] - 2 * self.border, self.padded.shape[1] - 2 * self.border

    @property
    def in_photo(self) -> FloatArray:
        """The landmarks (68, 2) in pixels of the photo itself."""
        return self.points - self.border

    def from_photo(self, padded_to_crop: FloatArray) -> FloatArray:
        """The same transform (2, 3) for pixels of the photo itself."""
        moved = padded_to_crop.copy()
        moved[:, 2] += padded_to_crop[:, :2] @ np.array([self.border, self.border])
        return moved


def read_photo(path: Path) -> ByteArray | None:
    """The photo (H, W, 3) RGB upright as its camera noted, or None where it cannot be read, or not to its end."""
    import cv2
    from PIL import Image

    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        return None
    try:
        with Image.open(path) as whole:  # OpenCV makes what is missing of a JPEG grey, and does not say so
            whole.load()
    except Exception:  # whatever a damaged file makes of the decoder
        return None
    return cast(ByteArray, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def find_face(photo: ByteArray, detector: Detector, *, about: tuple[float, float] | None = None) -> PhotoFace | None:
    """The face nearest to ``about`` (x, y) in photo pixels, by default to the middle; None where there is no face."""
    import cv2

    from vidunmask import detectors

    # faces cut to the edge are found more surely with some border around them
    border = max(photo.shape[:2]) // 8
    padded = cast(ByteArray, cv2.copyMakeBorder(photo, border, border, border, border, cv2.BORDER_REPLICATE))
    faces = detector.detect(padded)
    if not faces:
        return None
    middle = np.array([padded.shape[1], padded.shape[0]]) / 2 if about is None else np.asarray(about) + border
    face = min(faces, key=lambda f: float(np.abs((f.box[:2] + f.box[2:]) / 2 - middle).sum()) - 100 * f.score)
    found = detectors.find_landmarks(detector, padded, face)
    return PhotoFace(padded, border, found.points.astype(np.float64), face.score, found.presence)


def cut_out(face: PhotoFace, padded_to_crop: FloatArray, size: int) -> ByteArray:
    """The crop (size, size, 3) RGB that a transform (2, 3) cuts; beyond the photo its edge is repeated."""
    import cv2

    padded = face.padded
    shrink = geometry.scale_of(padded_to_crop)
    if shrink < 0.7:  # area filter before a strong reduction, or the crop aliases
        padded = cast(ByteArray, cv2.GaussianBlur(padded, (0, 0), 0.45 / shrink))
    return cast(
        ByteArray,
        cv2.warpAffine(padded, padded_to_crop, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE),
    )
