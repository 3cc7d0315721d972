"""The parts of picture files that no decoder gives out: chunks of a PNG, segments of a JPEG, blocks of Photoshop.

What is carried from one file to another goes through here, and what shows the picture before the edit, as thumbnails do, is
left behind.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vidunmask.video import credentials, tiff_tags

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Made anew by the encoder.
_PNG_CODED = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"hIST", b"bKGD", b"acTL", b"fcTL", b"fdAT"))
# What the sample values mean, as colours, which holds for the edited ones as well (PNG specification, third edition, 11.3.2).
_PNG_COLOUR = frozenset((b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"sBIT"))
_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type, as sBIT counts them
_XMP_KEY = b"XML:com.adobe.xmp\0"
_RAW_PROFILES = (b"Raw profile type exif\0", b"Raw profile type APP1\0", b"Raw profile type 8bim\0")  # thumbnails and all

_APP0, _APP1, _APP13 = 0xE0, 0xE1, 0xED
_PHOTOSHOP = b"Photoshop 3.0\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_THUMBNAILS = (0x0409, 0x040C, 0x0422, 0x0423)  # resources of Photoshop: small pictures of the whole, EXIF with its own
_XMP_PICTURES = re.compile(rb"<(xmp:Thumbnails|xmpGImg:image|GImage:Data|GDepth:Data)\b[^>]*>.*?</\1>", re.DOTALL)
_XMP_ATTRIBUTES = re.compile(rb"""\s(?:xmpGImg:image|GImage:Data|GDepth:Data)\s*=\s*("[^"]*"|'[^']*')""")


@dataclass(frozen=True, slots=True)
class Extras:
    """What a file holds beside its samples and what Pillow carries over."""

    tags: tiff_tags.Tags | None = None  # of a TIFF
    chunks: list[tuple[bytes, bytes]] | None = None  # of a PNG, all
    segments: tuple[bytes, ...] = ()  # Photoshop's of a JPEG, IPTC among them
    left: tuple[str, ...] = ()  # what is never carried over


def extras_of(kind: str, data: bytes, settings: dict[str, Any]) -> Extras:
    """What the file holds besides; completes the ``settings``."""
    left = []
    if settings.get("exif") == b"":
        left.append("EXIF, which is damaged")
        del settings["exif"]
    left += [credentials.NAME] * credentials.holds_credentials(data)
    if kind == "PNG":
        return Extras(chunks=chunks(data), left=tuple(left))
    if kind in ("JPEG", "MPO"):
        left += ["extended XMP"] * has_extended_xmp(data)
        return Extras(segments=tuple(photoshop_segments(data)), left=tuple(left))
    if kind != "TIFF":
        return Extras(left=tuple(left))
    read = tiff_tags.read_tags(data)
    tags = tiff_tags.carried_tags(read)
    left += ["Photoshop's layers"] * (tiff_tags.LAYERS in read)
    resources, profile = tags.get(tiff_tags.PHOTOSHOP), tags.get(tiff_tags.ICC_PROFILE)
    if isinstance(resources, tiff_tags.Tag):
        clean = without_thumbnails(resources.data)
        tags[tiff_tags.PHOTOSHOP] = tiff_tags.Tag(resources.type, len(clean), clean)
    if isinstance(profile, tiff_tags.Tag):
        settings["icc_profile"] = profile.data
    if exif := tiff_tags.exif_of(tiff_tags.carried_tags(tags, private=False)):
        settings["exif"] = exif
    return Extras(tags=tags, left=tuple(left))


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Name and whole chunk, in order (PNG specification, 5.3)."""
    found, at = [], len(PNG_MAGIC)
    while at + 12 <= len(png):
        size = int.from_bytes(png[at : at + 4], "big") + 12
        found.append((png[at + 4 : at + 8], png[at : at + size]))
        at += size
    return found


def chunk(name: bytes, data: bytes) -> bytes:
    """A whole chunk."""
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def text_chunk(key: str, text: str) -> bytes:
    """A line of text (PNG specification, 11.3.3)."""
    name = key.encode("latin-1", "replace") + b"\0"
    try:
        return chunk(b"tEXt", name + text.encode("latin-1"))
    except UnicodeEncodeError:
        return chunk(b"iTXt", name + b"\0\0\0\0" + text.encode())


def chunks_of(settings: Mapping[str, Any]) -> list[bytes]:
    """ICC profile, resolution, EXIF and XMP, named as Pillow names them, as chunks."""
    made = []
    if profile := settings.get("icc_profile"):
        made.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    if dpi := settings.get("dpi"):
        across, down = (round(float(value) / 0.0254).to_bytes(4, "big") for value in dpi)
        made.append(chunk(b"pHYs", across + down + b"\1"))
    if exif := settings.get("exif"):
        made.append(chunk(b"eXIf", exif.removeprefix(tiff_tags.EXIF_MAGIC)))
    if xmp := settings.get("xmp"):
        made.append(chunk(b"iTXt", _XMP_KEY + b"\0\0\0\0" + xmp))
    return made


def carried_chunks(source: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Those that hold for the edited picture too: what its colours mean, and what its specification calls safe to copy."""
    kept = []
    for name, whole in source:
        data = whole[8:-4]
        if name == b"eXIf":
            kept.append(chunk(name, clean) if (clean := tiff_tags.without_thumbnail(data)) else b"")
        elif name == b"iTXt" and data.startswith(_XMP_KEY):
            kept.append(_clean_xmp(data))
        elif name in _PNG_TEXT and data.startswith(_RAW_PROFILES):
            continue
        elif name not in _PNG_CODED and (name in _PNG_COLOUR or name[3:].islower()):
            kept.append(whole)
    return kept


def _clean_xmp(data: bytes) -> bytes:
    head = len(_XMP_KEY) + 2  # behind whether it is compressed, and how
    language, key, text = data[head:].split(b"\0", 2)
    if data[head - 2]:
        text = zlib.decompress(text)
    return chunk(b"iTXt", b"\0".join([_XMP_KEY + b"\0\0" + language, key, without_pictures(text)]))


def holds_text(source: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether there are lines of text, other than XMP."""
    return any(name in _PNG_TEXT and not whole[8:].startswith(_XMP_KEY) for name, whole in source)


def odd_colours(source: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether colours are described by anything but an ICC profile as other than sRGB's."""
    described = {name: whole[8:-4] for name, whole in source if name in _PNG_COLOUR}
    if b"cICP" in described:
        return True
    gamma = int.from_bytes(described.get(b"gAMA", b""), "big") or 45455
    return not described.keys() & {b"iCCP", b"sRGB"} and not 44000 < gamma < 47000


def with_chunks(png: bytes, added: Iterable[bytes]) -> bytes:
    """A PNG with further chunks before its samples."""
    header, *rest = chunks(png)
    channels = _CHANNELS[header[1][8 + 9]]
    fitting = [whole for whole in added if whole[4:8] != b"sBIT" or len(whole) == 12 + channels]
    return b"".join([PNG_MAGIC, header[1], *fitting, *(whole for _, whole in rest)])


def segments(jpeg: bytes) -> list[tuple[int, bytes]]:
    """Marker and whole segment of all before the samples, in order (ITU-T T.81, B.1.1)."""
    found, at = [], 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in (0xD9, 0xDA):
            break
        size = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        found.append((marker, jpeg[at : at + size]))
        at += size
    return found


def photoshop_segments(jpeg: bytes) -> list[bytes]:
    """The segments that hold Photoshop's resources, IPTC among them, without thumbnails; those of any other kind are left."""
    parts = [whole[4:] for marker, whole in segments(jpeg) if marker == _APP13]
    # What is too long for one segment goes on in the next.
    resources = b"".join(part.removeprefix(_PHOTOSHOP) for part in parts if part.startswith(_PHOTOSHOP))
    clean = without_thumbnails(resources)
    step = 65533 - len(_PHOTOSHOP)
    pieces = [_PHOTOSHOP + clean[at : at + step] for at in range(0, len(clean), step)]
    return [b"\xff" + bytes([_APP13]) + (len(piece) + 2).to_bytes(2, "big") + piece for piece in pieces]


def has_extended_xmp(jpeg: bytes) -> bool:
    """Whether XMP goes on in further segments, where phones keep depth and the picture before their own edit."""
    return any(marker == _APP1 and whole[4:].startswith(_EXTENDED_XMP) for marker, whole in segments(jpeg))


def with_segments(jpeg: bytes, added: Iterable[bytes]) -> bytes:
    """A JPEG with further segments behind those of JFIF, EXIF and XMP."""
    at = 2
    for marker, whole in segments(jpeg):
        if marker not in (_APP0, _APP1):
            break
        at += len(whole)
    return jpeg[:at] + b"".join(added) + jpeg[at:]


def without_thumbnails(resources: bytes) -> bytes:
    """Photoshop's resources without small pictures of the whole (Adobe Photoshop File Formats, Image Resource Blocks)."""
    kept, at = [], 0
    while resources[at : at + 4] in (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR"):
        name = 1 + (resources[at + 6] if at + 6 < len(resources) else 0)
        size_at = at + 6 + name + name % 2
        size = int.from_bytes(resources[size_at : size_at + 4], "big")
        end = size_at + 4 + size + size % 2
        if int.from_bytes(resources[at + 4 : at + 6], "big") not in _THUMBNAILS:
            kept.append(resources[at:end])
        at = end
    return b"".join(kept)


def without_pictures(xmp: bytes) -> bytes:
    """XMP without thumbnails and what phones keep of the picture in it."""
    return _XMP_ATTRIBUTES.sub(b"", _XMP_PICTURES.sub(b"", xmp))
