"""YuNet finds the faces, MediaPipe's FaceMesh v2 their landmarks; both run through OpenCV on the CPU.

Of the detectors whose weights may be shipped, YuNet loses the fewest masked faces, and FaceMesh moves least when a mask is put
on: eyes 0.017, jaw 0.085 of the inter-ocular distance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources

import cv2
import numpy as np

from vidunmask.detectors import Landmarks
from vidunmask.errors import WeightsError
from vidunmask.types import ByteArray, Detection, FloatArray

# For each of dlib's 68 points the vertex of MediaPipe's canonical face mesh that lies there.
MESH_TO_DLIB = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),  # jaw, 0-16
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # brows, 17-26
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose bridge and bottom, 27-35
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes, 36-47
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips, 48-59
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips, 60-67
)
MESH_SIZE = 256  # side of the mesh network's input
MESH_BOX = 1.35  # side of the region over the longer side of YuNet's box; the mesh is most accurate there
PRESENCE_SIZE = 160  # side at which YuNet looks at a region again


class YuNet:
    """`Detector` of OpenCV alone. An instance keeps state in OpenCV's networks: one thread at a time."""

    region_size = MESH_SIZE

    def __init__(
        self,
        *,
        sizes: Sequence[int] = (640, 320),
        thorough_sizes: Sequence[int] = (1280,),
        min_score: float = 0.3,
        threads: int | None = None,
    ) -> None:
        """Loads both networks; raises WeightsError where a file is missing or damaged.

        ``sizes``: the picture's longer side in pixels, one pass each. The smaller pass finds faces that fill the picture, which
        the larger one misses; ``thorough_sizes`` are added for faces under 40 px. ``threads`` sets OpenCV's number of threads
        for the whole process, None leaves it alone.
        """
        if threads is not None:
            cv2.setNumThreads(threads)
        self._sizes = tuple(sizes)
        self._thorough_sizes = tuple(thorough_sizes)
        self._min_score = min_score
        self._finder = _load_yunet(min_score)
        self._checker = _load_yunet(0.1)  # its own instance, for every change of size makes YuNet plan its buffers anew
        self._checker.setInputSize((PRESENCE_SIZE, PRESENCE_SIZE))
        self._mesh = _load_mesh()

    def detect(self, image: ByteArray, *, thorough: bool = False) -> list[Detection]:
        """See `Detector.detect`."""
        rows: list[FloatArray] = []
        height, width = image.shape[:2]
        for size in self._sizes + (self._thorough_sizes if thorough else ()):
            scale = size / max(height, width)
            if scale > 2:  # no more is found by enlarging further
                continue
            small_size = (max(1, round(width * scale)), max(1, round(height * scale)))
            found = self._run(image, small_size)
            to_image = [*np.tile([width / small_size[0], height / small_size[1]], 7), 1.0]
            if len(found):
                rows.append(found * to_image)
        return _without_duplicates(np.concatenate(rows)) if rows else []

    def region(self, face: Detection | FloatArray) -> FloatArray:
        """See `Detector.region`."""
        if isinstance(face, Detection):
            right_eye, left_eye = face.landmarks[0], face.landmarks[1]
            centre: FloatArray = (face.box[:2] + face.box[2:]) / 2
            side = MESH_BOX * float(max(face.box[2:] - face.box[:2]))
        else:
            right_eye, left_eye = face[36:42].mean(axis=0), face[42:48].mean(axis=0)
            centre, side = _box_of_mesh(face, left_eye - right_eye)
        angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
        scale = MESH_SIZE / max(side, 1e-3)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        linear = np.array([[cos, sin], [-sin, cos]])
        middle = np.full(2, (MESH_SIZE - 1) / 2)
        return np.concatenate([linear, (middle - linear @ centre)[:, None]], axis=1)

    def landmarks(self, region: ByteArray) -> Landmarks:
        """See `Detector.landmarks`. The presence is YuNet's score of a second look at the region.

        The mesh network has a presence output of its own, but OpenCV 5.0 runs the whole network again for every output that is
        asked for, and hands out the buffer of another layer under the name of that one.
        """
        self._mesh.setInput(cv2.dnn.blobFromImage(region, 1 / 255, (MESH_SIZE, MESH_SIZE)))
        vertices = self._mesh.forward("Identity").reshape(478, 3)
        points = vertices[list(MESH_TO_DLIB), :2].astype(np.float32)
        return Landmarks(points=points, presence=self._presence(region))

    def _presence(self, region: ByteArray) -> float:
        """Best score (0..1) of a face that fills the middle of the region, 0 where there is none."""
        found = self._run(region, (PRESENCE_SIZE, PRESENCE_SIZE), checker=True)
        if not len(found):
            return 0.0
        expected = PRESENCE_SIZE / MESH_BOX
        centres = found[:, :2] + found[:, 2:4] / 2
        near = np.abs(centres - PRESENCE_SIZE / 2).max(axis=1) < 0.25 * expected
        size_ratio = found[:, 2:4].max(axis=1) / expected
        fits = near & (size_ratio > 0.6) & (size_ratio < 1.5)
        return float(found[fits, 14].max(initial=0.0))

    def _run(self, image: ByteArray, size: tuple[int, int], *, checker: bool = False) -> FloatArray:
        """YuNet's rows (N, 15) at ``size`` (width, height): x, y, w, h, five points, score; in pixels of that size."""
        shrinks = size[0] < image.shape[1]
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        net = self._checker if checker else self._finder
        if not checker:
            net.setInputSize(size)
        found = net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        return np.zeros((0, 15)) if found is None else found.astype(float)


def _box_of_mesh(points: FloatArray, eye_line: FloatArray) -> tuple[FloatArray, float]:
    """Centre (2,) and side of the region that YuNet's box would give for a face with these landmarks (68, 2)."""
    along = eye_line / max(float(np.hypot(*eye_line)), 1e-6)
    across = np.array([-along[1], along[0]])
    upright = points @ np.stack([along, across], axis=1)  # (68, 2) in a frame where the eyes are level
    low, high = upright.min(axis=0), upright.max(axis=0)
    middle = (low + high) / 2
    height = high[1] - low[1]
    side = MESH_SIDE * max(high[0] - low[0], height)
    middle[1] += MESH_SHIFT * height
    return middle[0] * along + middle[1] * across, float(side)


# Region side over the longer side of the landmarks' bounding box, and its shift down in box heights: medians over the pictures
# of people in masks, so that following a face by its landmarks sees it as the first detection did.
MESH_SIDE = 1.71
MESH_SHIFT = -0.186


def _without_duplicates(rows: FloatArray, *, overlap: float = 0.4) -> list[Detection]:
    """Non-maximum suppression across passes of rows (N, 15), best first; of two that overlap, the higher score stays."""
    kept: list[FloatArray] = []
    for row in rows[np.argsort(-rows[:, 14], kind="stable")]:
        if all(_overlap(row, other) < overlap for other in kept):
            kept.append(row)
    return [
        Detection(
            box=np.array([row[0], row[1], row[0] + row[2], row[1] + row[3]]),
            landmarks=row[4:14].reshape(5, 2),
            score=float(np.clip(row[14], 0, 1)),
        )
        for row in kept
    ]


def _overlap(a: FloatArray, b: FloatArray) -> float:
    """Shared area of two boxes given as x, y, w, h, over that of the smaller one: passes differ in how wide they draw a box."""
    shared = np.minimum(a[:2] + a[2:4], b[:2] + b[2:4]) - np.maximum(a[:2], b[:2])
    smaller = min(a[2] * a[3], b[2] * b[3])
    return float(np.prod(np.maximum(shared, 0)) / max(smaller, 1e-6))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps OpenCV's own log off the terminal: 5.0 warns of its default target at every load."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _read_weights(file: str) -> ByteArray:
    """The bytes of a shipped file as a uint8 array (N,); OpenCV is handed bytes because it cannot open every path."""
    path = resources.files("vidunmask.weights") / file
    try:
        return np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}; reinstall vidunmask, the file ships with it") from error


def _load_yunet(min_score: float) -> cv2.FaceDetectorYN:
    """YuNet with a score threshold; OpenCV's default of 0.9 would miss 7 of 10 masked faces."""
    buffer = _read_weights("face_detection_yunet_2023mar.onnx")
    try:
        with _quiet():
            return cv2.FaceDetectorYN.create("onnx", buffer, np.empty(0, np.uint8), (320, 320), min_score, 0.3, 5000)
    except cv2.error as error:
        raise WeightsError("face_detection_yunet_2023mar.onnx is damaged; reinstall vidunmask") from error


def _load_mesh() -> cv2.dnn.Net:
    """FaceMesh v2: input (1, 3, 256, 256) RGB 0..1, output ``Identity`` 478 x 3 pixels of the input."""
    buffer = _read_weights("face_landmarks_detector.tflite")
    try:
        with _quiet():
            return cv2.dnn.readNetFromTFLite(buffer)
    except cv2.error as error:
        raise WeightsError("face_landmarks_detector.tflite is damaged; reinstall vidunmask") from error
