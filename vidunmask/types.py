"""Every value that crosses a seam of the house, with its shapes and units.

Coordinates. *Display* coordinates are pixels of the picture as a viewer sees it: upright (rotation and flips applied) and
with square pixels (sample aspect ratio applied). *Native* coordinates are pixels of the stored planes. Pixel centres lie at
integers, as in OpenCV. Boxes, landmarks and every ``frame_to_...`` transform are in display coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import av

FloatArray = npt.NDArray[np.floating]
ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture in its native pixel format.

    ``native`` is never converted as a whole; ``video.pixels`` reads regions of it as RGB and writes them back in place.
    """

    index: int  # position in the stream, from 0
    native: av.VideoFrame
    pts: int  # in units of time_base
    time_base: Fraction  # seconds
    display_size: tuple[int, int]  # (height, width), upright and square-pixelled
    native_to_display: FloatArray  # (2, 3) affine, pixels to pixels

    @property
    def time(self) -> Fraction:
        """Presentation time in seconds, exact."""
        return self.pts * self.time_base

    @property
    def nbytes(self) -> int:
        """Size of the planes in bytes; what bounded queues count."""
        return sum(plane.buffer_size for plane in self.native.planes)


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A face found in one frame."""

    box: FloatArray  # (4,) xyxy, display pixels
    landmarks: FloatArray  # (5, 2) eyes, nose, mouth corners, in the order of the picture from left to right
    score: float  # 0..1


@dataclass(frozen=True, slots=True, eq=False)
class SeenFace:
    """A face seen in one frame, not yet joined to those of the frames before."""

    box: FloatArray  # (4,) xyxy, display pixels, around the landmarks
    landmarks: FloatArray  # (68, 2) dlib order, display pixels
    score: float  # 0..1
    detected: bool  # False where the face was followed by its landmarks alone
    trust: float = 1.0  # 0..1, how far the landmarks are those of the face; see `detectors.Landmarks`


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """One face of one frame with an identity that lasts over frames."""

    track_id: int
    box: FloatArray  # (4,) xyxy, display pixels
    landmarks: FloatArray  # (68, 2) dlib order, display pixels
    score: float  # 0..1, of the detection or of the motion estimate between detections
    detected: bool  # False where motion or interpolation filled the frame
    reset: bool  # True on the first frame of a track and after a cut or a jump: nothing may be blended across it
    trust: float = 1.0  # 0..1, how far the landmarks are those of the face
    aimed: FloatArray | None = None  # (68, 2) where the landmarks would be for its crop to hold the mask, if not where they are

    @property
    def weight(self) -> float:
        """How far (0..1) the place of this face counts beside those of the frames about it.

        Landmarks that are not trusted count a third: in profile a single frame that is trusted is often the one that errs.
        """
        return self.score * (1 + 2 * self.trust) / 3


@dataclass(frozen=True, slots=True, eq=False)
class KnownFace:
    """A face that a run over earlier frames followed up to the frame before the first, and perhaps on."""

    track_id: int
    landmarks: FloatArray  # (68, 2) dlib order, display pixels
    time: float  # seconds, of the frame in which it was last seen
    worn: bool  # whether it wore a mask
    decisions: tuple[tuple[float, bool], ...] = ()  # the same for later frames that both runs see: seconds, worn


@dataclass(frozen=True, slots=True, eq=False)
class FaceCrop:
    """An aligned square picture of one tracked face."""

    track_id: int
    image: ByteArray  # (S, S, 3) RGB
    frame_to_crop: FloatArray  # (2, 3) similarity, display pixels to crop pixels
    landmarks: FloatArray  # (68, 2) dlib order, crop pixels; under a mask they are the detector's guess
    score: float  # 0..1, from the track
    reset: bool
    trust: float = 1.0  # 0..1, how far the landmarks are those of the face


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """What the networks made of one crop."""

    track_id: int
    crop: ByteArray  # (S, S, 3) RGB, what the networks saw
    image: ByteArray  # (S, S, 3) RGB, the inpainted face; equals crop outside the mask
    mask: FloatArray  # (S, S) float32 0/1, 1 = filled: the mask to remove and the rim over which the fill fades out
    frame_to_crop: FloatArray  # (2, 3)
    opacity: float  # 0..1; 0 where the face wears no mask and must not be touched
    confidence: float  # 0..1, mean certainty of the segmentation
    reset: bool


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FrameFaces(Generic[T]):
    """A frame with what is known of its faces so far; the envelope of every stage."""

    frame: Frame
    faces: tuple[T, ...]
    cut: bool = False  # True on the first frame of a new shot

    @property
    def nbytes(self) -> int:
        """Size of the frame's planes in bytes."""
        return self.frame.nbytes
