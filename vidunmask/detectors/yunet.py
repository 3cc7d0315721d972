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

from vidunmask import geometry
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
PRESENCE_SIZES = (160, 256)  # sides at which YuNet looks at a region; the second only where the first leaves a doubt


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

        ``sizes``: the picture's longer side in pixels, one pass each; a smaller picture is not enlarged. The smaller pass finds
        faces that fill the picture, which the larger one misses. ``thorough_sizes`` are added for faces under 40 px, and may
        enlarge the picture up to twice. ``threads`` sets OpenCV's number of threads for the whole process, None leaves it.
        """
        if threads is not None:
            cv2.setNumThreads(threads)
        self._sizes = tuple(sizes)
        self._thorough_sizes = tuple(thorough_sizes)
        self._finder = _load_yunet(min_score)
        self._mesh = _load_mesh()

    def detect(self, image: ByteArray, *, thorough: bool = False) -> list[Detection]:
        """See `Detector.detect`."""
        rows: list[FloatArray] = []
        height, width = image.shape[:2]
        side = max(height, width)
        sides = {min(size, side) for size in self._sizes}
        if thorough:
            sides |= {min(size, 2 * side) for size in self._thorough_sizes}
        for size in sorted(sides):
            scale = size / side
            small_size = (max(1, round(width * scale)), max(1, round(height * scale)))
            found = self._run(image, small_size)
            to_image = [*np.tile([width / small_size[0], height / small_size[1]], 7), 1.0]
            if len(found):
                rows.append(found * to_image)
        return _without_duplicates(np.concatenate(rows)) if rows else []

    def region(self, face: Detection | FloatArray) -> FloatArray:
        """See `Detector.region`."""
        if isinstance(face, Detection):
            up = _upright(face.landmarks[:2], face.landmarks[3:5])
            centre: FloatArray = (face.box[:2] + face.box[2:]) / 2
            side = MESH_BOX * float(max(face.box[2:] - face.box[:2]))
        else:
            eyes = np.stack([face[36:42].mean(axis=0), face[42:48].mean(axis=0)])
            up = _upright(eyes, face[[48, 54]])
            centre, side = _box_of_mesh(face, up)
        angle = math.atan2(up[1], up[0])
        scale = MESH_SIZE / max(side, 1e-3)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        linear = np.array([[cos, sin], [-sin, cos]])
        middle = np.full(2, (MESH_SIZE - 1) / 2)
        return np.concatenate([linear, (middle - linear @ centre)[:, None]], axis=1)

    def landmarks(self, region: ByteArray) -> Landmarks:
        """See `Detector.landmarks`. The presence is the score of YuNet's own look at the region; where it sees nobody,
        the points are those of the canonical face.

        The mesh network has a presence output, but OpenCV 5.0 runs the whole network again for every output that is asked for,
        and hands out the buffer of another layer under the name of that one. YuNet also says where the mesh is not to be
        trusted: on masked profiles it collapses, and the canonical face laid into YuNet's box takes its place.
        """
        face = self._face_in(region)
        if face is None:
            return Landmarks(points=geometry.TEMPLATE68.astype(np.float32), presence=0.0)
        self._mesh.setInput(cv2.dnn.blobFromImage(region, 1 / 255, (MESH_SIZE, MESH_SIZE)))
        vertices = self._mesh.forward("Identity").reshape(478, 3)
        points = vertices[list(MESH_TO_DLIB), :2].astype(float)
        trust = _trust(points, face)
        if trust < 1:
            points = trust * points + (1 - trust) * _laid_into(face)
        return Landmarks(points=points.astype(np.float32), presence=face.score, trust=trust)

    def _face_in(self, region: ByteArray) -> Detection | None:
        """The best face that fills the middle of the region, in its pixels."""
        best: Detection | None = None
        expected = MESH_SIZE / MESH_BOX
        for size in PRESENCE_SIZES:
            rows = self._run(region, (size, size)) * ([MESH_SIZE / size] * 14 + [1.0])
            centres = rows[:, :2] + rows[:, 2:4] / 2
            near = np.abs(centres - MESH_SIZE / 2).max(axis=1) < 0.25 * expected
            size_ratio = rows[:, 2:4].max(axis=1) / expected
            rows = rows[near & (size_ratio > 0.6) & (size_ratio < 1.5)]
            if len(rows) and (best is None or rows[:, 14].max() > best.score):
                best = _detection(rows[np.argmax(rows[:, 14])])
            if best is not None and best.score >= 0.6:
                break
        return best

    def _run(self, image: ByteArray, size: tuple[int, int]) -> FloatArray:
        """YuNet's rows (N, 15) at ``size`` (width, height): x, y, w, h, five points, score; in pixels of that size."""
        shrinks = size[0] < image.shape[1]
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        self._finder.setInputSize(size)
        found = self._finder.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        if found is None:
            return np.zeros((0, 15))
        # OpenCV 4.14 reports memory it never wrote as faces of a thin picture.
        rows = found.astype(float)
        return rows[(np.abs(rows[:, :4]) <= 4 * max(size)).all(axis=1) & np.isfinite(rows).all(axis=1)]


def _upright(eyes: FloatArray, mouth: FloatArray) -> FloatArray:
    """Unit vector (2,) along the face's own horizontal, from its two eyes (2, 2) and mouth corners (2, 2).

    In profile the eyes fall together and the line through them says nothing, but the mouth still lies below them.
    """
    across = eyes[1] - eyes[0]
    down = mouth.mean(axis=0) - eyes.mean(axis=0)
    along = across + np.array([down[1], -down[0]])
    length = float(np.hypot(*along))
    return along / length if length > 1e-6 else np.array([1.0, 0.0])


def _trust(points: FloatArray, face: Detection) -> float:
    """How far (0..1) the mesh's points (68, 2) are to be believed beside YuNet's face in the same picture.

    Two signs of a collapsed mesh: a shape unlike that of any face turned by less than 45 degrees, and eyes, nose and mouth far
    from where YuNet has them. On 204 faces of masked photos 75 % stay below 0.27 and 90 % below 0.35 in shape, and 95 % below
    0.20 in place; a masked head in strict profile nearly always lies above 0.4. From 0.35 on the eyes draw so close together
    that a crop aligned by them no longer holds the mask.
    """
    to_crop = geometry.align(points)
    apart = geometry.apply(to_crop, points) - geometry.TEMPLATE68
    shape = math.sqrt(float((apart**2).sum(axis=1).mean())) / 64  # of the inter-ocular distance
    place = float(np.hypot(*(_five(points) - face.landmarks).T).mean()) * MESH_BOX / MESH_SIZE  # of YuNet's box
    return float(np.clip((0.45 - shape) / 0.15, 0, 1) * np.clip((0.27 - place) / 0.1, 0, 1))


def _laid_into(face: Detection) -> FloatArray:
    """The canonical face (68, 2) where YuNet's box lies in a region, turned upright by YuNet's eyes and mouth.

    In the canonical crop the box is 192 px high about (127.5, 120.5) in the median over the same photos. On a profile YuNet's
    box grows and shrinks by a third from frame to frame, so that size and turn go only part of the way from those of the
    region, which are the last frame's or a detection's. The box of a profile is half hair and ear: across, the face goes where
    YuNet has the eyes, nose and mouth, or its crop would not hold the whole mask.
    """
    up = _upright(face.landmarks[:2], face.landmarks[3:5])
    angle = math.atan2(up[1], up[0]) / 3
    expected = MESH_SIZE / MESH_BOX
    height = expected * (float(face.box[3] - face.box[1]) / expected) ** (2 / 3)
    cos, sin = height / 192 * math.cos(angle), height / 192 * math.sin(angle)
    from_crop = np.array([[cos, -sin], [sin, cos]])
    middle = (MESH_SIZE - 1) / 2
    centre = (face.box[:2] + face.box[2:]) / 2
    along = np.array([math.cos(angle), math.sin(angle)])
    canonical = (_five(geometry.TEMPLATE68).mean(axis=0) - [127.5, 120.5]) @ from_crop.T + centre
    centre = centre + along * float((face.landmarks.mean(axis=0) - canonical) @ along)
    return (geometry.TEMPLATE68 - [127.5, 120.5]) @ from_crop.T + middle + 0.7 * (centre - middle)


def _five(points: FloatArray) -> FloatArray:
    """YuNet's eyes, nose and corners of the mouth (5, 2) among landmarks (68, 2)."""
    return np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])


def _box_of_mesh(points: FloatArray, along: FloatArray) -> tuple[FloatArray, float]:
    """Centre (2,) and side of the region that YuNet's box would give for a face with these landmarks (68, 2)."""
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
    return [_detection(row) for row in kept]


def _detection(row: FloatArray) -> Detection:
    """One of YuNet's rows (15,) with the numbers in their places."""
    x, y, width, height = row[:4]
    box = np.array([x, y, x + width, y + height])
    return Detection(box=box, landmarks=row[4:14].reshape(5, 2), score=float(np.clip(row[14], 0, 1)))


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
