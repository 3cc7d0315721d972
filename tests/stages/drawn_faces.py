"""Frames with red discs for faces, and a detector that finds them; the stages run on it without any network."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np

from vidunmask import geometry
from vidunmask.detectors import Landmarks
from vidunmask.types import Detection, Frame, FrameFaces, SeenFace

SIZE = (180, 320)  # height, width of a frame


def frame_with(
    discs: Sequence[tuple[float, float, float]], index: int = 0, *, fps: int = 25, scene: int = 0, spots: bool = False
) -> Frame:
    """A frame with a red disc for each (x, y, radius) before a dark pattern, which is another one for another ``scene``.

    With ``spots`` the discs have darker red ones on them, which can be followed.
    """
    image = np.random.default_rng(scene).integers(20, 90, (9, 16, 3), dtype=np.uint8)
    image = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    image[..., 0] //= 3
    for x, y, radius in discs:
        cv2.circle(image, (round(x), round(y)), round(radius), (250, 10, 10), -1)
        for dx, dy in np.random.default_rng(7).uniform(-0.7, 0.7, (24, 2)) * radius if spots else ():
            cv2.circle(image, (round(x + dx), round(y + dy)), 2, (190, 80, 90), -1)
    native = av.VideoFrame.from_ndarray(image, format="rgb24")
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    return Frame(index, native, index, Fraction(1, fps), SIZE, identity)


class DiscDetector:
    """`Detector` of red discs. ``blind`` holds the numbers of the calls to `detect` on whole frames that find nothing."""

    region_size = 96

    def __init__(self, *, blind: Sequence[int] = (), score: float = 0.9) -> None:
        self.passes = 0
        self.blind = set(blind)
        self.score = score

    def detect(self, image: np.ndarray, *, thorough: bool = False) -> list[Detection]:
        if image.shape[0] != image.shape[1]:  # not a second look, which is square
            self.passes += 1
            if self.passes - 1 in self.blind:
                return []
        return [Detection(box=box, landmarks=_five(box), score=self.score) for box in _red_boxes(image)]

    def region(self, face: Detection | np.ndarray) -> np.ndarray:
        box = face.box if isinstance(face, Detection) else np.concatenate([face.min(axis=0), face.max(axis=0)])
        scale = self.region_size / (1.5 * float(max(box[2:] - box[:2])))
        centre = (box[:2] + box[2:]) / 2
        shift = (self.region_size - 1) / 2 - scale * centre
        return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])

    def landmarks(self, region: np.ndarray) -> Landmarks:
        boxes = _red_boxes(region)
        if not boxes:
            return Landmarks(points=np.zeros((68, 2), np.float32), presence=0.0)
        widest = max(boxes, key=lambda box: box[2] - box[0])
        return Landmarks(points=landmarks_in(widest).astype(np.float32), presence=self.score)


def landmarks_in(box: np.ndarray) -> np.ndarray:
    """The canonical face (68, 2) stretched to fill a box xyxy."""
    low, high = geometry.TEMPLATE68.min(axis=0), geometry.TEMPLATE68.max(axis=0)
    return box[:2] + (geometry.TEMPLATE68 - low) / (high - low) * (box[2:] - box[:2])


def seen_face(x: float, y: float, size: float = 60.0, *, score: float = 0.9, detected: bool = True) -> SeenFace:
    """A sighting of a face about (x, y)."""
    box = np.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2])
    return SeenFace(box=box, landmarks=landmarks_in(box), score=score, detected=detected)


def seen(index: int, *faces: SeenFace, fps: int = 25, cut: bool = False) -> FrameFaces[SeenFace]:
    """A frame with sightings."""
    return FrameFaces(frame_with([], index, fps=fps), faces, cut)


def _five(box: np.ndarray) -> np.ndarray:
    points = landmarks_in(box)
    return np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])


def _red_boxes(image: np.ndarray) -> list[np.ndarray]:
    red = ((image[..., 0] > 150) & (image[..., 1] < 110)).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(red)
    return [np.array([x, y, x + w, y + h], float) for x, y, w, h, area in stats[1:count] if area > 12]
