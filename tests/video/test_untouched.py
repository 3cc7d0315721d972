import av
import pytest

from vidunmask.video import untouched
from vidunmask.video.index import scan
from vidunmask.video.joining import JoinedWriter, SegmentEncoder
from vidunmask.video.reader import VideoReader

from .clips import planes_of, write_clip

FRAMES, GROUP = 40, 10
CLOSED = "log-level=error:open-gop=0"


def copy_but(source, target, edited, **options):
    """Writes ``source`` again, encoded only around the ``edited`` frames; returns the parts."""
    with VideoReader(source) as reader:
        info, index = reader.info, scan(reader.info)
        writer = JoinedWriter(target, info, **options)
        copying = untouched.plan_copying(info, index, writer.plan, writer.container)
        writer.plan = copying.plan
        encoder = SegmentEncoder(info, copying.plan, writer.container)
        encoded = [p for frame in reader for p in encoder.encode(frame, key=frame.index in copying.boundaries)]
        encoded += encoder.flush()
    parts = untouched.parts_of(copying.boundaries, len(index.pts), edited)
    headers = writer.encoder_headers()
    packets = untouched.merge(
        encoded, untouched.source_packets(info, copying), index, parts, sets=copying.sets_before(headers)
    )  # fmt: skip
    headers = copying.header(headers, parts)
    with writer:
        writer.join(
            packets, index, delay=max(encoder.delay, index.delay), headers=headers or None,
            inspect=lambda written: untouched.check_copies(str(source), parts, written),
        )  # fmt: skip
    return parts


def pictures(path):
    with VideoReader(path) as reader:
        return [(frame.pts, [plane.tobytes() for plane in planes_of(frame.native)]) for frame in reader]


@pytest.mark.parametrize(
    ("before", "after", "codec", "options"),
    [
        ("in.mp4", "out.mp4", "libx264", {"bf": "2", "profile": "high"}),
        ("in.mkv", "out.mp4", "libx264", {"bf": "0", "profile": "baseline"}),
        ("in.mp4", "out.mkv", "libx264", {"bf": "3", "refs": "4"}),
        ("in.ts", "out.mp4", "libx264", {"bf": "2"}),
        ("in.webm", "out.webm", "libvpx-vp9", {}),
        ("in.mp4", "out.mp4", "libx265", {"forced-idr": "1", "x265-params": CLOSED}),
        ("in.mkv", "out.mkv", "libx265", {"x265-params": f"{CLOSED}:aud=1"}),
        ("in.mp4", "out.mov", "libx265", {"x265-params": "log-level=error:bframes=0:open-gop=1"}),  # CRA pictures
        ("in.ts", "out.mp4", "libx265", {"x265-params": "log-level=error:bframes=0"}),
        ("in.mp4", "out.mp4", "libsvtav1", {"preset": "10", "crf": "30"}),
        ("in.mkv", "out.webm", "libsvtav1", {"preset": "10", "crf": "30"}),
    ],
)
def test_parts_without_an_edit_decode_to_the_very_same_samples(tmp_path, before, after, codec, options):
    source = write_clip(
        tmp_path / before, frames=FRAMES, size=(96, 128), codec=codec, options={"g": str(GROUP), "sc_threshold": "0", **options}
    )  # fmt: skip
    parts = copy_but(source, tmp_path / after, edited=[14, 15])
    assert parts == [(0, 10, True), (10, 20, False), (20, 30, True), (30, 40, True)]
    was, is_now = pictures(source), pictures(tmp_path / after)
    assert len(was) == len(is_now) == FRAMES
    same = [a[1] == b[1] for a, b in zip(was, is_now, strict=True)]
    assert all(same[:10] + same[20:])
    assert not all(same[10:20])
    # Another decoder's way to the same end: a seek into a copied part behind an encoded one.
    with av.open(str(tmp_path / after)) as container:
        stream = container.streams.video[0]
        container.seek(is_now[25][0], stream=stream)
        times = [frame.pts for frame in container.decode(stream)]
    assert times[-1] == is_now[-1][0]
    assert times[0] in {is_now[20][0], is_now[10][0]}


def test_what_cannot_be_copied_says_why(tmp_path):
    def refused(match, target="out.mp4", plan=None, **clip):
        source = write_clip(tmp_path / f"in{len(list(tmp_path.iterdir()))}.mp4", frames=12, **clip)
        with pytest.raises(untouched.CannotCopyError, match=match):
            copy_but(source, tmp_path / target, edited=[3], **(plan or {}))

    refused("only H.264, HEVC, AV1, VP8 and VP9", codec="mpeg4")
    refused("is encoded by libx265", plan={"codec": "libx265"})
    refused("no place for the headers", target="out.ts")
    refused("another pixel format", plan={"pix_fmt": "yuv444p"})


def test_a_part_is_copied_only_between_boundaries_and_without_an_edit():
    assert untouched.parts_of((10, 20), 30, [25]) == [(0, 10, False), (10, 20, True), (20, 30, False)]
    assert untouched.parts_of((0, 10), 12, []) == [(0, 10, True), (10, 12, True)]


def test_a_copy_that_is_not_the_same_is_noticed(tmp_path):
    one = write_clip(tmp_path / "a.mp4", frames=5)
    other = write_clip(tmp_path / "b.mp4", frames=5, options={"crf": "40"})
    untouched.check_copies(str(one), [(0, 5, True)], one)
    with pytest.raises(untouched.CannotCopyError, match="frame 0 came out other"):
        untouched.check_copies(str(one), [(0, 5, True)], other)
