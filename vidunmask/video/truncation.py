"""How long a file should be by its own header, for containers that say so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # RFC 8794, section 11.2; RFC 9559, section 5.1
_BOXES = (b"moov", b"moof", b"mdat")  # of QuickTime and MP4 (ISO/IEC 14496-12 §4.2), in fragments one behind the other


def promised_size(path: Path) -> int | None:
    """The bytes that a Matroska, AVI or MP4 file should at least have; None for others and where the header leaves it open."""
    with path.open("rb") as file:
        head = file.read(4096)
        if head[4:8] in (b"ftyp", *_BOXES):
            return _end_of_boxes(file)
    if head.startswith(_EBML):
        start, size = _sized(head, len(_EBML))
        at = start + (size or 0)
        if head[at : at + len(_SEGMENT)] != _SEGMENT:
            return None
        start, size = _sized(head, at + len(_SEGMENT))
        return None if size is None else start + size
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        size = int.from_bytes(head[4:8], "little")
        return size + 8 if 0 < size < 0xFFFFFFFF else None  # the extremes stand for a file that was never finished
    return None


def _end_of_boxes(file: BinaryIO) -> int | None:
    """Where the last box of a file ends, if it is one of `_BOXES`: what else stands there may be anything."""
    at, end, kind = 0, os.fstat(file.fileno()).st_size, b""
    while at < end:
        file.seek(at)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4]), head[4:8]
        size = int.from_bytes(head[8:]) if size == 1 else size
        if size < 8:  # 0 is to the end of the file
            return None
        at += size
    return at if kind in _BOXES else None


def _sized(data: bytes, at: int) -> tuple[int, int | None]:
    """Where the content of an EBML element begins whose size stands at ``at``, and that size; None for unknown (§6.2)."""
    length = 9 - data[at].bit_length() if data[at : at + 1] else 1
    value = int.from_bytes(data[at : at + length]) & ((1 << 7 * length) - 1)
    return at + length, None if value == (1 << 7 * length) - 1 else value
