"""The names and providers of the services in a transport stream, which FFmpeg reads and PyAV does not pass on.

They stand in the service description table (ETSI EN 300 468 §5.2.3 and §6.2.33), on packets of PID 0x11.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

_LOOKED_AT = 8 << 20  # bytes of the file; the table comes back every two seconds or sooner
_PACKET, _LONGEST = 188, 1024  # bytes of a packet, and of a section at most
_OF_TABLE = re.compile(rb"G[\x00\x20\x40\x60]\x11[\x10-\x1f\x30-\x3f]")  # the sync byte, PID 0x11, some payload
_OF_THIS_STREAM, _SERVICE = 0x42, 0x48  # table and descriptor
_ALPHABETS = {0x11: "utf-16-be", 0x12: "euc_kr", 0x13: "gb2312", 0x14: "utf-16-be"}
_MUXERS_OWN = {"service_name": "Service01", "service_provider": "FFmpeg"}  # what FFmpeg writes where nobody named anything


def service_tags(path: str) -> dict[str, str]:
    """The tags ``service_name`` and ``service_provider`` as FFmpeg's muxer takes them; empty where there is no one pair."""
    found = services_of(path)
    return found[0] if len(found) == 1 else {}


def services_of(path: str) -> list[dict[str, str]]:
    """What is known of each service, as `service_tags`; empty where the table is missing or damaged."""
    if "://" in path or not Path(path).is_file():
        return []
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LOOKED_AT)
    except OSError:
        return []
    found: dict[int, bytes] = {}
    for section in _sections(data):
        found[section[6]] = section  # of sections 0 to section[7]
        if len(found) > section[7]:
            break
    services = [names for number in sorted(found) for names in _services(found[number])]
    return [{key: value for key, value in names.items() if value and value != _MUXERS_OWN[key]} for names in services]


def _sections(data: bytes) -> Iterator[bytes]:
    """The sections of the table, from their heads up to their checksums."""
    section = b""
    for match in _OF_TABLE.finditer(data):
        packet = data[match.start() : match.start() + _PACKET]
        payload = packet[5 + packet[4] if packet[3] & 0x20 and len(packet) > 4 else 4 :]
        section = payload[1 + payload[0] :] if packet[1] & 0x40 and payload else (section + payload)[:_LONGEST]
        end = 3 + ((section[1] & 0x0F) << 8 | section[2]) if len(section) >= 15 else len(section) + 1
        if end <= len(section) and section[0] == _OF_THIS_STREAM and _checksum(section[:end]) == 0:
            yield section[: end - 4]


def _services(section: bytes) -> Iterator[dict[str, str]]:
    at = 11
    while at + 5 <= len(section):
        end = at + 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
        at += 5
        names = {}
        while at + 2 <= min(end, len(section)):
            tag, size = section[at], section[at + 1]
            body = section[at + 3 : at + 2 + size]
            if tag == _SERVICE and body:
                provider, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
                names = {"service_name": _text(rest[1 : 1 + rest[0]] if rest else b""), "service_provider": _text(provider)}
            at += 2 + size
        yield names
        at = end


def _text(data: bytes) -> str:
    """A text whose first bytes may name its alphabet (annex A.2)."""
    first = data[:1]
    alphabet, text = "utf-8", data  # the default one is ISO 6937, whose letters without marks are ASCII's
    if b"\x01" <= first <= b"\x0b":
        alphabet, text = f"iso8859-{first[0] + 4}", data[1:]
    elif first == b"\x10":
        alphabet, text = f"iso8859-{int.from_bytes(data[1:3])}", data[3:]
    elif first and first < b"\x20":
        alphabet, text = _ALPHABETS.get(first[0], "utf-8"), data[1:]
    with contextlib.suppress(LookupError):
        return text.decode(alphabet, "replace").strip("\0")
    return text.decode("ascii", "replace")


def _checksum(data: bytes) -> int:
    """CRC-32 of ISO/IEC 13818-1 annex A: zero for a section with its checksum."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value >> 31 else value << 1) & 0xFFFFFFFF
    return value
