"""How long a file should be by its own header, for containers that say so."""

from __future__ import annotations

from pathlib import Path

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # RFC 8794, section 11.2; RFC 9559, section 5.1


def promised_size(path: Path) -> int | None:
    """The bytes that a Matroska or AVI file should at least have; None for other files and where the header leaves it open."""
    with path.open("rb") as file:
        head = file.read(4096)
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


def _sized(data: bytes, at: int) -> tuple[int, int | None]:
    """Where the content of an EBML element begins whose size stands at ``at``, and that size; None for unknown (§6.2)."""
    length = 9 - data[at].bit_length() if data[at : at + 1] else 1
    value = int.from_bytes(data[at : at + length]) & ((1 << 7 * length) - 1)
    return at + length, None if value == (1 << 7 * length) - 1 else value
