from fractions import Fraction

import numpy as np
import pytest

from vidunmask.video.index import SpanError, decoding_delay, scan
from vidunmask.video.reader import VideoReader
from vidunmask.video.spans import SpanReader

from .clips import planes_of, write_clip


def frames_of(reader):
    return [(frame.index, frame.pts, [plane.copy() for plane in planes_of(frame.native)]) for frame in reader]


def same(a, b):
    return a[:2] == b[:2] and all(np.array_equal(x, y) for x, y in zip(a[2], b[2], strict=True))


@pytest.fixture(
    params=["x264 in mp4", "x264 in mkv", "vp9 in webm", "varying rate", "one key frame", "from below zero", "x264 in avi"]
)
def clip(request, tmp_path):
    name = request.param
    options = {"g": "10", "bf": "3", "preset": "ultrafast", "sc_threshold": "0"}
    if name == "x264 in mkv":
        return write_clip(tmp_path / "a.mkv", frames=35, options=options, audio=1)
    if name == "x264 in avi":
        options = {**options, "bf": "0"}
        return write_clip(tmp_path / "a.avi", frames=35, options=options, time_base=Fraction(1, 25), audio=1)
    if name == "vp9 in webm":
        return write_clip(tmp_path / "a.webm", frames=35, codec="libvpx-vp9", options={"g": "10"}, time_base=Fraction(1, 1000))
    if name == "varying rate":
        return write_clip(tmp_path / "a.mp4", frames=35, options=options, pts=[i * 512 + (i * i) % 200 for i in range(35)])
    if name == "one key frame":
        return write_clip(tmp_path / "a.mp4", frames=35, options={**options, "g": "250"})
    if name == "from below zero":
        return write_clip(tmp_path / "a.mkv", frames=35, options=options, pts=[(i - 3) * 512 for i in range(35)])
    return write_clip(tmp_path / "a.mp4", frames=35, options=options, audio=1)


def test_the_index_has_the_times_that_reading_from_end_to_end_gives(clip):
    with VideoReader(clip) as reader:
        index = scan(reader.info)
        assert [frame.pts for frame in reader] == index.pts.tolist()
    assert index.key_frames()[0] == index.clean[0] == 0


@pytest.mark.parametrize(("first", "last"), [(0, 5), (10, 20), (13, 35), (34, 35)])
def test_a_span_has_the_same_frames_as_reading_from_end_to_end(clip, first, last):
    with VideoReader(clip) as reader:
        whole = frames_of(reader)
        index = scan(reader.info)
    with SpanReader(clip, index.span(first, last)) as reader:
        part = frames_of(reader)
    assert len(part) == last - first
    assert all(same(a, b) for a, b in zip(part, whole[first:last], strict=True))


def test_a_span_of_other_times_than_the_files_is_an_error(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=20)
    with VideoReader(path) as reader:
        index = scan(reader.info)
    index.pts[12] += 1
    with SpanReader(path, index.span(10, 15)) as reader, pytest.raises(SpanError, match=r"frame 12 should have pts 6145"):
        list(reader)


def test_frames_that_share_a_time_cannot_be_indexed(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=6, pts=[0, 1, 2, 3, 4, 5])  # Matroska keeps milliseconds
    with VideoReader(path) as reader, pytest.raises(SpanError, match="share a time"):
        scan(reader.info)


def test_a_group_that_reaches_over_its_key_frame_is_no_clean_boundary(tmp_path):
    options = {"g": "10", "bf": "3", "x264-params": "open-gop=1:scenecut=0", "preset": "medium"}
    path = write_clip(tmp_path / "a.mkv", frames=35, options=options)
    with VideoReader(path) as reader:
        index = scan(reader.info)
    assert len(index.key_frames()) > len(index.clean)


def test_the_delay_is_how_far_decoding_runs_ahead():
    assert decoding_delay([0, 1, 2]) == 0
    assert decoding_delay([0, 3, 1, 2]) == 1
    assert decoding_delay([0, 4, 2, 1, 3]) == 2


def test_avi_with_frames_out_of_order_has_no_index(tmp_path):
    path = write_clip(tmp_path / "a.avi", options={"bf": "3", "b-adapt": "0"}, time_base=Fraction(1, 25))
    with VideoReader(path) as reader, pytest.raises(SpanError, match="does not tell when"):
        scan(reader.info)
