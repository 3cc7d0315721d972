"""Passing parts of a video through as they were encoded, between parts that were encoded anew.

In VP8 and VP9 every key frame says all that is needed to decode what follows. In H.264 that stands in parameter sets with
numbers: the new parts use a number that the source does not (x264's ``sps-id``), and the header of the file holds the sets of
both (ISO/IEC 14496-15 §5.3.3.1 allows many). Each part begins with an IDR frame, which forgets all before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.stream import Discard

from vidunmask.errors import OutputError
from vidunmask.video.encoders import EncoderPlan
from vidunmask.video.formats import component_views, layout_of
from vidunmask.video.index import FrameIndex
from vidunmask.video.info import VideoInfo
from vidunmask.video.packets import EncodedPacket
from vidunmask.video.reader import VideoReader, open_input

_START = b"\0\0\0\1"
_IDR, _SPS, _PPS = 5, 7, 8  # ITU-T H.264, table 7-1
_H264_CONTAINERS = ("mp4", "mov", "ipod", "matroska")
_SELF_CONTAINED = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class CannotCopyError(OutputError):
    """Why nothing of a video can be passed through; encoding all of it is the way."""


@dataclass(frozen=True, slots=True, eq=False)
class Copying:
    """How to pass parts of one video through."""

    plan: EncoderPlan  # for the parts that are encoded
    boundaries: tuple[int, ...]  # frames between which a part may be passed through, ascending
    headers: bytes | None  # parameter sets of the source, to stand before those of the encoder; None where there are none
    length_size: int  # bytes of the length before each unit of a packet; 0 where units have start codes or there are none


def plan_copying(info: VideoInfo, index: FrameIndex, plan: EncoderPlan, container: str) -> Copying:
    """Finds out, from all packets, how parts can be passed through. Raises `CannotCopyError` with the reason."""
    _refuse(
        (info.interlaced, "it is interlaced"),
        (plan.pix_fmt != info.pix_fmt, f"the output has another pixel format ({plan.pix_fmt}, not {info.pix_fmt})"),
        (plan.is_hardware, f"{plan.name} gives no say in its headers"),
    )
    if _SELF_CONTAINED.get(info.codec) == plan.name:
        return Copying(plan, index.clean, None, 0)
    _refuse(
        (info.codec != "h264", f"only H.264, VP8 and VP9 can be joined to new parts, not {info.codec}"),
        (plan.name != "libx264", f"the output is encoded by {plan.name}"),
        (container not in _H264_CONTAINERS, f"a {container} file has no place for the headers of both"),
    )
    length_size, sets, idr = _survey(info)
    used = {number for unit in sets for number in _numbers(unit)}
    free = next((number for number in range(31, -1, -1) if number not in used), None)
    boundaries = tuple(frame for frame in index.clean if int(index.pts[frame]) in idr)
    _refuse((free is None, "its headers use all numbers there are"), (not boundaries, "it has no key frame to begin at"))
    key = "x264-params"
    params = ":".join([*([plan.options[key]] if key in plan.options else []), f"sps-id={free}"])
    marked = replace(plan, options={**plan.options, key: params})
    return Copying(marked, boundaries, b"".join(_START + unit for unit in sets), length_size)


def merge(
    encoded: Iterable[EncodedPacket],
    copied: Iterable[EncodedPacket],
    index: FrameIndex,
    parts: Sequence[tuple[int, int, bool]],
) -> Iterator[EncodedPacket]:
    """The packets of a video that is copied in some parts; both sources hold all of it in the order of decoding.

    parts: first frame, last (not included), whether copied; one behind the other from the first frame of the video to its end.
    Raises `CannotCopyError` where a packet lies outside of its part.
    """
    both = zip(encoded, copied, strict=True)
    for first, last, copy in parts:
        begin, end = int(index.pts[first]), int(index.pts[last - 1])
        for packets in islice(both, last - first):
            chosen = packets[1 if copy else 0]
            if not begin <= chosen.pts <= end:
                raise CannotCopyError(f"frames {first} to {last} are decoded together with others")
            yield chosen


def parts_of(boundaries: Sequence[int], count: int, edited: Iterable[int]) -> list[tuple[int, int, bool]]:
    """The parts of a video of ``count`` frames between ``boundaries``, copied where none of its frames is edited."""
    touched = np.zeros(count + 1, np.int64)
    for frame in edited:
        touched[frame + 1] = 1
    touched = np.cumsum(touched)
    edges = sorted({0, *boundaries, count})
    return [(a, b, a in boundaries and touched[a] == touched[b]) for a, b in pairwise(edges)]


def source_packets(info: VideoInfo, copying: Copying) -> Iterator[EncodedPacket]:
    """The packets of the source, in the form in which the encoder gives its own."""
    for packet in _packets(info):
        data = _with_start_codes(bytes(packet), copying.length_size) if copying.length_size else bytes(packet)
        yield EncodedPacket(packet.pts, packet.dts or 0, packet.duration or 0, packet.is_keyframe, data)


def check_copies(source: str, parts: Sequence[tuple[int, int, bool]], written: Path) -> None:
    """Decodes both files to the end. Raises `CannotCopyError` where a sample of a frame in a copied part is not the same."""
    copied = np.zeros(parts[-1][1], bool)
    for first, last, copy in parts:
        copied[first:last] = copy
    with VideoReader(source) as before, VideoReader(written) as after:
        layout = layout_of(before.info.pix_fmt)
        assert layout is not None
        count = 0
        for a, b in zip(before, after, strict=False):
            if a.index < len(copied) and copied[a.index]:
                views = (component_views(a.native, layout), component_views(b.native, layout))
                if not all(np.array_equal(x, y) for x, y in zip(*views, strict=True)):
                    raise CannotCopyError(f"frame {a.index} came out other than it was")
            count += 1
    if count != len(copied):
        raise CannotCopyError(f"{count} of {len(copied)} frames can be decoded")


def _refuse(*reasons: tuple[bool, str]) -> None:
    for holds, reason in reasons:
        if holds:
            raise CannotCopyError(reason)


def _packets(info: VideoInfo) -> Iterator[Any]:
    try:
        with open_input(info.path) as container:
            stream = container.streams[info.stream_index]
            for other in container.streams:
                if other.index != stream.index:
                    other.discard = Discard.all
            packets: Any = container.demux(stream)
            for packet in packets:
                if packet.size:
                    if packet.is_discard or packet.pts is None:
                        raise CannotCopyError("an edit list hides some of its frames")
                    yield packet
    except (FFmpegError, OSError) as error:
        raise CannotCopyError(f"its packets cannot all be read ({error})") from error


def _survey(info: VideoInfo) -> tuple[int, list[bytes], set[int]]:
    """The length size, the parameter sets of the header and the pts of all IDR frames of an H.264 stream."""
    with open_input(info.path) as container:
        header = bytes(container.streams[info.stream_index].codec_context.extradata or b"")  # type: ignore[union-attr]
    if header[:1] == b"\1":
        length_size = (header[4] & 3) + 1
        sets = _sets_of_avcc(header)
    else:
        length_size, sets = 0, [unit for unit in _units(header, 0) if unit[0] & 31 in (_SPS, _PPS)]
    if not sets:
        raise CannotCopyError("its header holds no parameter sets")
    idr: set[int] = set()
    for packet in _packets(info):
        if not packet.is_keyframe:
            continue
        kinds = set()
        for unit in _units(bytes(packet), length_size):
            kinds.add(unit[0] & 31)
            if unit[0] & 31 in (_SPS, _PPS) and unit not in sets:
                raise CannotCopyError("its parameters change on the way")
        if _IDR in kinds:
            idr.add(packet.pts)
    return length_size, sets, idr


def _sets_of_avcc(header: bytes) -> list[bytes]:
    """The sequence and picture parameter sets of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1)."""
    found, at = [], 5
    for mask in (31, 255):
        count, at = header[at] & mask, at + 1
        for _ in range(count):
            size = int.from_bytes(header[at : at + 2])
            found.append(header[at + 2 : at + 2 + size])
            at += 2 + size
    return found


def _units(data: bytes, length_size: int) -> Iterator[bytes]:
    """The NAL units of a packet, without lengths or start codes."""
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


def _with_start_codes(data: bytes, length_size: int) -> bytes:
    return b"".join(_START + unit for unit in _units(data, length_size))


def _numbers(unit: bytes) -> list[int]:
    """The number that a parameter set has, and for a picture's set that of the sequence it belongs to (§7.3.2.1, §7.3.2.2)."""
    payload = unit.replace(b"\0\0\3", b"\0\0")
    if unit[0] & 31 == _SPS:
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
