"""The names of the service in a transport stream, from the bytes of its table and through a whole run."""

from pathlib import Path

import av
import pytest

from tests.video.clips import FAST, copy_clip, write_clip
from vidunmask.video.services import _checksum, service_tags

NAMES = {"service_name": "Canal É", "service_provider": "A provider"}


def _table(*services: tuple[bytes, bytes]) -> bytes:
    """The packets of a service description table of (name, provider) pairs."""
    entries = b""
    for number, (name, provider) in enumerate(services):
        body = bytes([1, len(provider)]) + provider + bytes([len(name)]) + name
        entries += bytes([0, number, 0xFC, 0x80, len(body) + 2, 0x48, len(body)]) + body
    section = b"\x42" + (0xF000 | 12 + len(entries)).to_bytes(2) + bytes([0, 1, 0xC1, 0, 0, 0xFF, 1, 0xFF]) + entries
    section += _checksum(section).to_bytes(4)
    payload = b"\0" + section
    parts = [payload[at : at + 184] for at in range(0, len(payload), 184)]
    heads = [bytes([0x47, 0 if number else 0x40, 0x11, 0x10 + number]) for number in range(len(parts))]
    return b"".join((head + part).ljust(188, b"\xff") for head, part in zip(heads, parts, strict=True))


def test_the_checksum_is_that_of_the_standard() -> None:
    assert _checksum(b"123456789") == 0x0376E6E7  # CRC-32/MPEG-2 in the catalogue of parametrised CRC algorithms


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (b"News", "News"),
        (b"\x15Caf\xc3\xa9", "Café"),
        (b"\x05Caf\xe9", "Café"),
        (b"\x10\x00\x02\xa3\xf3d\xbc", "Łódź"),
        (b"\x11\x04\x12", "В"),
        (b"\x08News", "News"),  # ISO 8859-12, which there is not
    ],
)
def test_names_are_read_in_the_alphabet_they_are_written_in(tmp_path: Path, stored: bytes, text: str) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(b"\x00" * 7 + _table((stored, b"")))
    assert service_tags(str(path)) == {"service_name": text}


def test_no_names_are_taken_from_several_services_or_a_damaged_table(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(_table((b"One", b"Both"), (b"Two", b"Both")))
    assert service_tags(str(path)) == {}
    whole = _table((b"One", b"A"))
    path.write_bytes(whole.replace(b"One", b"Ome"))
    assert service_tags(str(path)) == {}
    path.write_bytes(whole[:30])
    assert service_tags(str(path)) == {}
    path.write_bytes(whole[:30] + whole)  # a later repetition is as good
    assert service_tags(str(path)) == {"service_name": "One", "service_provider": "A"}


def test_services_that_become_one_are_named(tmp_path: Path) -> None:
    names = [f"Programme {number}" for number in range(12)]  # too many for one packet
    source = write_clip(tmp_path / "in.ts", frames=3)
    source.write_bytes(_table(*((name.encode(), b"") for name in names)) + source.read_bytes())
    _, writer = copy_clip(source, tmp_path / "out.mkv", **FAST)
    assert writer.warnings == [f"12 services become one without a name: {', '.join(names)}"]


def test_names_that_only_ffmpeg_gave_are_none(tmp_path: Path) -> None:
    assert service_tags(str(write_clip(tmp_path / "in.ts", frames=3))) == {}
    assert service_tags(str(tmp_path / "missing.ts")) == {}
    assert service_tags("udp://127.0.0.1:1") == {}


@pytest.mark.parametrize("suffix", [".ts", ".m2ts"])
def test_service_names_are_kept_in_a_transport_stream(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / f"in{suffix}", frames=12, metadata=NAMES)
    _, writer = copy_clip(source, tmp_path / f"out{suffix}", **FAST)
    assert service_tags(str(tmp_path / f"out{suffix}")) == NAMES
    assert not any("cannot hold the tag" in warning for warning in writer.warnings)


def test_service_names_become_tags_elsewhere_or_are_named(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.ts", frames=3, metadata=NAMES)
    copy_clip(source, tmp_path / "out.mkv", **FAST)
    with av.open(str(tmp_path / "out.mkv")) as written:
        assert {key.lower(): value for key, value in written.metadata.items()}.items() >= NAMES.items()
    _, writer = copy_clip(source, tmp_path / "out.avi", **FAST)
    assert any("cannot hold the tags service_name, service_provider" in warning for warning in writer.warnings)
