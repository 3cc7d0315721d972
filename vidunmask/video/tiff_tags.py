"""Tags of TIFF files, and of EXIF, which is a TIFF file without a picture (TIFF 6.0, section 2; BigTIFF as libtiff reads it).

Values are bytes as they lie in the file, in little-endian order, so that what is not understood is carried over whole.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Union

from vidunmask.video import credentials

EXIF_MAGIC = b"Exif\0\0"
ORIENTATION, EXIF_IFD, ICC_PROFILE, XMP, IPTC, PHOTOSHOP = 0x0112, 0x8769, 34675, 700, 33723, 34377
_USER_COMMENT, _GPS_IFD, _INTEROPERABILITY_IFD = 0x9286, 0x8825, 0xA005
_POINTERS = (EXIF_IFD, _GPS_IFD, _INTEROPERABILITY_IFD)
_RESOLUTION = (282, 283, 296)  # horizontal, vertical, unit
LAYERS = 37724  # Photoshop's layers: the picture before the edit
_STALE = {LAYERS, credentials.TIFF_TAG}
_MAKER_NOTE = 0x927C
_PREVIEWS = re.compile(rb"\xff\xd8\xff[\xc0-\xfe].*?(?:\xff\xd9|\Z)", re.DOTALL)  # JPEG files
_THUMBNAIL = {273: 279, 513: 514}  # where the bytes of a small picture lie, and how many they are
# How the samples are stored, which the encoder says anew, and pointers to other pictures.
_STRUCTURE = frozenset(
    (
        *(*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 317, *range(320, 326)),
        *(330, 338, 339, 340, 341, 347, *range(512, 522), *range(529, 533)),
    )
)
_WORDS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes
_BIG_TYPES = (16, 17, 18)
_LARGE = 8192  # bytes; no tag that EXIF defines for a whole picture is larger


@dataclass(frozen=True, slots=True)
class Tag:
    """The value of a tag: ``type`` by its TIFF number, and ``count`` values of it."""

    type: int
    count: int
    data: bytes
    at: int = 0  # where the value lies in the file


Tags = Mapping[int, Union[Tag, "Tags"]]  # an IFD; further IFDs under the tags that point to them


def read_tags(data: bytes) -> dict[int, Tag | Tags]:
    """The tags of the first picture with EXIF and GPS; raises ValueError or struct.error where it is no whole TIFF."""
    order, big, first = _header(data)
    return _read_ifd(data, order, big, first, depth=0)


def as_stored(data: bytes) -> tuple[bytes, int]:
    """A TIFF file with orientation 1, which decoders do not turn while they read, and the orientation that it had."""
    try:
        tag = read_tags(data).get(ORIENTATION)
        order = _header(data)[0]
    except (ValueError, struct.error):
        return data, 1  # damaged; the decoder says how
    if not isinstance(tag, Tag) or len(tag.data) < 2:
        return data, 1
    orientation = int.from_bytes(tag.data, "little")
    one = _swapped(Tag(tag.type, 1, (1).to_bytes(len(tag.data), "little")), order)
    return data[: tag.at] + one + data[tag.at + len(one) :], orientation


def without_thumbnail(exif: bytes) -> bytes:
    """EXIF without the small pictures in it, IFD1's and makers', all else where it was, as makers' notes hold offsets.

    b"" where it is damaged.
    """
    start = len(EXIF_MAGIC) if exif.startswith(EXIF_MAGIC) else 0
    data = bytearray(_without_previews(exif[start:]))
    try:
        order, big, first = _header(data)
        end = first + 2 + 12 * struct.unpack_from(f"{order}H", data, first)[0]
        thumbnail = struct.unpack_from(f"{order}I", data, end)[0] if end + 4 <= len(data) else 0
        if not thumbnail:
            return exif[:start] + bytes(data)
        data[end : end + 4] = bytes(4)
        small = _read_ifd(data, order, big, thumbnail, depth=1)
        spans = [(thumbnail, 2 + 12 * struct.unpack_from(f"{order}H", data, thumbnail)[0] + 4)]
    except (ValueError, struct.error):
        return b""  # what cannot be read may hold the face
    for where, size in _THUMBNAIL.items():
        spans += zip(_numbers(small.get(where)), _numbers(small.get(size)), strict=False)
    for at, length in sorted(spans, reverse=True):
        if at + length >= len(data):
            del data[at:]
        else:
            data[at : at + length] = bytes(length)
    return exif[:start] + bytes(data)


def _without_previews(data: bytes) -> bytes:
    """Bytes with zeros in place of the pictures in them."""
    return _PREVIEWS.sub(lambda found: bytes(len(found[0])), data)


def carried_tags(tags: Tags, *, private: bool = True) -> dict[int, Tag | Tags]:
    """Those that say more than how the samples are stored; of these only what EXIF knows if not ``private``."""
    kept = {key: tag for key, tag in tags.items() if key not in _STRUCTURE | _STALE}
    if not private:
        elsewhere = (ICC_PROFILE, XMP, IPTC, PHOTOSHOP)
        kept = {key: tag for key, tag in kept.items() if key not in elsewhere and not _is_large(tag)}
    return kept


def with_comment(tags: Tags, comment: str) -> dict[int, Tag | Tags]:
    """The tags with EXIF's user comment; one that is there stays before it (EXIF 2.32, 4.6.5 D)."""
    exif = tags.get(EXIF_IFD)
    within = {} if exif is None or isinstance(exif, Tag) else dict(exif)
    before = within.get(_USER_COMMENT)
    text = comment.encode("ascii", "replace")
    if isinstance(before, Tag) and before.data[:8] == b"ASCII\0\0\0" and (old := before.data[8:].strip(b" \0")):
        text = old if text in old else old + b"; " + text
    within[_USER_COMMENT] = Tag(7, 8 + len(text), b"ASCII\0\0\0" + text)
    return {**tags, EXIF_IFD: within}


def with_resolution(tags: Tags, dpi: tuple[float, float]) -> dict[int, Tag | Tags]:
    """The tags with pixels per inch, unless they have them."""
    across, down = (Tag(5, 1, struct.pack("<II", round(float(value) * 10000), 10000)) for value in dpi)
    unit = Tag(3, 1, struct.pack("<H", 2))
    return {**dict(zip(_RESOLUTION, (across, down, unit), strict=True)), **tags}


def exif_of(tags: Tags) -> bytes:
    """EXIF with these tags, b"" for none."""
    return EXIF_MAGIC + b"II*\0" + struct.pack("<I", 8) + _packed(tags, 8, "<") if tags else b""


def tags_of(exif: bytes) -> dict[int, Tag | Tags]:
    """The tags of EXIF, none where it is damaged."""
    try:
        return read_tags(exif.removeprefix(EXIF_MAGIC))
    except (ValueError, struct.error):
        return {}


def with_tags(tiff: bytes, tags: Tags) -> bytes:
    """A TIFF file with ``tags`` beside its own: a new first IFD at its end, which points at the samples where they lie."""
    order, big, first = _header(tiff)
    if big:
        raise ValueError("a BigTIFF file")
    own = _read_ifd(tiff, order, big, first, depth=0)
    structure = {key: tag for key, tag in own.items() if key in _STRUCTURE}
    tiff += bytes(len(tiff) % 2)  # an IFD begins on a word
    merged = {**own, **tags, **structure}
    return tiff[:4] + struct.pack(f"{order}I", len(tiff)) + tiff[8:] + _packed(merged, len(tiff), order)


def _header(data: bytes | bytearray) -> tuple[str, bool, int]:
    """Byte order, whether it is a BigTIFF, and where the first IFD lies."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise ValueError("not a TIFF")
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    return order, big, struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)[0]


def _entries(data: bytes | bytearray, order: str, big: bool, at: int) -> Iterator[tuple[int, Tag | None, int]]:
    """Number and tag (None where it lies outside the file or is of no known type), and where its entry ends."""
    count = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, at)[0]
    at += 8 if big else 2
    for _ in range(min(count, 65535)):
        number, kind = struct.unpack_from(f"{order}HH", data, at)
        many = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, at + 4)[0]
        value_at, within = (at + 12, 8) if big else (at + 8, 4)
        at = value_at + within
        size = many * _WORDS.get(kind, 0) * (2 if kind in (5, 10) else 1)
        if size > within:
            value_at = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, value_at)[0]
        whole = 0 < size <= len(data) - value_at
        tag = Tag(kind, many, bytes(data[value_at : value_at + size]), value_at) if whole else None
        yield number, tag and Tag(kind, many, _swapped(tag, order), value_at), at


def _read_ifd(data: bytes | bytearray, order: str, big: bool, at: int, *, depth: int) -> dict[int, Tag | Tags]:
    found: dict[int, Tag | Tags] = {}
    for number, tag, _ in _entries(data, order, big, at):
        if tag is None or (tag.type in _BIG_TYPES and number not in _STRUCTURE):
            continue
        found[number] = replace(tag, data=_without_previews(tag.data)) if number == _MAKER_NOTE else tag
        if number in _POINTERS:
            del found[number]
            if depth < 3 and (where := _numbers(tag)):
                with contextlib.suppress(struct.error):  # a pointer to nowhere spoils no picture
                    found[number] = _read_ifd(data, order, big, where[0], depth=depth + 1)
    return found


def _packed(tags: Tags, at: int, order: str) -> bytes:
    """An IFD that lies at ``at``, and behind it the values that do not fit into its entries."""
    tags = {number: tag for number, tag in tags.items() if tag}  # no IFD may be empty
    entries, values = b"", b""
    beyond = at + 2 + 12 * len(tags) + 4
    for number, tag in sorted(tags.items()):
        values += bytes(len(values) % 2)
        if isinstance(tag, Tag):
            data = _swapped(tag, order)
            kind, count = tag.type, tag.count
        else:
            data, kind, count = b"", 4, 1
            values += _packed(tag, where := beyond + len(values), order)
            data = struct.pack(f"{order}I", where)
        if len(data) > 4:
            data, values = struct.pack(f"{order}I", beyond + len(values)), values + data
        entries += struct.pack(f"{order}HHI", number, kind, count) + data.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values


def _swapped(tag: Tag, order: str) -> bytes:
    """The value in ``order``, from little-endian or to it."""
    size = _WORDS[tag.type]
    if order == "<" or size == 1:
        return tag.data
    return b"".join(tag.data[at : at + size][::-1] for at in range(0, len(tag.data), size))


def _numbers(tag: Tag | Tags | None) -> list[int]:
    if not isinstance(tag, Tag):
        return []
    size = _WORDS[tag.type]
    return [int.from_bytes(tag.data[at : at + size], "little") for at in range(0, len(tag.data), size)]


def _is_large(tag: Tag | Tags) -> bool:
    return isinstance(tag, Tag) and len(tag.data) > _LARGE
