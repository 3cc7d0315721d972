"""Still pictures as frames, and back into files that keep what the edit does not touch.

Only changed pixels differ: alpha, orientation, EXIF, XMP, ICC profile, resolution, JPEG's quantisation tables and
subsampling, PNG's text and sixteen bits survive, and a picture in which nothing changed is copied byte for byte.
"""

from __future__ import annotations

import logging
import struct
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from vidunmask.errors import InputError, UsageError
from vidunmask.types import Frame
from vidunmask.video import atomic
from vidunmask.video.formats import SampleArray
from vidunmask.video.orientation import matrix_of_exif, orient

log = logging.getLogger(__name__)

_ORIENTATION, _USER_COMMENT, _EXIF_IFD = 0x0112, 0x9286, 0x8769
_DEEP = ("PNG", "TIFF")  # Pillow reads sixteen bits per channel of RGB as eight; OpenCV does not
_UNREADABLE = (
    UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError, EOFError,
    RuntimeError,  # Pillow's of a damaged AVIF
    TypeError, struct.error,  # and of a damaged TIFF
)  # fmt: skip
# Made anew by the encoder; every other chunk of a PNG is carried over.
_PNG_CODED = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sBIT", b"hIST", b"bKGD"}
_COMMON = ("exif", "icc_profile", "dpi")  # settings that mean the same in every format
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


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


def read_image(path: str | Path) -> Picture:
    """Reads one picture; animations give their first. Raises `InputError` for what is no picture or is damaged."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        with Image.open(path) as image:
            kind, info = image.format or "", {str(key): value for key, value in image.info.items()}
            settings = _settings(image, info)
            deep = kind in _DEEP and _bits(image) == 16
            orientation = int(image.getexif().get(_ORIENTATION, 1))
            if getattr(image, "n_frames", 1) > 1:
                log.warning("%s: holds %d pictures, only the first is kept", path, image.n_frames)  # type: ignore[attr-defined]
            if not deep:
                image.load()
                original: Image.Image | None = image.copy()
                mode = image.mode
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a picture that can be read ({error})") from error
    if deep:
        pixels, alpha = _read_deep(path)
        original, mode = None, f"{'L' if pixels.ndim == 2 else 'RGB'};16"
    else:
        assert original is not None
        pixels, alpha = _split(path, original)
    gray = pixels.ndim == 2
    pix_fmt = {(False, 1): "rgb24", (False, 2): "rgb48le", (True, 1): "gray", (True, 2): "gray16le"}[(gray, pixels.itemsize)]
    native = av.VideoFrame.from_ndarray(pixels, pix_fmt)
    native.pts, native.time_base = 0, Fraction(1, 25)
    native.color_range = 2
    shown = orient(pixels.shape[:2], matrix=matrix_of_exif(orientation))  # type: ignore[arg-type]
    frame = Frame(0, native, 0, Fraction(1, 25), shown.display_size, shown.native_to_display)
    return Picture(path, kind, mode, frame, pixels, alpha, original, settings)


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
    same_kind = kind == like.format or (kind, like.format) == ("JPEG", "MPO")
    edited = _samples(frame)
    changed = (edited != like.pixels).reshape(*edited.shape[:2], -1).any(axis=2)
    with atomic.replacing(target, overwrite=overwrite) as temporary:
        if kind == like.format and not changed.any():
            temporary.write_bytes(like.path.read_bytes())
            return
        if like.original is None and kind in _DEEP:
            temporary.write_bytes(_encode_deep(edited, like, kind, metadata or {}))
            return
        carried = like.settings if same_kind else {key: like.settings[key] for key in _COMMON if key in like.settings}
        settings = dict(carried)
        image = _merge(edited, changed, like, kind)
        try:
            image.save(temporary, format=kind, **_with_metadata(kind, image, settings, metadata or {}))
        except (ValueError, KeyError) as error:
            raise UsageError(f"{target}: a {kind} file cannot hold this picture ({error}); use .png") from error


def _split(path: Path, image: Image.Image) -> tuple[SampleArray, SampleArray | None]:
    """Colour (h, w, 3) or (h, w), 8 or 16 bits, and alpha (h, w) of a picture of any mode."""
    mode = image.mode
    if mode in ("I", "F") and image.format != "PNG":
        raise InputError(f"{path}: pictures of 32 bits per sample cannot be edited")
    if mode.startswith("I;16") or mode == "I":
        return np.array(image, dtype=np.uint16), None
    if mode in ("L", "1"):
        return np.array(image.convert("L")), None
    if mode in ("LA", "La"):
        both = np.array(image.convert("LA"))
        return np.ascontiguousarray(both[..., 0]), np.ascontiguousarray(both[..., 1])
    if mode in ("RGBA", "RGBa", "PA") or (mode in ("P", "RGB", "L") and "transparency" in image.info):
        four = np.array(image.convert("RGBA"))
        return np.ascontiguousarray(four[..., :3]), np.ascontiguousarray(four[..., 3])
    return np.array(image.convert("RGB")), None


def _merge(edited: SampleArray, changed: SampleArray, like: Picture, kind: str) -> Image.Image:
    """The edited samples as a picture of the original's mode, where the target has it."""
    if edited.dtype == np.uint16 and edited.ndim == 3:
        log.warning("%s: a %s file holds 8 bits per channel, the picture has 16", like.path, kind)
        edited = ((edited.astype(np.uint32) + 128) // 257).astype(np.uint8)
    image = Image.fromarray(edited)
    if like.mode in ("CMYK", "YCbCr", "LAB") and like.original is not None and kind in ("JPEG", "TIFF"):
        # There and back through RGB is not exact, so that only what changed goes that way.
        kept = np.array(like.original)
        kept[changed] = np.array(image.convert(like.mode))[changed] if like.mode != "LAB" else kept[changed]
        return Image.fromarray(kept, like.mode)
    if like.alpha is not None:
        if kind in ("JPEG", "BMP"):
            log.warning("%s: a %s file holds no transparency", like.path, kind)
        else:
            image.putalpha(Image.fromarray(like.alpha))
    return image


def _settings(image: Image.Image, info: dict[str, Any]) -> dict[str, Any]:
    """What Pillow's save needs to write a file like the one that was read."""
    settings: dict[str, Any] = {key: info[key] for key in ("icc_profile", "dpi", "xmp") if info.get(key)}
    if image.getexif() or info.get("exif"):
        settings["exif"] = info.get("exif") or image.getexif().tobytes()
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        settings["qtables"] = image.quantization
        sampling = JpegImagePlugin.get_sampling(image)
        if sampling >= 0:
            settings["subsampling"] = sampling
        settings["progressive"] = bool(info.get("progressive") or info.get("progression"))
        settings["optimize"] = True
        if info.get("comment"):
            settings["comment"] = info["comment"]
    elif isinstance(image, PngImagePlugin.PngImageFile):
        settings["pnginfo"] = _text_chunks(image.text)
        settings.pop("xmp", None)  # among the text
    elif image.format == "TIFF":
        settings["compression"] = info.get("compression")
        if settings["compression"] == "jpeg":
            settings["quality"] = 95
    elif image.format == "WEBP":
        lossless = _is_lossless_webp(Path(str(image.filename)))  # type: ignore[attr-defined]
        settings |= {"lossless": True, "exact": True} if lossless else {"quality": 95, "method": 4}
    elif image.format == "AVIF":
        settings |= {"quality": 90, "subsampling": "4:2:0"}
    return settings


def _with_metadata(kind: str, image: Image.Image, settings: dict[str, Any], metadata: dict[str, str]) -> dict[str, Any]:
    if not metadata:
        return settings
    line = "; ".join(metadata.values())
    if kind == "PNG":
        settings["pnginfo"] = settings.get("pnginfo") or PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            settings["pnginfo"].add_text(key, value)
    elif kind == "JPEG":
        before = settings.get("comment", b"")
        settings["comment"] = (before + b"; " if before else b"") + line.encode()
    elif kind in ("WEBP", "TIFF", "AVIF"):
        exif = Image.Exif()
        if settings.get("exif"):
            exif.load(settings["exif"])
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"ASCII\0\0\0" + line.encode("ascii", "replace")
        settings["exif"] = exif.tobytes() if kind != "TIFF" else exif
    return settings


def _text_chunks(text: dict[str, Any]) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        if isinstance(value, PngImagePlugin.iTXt):
            chunks.add_itxt(key, value, value.lang or "", value.tkey or "")
        else:
            chunks.add_text(key, value)
    return chunks


def _samples(frame: Frame) -> SampleArray:
    array = frame.native.to_ndarray()
    return np.ascontiguousarray(array[..., 0]) if array.ndim == 3 and array.shape[2] == 1 else array


def _bits(image: Image.Image) -> int:
    """Bits per sample of a PNG or TIFF that Pillow opened."""
    if image.format == "PNG":
        with Path(str(image.filename)).open("rb") as file:  # type: ignore[attr-defined]
            return file.read(25)[24]
    bits = image.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
    return int(max(bits))


def _is_lossless_webp(path: Path) -> bool:
    with path.open("rb") as file:
        return b"VP8L" in file.read(4096)


def _read_deep(path: Path) -> tuple[SampleArray, SampleArray | None]:
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16:
        raise InputError(f"{path}: not a picture that can be read (16 bits per sample of a kind OpenCV does not know)")
    if image.ndim == 2:
        return image, None
    alpha = np.ascontiguousarray(image[..., 3]) if image.shape[2] == 4 else None
    return np.ascontiguousarray(image[..., 2::-1]), alpha


def _encode_deep(edited: SampleArray, like: Picture, kind: str, metadata: dict[str, str]) -> bytes:
    """A PNG or TIFF of sixteen bits per sample."""
    samples = edited
    if edited.ndim == 3:
        channels = [edited[..., 2], edited[..., 1], edited[..., 0], *([like.alpha] if like.alpha is not None else [])]
        samples = np.stack(channels, axis=-1)
    done, coded = cv2.imencode(f".{kind.lower()}", samples)
    if not done:
        raise UsageError(f"{like.path}: cannot be written as {kind} of 16 bits per sample; use .png")
    if kind != "PNG":
        log.warning("%s: metadata of a TIFF of 16 bits per sample is not kept", like.path)
        return bytes(coded)
    kept = [chunk for name, chunk in _chunks(like.path.read_bytes()) if name not in _PNG_CODED] if like.format == "PNG" else []
    added = [_chunk(b"tEXt", f"{key}\0{value}".encode("latin-1", "replace")) for key, value in metadata.items()]
    fresh = list(_chunks(bytes(coded)))
    return b"".join([_PNG_MAGIC, fresh[0][1], *kept, *added, *(chunk for _, chunk in fresh[1:])])


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Name and whole chunk, in order (PNG specification, 5.3)."""
    found, at = [], len(_PNG_MAGIC)
    while at + 12 <= len(png):
        size = int.from_bytes(png[at : at + 4], "big") + 12
        found.append((png[at + 4 : at + 8], png[at : at + size]))
        at += size
    return found


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
