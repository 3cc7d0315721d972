"""Reading a finished file back before it takes its place."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError

from vidunmask.errors import InputError, OutputError
from vidunmask.video.info import VideoInfo
from vidunmask.video.reader import VideoReader, open_input, packets_of
from vidunmask.video.services import service_tags
from vidunmask.video.streams import stream_metadata

_SAME = 1e-6  # seconds


@dataclass(slots=True)
class Expected:
    """What was written."""

    times: array[float] = field(default_factory=lambda: array("d"))  # of the frames, in seconds; a day of video has millions
    chapters: int = 0
    tags: dict[str, str] = field(default_factory=dict)  # of the container
    mark: dict[str, str] = field(default_factory=dict)  # those that were added to the source's
    stream_tags: Counter[str] = field(default_factory=Counter)  # how many streams have each
    untimed: int = 0

    @property
    def count(self) -> int:
        """How many frames there are."""
        return len(self.times) + self.untimed


def verify(written: Path, target: Path, like: VideoInfo, expected: Expected, warnings: list[str]) -> None:
    """Decodes the first frame of ``written``, counts its packets and compares their times and the picture's form.

    Raises `OutputError` where frames are missing or cannot be decoded; a difference that the container forces is a warning.
    """
    try:
        with VideoReader(written) as reader:
            info = reader.info
        found = _packets(written, info.stream_index)
    except (InputError, FFmpegError, OSError) as error:
        raise OutputError(f"{target}: the written file cannot be read back ({error}); nothing was kept") from error
    if found.count != expected.count:
        raise OutputError(
            f"{target}: {expected.count} frames were written but {found.count} can be read back; nothing was kept"
        )
    if not found.untimed:
        warnings.extend(_differences(found, expected))
    if info.size != like.size:
        raise OutputError(f"{target}: the picture came out as {info.size[::-1]} instead of {like.size[::-1]}; nothing was kept")
    if (info.sample_aspect or 1) != (like.sample_aspect or 1):
        warnings.append(f"the sample aspect ratio {like.sample_aspect} is lost: this container or codec cannot hold it")
    if (info.native_to_display != like.native_to_display).any() and info.display_matrix != like.display_matrix:
        warnings.append("the rotation of the picture is lost: this container cannot hold it")
    if like.interlaced and not info.interlaced:
        warnings.append(f"the picture is interlaced, and the encoder of {info.codec} does not say so")
    had, has = like.hdr, info.hdr
    lost = set(had.with_frames - has.with_frames)
    if (had.mastering_display and not has.mastering_display) or (had.content_light and not has.content_light):
        lost.add("metadata of HDR10")
    if lost:
        warnings.append(f"the {' and the '.join(sorted(lost))} are lost: the encoder of {info.codec} writes none")
    if expected.chapters and not found.chapters:
        warnings.append(f"{expected.chapters} chapters were left out: this container cannot hold them")
    if missing := _lost_tags(expected, found):
        warnings.append(f"this container cannot hold {' and '.join(missing)}")


def _lost_tags(expected: Expected, found: Expected) -> list[str]:
    """What is missing of the tags; of those that were added, one that is there is enough."""
    keys = {key.lower() for key in found.tags}
    own = {key.lower() for key in expected.mark}
    lost = [key for key, value in expected.tags.items() if value and key.lower() not in keys | own]
    missing = expected.stream_tags - found.stream_tags
    lost += [f"{key} of {count} stream{'s' if count > 1 else ''}" for key, count in sorted(missing.items())]
    said = [f"the tag{'s' if len(lost) > 1 else ''} {', '.join(lost)}"] if lost else []
    if own and not any(value in text for value in expected.mark.values() for text in found.tags.values()):
        said.append(f"this program's mark ({', '.join(expected.mark)})")
    return said


def count_stream_tags(streams: Iterable[Any]) -> Counter[str]:
    """How many of ``streams`` have each tag, of those that say more than the muxer does by itself."""
    all_tags = (stream_metadata(stream.metadata, "") for stream in streams)
    return Counter(
        key.lower() for tags in all_tags for key, value in tags.items() if value != "und" and key.lower() != "handler_name"
    )


def _packets(path: Path, stream_index: int) -> Expected:
    found = Expected()
    with open_input(path) as container:
        found.chapters = len(container.chapters())
        for holder in (*container.streams, container):  # Ogg keeps a file's tags with its streams
            found.tags |= holder.metadata
        found.stream_tags = count_stream_tags(container.streams)
        if container.format.name == "mpegts":
            found.tags |= service_tags(str(path))
        time_base = container.streams[stream_index].time_base or Fraction(1)
        for packet in packets_of(container, stream_index):
            if packet.pts is not None and not packet.is_discard:
                found.times.append(float(packet.pts * time_base))
            elif not packet.is_discard:
                found.untimed += 1
    return found


def _differences(found: Expected, expected: Expected) -> Iterator[str]:
    """How the times of the written frames differ from those they were given."""
    moved = np.sort(found.times) - np.sort(expected.times)  # (N,) either is in the order of decoding
    start = float(moved[0]) * 1000
    if abs(start) >= 1:
        when = f"{abs(start):g} ms {'later' if start > 0 else 'earlier'}"
        yield f"all streams start {when}: this container cannot hold their times"
        moved -= moved[0]
    if (most := float(abs(moved).max())) > _SAME:
        yield f"times moved by up to {most * 1000:.2g} ms: this container cannot hold the exact ones"
