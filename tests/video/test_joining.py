from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from vidunmask.errors import OutputError
from vidunmask.video.index import scan
from vidunmask.video.joining import JoinedWriter, SegmentEncoder
from vidunmask.video.reader import VideoReader
from vidunmask.video.spans import SpanReader
from vidunmask.video.writer import VideoWriter

from .clips import other_packets, planes_of, write_clip

CUTS = (0, 12, 29, 45)


def encoded_apart(source, index, writer):
    """The packets of each part, the greatest delay, the headers."""
    packets, delay, headers = [], 0, set()
    for first, last in pairwise(CUTS):
        with SpanReader(source, index.span(first, last)) as reader:
            encoder = SegmentEncoder(reader.info, writer.plan, writer.container)
            for frame in reader:
                packets += encoder.encode(frame)
            packets += encoder.flush()
        delay = max(delay, encoder.delay)
        headers.add(encoder.headers)
    return packets, delay, headers


def video_packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(p.pts * stream.time_base, p.dts * stream.time_base) for p in container.demux(stream) if p.size]


def pictures(path):
    with VideoReader(path) as reader:
        return [planes_of(frame.native) for frame in reader]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("out.mp4", "libx264"),
        ("out.mkv", "libx264"),
        ("out.mov", "libx265"),
        ("out.mkv", "libsvtav1"),
        ("out.webm", "libvpx-vp9"),
        ("out.mkv", "ffv1"),
        ("out.mov", "prores_ks"),
        ("out.ts", "libx264"),
        ("out.avi", "libx264"),
    ],
)
def test_parts_encoded_apart_make_the_video_that_one_encoder_makes(tmp_path, name, codec):
    source = write_clip(
        tmp_path / "in.mp4", frames=45, size=(80, 96), options={"g": "15", "bf": "2"}, audio=1, chapters=True,
        metadata={"title": "A"},
    )  # fmt: skip
    preset = None if codec in ("ffv1", "prores_ks") else "ultrafast"
    with VideoReader(source) as reader:
        info, index = reader.info, scan(reader.info)
        whole = VideoWriter(tmp_path / f"whole_{name}", info, codec=codec, preset=preset)
        with whole:
            for frame in reader:
                whole.write(frame)
    joined = JoinedWriter(tmp_path / name, info, codec=codec, preset=preset)
    packets, delay, headers = encoded_apart(source, index, joined)
    assert headers == {joined.encoder_headers()}
    with joined:
        joined.join(packets, index, delay=delay)
    assert joined.warnings == whole.warnings
    ours, theirs = video_packets(tmp_path / name), video_packets(tmp_path / f"whole_{name}")
    assert sorted(pts for pts, _ in ours) == sorted(pts for pts, _ in theirs)
    dts = [time for _, time in ours]
    assert all(a < b for a, b in pairwise(dts))
    assert all(decode <= show for show, decode in ours)
    assert other_packets(tmp_path / name) == other_packets(tmp_path / f"whole_{name}")
    pairs = list(zip(pictures(tmp_path / name), pictures(tmp_path / f"whole_{name}"), strict=True))
    assert len(pairs) == 45
    off = [np.abs(a[0].astype(int) - b[0].astype(int)).mean() for a, b in pairs]
    assert max(off) < (6 if codec != "ffv1" else 1e-9)
    with av.open(str(tmp_path / name)) as a, av.open(str(tmp_path / f"whole_{name}")) as b:
        assert len(a.chapters()) == len(b.chapters())
        assert a.metadata.get("title") == b.metadata.get("title")
        assert a.duration == b.duration


def test_times_of_a_varying_rate_and_from_below_zero_are_kept(tmp_path):
    pts = [(i - 2) * 512 + (i * i) % 300 for i in range(45)]
    options = {"g": "15", "bf": "2"}
    source = write_clip(tmp_path / "in.mkv", frames=45, pts=pts, time_base=Fraction(1, 1000), options=options)
    with VideoReader(source) as reader:
        info, index = reader.info, scan(reader.info)
    joined = JoinedWriter(tmp_path / "out.mp4", info)
    packets, delay, _ = encoded_apart(source, index, joined)
    with joined:
        joined.join(packets, index, delay=delay)
    with VideoReader(tmp_path / "out.mp4") as reader:
        times = [frame.time for frame in reader]
    assert [time - times[0] for time in times] == [int(t - index.pts[0]) * info.time_base for t in index.pts]
    dts = [time for _, time in video_packets(tmp_path / "out.mp4")]
    assert all(a < b for a, b in pairwise(dts))


def test_a_missing_frame_leaves_nothing(tmp_path):
    source = write_clip(tmp_path / "in.mp4", frames=45, options={"g": "15"})
    with VideoReader(source) as reader:
        info, index = reader.info, scan(reader.info)
    joined = JoinedWriter(tmp_path / "out.mp4", info)
    packets, delay, _ = encoded_apart(source, index, joined)
    with pytest.raises(OutputError, match="44 of 45 frames"), joined:
        joined.join(packets[:-1], index, delay=delay)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
