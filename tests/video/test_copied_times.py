"""The times of what is copied beside the picture: those of the source, whatever the container makes of them."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.video.clips import FAST, copy_clip, other_packets, picture, times_of, write_clip
from vidunmask.video.reader import open_input


def _with_second_video(path: Path, *, cut: int = 0, key_every: int = 60, large_first: bool = True) -> Path:
    """A large and a small video of 20 frames with B-frames; the first ``cut`` frames lie before zero."""
    options = {"bf": "2", "b-adapt": "0", "g": str(key_every), "preset": "veryfast", "x264-params": "scenecut=0:b-pyramid=none"}
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"} if path.suffix == ".mp4" else {}) as out:
        streams: list[Any] = []
        for height, width in [(96, 128), (48, 64)] if large_first else [(48, 64), (96, 128)]:
            stream = out.add_stream("libx264", rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for index in range(20):
            for stream in streams:
                raw = av.VideoFrame.from_ndarray(picture(stream.height, stream.width, shift=3 * index), "rgb24")
                raw = raw.reformat(format="yuv420p")
                raw.pts, raw.time_base = index - cut, Fraction(1, 25)
                out.mux(stream.encode(raw))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


def _packet_times(path: Path, stream: int) -> list[Fraction]:
    """When the packets of a stream are shown, in the order in which they are decoded, from the first frame of the file on."""
    with open_input(path) as container:
        packets = [packet for packet in container.demux() if packet.size]
        start = min(packet.pts * packet.time_base for packet in packets)
        return [packet.pts * packet.time_base - start for packet in packets if packet.stream.index == stream]


@pytest.mark.parametrize("source", ["in.mkv", "in.mp4", "in.ts"])
@pytest.mark.parametrize("target", ["out.mkv", "out.mp4", "out.ts"])
def test_a_second_video_keeps_its_times_and_their_order(tmp_path: Path, source: str, target: str) -> None:
    path = _with_second_video(tmp_path / source)
    before = _packet_times(path, 1)
    assert before != sorted(before)
    _, writer = copy_clip(path, tmp_path / target, **FAST)
    assert _packet_times(tmp_path / target, 1) == before
    assert not any("damaged" in warning for warning in writer.warnings)


@pytest.mark.parametrize(("source", "copied"), [("in.ts", 20), ("in.mp4", 0)])
def test_a_second_video_goes_into_avi_whole_or_is_left_out(tmp_path: Path, source: str, copied: int) -> None:
    """H.264 of MP4 has lengths in the place of start codes, which AVI refuses."""
    path = _with_second_video(tmp_path / source)
    _, writer = copy_clip(path, tmp_path / "out.avi", **FAST)
    with open_input(tmp_path / "out.avi") as written:
        assert len([packet for packet in written.demux() if packet.size and packet.stream.index == 1]) == copied
    assert any("start codes" in warning for warning in writer.warnings) == (copied == 0)


def test_the_edited_video_is_found_again_where_the_first_one_is_another(tmp_path: Path) -> None:
    path = _with_second_video(tmp_path / "in.ts", large_first=False)
    reader, _ = copy_clip(path, tmp_path / "out.mp4", **FAST)
    assert reader.info.stream_index == 1
    with open_input(tmp_path / "out.mp4") as written:
        assert [int(stream.disposition) & 1 for stream in written.streams] == [0, 1]


def _trimmed(path: Path, seconds: Fraction, **clip: Any) -> Path:
    """An MP4 clip of which an edit list hides the first part."""
    whole = write_clip(path.with_name("whole.mp4"), **clip)
    with open_input(whole) as source, av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as out:
        streams = [out.add_stream_from_template(stream, opaque=stream.type == "video") for stream in source.streams]
        for packet in source.demux():
            if packet.size:
                ticks = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return path


@pytest.mark.parametrize("target", ["out.mkv", "out.ts", "out.avi"])
def test_sound_that_an_edit_list_hides_does_not_come_back(tmp_path: Path, target: str) -> None:
    path = _trimmed(tmp_path / "in.mp4", Fraction(3, 10), frames=25, audio=1, sound_blocks=43)
    sound = other_packets(path)[1]
    assert sum(time < 0 for time, _ in sound) > 10
    assert times_of(path)[0] < Fraction(1, 25)
    _, writer = copy_clip(path, tmp_path / target, **FAST)
    copied = other_packets(tmp_path / target)[1]
    shown = [data for time, data in sound if time >= 0]
    assert len(copied) == len(shown)
    assert target == "out.ts" or [data for _, data in copied] == shown  # transport streams put a header before each packet
    assert copied[0][0] < Fraction(1024, 44100)
    assert not any("later" in warning for warning in writer.warnings)
    assert times_of(tmp_path / target)[0] < Fraction(2, 25)  # AVI gives H.264 a frame late


def test_mp4_goes_on_hiding_what_its_edit_list_hides(tmp_path: Path) -> None:
    path = _trimmed(tmp_path / "in.mp4", Fraction(3, 10), frames=25, audio=1, sound_blocks=43)
    _, writer = copy_clip(path, tmp_path / "out.mp4", **FAST)
    assert other_packets(path) == other_packets(tmp_path / "out.mp4")
    assert writer.warnings == []


@pytest.mark.parametrize("key_every", [8, 60])
def test_a_second_video_that_cannot_hide_its_start_says_what_it_loses(tmp_path: Path, key_every: int) -> None:
    path = _with_second_video(tmp_path / "in.mp4", cut=8, key_every=key_every)
    _, writer = copy_clip(path, tmp_path / "out.mkv", **FAST)
    assert times_of(tmp_path / "out.mkv") == [Fraction(index, 25) for index in range(12)]
    assert sorted(_packet_times(tmp_path / "out.mkv", 1)) == [Fraction(index, 25) for index in range(12)]
    said = [warning for warning in writer.warnings if "before its first key frame" in warning]
    assert len(said) == (0 if key_every == 8 else 1)


@pytest.mark.parametrize(("target", "lost"), [("out.mkv", 0), ("out.mp4", 0), ("out.ts", 1)])
def test_the_run_up_of_opus_is_kept_where_the_container_hides_it(tmp_path: Path, target: str, lost: int) -> None:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound: Any = out.add_stream("libopus", rate=48000)
        sound.layout = "mono"
        for index in range(10):
            raw = av.VideoFrame.from_ndarray(picture(48, 64, shift=index), "rgb24").reformat(format="yuv420p")
            raw.pts, raw.time_base = index, Fraction(1, 25)
            out.mux(video.encode(raw))
            block = av.AudioFrame(format="flt", layout="mono", samples=1920)
            block.sample_rate, block.pts, block.time_base = 48000, index * 1920, Fraction(1, 48000)
            block.planes[0].update(bytes(block.planes[0].buffer_size))
            out.mux(sound.encode(block))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    before = other_packets(path)[1]
    assert before[0][0] == Fraction(-312, 48000)
    copy_clip(path, tmp_path / target, **FAST)
    after = other_packets(tmp_path / target)[1]
    assert len(after) == len(before) - lost
    assert times_of(tmp_path / target)[0] == 0
    assert abs(after[0][0] - before[lost][0]) <= Fraction(1, 1000)


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
@pytest.mark.parametrize("clocks", [(0, 0, 0), (400, 200, 0)])
def test_sound_goes_with_the_picture_where_recordings_stand_one_behind_the_other(
    tmp_path: Path, suffix: str, clocks: tuple[int, ...]
) -> None:
    """Each begins its clock anew, as titles of a DVD and files of a camcorder do that were put together.

    FFmpeg takes a fall of more than a minute for a turn of the clock.
    """
    recordings = [
        write_clip(
            tmp_path / f"{number}.ts", frames=50, audio=1, sound_blocks=80, container_options={"output_ts_offset": f"{clock}"}
        )
        for number, clock in enumerate(clocks)
    ]
    one = recordings[0]
    (tmp_path / "in.ts").write_bytes(b"".join(each.read_bytes() for each in recordings))
    copy_clip(tmp_path / "in.ts", tmp_path / f"out{suffix}", **FAST)
    picture = times_of(tmp_path / f"out{suffix}")
    sound = [time for time, _ in other_packets(tmp_path / f"out{suffix}")[1] if time is not None]
    ahead = times_of(one)[0] - (other_packets(one)[1][0][0] or 0)
    assert (len(picture), len(sound)) == (150, 3 * 81)
    for part in range(3):
        assert abs(picture[50 * part] - sound[81 * part] - ahead) <= Fraction(1, 1000)
        assert abs(picture[50 * part] - picture[0] - 2 * part) <= Fraction(1, 1000)


def _play_only(path: Path, *edits: tuple[int, int]) -> None:
    """Has all tracks of an MP4 with its index at the end play parts of it, each from a time on and so long, in milliseconds."""
    data = bytearray(path.read_bytes())
    at = len(data)
    while (at := data.rfind(b"elst", 0, at)) > 0:
        start, unit = int.from_bytes(data[at + 16 : at + 20]), int.from_bytes(data[(m := data.find(b"mdhd", at)) + 16 : m + 20])
        entries = [struct.pack(">IiI", length, start + begin * unit // 1000, 1 << 16) for begin, length in edits]
        for box in (b"moov", b"trak", b"edts", b"elst"):
            size = data.rfind(box, 0, at + 4) - 4
            data[size : size + 4] = (int.from_bytes(data[size : size + 4]) + 12 * (len(edits) - 1)).to_bytes(4)
        data[at + 8 : at + 24] = len(edits).to_bytes(4) + b"".join(entries)
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("edits", [[(200, 600)], [(0, 400), (800, 600)], [(200, 600), (200, 600)]])
def test_of_a_cut_mp4_only_what_is_played_is_copied(tmp_path: Path, suffix: str, edits: list[tuple[int, int]]) -> None:
    """As editors of phones save their cuts: in an edit list, with all the rest still there."""
    source = write_clip(tmp_path / "in.mp4", frames=50, audio=1, sound_blocks=86, options={"g": "10", "bf": "2"})
    _play_only(source, *edits)
    reader, _ = copy_clip(source, tmp_path / f"out{suffix}", **FAST)
    assert reader.warnings == []
    assert len(times_of(tmp_path / f"out{suffix}")) == sum(length // 40 for _, length in edits)
    played: list[int] = []
    for path in (source, tmp_path / f"out{suffix}"):
        with av.open(str(path)) as container:
            played.append(sum(frame.samples for frame in container.decode(audio=0)))
    assert abs(played[1] - played[0]) <= 2 * 1024


@pytest.mark.parametrize(("suffix", "run_up"), [(".mp4", 0), (".mkv", 1)])
def test_all_sound_of_a_fragmented_mp4_is_copied(tmp_path: Path, suffix: str, run_up: int) -> None:
    fragments = {"movflags": "cmaf+frag_every_frame+empty_moov+delay_moov"}
    source = write_clip(tmp_path / "in.mp4", frames=50, audio=1, sound_blocks=86, container_options=fragments)
    copy_clip(source, tmp_path / f"out{suffix}", **FAST)
    before, after = ([sound for _, sound in other_packets(path)[1]] for path in (source, tmp_path / f"out{suffix}"))
    assert after == before[run_up:]


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_packets_shorter_than_a_tick_do_not_drift(tmp_path: Path, suffix: str) -> None:
    """Matroska counts milliseconds, and TrueHD has 1200 packets a second: some share a time, which not all muxers take."""
    source = write_clip(tmp_path / "in.mkv", frames=25)
    with av.open(str(source)) as video, av.open(str(tmp_path / "both.mkv"), "w") as out:
        pictures = out.add_stream_from_template(video.streams.video[0], opaque=True)
        sound = out.add_stream("pcm_s16le", rate=48000, layout="mono")
        for packet in video.demux():
            if packet.size:
                packet.stream = pictures
                out.mux(packet)
        for block in range(1200):
            frame = av.AudioFrame.from_ndarray(np.full((1, 40), block, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 48000, 40 * block
            out.mux(sound.encode(frame))
    copy_clip(tmp_path / "both.mkv", tmp_path / f"out{suffix}", **FAST)
    times = [time for time, _ in other_packets(tmp_path / f"out{suffix}")[1]]
    assert times[-1] == pytest.approx(1, abs=0.02)  # MOV gives some packets as one
    with av.open(str(tmp_path / f"out{suffix}")) as written:
        samples = np.hstack([frame.to_ndarray() for frame in written.decode(audio=0)])
    np.testing.assert_array_equal(samples, np.repeat(np.arange(1200), 40)[None])
