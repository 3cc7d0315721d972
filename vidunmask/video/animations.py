"""GIF and APNG, which are written to themselves alone: palettes, and how often they are played."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from vidunmask.video.reader import open_input, packets_of

ENCODERS = {"gif": "gif", "apng": "apng"}  # by muxer, and nothing else fits into either


def palettised(native: av.VideoFrame) -> av.VideoFrame:
    """The frame with a palette of its own: exact up to 255 colours, dithered beyond; transparency is all or nothing."""
    graph = av.filter.Graph()
    # A frame from a camera has no time base yet, and none is wanted here.
    source = graph.add_buffer(width=native.width, height=native.height, format=native.format, time_base=Fraction(1, 25))
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    use, sink = graph.add("paletteuse", "new=1"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    graph.push(native)
    made = graph.pull()
    assert isinstance(made, av.VideoFrame)
    return made


def loop_options(path: str, container: str) -> dict[str, str]:
    """Options for FFmpeg's muxer ``container`` that have the file played as often as the one at ``path``, or else for ever."""
    if container not in ENCODERS:
        return {}
    head = b""
    if path and "://" not in path:
        with Path(path).open("rb") as file:
            head = file.read(4096)
    plays = 0  # for ever
    if head.startswith(b"GIF8"):
        # The number of further plays stands in Netscape's application extension (GIF89a specification, section 26).
        at = head.find(b"NETSCAPE2.0\x03\x01")
        repeats = int.from_bytes(head[at + 13 : at + 15], "little")
        plays = 1 if at < 0 else repeats and repeats + 1
    elif (at := head.find(b"acTL")) > 0:  # PNG specification, section 11.3.6
        plays = int.from_bytes(head[at + 8 : at + 12])
    if container == "apng":
        return {"plays": str(min(plays, 65535)), **_last_pause(path, head)}
    return {"loop": str(plays - 1 if plays != 1 else -1)} if plays else {"loop": "0"}


def _last_pause(path: str, head: bytes) -> dict[str, str]:
    """The option that tells APNG's muxer how long an animation shows its last frame; of the others the times say it."""
    if not (head.startswith(b"GIF8") or b"acTL" in head):
        return {}
    with open_input(path) as source:
        *_, last = packets_of(source, 0)
        return {"final_delay": str((last.duration or 0) * last.time_base)}
