"""Which frames a video has and where decoding can begin, found without decoding anything."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from av.error import FFmpegError

from vidunmask.errors import InputError
from vidunmask.video.info import VideoInfo
from vidunmask.video.reader import is_only_ordered, is_set_back, open_input, packets_of


class SpanError(InputError):
    """A video of which no part can be read on its own; reading it from end to end may still go well."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """The frames of a video stream in the order of presentation."""

    pts: npt.NDArray[np.int64]  # (N,) ascending
    key_pts: npt.NDArray[np.int64]  # (K,) ascending, of the packets at which a decoder can begin; some may not be shown
    clean: tuple[int, ...]  # frames at which everything decoded later is shown later too, and the other way round
    delay: int  # frames by which decoding runs ahead of presentation

    def key_frames(self) -> list[int]:
        """The numbers of the frames that are key frames."""
        numbers = np.searchsorted(self.pts, self.key_pts)
        inside = numbers < len(self.pts)
        return [int(n) for n in numbers[inside][self.pts[numbers[inside]] == self.key_pts[inside]]]

    def span(self, first: int, last: int) -> Span:
        """The frames ``first`` to ``last``, the latter not included."""
        before = self.key_pts[self.key_pts <= self.pts[first]][::-1]
        # Should a decoder need more than the nearest key frame (open groups, gradual refresh), it gets the ones before.
        seeks = [int(before[i]) for i in (0, 1, 3, 7) if i < len(before)]
        return Span(first, tuple(self.pts[first:last].tolist()), tuple(seeks))


@dataclass(frozen=True, slots=True)
class Span:
    """A run of frames and where to begin decoding for it."""

    first: int  # number of its first frame in the video
    pts: tuple[int, ...]  # of each frame
    seeks: tuple[int, ...]  # pts of key frames at or before the first, nearest first


def scan(info: VideoInfo, *, unrolled: bool = False) -> FrameIndex:
    """Reads all packets of the stream that is edited. Raises `SpanError` where they do not tell its frames and times.

    A clock that is set back on the way goes on where ``unrolled``, about as in `VideoReader`; by such times nothing is found.
    """
    packets, shown, keys = array("q"), array("b"), array("q")  # their pts; a day of video has millions
    last, shift = None, 0
    try:
        with open_input(info.path) as container:
            stream = container.streams[info.stream_index]
            if is_only_ordered(container, stream) and stream.codec_context.has_b_frames:  # type: ignore[union-attr,attr-defined]
                raise SpanError(f"{info.path}: the file does not tell when its frames are shown")
            for packet in packets_of(container, info.stream_index):
                if packet.pts is None or packet.is_corrupt:
                    raise SpanError(f"{info.path}: a packet of its video has no time or is damaged")
                if not packets and not packet.is_keyframe:
                    raise SpanError(f"{info.path}: its video does not begin with a key frame")
                if packet.dts is not None:
                    if last is not None and is_set_back(info.container, (packet.dts - last) * info.time_base):
                        if not unrolled:
                            raise SpanError(f"{info.path}: the clock of its video is set back on the way")
                        shift += last + (packet.duration or 0) - packet.dts
                    last = packet.dts
                packets.append(packet.pts + shift)
                shown.append(not packet.is_discard)
                if packet.is_keyframe:
                    keys.append(packets[-1])
    except (FFmpegError, OSError) as error:
        raise SpanError(f"{info.path}: its packets cannot all be read ({error})") from error
    pts = np.array(packets, np.int64)
    if len(np.unique(pts)) != len(pts):
        raise SpanError(f"{info.path}: frames of its video share a time")
    return _index(pts, np.array(shown, bool), np.sort(np.array(keys, np.int64)))


def _index(pts: npt.NDArray[np.int64], shown: npt.NDArray[np.bool_], keys: npt.NDArray[np.int64]) -> FrameIndex:
    """The index for packets (N,) in the order of decoding."""
    visible = np.sort(pts[shown])
    # A packet is a clean boundary where all before it are shown earlier and none behind it is.
    highest = np.maximum.accumulate(np.concatenate([[np.iinfo(np.int64).min], pts[:-1]]))
    lowest = np.minimum.accumulate(pts[::-1])[::-1]
    closed = np.isin(pts, keys) & (highest < pts) & (lowest == pts) & shown
    clean = np.searchsorted(visible, pts[closed])
    return FrameIndex(visible, keys, tuple(int(n) for n in clean), decoding_delay(pts))


def decoding_delay(pts: npt.ArrayLike) -> int:
    """By how many frames decoding has to run ahead, for times (N,) in the order of decoding."""
    decoded = np.argsort(pts)  # when each frame, in the order of presentation
    return int(np.max(decoded - np.arange(len(decoded)), initial=0))
