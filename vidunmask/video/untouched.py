"""Passing parts of a video through as they were encoded, between parts that were encoded anew.

Each part begins with a key frame that forgets all before it. In VP8, VP9 and AV1 that frame says all that is needed to decode
what follows. In H.264 and HEVC it stands in parameter sets with numbers. H.264: the new parts use a number that the source
does not (x264's ``sps-id``), and the header of the file holds the sets of both (ISO/IEC 14496-15 §5.3.3.1 allows many). In x265
the numbers are fixed: the sets stand before every key frame, where they may change (``hev1``, §8.4.1.1.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError

from vidunmask.errors import OutputError
from vidunmask.video import units
from vidunmask.video.encoders import FAMILY, EncoderPlan
from vidunmask.video.formats import component_views, layout_of
from vidunmask.video.index import FrameIndex
from vidunmask.video.info import VideoInfo
from vidunmask.video.packets import EncodedPacket
from vidunmask.video.reader import VideoReader, open_input, packets_of

_CONTAINERS = ("mp4", "mov", "ipod", "matroska")  # those that hold parameter sets of both, in the header or between frames


class CannotCopyError(OutputError):
    """Why nothing of a video can be passed through; encoding all of it is the way."""


@dataclass(frozen=True, slots=True, eq=False)
class Copying:
    """How to pass parts of one video through."""

    plan: EncoderPlan  # for the parts that are encoded
    boundaries: tuple[int, ...]  # frames between which a part may be passed through, ascending
    sets: bytes | None = None  # parameter sets of the source; None where there are none
    in_band: bool = False  # whether sets stand before key frames instead of in the header of the file
    length_size: int = 0  # bytes of the length before each unit of a packet; 0 where units have start codes or there are none
    joints: frozenset[int] = frozenset()  # pts of HEVC key frames that have to say that what came before is gone

    def header(self, encoder: bytes, parts: Sequence[tuple[int, int, bool]]) -> bytes:
        """What belongs into the header of the file, given what the encoder would put there."""
        if self.sets is None:
            return encoder
        if self.in_band:
            return self.sets if parts[0][2] else encoder
        return self.sets + encoder

    def sets_before(self, encoder: bytes) -> tuple[bytes, bytes] | None:
        """The parameter sets to stand before key frames, of parts that are encoded and of those that are copied."""
        if self.sets is None or not self.in_band:
            return None
        return units.with_start_codes(units.header_of("hevc", encoder)[1]), self.sets


def plan_copying(info: VideoInfo, index: FrameIndex, plan: EncoderPlan, container: str) -> Copying:
    """Finds out, from all packets, how parts can be passed through. Raises `CannotCopyError` with the reason."""
    known = "H.264, HEVC, AV1, VP8 and VP9"
    _refuse(
        (info.interlaced, "it is interlaced"),
        (plan.pix_fmt != info.pix_fmt, f"the output has another pixel format ({plan.pix_fmt}, not {info.pix_fmt})"),
        (plan.is_hardware, f"{plan.name} gives no say in its headers"),
        (info.codec not in FAMILY, f"only {known} can be joined to new parts, not {info.codec}"),
        (plan.name != FAMILY.get(info.codec), f"the output is encoded by {plan.name}"),
    )
    if info.codec in ("vp8", "vp9"):
        return Copying(plan, index.clean)
    if info.codec == "av1":
        begins = {packet.pts for packet in _packets(info) if packet.is_keyframe and units.av1_begins(bytes(packet))}
        return Copying(plan, _boundaries(index, begins))
    _refuse((container not in _CONTAINERS, f"a {container} file has no place for the headers of both"))
    survey = _survey(info)
    sets = units.with_start_codes(survey.sets)
    if info.codec == "hevc":
        boundaries = _boundaries(index, survey.clean | survey.open)
        # The first key frame of a file forgets in any case.
        joints = frozenset(survey.open - {int(index.pts[0])})
        params = {"forced-idr": "1", "x265-params": _with(plan, "x265-params", "open-gop=0")}
        marked = replace(plan, options={**plan.options, **params}, tag=None)  # hev1
        return Copying(marked, boundaries, sets, True, survey.length_size, joints)
    used = {number for unit in survey.sets for number in units.h264_numbers(unit)}
    free = next((number for number in range(31, -1, -1) if number not in used), None)
    _refuse((free is None, "its headers use all numbers there are"))
    marked = replace(plan, options={**plan.options, "x264-params": _with(plan, "x264-params", f"sps-id={free}")})
    return Copying(marked, _boundaries(index, survey.clean), sets, False, survey.length_size)


def _with(plan: EncoderPlan, key: str, param: str) -> str:
    return ":".join([*([plan.options[key]] if key in plan.options else []), param])


def _boundaries(index: FrameIndex, begins: set[int]) -> tuple[int, ...]:
    boundaries = tuple(frame for frame in index.clean if int(index.pts[frame]) in begins)
    _refuse((not boundaries, "it has no key frame at which a part could begin"))
    return boundaries


def merge(
    encoded: Iterable[EncodedPacket],
    copied: Iterable[EncodedPacket],
    index: FrameIndex,
    parts: Sequence[tuple[int, int, bool]],
    *,
    sets: tuple[bytes, bytes] | None = None,
) -> Iterator[EncodedPacket]:
    """The packets of a video that is copied in some parts; both sources hold all of it in the order of decoding.

    parts: first frame, last (not included), whether copied; one behind the other from the first frame of the video to its end.
    sets: HEVC parameter sets of encoded and of copied parts, to stand before their key frames.
    Raises `CannotCopyError` where a packet lies outside of its part.
    """
    both = zip(encoded, copied, strict=True)
    for first, last, copy in parts:
        begin, end = int(index.pts[first]), int(index.pts[last - 1])
        for packets in islice(both, last - first):
            chosen = packets[1 if copy else 0]
            if not begin <= chosen.pts <= end:
                raise CannotCopyError(f"frames {first} to {last} are decoded together with others")
            if sets is not None and chosen.is_key:
                chosen = replace(chosen, data=units.hevc_with_sets(chosen.data, sets[1 if copy else 0]))
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
        data = bytes(packet)
        if copying.length_size or packet.pts in copying.joints:
            found = units.split(data, copying.length_size)
            if packet.pts in copying.joints:
                found = map(units.hevc_spliced, found)
            data = units.with_start_codes(found)
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
            for packet in packets_of(container, info.stream_index):
                if packet.is_discard or packet.pts is None:
                    raise CannotCopyError("an edit list hides some of its frames")
                yield packet
    except (FFmpegError, OSError) as error:
        raise CannotCopyError(f"its packets cannot all be read ({error})") from error


@dataclass(frozen=True, slots=True)
class _Survey:
    """What the packets of an H.264 or HEVC stream are like."""

    length_size: int
    sets: list[bytes]
    clean: set[int]  # pts of key frames that forget all before them
    open: set[int]  # and of those that do so once they are told to (`units.hevc_spliced`)


def _survey(info: VideoInfo) -> _Survey:
    codec = info.codec
    with open_input(info.path) as container:
        header = bytes(container.streams[info.stream_index].codec_context.extradata or b"")  # type: ignore[union-attr]
    length_size, sets = units.header_of(codec, header)
    _refuse((not sets, "its header holds no parameter sets"))
    survey = _Survey(length_size, sets, set(), set())
    for packet in _packets(info):
        if not packet.is_keyframe:
            continue
        found = list(units.split(bytes(packet), length_size))
        _refuse((any(units.is_set(codec, unit) and unit not in sets for unit in found), "its parameters change on the way"))
        if codec == "h264":
            if units.H264_IDR in {units.kind(codec, unit) for unit in found}:
                survey.clean.add(packet.pts)
            continue
        _refuse((any(units.hevc_layer(unit) for unit in [*sets, *found]), "it has several layers"))
        pictures = units.hevc_pictures(found)
        if pictures == {units.HEVC_CRA}:
            survey.open.add(packet.pts)
        elif pictures and pictures <= {*units.HEVC_IDR, *units.HEVC_BLA}:
            survey.clean.add(packet.pts)
    return survey
