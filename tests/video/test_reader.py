"""Files as they come: the frames that can be had, exact times, and a clear word where there are none."""

import io
import struct
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.video.clips import native, picture, write_clip
from vidunmask.errors import InputError
from vidunmask.flow import prefetch
from vidunmask.video.reader import VideoReader


def _read(path: Path) -> tuple[VideoReader, list[int]]:
    with VideoReader(path) as reader:
        return reader, [frame.pts for frame in reader]


def _milliseconds(path: Path) -> tuple[VideoReader, list[float]]:
    with VideoReader(path) as reader:
        return reader, [float(frame.time * 1000) for frame in reader]


def _raw_clip(path: Path, pts: list[int | None], *, time_base: Fraction = Fraction(1, 1000)) -> Path:
    """A clip of one-picture groups whose packets carry the given times unchecked."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuvj420p"
    context.time_base = Fraction(1, 25)
    blobs = []
    for index in range(len(pts)):
        raw = native(picture(48, 64, shift=index), "yuvj420p", space=5)
        raw.pts, raw.time_base = index, Fraction(1, 25)
        blobs += [bytes(packet) for packet in context.encode(raw)]
    with av.open(str(path), "w", format="nut", container_options={"avoid_negative_ts": "disabled"}) as out:
        stream = out.add_mux_stream("mjpeg", width=64, height=48)
        stream.time_base = time_base
        for index, (blob, time) in enumerate(zip(blobs, pts, strict=True)):
            packet = av.Packet(blob)
            packet.stream, packet.time_base = stream, time_base
            packet.pts, packet.dts, packet.is_keyframe = time, index - 1000, True
            out.mux(packet)
    return path


def test_frames_carry_exact_times_and_indices(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", time_base=Fraction(1, 30000), pts=[0, 1001, 2002, 5005],
                      container_options={"video_track_timescale": "30000"})  # fmt: skip
    with VideoReader(path) as reader:
        frames = list(reader)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.time for frame in frames] == [Fraction(1001 * k, 30000) for k in (0, 1, 2, 5)]
    assert reader.info.frames_estimate == 4
    assert reader.info.average_rate is not None
    assert reader.warnings == []


def test_what_holds_no_video_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    (tmp_path / "folder.mp4").mkdir()
    write_clip(tmp_path / "sound.mp4", video=False, audio=1)
    write_clip(tmp_path / "song.mp4", video=False, audio=1, cover=True)
    whole = write_clip(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "headless.mp4").write_bytes(whole[: whole.index(b"moov")])
    for name, reason in (
        ("missing.mp4", "no such file"),
        ("empty.mp4", "empty"),
        ("text.mp4", "not a video"),
        ("folder.mp4", "folder"),
        ("sound.mp4", "only audio"),
        ("song.mp4", "cover art"),
        ("headless.mp4", "not a video"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            VideoReader(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 3


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_gives_what_is_there(tmp_path: Path, suffix: str, share: float) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"} if suffix == ".mp4" else {}
    path = write_clip(tmp_path / f"in{suffix}", frames=60, size=(96, 128), container_options=options,
                      options={"g": "6", "crf": "12"})  # fmt: skip
    _, whole = _read(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    _, cut = _read(path)
    assert 0 < len(cut) < len(whole) or (share > 0.95 and len(cut) <= len(whole))
    assert set(cut) <= set(whole)


def test_a_cut_off_mp4_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", frames=40, size=(96, 128), container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    reader, times = _read(path)
    assert 0 < len(times) < 40
    assert any("of 40 frames" in warning for warning in reader.warnings)


@pytest.mark.parametrize("threads", [1, 2])
def test_half_a_packet_at_the_end_costs_no_other_frame(tmp_path: Path, threads: int) -> None:
    """A decoder with a thread for each frame gives up those that it holds back."""
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    path = write_clip(tmp_path / "in.mp4", frames=40, options={"g": "10", "bf": "2"}, container_options=fragments)
    whole = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        end = packets[27].pos + packets[27].size // 2
        before = sorted(packet.pts for packet in packets[:27])
    path.write_bytes(whole[:end])
    with VideoReader(path, threads=threads) as reader:
        assert [frame.pts for frame in reader] == before
        first, second, third = reader.warnings
    assert first.startswith(f"the file is cut off: only {end} of its ")
    assert second == "1 damaged packets were skipped"
    assert third == "the file seems cut off or damaged: 27 of 30 frames could be read"


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
def test_a_file_with_sound_that_is_cut_off_says_so_at_once(tmp_path: Path, suffix: str, share: float) -> None:
    path = write_clip(tmp_path / f"in{suffix}", frames=50, codec="mpeg4", audio=1)
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(whole * share)])
    with VideoReader(path) as reader:
        said = [f"the file is cut off: only {int(whole * share)} of its {whole} bytes are there"]
        assert reader.warnings == (said if share < 1 else [])


def test_sound_that_is_longer_than_the_picture_is_nothing_to_warn_of(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mkv", frames=2, audio=1, sound_blocks=130)
    with VideoReader(path) as reader:
        times = [frame.time for frame in reader]
        assert reader._container.duration is not None
        assert reader._container.duration > 2_900_000
    assert times[-1] < 1
    assert reader.warnings == []


def test_a_matroska_file_of_unknown_size_is_measured_by_where_all_its_streams_end(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mkv", frames=150, audio=1)
    data = bytearray(path.read_bytes())
    size = data.index(b"\x18\x53\x80\x67") + 4
    data[size : size + 8] = b"\x01" + b"\xff" * 7  # as where it was written to a pipe
    path.write_bytes(data)
    assert _read(path)[0].warnings == []
    path.write_bytes(data[: len(data) * 2 // 3])
    reader, times = _read(path)
    assert reader.warnings == [f"the file seems cut off or damaged: {len(times)} frames could be read"]


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_cost_frames_not_the_run(tmp_path: Path, seed: int) -> None:
    path = write_clip(tmp_path / "in.mkv", frames=40, size=(96, 128), options={"g": "8", "crf": "12"})
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(2000, len(data), 40):
        data[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(data))
    reader, times = _read(path)
    assert len(times) >= 8
    assert times == sorted(set(times))
    assert reader.warnings


def test_times_that_repeat_or_go_back_are_repaired_by_the_least(tmp_path: Path) -> None:
    path = _raw_clip(tmp_path / "in.nut", [0, 40, 40, 80, 60, 120, 160])
    reader, times = _milliseconds(path)
    tick = float(reader.info.time_base * 1000)
    assert times == pytest.approx([0, 40, 40 + tick, 80, 80 + tick, 120, 160])
    assert any("2 frames" in warning and "timestamps" in warning for warning in reader.warnings)


def test_negative_times_are_times_like_any_other(tmp_path: Path) -> None:
    pts = [512 * index - 1024 for index in range(4)]
    path = write_clip(tmp_path / "in.ts", pts=pts, container_options={"avoid_negative_ts": "disabled"})
    assert _milliseconds(path)[1] == [-80, -40, 0, 40]


@pytest.mark.parametrize("bf", ["0", "2"])
def test_times_before_zero_that_matroska_does_not_tell_are_counted_back(tmp_path: Path, bf: str) -> None:
    pts = [512 * index - 6400 for index in range(25)]
    options = {"bf": bf, "preset": "veryfast"}
    path = write_clip(tmp_path / "in.mkv", pts=pts, options=options, container_options={"avoid_negative_ts": "disabled"})
    assert _milliseconds(path)[1] == [40 * index - 500 for index in range(25)]


def test_frames_that_an_edit_list_hides_are_not_missed(tmp_path: Path) -> None:
    pts = [512 * index - 1024 for index in range(8)]
    path = write_clip(tmp_path / "in.mp4", pts=pts)
    reader, times = _read(path)
    assert times == [512 * index for index in range(6)]
    assert reader.warnings == []


def test_a_clock_that_is_set_back_goes_on(tmp_path: Path) -> None:
    path = _raw_clip(tmp_path / "in.nut", [90000, 90040, 90080, 0, 40, 80])
    _, times = _milliseconds(path)
    assert times[:3] == [90000, 90040, 90080]
    assert np.diff(times[3:]).tolist() == [40, 40]
    assert 0 < times[3] - times[2] <= 1000


def test_a_stream_without_times_is_given_some(tmp_path: Path) -> None:
    path = tmp_path / "in.h264"
    write_clip(path, frames=6, options={"crf": "20", "bf": "0"})
    _, times = _read(path)
    assert len(times) == 6
    assert len(set(np.diff(times))) == 1


def test_a_picture_that_changes_its_size_keeps_the_first(tmp_path: Path) -> None:
    first = write_clip(tmp_path / "a.h264", frames=5, size=(48, 64), options={"bf": "0"})
    second = write_clip(tmp_path / "b.h264", frames=5, size=(96, 128), options={"bf": "0"})
    path = tmp_path / "both.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with VideoReader(path) as reader:
        frames = list(reader)
    assert {(frame.native.height, frame.native.width) for frame in frames} == {(48, 64)}
    assert len(frames) == 10
    assert any("64x48 to 128x96" in warning for warning in reader.warnings)


@pytest.mark.parametrize(("codec", "stored", "given"), [("rawvideo", "yuyv422", "yuv422p"), ("rawvideo", "uyvy422", "yuv422p")])
def test_packed_formats_are_unpacked_without_loss(tmp_path: Path, codec: str, stored: str, given: str) -> None:
    path = write_clip(tmp_path / "in.nut", frames=2, codec=codec, pix_fmt=stored)
    with VideoReader(path) as reader:
        frames = list(reader)
    assert {frame.native.format.name for frame in frames} == {given}
    assert reader.info.pix_fmt == given
    assert any(stored in warning for warning in reader.warnings)
    luma = np.frombuffer(frames[0].native.planes[0], np.uint8).reshape(48, -1)[:, :64]
    packed = native(picture(48, 64), stored).to_ndarray() if stored == "yuyv422" else None
    if packed is not None:
        np.testing.assert_array_equal(luma, packed[..., 0])


@pytest.mark.parametrize("bottom_up", [False, True])
def test_a_picture_stored_upside_down_is_read_upright(tmp_path: Path, bottom_up: bool) -> None:
    path = write_clip(tmp_path / "in.avi", frames=2, codec="rawvideo", pix_fmt="bgr24")
    if bottom_up:  # a positive height in the header, as programs for Windows write it
        path.write_bytes(path.read_bytes().replace(struct.pack("<ii", 64, -48), struct.pack("<ii", 64, 48)))
    with VideoReader(path) as reader:
        frame = next(iter(reader))
    assert all(plane.line_size > 0 for plane in frame.native.planes)
    shown = picture(48, 64)[:: -1 if bottom_up else 1]
    assert np.abs(frame.native.to_ndarray(format="rgb24").astype(int) - shown).max() <= 1


def test_the_largest_real_video_stream_is_chosen(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", cover=True, audio=1)
    with VideoReader(path) as reader:
        assert reader.info.stream_index == 0
        assert [stream.is_cover for stream in reader.info.streams] == [False, False, True]


def test_the_display_matrix_is_kept_whole(tmp_path: Path) -> None:
    matrix = (0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    path = write_clip(tmp_path / "in.mp4", frames=2, matrix=matrix)
    with VideoReader(path) as reader:
        assert reader.info.display_matrix == matrix
        assert reader.info.display_size == (64, 48)
    assert struct.calcsize("9i") == 36


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparent_webm_begins_with_a_key_frame(tmp_path: Path, codec: str) -> None:
    path = write_clip(tmp_path / "in.webm", frames=3, codec=codec, pix_fmt="yuva420p", tags={"alpha_mode": "1"},
                      options={"auto-alt-ref": "0"})  # fmt: skip
    reader, times = _read(path)
    assert len(times) == 3
    assert reader.info.pix_fmt == "yuva420p"
    assert reader.warnings == []


def test_exif_in_the_frames_of_a_camera_s_video_is_no_hindrance(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with av.open(str(tmp_path / "in.avi"), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index in range(3):
            coded = io.BytesIO()
            Image.fromarray(picture(48, 64, shift=index)).save(coded, "JPEG", exif=exif)
            packet = av.Packet(coded.getvalue())
            packet.pts = packet.dts = index
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            out.mux(packet)
    with VideoReader(tmp_path / "in.avi") as reader:
        assert len(list(reader)) == 3
        assert reader.info.display_size == (64, 48)  # turned by its tag
        assert reader.warnings == []


def test_codecs_that_mark_only_packets_as_key_frames_begin_with_one(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mov", codec="cfhd", pix_fmt="yuv422p10le", frames=3)
    with VideoReader(tmp_path / "in.mov") as reader:
        assert reader.warnings == []


def test_a_file_that_begins_late_is_not_cut_off(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", time_base=Fraction(1, 1000), pts=[100_000 + 40 * i for i in range(9)])
    with VideoReader(source) as reader:
        assert len(list(reader)) == 9
        assert reader.warnings == []


def test_closing_from_another_thread_ends_the_iteration(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", frames=50)
    reader = VideoReader(path)
    chain = prefetch(reader, 2)
    next(chain)
    closer = threading.Thread(target=reader.close)
    closer.start()
    closer.join(5)
    assert not closer.is_alive()
    assert len(list(chain)) < 49
    reader.close()


def test_frames_may_be_kept_after_the_reader_is_closed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", frames=20)
    with VideoReader(path) as reader:
        frames = list(reader)
    first = [np.frombuffer(frame.native.planes[0], np.uint8).sum() for frame in frames]
    assert len(set(first)) > 10


def test_every_second_decoded_frame_is_the_same_with_one_thread_or_many(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", frames=20)
    sums = []
    for threads in (1, 0):
        with VideoReader(path, threads=threads) as reader:
            sums.append([int(np.frombuffer(frame.native.planes[0], np.uint8).sum()) for frame in reader])
    assert sums[0] == sums[1]


def _with_times(source: Path, target: Path, times: list[int]) -> Path:
    """The packets of a clip, as they are, at other times in ticks of the clip."""
    with av.open(source) as read, av.open(target, "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        packets = [packet for packet in read.demux(stream) if packet.dts is not None]
        for packet, time in zip(packets, times, strict=True):
            packet.pts = packet.dts = time
            packet.stream = copy
            written.mux(packet)
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_that_have_all_one_time_keep_a_rate(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / f"in{suffix}", frames=60, options={"bf": "0"})
    with VideoReader(_with_times(source, tmp_path / f"still{suffix}", [0] * 60)) as reader:
        times = [float(frame.time) for frame in reader]
    assert any("59 frames" in warning and "timestamps" in warning for warning in reader.warnings)
    assert len(times) == 60
    assert reader.info.jumps == []  # the clock stands, it is not set back: sound and subtitles stay where they are
    np.testing.assert_allclose(np.diff(times[1:]), 0.04, atol=0.002)


def test_a_clock_that_stood_still_and_goes_on_was_not_set_back(tmp_path: Path) -> None:
    times = [0, 40, *[80] * 60, *range(120, 6000, 40)]
    reader, read = _milliseconds(_raw_clip(tmp_path / "in.nut", times))
    assert reader.info.jumps == []
    assert read == sorted(set(read))
    np.testing.assert_allclose(read[-80:], times[-80:])  # its own times again as soon as it has caught up
