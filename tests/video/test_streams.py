"""The streams, tags and chapters beside the picture: kept, or named where they are not."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import FAST, copy_clip, other_packets, write_clip
from vidunmask.video.reader import open_input
from vidunmask.video.streams import refusal


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_other_stream_is_copied_packet_for_packet(tmp_path: Path, suffix: str) -> None:
    source = write_clip(
        tmp_path / f"in{suffix}", frames=14, audio=3, subtitle=True, chapters=True,
        attachment=suffix == ".mkv", cover=suffix == ".mp4", cover_attachment=suffix == ".mkv",
        metadata={"title": "A title", "comment": "before"},
    )  # fmt: skip
    target = tmp_path / f"out{suffix}"
    _, writer = copy_clip(source, target, metadata={"comment": "faces are synthesised", "made_by": "a test"}, **FAST)
    assert writer.warnings == []
    assert other_packets(source) == other_packets(target)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert [s.type for s in before.streams] == [s.type for s in after.streams]
        assert [s.disposition for s in before.streams] == [s.disposition for s in after.streams]
        assert [s.metadata.get("language") for s in before.streams] == [s.metadata.get("language") for s in after.streams]
        seconds = [[(c["start"] * c["time_base"], c["metadata"]["title"]) for c in x.chapters()] for x in (before, after)]
        assert seconds[0] == seconds[1]
        assert len(seconds[0]) == 2
        tags = {key.lower(): value for key, value in after.metadata.items()}
        assert tags["title"] == "A title"
        assert tags["comment"] == "before; faces are synthesised"
        if suffix == ".mkv":
            assert tags["made_by"] == "a test"
        for one, other in zip(before.streams.attachments, after.streams.attachments, strict=True):
            assert one.data == other.data


def test_tags_of_one_s_own_are_kept_in_mp4(tmp_path: Path) -> None:
    tags = {"title": "A title", "com.maker.take": "7", "location": "+20.9800+105.7800/"}
    source = write_clip(tmp_path / "in.mp4", frames=2, metadata=tags, container_options={"movflags": "use_metadata_tags"})
    copy_clip(source, tmp_path / "out.mp4", metadata={"made_by": "a test"}, **FAST)
    with av.open(str(tmp_path / "out.mp4")) as after:
        assert {**tags, "made_by": "a test"}.items() <= after.metadata.items()


def test_what_the_container_cannot_hold_is_named(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", audio=1, subtitle=True, attachment=True)
    _, writer = copy_clip(source, tmp_path / "out.mp4", **FAST)
    text = "\n".join(writer.warnings)
    assert "subtitle" in text
    assert "attachment" in text
    assert len(other_packets(tmp_path / "out.mp4")) == 1


@pytest.mark.parametrize(
    ("target", "tags", "mark"),
    [
        ("out.ts", "the tags title, location and ", True),
        ("out.3gp", "the tag title and ", True),
        ("out.h264", "the tags title, location and ", True),
        ("out.gif", "the tags title, location and ", True),
        ("out.avi", "the tag location", False),
        ("out.mkv", None, False),
        ("out.mp4", None, False),
    ],
)
def test_tags_that_the_container_cannot_hold_are_named(tmp_path: Path, target: str, tags: str | None, mark: bool) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=3, metadata={"title": "A title", "location": "+20.9800+105.7800/"})
    _, writer = copy_clip(source, tmp_path / target, metadata={"comment": "synthesised", "made_by": "a test"})
    said = [warning.lower() for warning in writer.warnings if warning.startswith("this container cannot hold")]
    marks = "this program's mark (comment, made_by)" if mark else ""
    assert said == ([f"this container cannot hold {tags}{marks}"] if tags else [])


def test_titles_of_streams_go_through_quicktime_s_files_and_back(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", frames=3, tags={"title": "The picture", "language": "fra"})
    for before, after in (("a.mkv", "b.mp4"), ("b.mp4", "c.mov"), ("c.mov", "d.mp4"), ("d.mp4", "e.mkv")):
        _, writer = copy_clip(tmp_path / before, tmp_path / after, **FAST)
        assert writer.warnings == []
    with open_input(tmp_path / "e.mkv") as last:
        assert last.streams[0].metadata.items() >= {"title": "The picture", "language": "fra"}.items()


def test_languages_are_kept_in_mov_or_missed_in_a_warning(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=3, audio=2, tags={"language": "swe"})  # the sound: eng and deu
    _, writer = copy_clip(source, tmp_path / "out.mov", **FAST)
    with open_input(tmp_path / "out.mov") as written:
        assert [stream.metadata.get("language") for stream in written.streams] == [None, "eng", "ger"]
    assert writer.warnings == ["this container cannot hold the tag language of 1 stream"]


def test_content_credentials_of_the_original_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "in.mp4", frames=3, container_options={"movflags": "empty_moov+default_base_moof"})
    stored = plain.read_bytes()
    head = int.from_bytes(stored[:4])  # of the box that names the kind of file
    account = b"uuid" + bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"\0\0\1\0jumb\0\0\0\x1ejumdc2pa" + bytes(234)
    plain.write_bytes(stored[:head] + (4 + len(account)).to_bytes(4) + account + stored[head:])
    _, writer = copy_clip(plain, tmp_path / "out.mp4", **FAST)
    assert b"c2pa" not in (tmp_path / "out.mp4").read_bytes()
    assert writer.warnings == ["the Content Credentials (C2PA) of the original are left out: they do not hold for the result"]


def test_a_transport_stream_gets_nothing_that_no_player_would_know(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=12, audio=1, subtitle=True, attachment=True)
    _, writer = copy_clip(source, tmp_path / "out.ts", **FAST)
    for stream in ("stream 1 (audio flac", "stream 2 (subtitle ass", "stream 3 (attachment"):
        assert any(warning.startswith(stream) and "left out" in warning for warning in writer.warnings)
    with open_input(tmp_path / "out.ts") as written:
        assert [stream.type for stream in written.streams] == ["video"]
    source = write_clip(tmp_path / "in.mp4", frames=3, audio=1)
    _, writer = copy_clip(source, tmp_path / "sound.ts", **FAST)
    assert not any("left out" in warning for warning in writer.warnings)
    with open_input(tmp_path / "sound.ts") as written:
        assert [stream.type for stream in written.streams] == ["video", "audio"]


def _with_pcm(path: Path, channels: int) -> Path:
    """A clip with PCM sound; AVI and Matroska keep the number of its channels and not which is which."""
    with av.open(str(path), "w") as out:
        picture = out.add_stream("mpeg4", rate=25)
        picture.width, picture.height = 64, 48
        sound = out.add_stream("pcm_s16le", rate=48000)
        sound.codec_context.layout = f"{channels}C"
        for index in range(4):
            raw = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 60 * index, np.uint8), "rgb24")
            raw.pts, raw.time_base = index, Fraction(1, 25)
            out.mux(picture.encode(raw))
        out.mux(picture.encode(None))
        packet = av.Packet(bytes(range(256)) * 6 * channels)
        packet.stream, packet.pts, packet.dts, packet.time_base = sound, 0, 0, Fraction(1, 48000)
        out.mux(packet)
    return path


@pytest.mark.parametrize("source", ["in.avi", "in.mkv"])
@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv", "out.avi"])
@pytest.mark.parametrize(("channels", "layout"), [(2, "stereo"), (6, "5.1")])
def test_pcm_sound_with_channels_in_no_order_is_copied(
    tmp_path: Path, source: str, target: str, channels: int, layout: str
) -> None:
    path = _with_pcm(tmp_path / source, channels)
    _, writer = copy_clip(path, tmp_path / target, **FAST)
    assert not any("left out" in warning for warning in writer.warnings)
    with open_input(path) as before, open_input(tmp_path / target) as after:
        assert before.streams.audio[0].layout.name == f"{channels} channels"
        if target in ("out.mp4", "out.mov"):
            assert after.streams.audio[0].layout.name == layout
        sound = [b"".join(bytes(packet) for packet in x.demux(x.streams.audio[0])) for x in (before, after)]
    assert sound[0] == sound[1] != b""


def test_sound_whose_channels_mp4_cannot_name_is_left_out_before_the_work(tmp_path: Path) -> None:
    path = _with_pcm(tmp_path / "in.mkv", 9)
    _, writer = copy_clip(path, tmp_path / "out.mp4", **FAST)
    assert any("stream 1 (audio pcm_s16le) was left out" in warning for warning in writer.warnings)
    assert len(other_packets(tmp_path / "out.mp4")) == 0
    with open_input(path) as source:
        assert refusal("mp4", source.streams[1]) is not None
        assert refusal("matroska", source.streams[1]) is None


def test_a_track_whose_description_mov_would_lose_is_left_out(tmp_path: Path) -> None:
    """As those of an iPhone with what it measured: FFmpeg's muxer would write their samples, and nothing that reads them."""
    data = write_clip(tmp_path / "in.mp4", frames=5, subtitle=True).read_bytes()
    for text, measured in ((b"tx3g", b"mebx"), (b"sbtl", b"meta"), (b"SubtitleHandler", b"MetadataHandler")):
        data = data.replace(text, measured)
    (tmp_path / "in.mov").write_bytes(data)
    _, writer = copy_clip(tmp_path / "in.mov", tmp_path / "out.mov", **FAST)
    said = "was left out: a mov file cannot hold it (nothing would say what it is)"
    assert writer.warnings == [f"stream 1 (data unknown codec, und) {said}"]
    assert b"mebx" not in (tmp_path / "out.mov").read_bytes()
    with av.open(str(tmp_path / "out.mov")) as written:
        assert [stream.type for stream in written.streams] == ["video"]
