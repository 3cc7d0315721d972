"""Encoded video kept as it left the encoder: packets with their exact times, and nothing that a container would add.

A file holds records one after the other, each a head (pts, dts, duration in ticks, size, key frame or not) and the data. What
it should hold is known from its `Summary`, which is kept elsewhere and written after it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from vidunmask.errors import OutputError
from vidunmask.video.atomic import write_error

_HEAD = struct.Struct("<qqqIB")


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """One packet; times in the ticks of the video."""

    pts: int
    dts: int
    duration: int
    is_key: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written to a file of packets."""

    count: int
    sha256: str


class PacketWriter:
    """Writes packets to ``path``, which appears whole when the ``with`` block ends well. Raises `OutputError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Of a name of its own: a worker that was given up may still be at it.
        self._temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        self._hash = hashlib.sha256()
        self._count = 0

    def __enter__(self) -> Self:
        try:
            self._file = self._temporary.open("wb")
        except OSError as error:
            raise write_error(self._path, error) from error
        return self

    def write(self, packet: EncodedPacket) -> None:
        """Appends a packet."""
        head = _HEAD.pack(packet.pts, packet.dts, packet.duration, len(packet.data), packet.is_key)
        self._hash.update(head)
        self._hash.update(packet.data)
        self._count += 1
        try:
            self._file.write(head)
            self._file.write(packet.data)
        except OSError as error:
            raise write_error(self._path, error) from error

    @property
    def summary(self) -> Summary:
        """What was written so far."""
        return Summary(self._count, self._hash.hexdigest())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            try:
                if kind is None:
                    self._file.flush()
                    os.fsync(self._file.fileno())
            finally:
                self._file.close()
            if kind is None:
                self._temporary.replace(self._path)
        except OSError as reason:
            if kind is None:
                raise write_error(self._path, reason) from reason
        finally:
            self._temporary.unlink(missing_ok=True)


def read_packets(path: Path, summary: Summary) -> Iterator[EncodedPacket]:
    """The packets of a file, in the order in which they were written. Raises `OutputError` where they are not those."""
    digest, count = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while head := file.read(_HEAD.size):
                if len(head) < _HEAD.size:
                    break
                pts, dts, duration, size, is_key = _HEAD.unpack(head)
                data = file.read(size)
                digest.update(head)
                digest.update(data)
                count += 1
                yield EncodedPacket(pts, dts, duration, bool(is_key), data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if (count, digest.hexdigest()) != (summary.count, summary.sha256):
        raise OutputError(f"{path}: is not as it was written; remove it and run the command again")


def holds(path: Path, summary: Summary) -> bool:
    """Whether a file is there and as it was written."""
    try:
        for _ in read_packets(path, summary):
            pass
    except OutputError:
        return False
    return True
