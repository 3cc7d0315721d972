"""What comes out is what went in, but for the pixels that were edited."""

import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.video.clips import FAST, copy_clip, feathered_disc, info_of, other_packets, planes_of, times_of, write_clip
from vidunmask.errors import DeviceError, OutputError, UsageError
from vidunmask.types import Frame
from vidunmask.video import pixels
from vidunmask.video.atomic import check_target
from vidunmask.video.info import BOTTOM_FIRST, TOP_FIRST
from vidunmask.video.orientation import matrix_of_exif
from vidunmask.video.reader import VideoReader, _side_data
from vidunmask.video.writer import VideoWriter

LOSSLESS_FORMATS = [
    "yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuv420p10le", "yuv422p10le", "yuv444p10le",
    "yuv444p12le", "yuva420p", "gray", "gray10le", "gbrp10le", "bgr0",
]  # fmt: skip


def _assert_alike(source: Path, target: Path, *, same_unit: bool = True) -> None:
    before, after = info_of(source), info_of(target)
    assert times_of(source) == times_of(target)
    assert before.size == after.size
    assert before.display_size == after.display_size
    np.testing.assert_array_equal(before.native_to_display, after.native_to_display)
    assert (before.sample_aspect or 1) == (after.sample_aspect or 1)
    assert before.colour == after.colour
    assert before.codec == after.codec
    if same_unit:
        assert before.time_base == after.time_base


@pytest.mark.parametrize("tag", range(1, 9))
def test_rotations_and_flips_are_kept(tmp_path: Path, tag: int) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=4, matrix=matrix_of_exif(tag))
    _, writer = copy_clip(source, tmp_path / "out.mp4", **FAST)
    _assert_alike(source, tmp_path / "out.mp4")
    assert writer.warnings == []


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(8, 9)])
def test_non_square_pixels_are_kept(tmp_path: Path, suffix: str, aspect: Fraction) -> None:
    source = write_clip(tmp_path / f"in{suffix}", frames=4, aspect=aspect)
    assert info_of(source).sample_aspect == aspect
    _, writer = copy_clip(source, tmp_path / f"out{suffix}", **FAST)
    _assert_alike(source, tmp_path / f"out{suffix}")
    assert writer.warnings == []


@pytest.mark.parametrize(
    ("time_base", "pts"),
    [
        (Fraction(1, 12800), [0, 512, 1400, 1401, 5000, 5100, 9000, 20000, 20512, 21024]),
        (Fraction(1, 30000), [index * 1001 for index in range(12)]),
        (Fraction(1, 1000), [0, 33, 67, 100, 133, 1000, 1033, 5000]),
        (Fraction(1, 25), list(range(9))),
        (Fraction(1, 1000000), [7, 40007, 99001, 170000, 1700003]),
        (Fraction(1, 90000), [123456 + 3003 * index for index in range(8)]),
        (Fraction(1, 12800), [777]),
    ],
    ids=["variable", "ntsc", "milliseconds", "coarse", "microseconds", "late start", "one frame"],
)
def test_every_pts_is_kept_in_mp4(tmp_path: Path, time_base: Fraction, pts: list[int]) -> None:
    options = {"video_track_timescale": str(time_base.denominator), "movie_timescale": str(time_base.denominator)}
    source = write_clip(tmp_path / "in.mp4", time_base=time_base, pts=pts, audio=1, container_options=options)
    assert times_of(source) == [time * time_base for time in pts]
    _, writer = copy_clip(source, tmp_path / "out.mp4", **FAST)
    _assert_alike(source, tmp_path / "out.mp4")
    assert other_packets(source) == other_packets(tmp_path / "out.mp4")
    assert writer.warnings == []


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_times_before_zero_move_all_streams_alike(tmp_path: Path, suffix: str) -> None:
    pts = [512 * index - 1024 for index in range(8)]
    source = write_clip(tmp_path / "in.ts", pts=pts, audio=1, container_options={"avoid_negative_ts": "disabled"})
    before = times_of(source)
    assert before[0] == Fraction(-1024, 12800)
    _, writer = copy_clip(source, tmp_path / f"out{suffix}", **FAST)
    after = times_of(tmp_path / f"out{suffix}")
    assert len(after) == 8
    np.testing.assert_array_equal(np.diff(after), np.diff(before))
    sound = [other_packets(path)[1][0][0] for path in (source, tmp_path / f"out{suffix}")]
    assert sound[0] is not None
    assert sound[1] is not None
    assert abs((sound[1] - sound[0]) - (after[0] - before[0])) < Fraction(1, 1000)
    assert any("80 ms later" in warning for warning in writer.warnings)


def test_matroska_rounds_to_milliseconds_and_says_by_how_much(tmp_path: Path) -> None:
    # 50.05 ms becomes 50 ms, and where the last frame is by itself right, others are not
    source = write_clip(tmp_path / "in.mp4", time_base=Fraction(1, 20000), pts=[0, 1009, 2000, 2991, 4000])
    _, writer = copy_clip(source, tmp_path / "out.mkv", **FAST)
    assert writer.warnings == ["times moved by up to 0.45 ms: this container cannot hold the exact ones"]
    for a, b in zip(times_of(source), times_of(tmp_path / "out.mkv"), strict=True):
        assert abs(a - b) <= Fraction(1, 1000)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "yuv420p", ".mp4"),
        ("libx264", "yuv422p", ".mkv"),
        ("libx264", "yuv444p10le", ".mp4"),
        ("libx264", "yuvj420p", ".mp4"),
        ("libx265", "yuv420p10le", ".mp4"),
        ("libx265", "yuv422p10le", ".mkv"),
        ("libsvtav1", "yuv420p", ".mp4"),
        ("libvpx-vp9", "yuv420p", ".webm"),
        ("libvpx-vp9", "yuv444p", ".mkv"),
    ],
)
def test_the_codec_family_and_pixel_format_are_kept(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    full = 2 if pix_fmt.startswith("yuvj") else 1
    source = write_clip(tmp_path / f"in{suffix}", frames=5, codec=codec, pix_fmt=pix_fmt, colour=(full, 1, 1, 1))
    preset = "12" if codec == "libsvtav1" else "5" if codec == "libvpx-vp9" else "ultrafast"
    _, writer = copy_clip(source, tmp_path / f"out{suffix}", preset=preset)
    _assert_alike(source, tmp_path / f"out{suffix}")
    assert info_of(source).pix_fmt == info_of(tmp_path / f"out{suffix}").pix_fmt
    assert writer.warnings == []


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_hevc_is_called_as_apple_s_players_want_it(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=3, codec="libx265")
    copy_clip(source, tmp_path / f"out{suffix}", preset="ultrafast")
    with av.open(str(tmp_path / f"out{suffix}")) as written:
        assert written.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("colour", [(1, 9, 16, 9), (1, 9, 18, 9), (2, 1, 13, 1), (1, 6, 6, 6), (1, 5, 6, 5)])
def test_colour_tags_are_kept(tmp_path: Path, colour: tuple[int, int, int, int]) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=3, pix_fmt="yuv420p10le", colour=colour)
    copy_clip(source, tmp_path / "out.mp4", **FAST)
    _assert_alike(source, tmp_path / "out.mp4")


@pytest.mark.parametrize(
    ("source", "pix_fmt", "colour", "codec"),
    [
        ("ffv1", "bgra", (2, 1, 13, 0), None),  # transparency, which H.264 does not hold as RGB either
        ("ffv1", "gbrp16le", (2, 1, 13, 0), None),
        ("libx264", "yuv420p", (1, 1, 1, 1), "libx264rgb"),
        ("libx264", "yuv420p", (1, 1, 1, 6), "libx264rgb"),
    ],
)
def test_colours_stay_where_rgb_becomes_yuv_or_the_other_way_round(
    tmp_path: Path, source: str, pix_fmt: str, colour: tuple[int, int, int, int], codec: str | None
) -> None:
    write_clip(tmp_path / "in.mkv", frames=1, codec=source, pix_fmt=pix_fmt, colour=colour)
    copy_clip(tmp_path / "in.mkv", tmp_path / "out.mkv", codec=codec)
    pictures = []
    for name in ("in.mkv", "out.mkv"):
        with av.open(str(tmp_path / name)) as container:
            pictures.append(next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int))
    assert np.abs(pictures[0] - pictures[1]).mean() < 3


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_hdr10_metadata_is_kept(tmp_path: Path, codec: str) -> None:
    params = {
        "libx265": "log-level=error:max-cll=1000,400:"
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)",
        "libsvtav1": "content-light=1000,400:"
        "mastering-display=G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000.0,0.005)",
    }[codec]
    options = {"x265-params" if codec == "libx265" else "svtav1-params": params}
    tags = (1, 9, 16, 9)
    source = write_clip(tmp_path / "in.mp4", frames=3, codec=codec, pix_fmt="yuv420p10le", colour=tags, options=options)
    before = info_of(source).hdr
    assert before.content_light == "1000,400"
    assert before.mastering_display is not None
    copy_clip(source, tmp_path / "out.mp4", preset="12" if codec == "libsvtav1" else "ultrafast")
    assert info_of(tmp_path / "out.mp4").hdr == before
    _, writer = copy_clip(source, tmp_path / "out.mkv", codec="ffv1")
    assert ["HDR10" in warning for warning in writer.warnings] == [True]


@pytest.mark.parametrize(("kind", "name"), [("DOVI_METADATA", "Dolby Vision"), ("DYNAMIC_HDR_PLUS", "HDR10+")])
def test_hdr_metadata_that_change_are_lost_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=3)
    with monkeypatch.context() as patch:
        patch.setattr("vidunmask.video.reader._side_data", lambda frame: {kind: b""})
        like = info_of(source)
    with VideoReader(source) as reader, VideoWriter(tmp_path / "out.mp4", like, **FAST) as writer:
        for frame in reader:
            writer.write(frame)
    assert writer.warnings == [f"the metadata of {name} are lost: the encoder of h264 writes none"]


@pytest.mark.parametrize("pix_fmt", LOSSLESS_FORMATS)
def test_outside_the_edit_the_decoded_frames_are_bit_identical(tmp_path: Path, pix_fmt: str) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=3, size=(49, 65), codec="ffv1", pix_fmt=pix_fmt)
    alpha = feathered_disc(24, 8)
    to_crop = np.array([[1.0, 0, -20], [0, 1.0, -12]])

    def edit(frame: Frame) -> Frame:
        if frame.index == 1:
            frame = pixels.editable(frame)
            pixels.paste_crop(frame, np.full((24, 24, 3), 90, np.uint8), alpha, to_crop)
        return frame

    _, writer = copy_clip(source, tmp_path / "out.mkv", edit, codec="ffv1")
    assert writer.warnings == []
    touched = cv2.warpAffine((alpha > 0).astype(np.uint8), cv2.invertAffineTransform(to_crop), (65, 49))
    touched = cv2.dilate(touched, np.ones((9, 9), np.uint8))
    with VideoReader(source) as before, VideoReader(tmp_path / "out.mkv") as after:
        assert before.info.pix_fmt == after.info.pix_fmt
        for a, b in zip(before, after, strict=True):
            for kept, plane in zip(planes_of(a.native), planes_of(b.native), strict=True):
                free = cv2.resize(touched, plane.shape[1::-1], interpolation=cv2.INTER_NEAREST) == 0
                if a.index != 1:
                    free[:] = True
                np.testing.assert_array_equal(plane[free], kept[free])


def test_editing_one_frame_leaves_those_predicted_from_it_alone(tmp_path: Path) -> None:
    """A decoder reads its reference frames again: an edit must not get into them."""
    source = write_clip(tmp_path / "in.mp4", frames=20, size=(96, 128), options={"crf": "20", "g": "20"})

    def paint(frame: Frame) -> Frame:
        if frame.index % 3 == 0:
            frame = pixels.editable(frame)
            pixels.paste_crop(frame, np.zeros((128, 128, 3), np.uint8), np.ones((128, 128), np.float32), np.eye(2, 3))
        return frame

    copy_clip(source, tmp_path / "out.mkv", paint, codec="ffv1")
    with VideoReader(source) as before, VideoReader(tmp_path / "out.mkv") as after:
        for a, b in zip(before, after, strict=True):
            same = all((x == y).all() for x, y in zip(planes_of(a.native), planes_of(b.native), strict=True))
            assert same == (a.index % 3 != 0)


@pytest.mark.parametrize("name", ["out.m3u8", "out.mpd", "out.png"])
def test_what_consists_of_several_files_is_no_target(tmp_path: Path, name: str) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=2)
    with VideoReader(source) as reader, pytest.raises(UsageError, match="cannot be a single"):
        VideoWriter(tmp_path / name, reader.info)
    assert list(tmp_path.iterdir()) == [source]


def test_odd_sizes_keep_their_size(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=4, size=(17, 35), codec="ffv1")
    _, writer = copy_clip(source, tmp_path / "out.mp4")
    assert info_of(tmp_path / "out.mp4").size == (17, 35)
    assert any("libx264 cannot hold 35x17" in warning for warning in writer.warnings)
    with VideoReader(source) as reader, pytest.raises(UsageError, match="35x17 yuv420p"):
        VideoWriter(tmp_path / "other.mp4", reader.info, codec="h264")


@pytest.mark.parametrize(("suffix", "codec"), [(".webm", "libvpx-vp9"), (".mkv", "libvpx-vp9"), (".webm", "libvpx")])
def test_transparency_of_webm_is_kept(tmp_path: Path, suffix: str, codec: str) -> None:
    source = write_clip(
        tmp_path / f"in{suffix}", frames=3, codec=codec, pix_fmt="yuva420p", tags={"alpha_mode": "1"},
        options={"auto-alt-ref": "0"},
    )  # fmt: skip
    _, writer = copy_clip(source, tmp_path / f"out{suffix}", preset="5")
    before, after = info_of(source), info_of(tmp_path / f"out{suffix}")
    assert before.codec == after.codec
    assert before.pix_fmt == after.pix_fmt == "yuva420p"
    assert writer.warnings == []
    _, writer = copy_clip(source, tmp_path / "out.mp4", **FAST)
    assert "loses transparency" in writer.warnings[0]


def test_transparency_that_is_lost_is_named(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=2, codec="ffv1", pix_fmt="yuva422p")
    _, writer = copy_clip(source, tmp_path / "out.mp4", **FAST)
    assert any("transparency" in warning for warning in writer.warnings)
    assert info_of(tmp_path / "out.mp4").pix_fmt == "yuv422p"


@pytest.mark.parametrize(("first", "order"), [("tff", TOP_FIRST), ("bff", BOTTOM_FIRST)])
@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_interlaced_video_stays_interlaced(tmp_path: Path, first: str, order: int, suffix: str) -> None:
    source = tmp_path / f"in{suffix}"
    write_clip(source, frames=4, size=(64, 64), options={"crf": "20", "preset": "ultrafast", "x264-params": f"{first}=1"})
    assert info_of(source).field_order == order
    copy_clip(source, tmp_path / f"out{suffix}", **FAST)
    assert info_of(tmp_path / f"out{suffix}").field_order == order
    _, writer = copy_clip(source, tmp_path / "hevc.ts", codec="hevc", **FAST)
    assert any("interlaced" in warning for warning in writer.warnings)


def test_dv_is_interlaced_though_its_file_does_not_say_so(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.avi", frames=2, size=(576, 720), codec="dvvideo", time_base=Fraction(1, 25))
    _, writer = copy_clip(tmp_path / "in.avi", tmp_path / "out.mkv", **FAST)
    assert not any("interlaced" in warning for warning in writer.warnings)
    assert info_of(tmp_path / "in.avi").field_order == info_of(tmp_path / "out.mkv").field_order == BOTTOM_FIRST


def _fail(source: Path, target: Path, error: type[BaseException], *, overwrite: bool = False) -> None:
    def edit(frame: Frame) -> Frame:
        if frame.index == 5:
            raise error
        return frame

    copy_clip(source, target, edit, overwrite=overwrite, **FAST)


def test_a_failure_leaves_nothing_at_the_target(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", audio=1)
    for error in (ZeroDivisionError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            _fail(source, tmp_path / "out.mp4", error)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]
    assert not [thread for thread in threading.enumerate() if thread.name == "vidunmask-flow"]


def test_an_existing_target_survives_a_failure(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4")
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match="--overwrite"):
        copy_clip(source, target)
    with pytest.raises(ZeroDivisionError):
        _fail(source, target, ZeroDivisionError, overwrite=True)
    with (
        VideoReader(source) as reader,
        pytest.raises(OutputError, match="no frame"),
        VideoWriter(target, reader.info, overwrite=True, **FAST),  # type: ignore[arg-type]
    ):
        pass
    assert target.read_bytes() == b"precious"
    copy_clip(source, target, overwrite=True, **FAST)
    assert times_of(target) == times_of(source)
    assert len(list(tmp_path.iterdir())) == 2


def test_impossible_targets_are_refused_before_any_work(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=2)
    (tmp_path / "link.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    with VideoReader(source) as reader:
        for name in ("in.mp4", "link.mp4", "hard.mp4", "../" + tmp_path.name + "/in.mp4"):
            with pytest.raises(UsageError, match="same file"):
                VideoWriter(tmp_path / name, reader.info, overwrite=True)
        with pytest.raises(OutputError, match="does not exist"):
            VideoWriter(tmp_path / "nowhere" / "out.mp4", reader.info)
        with pytest.raises(UsageError, match="no container"):
            VideoWriter(tmp_path / "out.xyz", reader.info)
        with pytest.raises(UsageError, match="no container"):
            VideoWriter(tmp_path / "out", reader.info)
        (tmp_path / "folder.mp4").mkdir()
        with pytest.raises(OutputError, match="is a folder"):
            VideoWriter(tmp_path / "folder.mp4", reader.info, overwrite=True)
        if os.geteuid() != 0:
            (tmp_path / "locked").mkdir(mode=0o500)
            with pytest.raises(OutputError, match="permission"):
                VideoWriter(tmp_path / "locked" / "out.mp4", reader.info)
    assert source.stat().st_size > 0


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=2)
    target = tmp_path / "out.mp4"
    with VideoReader(source) as reader:
        for options, text in (
            ({"codec": "h263x"}, "no such encoder"),
            ({"crf": 99}, "--crf 99"),
            ({"codec": "h264", "preset": "warp9"}, "warp9|libx264"),
            ({"pix_fmt": "yuv999p"}, "--pix-fmt yuv999p"),
            ({"codec": "ffv1", "crf": 3}, "lossless"),
            ({"codec": "libvpx"}, "cannot hold"),
        ):
            with pytest.raises(UsageError, match=text):
                VideoWriter(target, reader.info, **options)  # type: ignore[arg-type]
        if not Path("/dev/nvidia0").exists():
            with pytest.raises(DeviceError, match="NVIDIA"):
                VideoWriter(target, reader.info, codec="h264_nvenc")
    assert not target.exists()


def test_file_names_of_all_kinds_work(tmp_path: Path) -> None:
    for name in ("with space.mp4", "a:b.mp4", "-dash.mp4", "%03d.mp4", "видео.mp4", "视频.mp4", "q?u'o\"te.mp4"):
        source = write_clip(tmp_path / "src.mp4", frames=2)
        odd = tmp_path / name
        source.rename(odd)
        copy_clip(odd, tmp_path / f"out {name}", **FAST)
        assert len(times_of(tmp_path / f"out {name}")) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=30, size=(240, 320), audio=1, options={"crf": "5"})
    script = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
from vidunmask.errors import OutputError
from vidunmask.video.reader import VideoReader
from vidunmask.video.writer import VideoWriter
try:
    with VideoReader({str(source)!r}) as reader:
        with VideoWriter({str(tmp_path / "out.mp4")!r}, reader.info, crf=0, preset="ultrafast") as writer:
            for frame in reader:
                writer.write(frame)
except OutputError as error:
    print(error)
    sys.exit(error.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4, done.stderr
    assert "disk is full" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]


def test_a_target_whose_name_no_file_system_takes_is_one_line(tmp_path):
    with pytest.raises(OutputError, match=r"xxx\.mp4: cannot be written \(File name too long\)"):
        check_target(tmp_path / ("x" * 300 + ".mp4"))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "libsvtav1"])
def test_closed_captions_stay_with_their_frames_or_are_missed(tmp_path: Path, codec: str) -> None:
    """Of North American television (ANSI/SCTE 128-1 §8.1): they travel within the video, beside each picture."""
    plain = write_clip(tmp_path / "plain.mp4", frames=6, options={"bf": "2"})
    said = []
    with av.open(str(plain)) as source, av.open(str(tmp_path / "in.mp4"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                said.append((packet.pts, bytes([0xFC, 0x41 + len(said), 0x42])))
                caption = b"\xb5\x00\x31GA94\x03\x41\xff" + said[-1][1] + b"\xff"
                unit = bytes([6, 4, len(caption)]) + caption + b"\x80"  # supplemental enhancement information
                with_caption = av.Packet(len(unit).to_bytes(4) + unit + bytes(packet))
                with_caption.pts, with_caption.dts, with_caption.time_base = packet.pts, packet.dts, packet.time_base
                with_caption.is_keyframe, with_caption.stream = packet.is_keyframe, stream
                out.mux(with_caption)
    _, writer = copy_clip(tmp_path / "in.mp4", tmp_path / "out.mkv", codec=codec)
    if codec == "libsvtav1":
        assert writer.warnings == ["the closed captions are lost: the encoder of av1 writes none"]
        return
    assert not any("captions" in warning for warning in writer.warnings)
    with VideoReader(tmp_path / "out.mkv") as reader:
        kept = [_side_data(frame.native).get("A53_CC") for frame in reader]
    assert kept == [caption for _, caption in sorted(said)]
