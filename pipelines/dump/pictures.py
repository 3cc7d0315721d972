"""What the files of a dump look like: pictures as PNG, native frames and arrays without loss as npz."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from vidunmask import geometry
from vidunmask.errors import InputError
from vidunmask.types import ByteArray, FloatArray, Frame, SeenFace, TrackedFace
from vidunmask.video import pixels
from vidunmask.video.formats import component_views, layout_of

OVERVIEW = 1280  # longer side of the pictures that are drawn on
_MOST_ENLARGED = 4.0  # times a crop's side
GAIN = 4  # by which a difference is multiplied to be seen
_COLOURS = ((255, 176, 59), (86, 196, 255), (126, 217, 87), (255, 110, 130), (190, 140, 255), (255, 230, 90), (70, 220, 200))
_FOUND, _FOLLOWED = (126, 217, 87), (255, 176, 59)  # green where the detector saw it, amber where it was followed
_TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")


def write_png(path: Path, image: ByteArray) -> None:
    """Writes (h, w, 3) RGB or (h, w) grey. Raises OSError."""
    _, coded = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    path.write_bytes(coded.tobytes())


def read_png(path: Path) -> ByteArray:
    """Reads what `write_png` wrote. Raises InputError."""
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); dump again") from error
    if image is None:
        raise InputError(f"{path}: is damaged; dump again")
    return np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays as npz, packed fast: numpy's own packing takes three times as long for a tenth less. Raises OSError."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an npz file. Raises InputError."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); dump again") from error


def whole(frame: Frame) -> ByteArray:
    """The picture upright in full size, (h, w, 3) RGB."""
    return pixels.small_rgb(frame, max(frame.display_size))[0]


def fingerprint(frame: Frame) -> str:
    """SHA-256 of the samples of a frame in its own pixel format; the same exactly where every sample is."""
    digest = hashlib.sha256(frame.native.format.name.encode())
    for view in _views(frame.native):
        digest.update(np.ascontiguousarray(view).tobytes())
    return digest.hexdigest()


def write_native(path: Path, frame: Frame) -> None:
    """Writes the samples of a frame without loss. Raises OSError."""
    write_arrays(path, {f"component{number}": view for number, view in enumerate(_views(frame.native))})


def describe(frame: Frame) -> dict[str, Any]:
    """What else it takes to make the frame again."""
    native = frame.native
    return {
        "format": native.format.name,
        "width": native.width,
        "height": native.height,
        "tags": {name: int(getattr(native, name, 2)) for name in _TAGS},
        "display_size": list(frame.display_size),
        "native_to_display": frame.native_to_display,
    }


def read_native(path: Path, line: Mapping[str, Any]) -> Frame:
    """The frame that `write_native` and `describe` stored. Raises InputError."""
    about = line["native"]
    native = av.VideoFrame(about["width"], about["height"], about["format"])
    for plane in native.planes:
        np.frombuffer(plane, np.uint8)[:] = 0  # type: ignore[call-overload]
    arrays = read_arrays(path)
    try:
        for number, view in enumerate(_views(native)):
            view[...] = arrays[f"component{number}"]
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: does not fit its frame ({error}); dump again") from error
    for name, value in about["tags"].items():
        setattr(native, name, value)
    time_base = Fraction(line["time_base"])
    native.pts, native.time_base = line["pts"], time_base
    transform = np.array(about["native_to_display"], float)
    height, width = about["display_size"]
    return Frame(line["index"], native, line["pts"], time_base, (height, width), transform)


def _views(native: av.VideoFrame) -> tuple[Any, ...]:
    layout = layout_of(native.format.name)
    assert layout is not None  # readers give out no other
    return component_views(native, layout)


def detections(frame: Frame, faces: Sequence[SeenFace]) -> ByteArray:
    """The picture with every face that was seen, its score, and whether the detector saw it or it was followed."""
    image, to_image = pixels.small_rgb(frame, OVERVIEW)
    image = np.ascontiguousarray(image)
    for face in faces:
        kind, colour = ("detected", _FOUND) if face.detected else ("followed", _FOLLOWED)
        _face(image, to_image, face, f"{kind} {face.score:.2f}", colour)
    return image


def tracks(frame: Frame, faces: Sequence[TrackedFace], transforms: Sequence[FloatArray], size: int) -> ByteArray:
    """The picture with every tracked face, its id, and the outline of its crop (frame_to_crop of each, side of the crops)."""
    image, to_image = pixels.small_rgb(frame, OVERVIEW)
    image = np.ascontiguousarray(image)
    corners = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [size - 0.5, size - 0.5], [-0.5, size - 0.5]])
    for face, frame_to_crop in zip(faces, transforms, strict=True):
        colour = colour_of(face.track_id)
        outline = geometry.apply(to_image, geometry.apply(geometry.invert(frame_to_crop), corners))
        cv2.polylines(image, [np.round(outline).astype(np.int32)], True, colour, 2, cv2.LINE_AA)
        note = "" if face.detected else ", between"
        _face(image, to_image, face, f"#{face.track_id} {face.score:.2f}{', reset' if face.reset else note}", colour)
    return image


def face(frame: Frame, frame_to_crop: FloatArray) -> ByteArray:
    """What a face's crop shows, (s, s, 3) RGB, with no fewer pixels than the frame has there."""
    factor = min(_MOST_ENLARGED, max(1.0, 1 / geometry.scale_of(frame_to_crop)))
    size = round(geometry.CROP_SIZE * factor)
    return pixels.read_crop(frame, geometry.resize(frame_to_crop, size), size)


def colour_of(track_id: int) -> tuple[int, int, int]:
    """The colour of a track, the same as on the page."""
    return _COLOURS[track_id % len(_COLOURS)]


def _face(
    image: ByteArray, to_image: FloatArray, face: SeenFace | TrackedFace, text: str, colour: tuple[int, int, int]
) -> None:
    x0, y0, x1, y1 = (int(v) for v in np.round(geometry.apply(to_image, face.box.reshape(2, 2))).reshape(4))
    cv2.rectangle(image, (x0, y0), (x1, y1), colour, 2, cv2.LINE_AA)
    for x, y in geometry.apply(to_image, face.landmarks):
        cv2.circle(image, (round(float(x) * 16), round(float(y) * 16)), 24, colour, -1, cv2.LINE_AA, 4)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    top = max(y0 - height - 8, 0)
    cv2.rectangle(image, (x0 - 1, top), (x0 + width + 7, top + height + 8), (16, 18, 22), -1)
    cv2.putText(image, text, (x0 + 3, top + height + 3), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


def logits(probability: FloatArray) -> ByteArray:
    """Logits of a probability (S, S) from -8 (blue, no mask) over 0 (dark) to 8 (amber, mask), (S, S, 3)."""
    p = probability.astype(np.float64)
    with np.errstate(divide="ignore"):
        value = np.clip((np.log(p) - np.log1p(-p)) / 8, -1, 1)[..., None]
    dark, no, yes = (np.array(c, float) for c in ((18, 20, 26), (74, 150, 255), (255, 190, 70)))
    return np.rint(dark + np.maximum(value, 0) * (yes - dark) + np.maximum(-value, 0) * (no - dark)).astype(np.uint8)


def difference(before: ByteArray, after: ByteArray) -> ByteArray:
    """How far two pictures lie apart, `GAIN` times, per channel."""
    return cv2.convertScaleAbs(cv2.absdiff(before, after), alpha=GAIN)


def to_bytes(values: FloatArray) -> ByteArray:
    """Values 0..1 as bytes."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
