"""The units that coded video consists of: NAL units of H.264 and HEVC, open bitstream units of AV1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

START = b"\0\0\0\1"
H264_IDR = 5  # ITU-T H.264, table 7-1
HEVC_IDR, HEVC_BLA, HEVC_CRA = (19, 20), (16, 17, 18), 21  # ITU-T H.265, table 7-1
_HEVC_BLA_N_LP, _HEVC_PICTURES, _HEVC_DELIMITER = 18, range(32), 35
_SETS = {"h264": (7, 8), "hevc": (32, 33, 34)}  # parameter sets, tables 7-1
_SEQUENCE, _FRAMES = 1, (3, 6)  # AV1 specification, section 6.2.2


def kind(codec: str, unit: bytes) -> int:
    """The type of a NAL unit."""
    return unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63


def is_set(codec: str, unit: bytes) -> bool:
    """Whether a NAL unit is a parameter set."""
    return kind(codec, unit) in _SETS[codec]


def split(data: bytes, length_size: int) -> Iterator[bytes]:
    """The NAL units of a packet, without lengths (of ``length_size`` bytes) or, where that is 0, without start codes."""
    if length_size:
        at = 0
        while at + length_size <= len(data):
            size = int.from_bytes(data[at : at + length_size])
            at += length_size
            if size:
                yield data[at : at + size]
            at += size
        return
    for unit in data.split(b"\0\0\1")[1:]:
        if stripped := unit.rstrip(b"\0"):
            yield stripped


def with_start_codes(units: Iterable[bytes]) -> bytes:
    """NAL units one behind the other (Annex B)."""
    return b"".join(START + unit for unit in units)


def header_of(codec: str, header: bytes) -> tuple[int, list[bytes]]:
    """The size of the lengths before units, 0 for start codes, and the parameter sets in a stream's header."""
    if header[:1] != b"\1":
        return 0, [unit for unit in split(header, 0) if is_set(codec, unit)]
    if codec == "h264":
        return (header[4] & 3) + 1, _sets_of_avcc(header)
    return (header[21] & 3) + 1, _sets_of_hvcc(header)


def _sets_of_avcc(header: bytes) -> list[bytes]:
    """Those of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1)."""
    found, at = [], 5
    for mask in (31, 255):
        count, at = header[at] & mask, at + 1
        units, at = _sized(header, at, count)
        found += units
    return found


def _sets_of_hvcc(header: bytes) -> list[bytes]:
    """Those of an HEVCDecoderConfigurationRecord (§8.3.3.1)."""
    found, at = [], 23
    for _ in range(header[22]):
        units, at = _sized(header, at + 3, int.from_bytes(header[at + 1 : at + 3]))
        found += units
    return [unit for unit in found if is_set("hevc", unit)]


def _sized(header: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    units = []
    for _ in range(count):
        size = int.from_bytes(header[at : at + 2])
        units.append(header[at + 2 : at + 2 + size])
        at += 2 + size
    return units, at


def h264_numbers(unit: bytes) -> list[int]:
    """The number that a parameter set has, and for a picture's set that of the sequence it belongs to (§7.3.2.1, §7.3.2.2)."""
    payload = unit.replace(b"\0\0\3", b"\0\0")
    if kind("h264", unit) == _SETS["h264"][0]:
        return _exp_golomb(payload[4:12], 1)
    return _exp_golomb(payload[1:12], 2)


def _exp_golomb(data: bytes, count: int) -> list[int]:
    """The first ``count`` unsigned Exp-Golomb numbers (§9.1)."""
    bits = "".join(f"{byte:08b}" for byte in data)
    numbers, at = [], 0
    for _ in range(count):
        zeros = bits.index("1", at) - at
        numbers.append(int(bits[at + zeros : at + 2 * zeros + 1], 2) - 1)
        at += 2 * zeros + 1
    return numbers


def hevc_layer(unit: bytes) -> int:
    """The layer that an HEVC unit belongs to; 0 is all that most decoders know (§7.3.1.2)."""
    return (unit[0] & 1) << 5 | unit[1] >> 3


def hevc_pictures(units: Iterable[bytes]) -> set[int]:
    """The types of the units that hold a picture."""
    return {kind("hevc", unit) for unit in units} & set(_HEVC_PICTURES)


def hevc_spliced(unit: bytes) -> bytes:
    """A unit of a CRA picture as one of a BLA picture without leading ones, which says that what came before is gone.

    The two have the same syntax, and changing the type is how bitstreams are meant to be joined (§3.15, §8.1.3).
    """
    if kind("hevc", unit) != HEVC_CRA:
        return unit
    return bytes([unit[0] & 0x81 | _HEVC_BLA_N_LP << 1]) + unit[1:]


def hevc_with_sets(data: bytes, sets: bytes) -> bytes:
    """A packet with parameter sets at its beginning, behind the delimiter that has to stand first (§7.4.2.4.4)."""
    first = next(split(data, 0), b"")
    if not first or kind("hevc", first) != _HEVC_DELIMITER:
        return sets + data
    return START + first + sets + with_start_codes(list(split(data, 0))[1:])


def av1_begins(data: bytes) -> bool:
    """Whether a decoder can begin at a packet with nothing else known: a sequence header, then a key frame that is shown."""
    at, described = 0, False
    while at < len(data):
        kind_, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extended
        size, at = _leb128(data, at) if sized else (len(data) - at, at)
        payload, at = data[at : at + size], at + size
        if kind_ == _SEQUENCE:
            described = not payload[0] >> 3 & 1  # a still picture may leave out what is asked for next (section 5.9.2)
        elif kind_ in _FRAMES:
            # show_existing_frame 0, frame_type 0 (KEY_FRAME), show_frame 1
            return described and payload[0] >> 4 == 0b0001
    return False


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number of AV1 (section 4.10.5) and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
