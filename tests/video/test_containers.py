"""Containers and encoders that do not hold all times."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import FAST, copy_clip, info_of, other_packets, times_of, write_clip
from vidunmask.errors import UsageError
from vidunmask.video.reader import VideoReader
from vidunmask.video.writer import VideoWriter


@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_h264_in_avi_has_the_times_of_its_order_however_often_it_is_written(tmp_path: Path, b_frames: str) -> None:
    """FFmpeg takes each frame to be shown when the next one is decoded."""
    options = {"crf": "20", "preset": "ultrafast", "bf": b_frames, "b-adapt": "0"}
    source = write_clip(tmp_path / "a.avi", audio=1, time_base=Fraction(1, 25), options=options,
                        container_options={"avoid_negative_ts": "disabled"})  # fmt: skip
    for before, after in (("a.avi", "b.avi"), ("b.avi", "c.avi"), ("c.avi", "d.mp4")):
        reader, writer = copy_clip(tmp_path / before, tmp_path / after, **FAST)
        assert reader.warnings == writer.warnings == []
        assert times_of(tmp_path / after) == [Fraction(index, 25) for index in range(12)]
    assert times_of(source) == times_of(tmp_path / "d.mp4")


def test_avi_begins_with_its_first_frame_and_says_so(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", audio=1, time_base=Fraction(1, 1000), pts=[1400 + 40 * i for i in range(9)])
    _, writer = copy_clip(source, tmp_path / "out.avi", **FAST)
    assert times_of(tmp_path / "out.avi") == [Fraction(index, 25) for index in range(9)]
    assert writer.warnings == [
        "all streams start 1400 ms earlier: this container cannot hold their times",
        "this container cannot hold the tag language of 1 stream",
    ]


def test_sound_stays_with_the_picture_in_avi_or_a_warning_says_by_how_much_it_does_not(tmp_path: Path) -> None:
    """All streams of a file begin at once."""
    source = write_clip(tmp_path / "in.mp4", audio=1, pts=[4096 + 512 * i for i in range(9)])  # sound begins 320 ms before
    _, writer = copy_clip(source, tmp_path / "out.avi", **FAST)
    before, after = ({name: time for time, name in other_packets(tmp_path / each)[1]} for each in ("in.mp4", "out.avi"))
    assert 0 < len(after) < len(before)
    assert all(abs(before[name] - time - Fraction(320, 1000)) < Fraction(12, 1000) for name, time in after.items())
    assert not any("too early" in warning for warning in writer.warnings)
    options = {"avoid_negative_ts": "disabled"}
    source = write_clip(tmp_path / "late.mkv", audio=1, pts=[512 * i - 1024 for i in range(8)], container_options=options)
    _, writer = copy_clip(source, tmp_path / "late.avi", **FAST)
    assert "stream 1 (audio) starts 80 ms too early: streams of an AVI file begin together" in writer.warnings


def test_frames_at_no_fixed_rate_are_refused_for_avi_before_the_work(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", pts=[0, 512, 600, 700, 2000, 4000])
    with VideoReader(source) as reader, pytest.raises(UsageError, match="avi file wants frames at a fixed rate"):
        VideoWriter(tmp_path / "out.avi", reader.info)


@pytest.mark.parametrize("suffix", [".asf", ".wmv"])
def test_asf_keeps_times_that_vary(tmp_path: Path, suffix: str) -> None:
    pts = [0, 40, 80, 120, 240, 280, 400]
    source = write_clip(tmp_path / "in.mkv", time_base=Fraction(1, 1000), pts=pts)
    _, writer = copy_clip(source, tmp_path / f"out{suffix}", **FAST)
    assert writer.warnings == []
    assert times_of(tmp_path / f"out{suffix}") == [Fraction(time, 1000) for time in pts]


@pytest.mark.parametrize("suffix", [".ts", ".avi", ".nut", ".flv", ".m4v"])
def test_other_containers_keep_frames_and_their_distances(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / "in.mp4", audio=1, time_base=Fraction(1, 25))
    copy_clip(source, tmp_path / f"out{suffix}", **FAST)
    before, after = times_of(source), times_of(tmp_path / f"out{suffix}")
    assert len(after) == len(before)
    for a, b in zip(np.diff(before), np.diff(after), strict=True):
        assert abs(a - b) <= Fraction(1, 1000)


@pytest.mark.parametrize(
    ("codec", "target"),
    [
        *((codec, target) for codec in ("mpeg1video", "mpeg2video") for target in ("out.mkv", "out.ts", "out.mpg")),
        *(("mpeg4", target) for target in ("out.mkv", "out.ts")),  # a program stream holds none
    ],
)
def test_encoders_that_know_rates_and_no_times_write_frames_at_a_fixed_rate(tmp_path: Path, codec: str, target: str) -> None:
    pts = [3003 * index for index in range(12)]
    source = write_clip(tmp_path / "in.ts", time_base=Fraction(1, 90000), rate=Fraction(30000, 1001), pts=pts)
    copy_clip(source, tmp_path / target, codec=codec)
    before, after = times_of(source), times_of(tmp_path / target)
    assert len(after) == 12
    np.testing.assert_allclose(np.diff(after).astype(float), np.diff(before).astype(float), atol=0.0011)
    assert info_of(tmp_path / target).codec == codec


def test_frames_at_no_fixed_rate_are_refused_by_such_an_encoder_before_the_work(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", pts=[0, 512, 600, 700, 2000, 4000])
    with VideoReader(source) as reader, pytest.raises(UsageError, match="mpeg2video: wants frames at a fixed rate"):
        VideoWriter(tmp_path / "out.mkv", reader.info, codec="mpeg2video")


def test_frames_between_the_ticks_of_such_an_encoder_are_still_at_a_fixed_rate(tmp_path: Path) -> None:
    pts = [48600 + 3600 * index for index in range(8)]  # 13.5 frames of 25 a second, where a program stream likes to begin
    source = write_clip(tmp_path / "in.ts", time_base=Fraction(1, 90000), pts=pts, audio=1)
    copy_clip(source, tmp_path / "out.ts", codec="mpeg2video")
    before, after = times_of(source), times_of(tmp_path / "out.ts")
    assert len(set(np.diff(after))) == 1
    sound = [other_packets(path)[1][0][0] or 0 for path in (source, tmp_path / "out.ts")]
    assert abs(after[0] - before[0] - (sound[1] - sound[0])) < Fraction(1, 10000)


@pytest.mark.parametrize("suffix", [".vob", ".mpg"])
def test_a_container_that_holds_nothing_newer_keeps_the_codec(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / f"in{suffix}", frames=5, codec="mpeg2video", time_base=Fraction(1, 25))
    _, writer = copy_clip(source, tmp_path / f"out{suffix}")
    assert info_of(tmp_path / f"out{suffix}").codec == "mpeg2video"
    assert writer.warnings[0] == "libx264 cannot hold 64x48 yuv420p in this container; mpeg2video is used"


def test_titles_that_stand_one_behind_the_other_are_at_a_fixed_rate_too(tmp_path: Path) -> None:
    one = write_clip(tmp_path / "one.vob", frames=30, codec="mpeg2video", time_base=Fraction(1, 25), options={"bf": "2"})
    (tmp_path / "in.vob").write_bytes(one.read_bytes() * 2)  # each begins its clock anew
    copy_clip(tmp_path / "in.vob", tmp_path / "out.vob")
    assert np.diff(times_of(tmp_path / "out.vob")).tolist() == [Fraction(1, 25)] * 59


@pytest.mark.parametrize(("suffix", "codec"), [(".mxf", "mpeg2video"), (".dv", "dvvideo")])
def test_sound_is_kept_where_it_cannot_stand_without_a_video(tmp_path: Path, suffix: str, codec: str) -> None:
    """Their muxers refuse sound alone, and of sound all but PCM at 48 kHz."""
    options = {"bf": "0"} if codec == "mpeg2video" else {}
    source = write_clip(
        tmp_path / "video.mov", frames=5, size=(576, 720), time_base=Fraction(1, 25), codec=codec, options=options
    )
    with av.open(str(source)) as video, av.open(str(tmp_path / "in.mov"), "w") as out:
        pictures = out.add_stream_from_template(video.streams.video[0], opaque=True)
        sound = out.add_stream("pcm_s16le", rate=48000, layout="stereo")
        for packet in video.demux():
            if packet.size:
                packet.stream = pictures
                out.mux(packet)
        noise = np.random.default_rng(0).integers(-9000, 9000, (1, 2 * 9600), np.int16)
        block = av.AudioFrame.from_ndarray(noise, "s16", "stereo")
        block.sample_rate = 48000
        out.mux(sound.encode(block))
    _, writer = copy_clip(tmp_path / "in.mov", tmp_path / f"out{suffix}", codec=codec)
    assert writer.warnings == []
    with av.open(str(tmp_path / f"out{suffix}")) as written:
        np.testing.assert_array_equal(np.hstack([each.to_ndarray() for each in written.decode(audio=0)]), noise)
