"""Still pictures as frames, and back into files that keep what the edit does not touch.

Only changed pixels differ: alpha, orientation, EXIF, XMP, ICC profile, resolution, JPEG's quantisation tables and
subsampling, PNG's text and sixteen bits survive, and a picture in which nothing changed is copied byte for byte.
"""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, UnidentifiedImageError

from vidunmask.errors import InputError, UsageError
from vidunmask.types import Frame
from vidunmask.video import atomic, tiff_tags
from vidunmask.video.formats import SampleArray
from vidunmask.video.orientation import matrix_of_exif, orient
from vidunmask.video.picture_files import (
    Extras,
    carried_chunks,
    chunks_of,
    extras_of,
    holds_text,
    odd_colours,
    text_chunk,
    with_chunks,
    with_segments,
    without_pictures,
)

log = logging.getLogger(__name__)

_DEEP = ("PNG", "TIFF")  # Pillow reads sixteen bits per channel of RGB as eight; OpenCV does not
_UNREADABLE = (
    UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError, EOFError,
    RuntimeError,  # Pillow's of a damaged AVIF
    TypeError, struct.error, zlib.error,  # and of damaged TIFF and PNG
)  # fmt: skip
_DEEP_GRAY = ("PNG", "TIFF", "JPEG2000", "PPM")  # of which Pillow writes sixteen bits of gray; of others some come out white
_COMMON = ("exif", "icc_profile", "dpi", "xmp")  # settings that mean the same in every format
_HOLD_METADATA = ("AVIF", "JPEG", "PNG", "TIFF", "WEBP")
_SPACES = {  # of ICC profiles (ICC.1, 7.2.6), and Pillow's modes of such samples
    b"RGB ": ("RGB", "RGBA", "P", "YCbCr"),
    b"GRAY": ("1", "L", "LA", "I;16"),
    b"CMYK": ("CMYK",),
    b"Lab ": ("LAB",),
}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A still picture: the frame that stages work on and everything that has to be put back around it."""

    path: Path
    format: str  # Pillow's name
    mode: str  # Pillow's mode of the file; "RGB;16" and the like for sixteen bits
    frame: Frame
    pixels: SampleArray  # (h, w, 3) or (h, w) as in the frame, before any edit
    alpha: SampleArray | None  # (h, w)
    original: Image.Image | None  # in the file's own mode, None for sixteen bits
    settings: dict[str, Any] = field(default_factory=dict)  # for Pillow's save
    extras: Extras = field(default_factory=Extras)
    count: int = 1  # pictures in the file, of which this is the first


def read_image(path: str | Path) -> Picture:
    """Reads one picture; animations give their first. Raises `InputError` for what is no picture or is damaged."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    original, mode, orientation = None, "", 1
    said: list[str] = []
    try:
        with _without_warnings(said):
            with Image.open(path) as image:
                kind = image.format or ""
                count = int(getattr(image, "n_frames", 1))
            data = stored = path.read_bytes()
            if kind == "TIFF":
                stored, orientation = tiff_tags.as_stored(data)  # decoders would turn it, and the tag would turn it again
            with Image.open(io.BytesIO(stored)) as image:
                if not (kind in _DEEP and _bits(image, data) == 16):
                    image.load()
                    original, mode = image.copy(), image.mode
                if kind != "TIFF":
                    orientation = int(image.getexif().get(tiff_tags.ORIENTATION, 1))
                settings = _settings(image, data)
            extras = extras_of(kind, data, settings)
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a picture that can be read ({error})") from error
    if said:
        log.warning("%s: its metadata is damaged and not all of it is kept (%s)", path, said[0])
    if original is None:
        pixels, alpha = _read_deep(path, stored)
        mode = f"{'L' if pixels.ndim == 2 else 'RGB'};16"
    else:
        pixels, alpha = _split(path, original, settings.get("icc_profile"))
    gray = pixels.ndim == 2
    pix_fmt = {(False, 1): "rgb24", (False, 2): "rgb48le", (True, 1): "gray", (True, 2): "gray16le"}[(gray, pixels.itemsize)]
    native = av.VideoFrame.from_ndarray(pixels, pix_fmt)
    native.pts, native.time_base = 0, Fraction(1, 25)
    native.color_range = 2
    shown = orient(pixels.shape[:2], matrix=matrix_of_exif(orientation))  # type: ignore[arg-type]
    frame = Frame(0, native, 0, Fraction(1, 25), shown.display_size, shown.native_to_display)
    return Picture(path, kind, mode, frame, pixels, alpha, original, settings, extras, count)


@contextlib.contextmanager
def _without_warnings(said: list[str] | None = None) -> Iterator[None]:
    """Keeps Pillow's warnings off the terminal; those about the file's content are added to ``said``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if said is not None:
        said += [" ".join(str(each.message).split()) for each in caught if each.category is UserWarning]


def write_image(
    path: str | Path,
    frame: Frame,
    *,
    like: Picture,
    overwrite: bool = False,
    metadata: dict[str, str] | None = None,
) -> None:
    """Writes ``frame`` as the picture ``like`` with the pixels that changed; the extension of ``path`` gives the format.

    ``metadata`` is added as PNG text, JPEG comment or EXIF user comment, unless nothing changed. Raises `UsageError` for an
    extension that no picture format has or where output and input are one file, `OutputError` where writing fails.
    """
    target = atomic.check_target(path, source=like.path, overwrite=overwrite)
    kind = Image.registered_extensions().get(target.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise UsageError(f"{target}: no picture format is known for {target.suffix or 'no extension'}; use .png or .jpg")
    edited = _samples(frame)
    changed = (edited != like.pixels).reshape(*edited.shape[:2], -1).any(axis=2)
    with atomic.replacing(target, overwrite=overwrite) as temporary:
        if kind == like.format and not changed.any():
            temporary.write_bytes(like.path.read_bytes())
            return
        try:
            with _without_warnings():
                data = _encode(edited, changed, like, kind, metadata or {})
            temporary.write_bytes(data)
        except (ValueError, KeyError) as error:
            raise UsageError(f"{target}: a {kind} file cannot hold this picture ({error}); use .png") from error


def _encode(edited: SampleArray, changed: SampleArray, like: Picture, kind: str, metadata: dict[str, str]) -> bytes:
    """The picture as a file with what it holds of the original's metadata, and ``metadata``."""
    same_kind = kind == like.format or (kind, like.format) == ("JPEG", "MPO")
    settings = dict(like.settings) if same_kind else {key: like.settings[key] for key in _COMMON if key in like.settings}
    image = None if like.original is None and kind in _DEEP else _merge(edited, changed, like, kind)
    if image is not None and not _fits(settings.get("icc_profile"), image.mode, like.mode):
        del settings["icc_profile"]
        log.warning("%s: its %s profile is not kept in the %s file, which is in sRGB", like.path, like.mode, kind)
    _warn_of_losses(like, kind, settings, metadata)
    if image is not None and kind not in _HOLD_METADATA:
        image = _upright(image, settings.get("exif", b""))
    if kind == "PNG":
        carried = chunks_of(settings) if like.extras.chunks is None else carried_chunks(like.extras.chunks)
        marks = [text_chunk(key, value) for key, value in metadata.items()]
        return with_chunks(_encode_deep(edited, like, kind) if image is None else _saved(image, kind), [*carried, *marks])
    line = "; ".join(metadata.values())
    if kind == "TIFF":
        tags = _tags(like, settings)
        how = {key: settings[key] for key in ("compression", "quality") if key in settings}
        coded = _encode_deep(edited, like, kind) if image is None else _saved(image, kind, **how)
        return tiff_tags.with_tags(coded, tiff_tags.with_comment(tags, line) if line else tags)
    assert image is not None
    if kind in ("JPEG", "GIF") and line:
        before = settings.get("comment", b"")
        settings["comment"] = (before + b"; " if before else b"") + line.encode()
    elif kind in ("WEBP", "AVIF") and line:
        settings["exif"] = tiff_tags.exif_of(tiff_tags.with_comment(tiff_tags.tags_of(settings.get("exif", b"")), line))
    coded = _saved(image, kind, **settings)
    return with_segments(coded, like.extras.segments) if kind == "JPEG" else coded


def _upright(image: Image.Image, exif: bytes) -> Image.Image:
    """The picture turned for a file that cannot say how it is to be turned."""
    orientation = tiff_tags.tags_of(exif).get(tiff_tags.ORIENTATION)
    if isinstance(orientation, tiff_tags.Tag):
        image.getexif()[tiff_tags.ORIENTATION] = int.from_bytes(orientation.data, "little")
    return ImageOps.exif_transpose(image)


def _saved(image: Image.Image, kind: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **settings)
    return file.getvalue()


def _tags(like: Picture, settings: dict[str, Any]) -> tiff_tags.Tags:
    """What a TIFF file says about the picture."""
    tags = like.extras.tags
    if tags is None:
        tags = tiff_tags.carried_tags(tiff_tags.tags_of(settings.get("exif", b"")))
        tags = tiff_tags.with_resolution(tags, settings["dpi"]) if "dpi" in settings else tags
    kept = {key: tag for key, tag in tags.items() if key not in (tiff_tags.ICC_PROFILE, tiff_tags.XMP)}
    for key, name, kind in ((tiff_tags.ICC_PROFILE, "icc_profile", 7), (tiff_tags.XMP, "xmp", 1)):
        if value := settings.get(name):
            kept[key] = tiff_tags.Tag(kind, len(value), value)
    return kept


def _fits(profile: bytes | None, mode: str, before: str) -> bool:
    """Whether an ICC profile is one for samples of ``mode``; a mode that is as it was ``before`` keeps what it had."""
    space = _SPACES.get((profile or b"")[16:20])
    return space is None or mode == before or mode in space


def _warn_of_losses(like: Picture, kind: str, settings: dict[str, Any], metadata: dict[str, str]) -> None:
    extras = like.extras
    lost = [*extras.left, *([f"all but the first of its {like.count} pictures"] if like.count > 1 else [])]
    iptc = extras.tags is not None and kind != "TIFF" and extras.tags.keys() & {tiff_tags.IPTC, tiff_tags.PHOTOSHOP}
    if iptc or (extras.segments and kind != "JPEG"):
        lost.append("IPTC")
    if extras.chunks is not None and kind != "PNG":
        lost += ["text"] * holds_text(extras.chunks) + ["the description of its colours"] * odd_colours(extras.chunks)
    if "comment" in like.settings and kind != "JPEG":
        lost.append("comment")
    if kind not in _HOLD_METADATA:
        lost += [name for key, name in (("icc_profile", "colour profile"), ("exif", "EXIF"), ("xmp", "XMP")) if key in settings]
    if lost:
        log.warning("%s: not kept in the %s file: %s", like.path, kind, ", ".join(lost))
    if metadata and kind not in (*_HOLD_METADATA, "GIF"):
        log.warning("%s: a %s file cannot hold the mark that faces were synthesized", like.path, kind)


def _split(path: Path, image: Image.Image, profile: bytes | None) -> tuple[SampleArray, SampleArray | None]:
    """Colour (h, w, 3) or (h, w), 8 or 16 bits, and alpha (h, w) of a picture of any mode."""
    mode = image.mode
    if mode in ("I", "F"):
        raise InputError(f"{path}: pictures of 32 bits per sample cannot be edited")
    if mode.startswith("I;16"):
        return np.array(image, dtype=np.uint16), None
    if mode in ("L", "1") and "transparency" not in image.info:
        return np.array(image.convert("L")), None
    if mode in ("LA", "La", "L", "1"):
        both = np.array(image.convert("LA"))
        return np.ascontiguousarray(both[..., 0]), np.ascontiguousarray(both[..., 1])
    if mode in ("RGBA", "RGBa", "PA") or (mode in ("P", "RGB") and "transparency" in image.info):
        four = np.array(image.convert("RGBA"))
        return np.ascontiguousarray(four[..., :3]), np.ascontiguousarray(four[..., 3])
    return np.array(_converted(image, "RGB", profile)), None


def _merge(edited: SampleArray, changed: SampleArray, like: Picture, kind: str) -> Image.Image:
    """The edited samples as a picture of the original's mode, where the target has it."""
    if edited.dtype == np.uint16 and (edited.ndim == 3 or kind not in _DEEP_GRAY):
        log.warning("%s: a %s file holds 8 bits per channel, the picture has 16", like.path, kind)
        edited = ((edited.astype(np.uint32) + 128) // 257).astype(np.uint8)
    image = Image.fromarray(edited)
    if like.original is not None and like.mode in {"JPEG": ("CMYK", "YCbCr"), "TIFF": ("CMYK", "YCbCr", "LAB")}.get(kind, ()):
        # There and back through RGB is not exact, so that only what changed goes that way.
        kept = np.array(like.original)
        kept[changed] = np.array(_converted(image, like.mode, like.settings.get("icc_profile")))[changed]
        return Image.fromarray(kept, like.mode)
    if like.alpha is not None:
        if kind in ("JPEG", "BMP"):
            log.warning("%s: a %s file holds no transparency", like.path, kind)
        else:
            image.putalpha(Image.fromarray(like.alpha))
    return image


def _converted(image: Image.Image, mode: str, profile: bytes | None) -> Image.Image:
    """CMYK as RGB or back by its profile, where that serves; all else by Pillow's plain formulas."""
    if profile and profile[16:20] == b"CMYK" and {image.mode, mode} == {"CMYK", "RGB"}:
        try:
            ours, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            source, target = (ours, srgb) if mode == "RGB" else (srgb, ours)
            return ImageCms.profileToProfile(image, source, target, outputMode=mode) or image.convert(mode)
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            log.debug("a CMYK profile that cannot be used: %s", error)
    return image.convert(mode)


def _settings(image: Image.Image, data: bytes) -> dict[str, Any]:
    """What Pillow's save needs to write a file like the one that was read."""
    info = {str(key): value for key, value in image.info.items()}
    settings: dict[str, Any] = {key: info[key] for key in ("icc_profile", "dpi", "xmp") if info.get(key)}
    if xmp := settings.get("xmp"):
        settings["xmp"] = without_pictures(xmp.encode() if isinstance(xmp, str) else xmp)
    if image.format == "TIFF":
        settings["compression"] = info.get("compression")
        if settings["compression"] == "jpeg":
            settings["quality"] = 95
        return settings  # its tags are EXIF already
    if image.getexif() or info.get("exif"):
        exif = info.get("exif") or image.getexif().tobytes()
        # Of a WebP it comes without its head, and Pillow writes it so into a JPEG, where nothing finds it.
        settings["exif"] = tiff_tags.without_thumbnail(tiff_tags.EXIF_MAGIC + exif.removeprefix(tiff_tags.EXIF_MAGIC))
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        settings["qtables"] = image.quantization
        sampling = JpegImagePlugin.get_sampling(image)
        if sampling >= 0:
            settings["subsampling"] = sampling
        settings["progressive"] = bool(info.get("progressive") or info.get("progression"))
        settings["optimize"] = True
        if info.get("comment"):
            settings["comment"] = info["comment"]
    elif image.format == "WEBP":
        settings |= {"lossless": True, "exact": True} if b"VP8L" in data[:4096] else {"quality": 95, "method": 4}
    elif image.format == "AVIF":
        settings |= {"quality": 90, "subsampling": "4:2:0"}
    return settings


def _samples(frame: Frame) -> SampleArray:
    array = frame.native.to_ndarray()
    return np.ascontiguousarray(array[..., 0]) if array.ndim == 3 and array.shape[2] == 1 else array


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per sample of a PNG or TIFF that Pillow opened."""
    if image.format == "PNG":
        return data[24]
    bits = image.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
    return int(max(bits))


def _read_deep(path: Path, data: bytes) -> tuple[SampleArray, SampleArray | None]:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # of what is damaged it speaks on stderr
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None or image.dtype != np.uint16:
        raise InputError(f"{path}: not a picture that can be read (its 16 bits per sample are damaged or of an unknown kind)")
    if image.ndim == 2:
        return image, None
    alpha = np.ascontiguousarray(image[..., 3]) if image.shape[2] == 4 else None
    return np.ascontiguousarray(image[..., 2::-1]), alpha


def _encode_deep(edited: SampleArray, like: Picture, kind: str) -> bytes:
    """A PNG or TIFF of sixteen bits per sample, without metadata."""
    samples = edited
    if edited.ndim == 3:
        channels = [edited[..., 2], edited[..., 1], edited[..., 0], *([like.alpha] if like.alpha is not None else [])]
        samples = np.stack(channels, axis=-1)
    done, coded = cv2.imencode(f".{kind.lower()}", samples)
    if not done:
        raise UsageError(f"{like.path}: cannot be written as {kind} of 16 bits per sample; use .png")
    return bytes(coded)
