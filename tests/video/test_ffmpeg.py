import subprocess

import av
import pytest

from vidunmask.errors import DeviceError, InputError
from vidunmask.video import ffmpeg
from vidunmask.video.reader import VideoReader
from vidunmask.video.writer import VideoWriter


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Matroska with a picture of one second, PCM sound, two text subtitles and a font that is none."""
    folder = tmp_path_factory.mktemp("film")
    words, font = folder / "words.srt", folder / "font.ttf"
    words.write_text("1\n00:00:00,100 --> 00:00:00,400\nOne\n\n2\n00:00:00,500 --> 00:00:00,900\nTwo\n")
    font.write_bytes(b"not a font")
    path = folder / "film.mkv"
    source = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=1", "-f", "lavfi", "-i", "sine=d=1:r=48000", "-i", words]
    streams = ["-map", "0", "-map", "1", "-map", "2", "-map", "2", "-c:v", "mpeg4", "-c:a", "pcm_s24le", "-c:s", "ass"]
    tags = [
        "-metadata",
        "title=A film",
        "-metadata:s:s:1",
        "language=fra",
        "-attach",
        font,
        "-metadata:s:t",
        "mimetype=font/ttf",
    ]
    command = [ffmpeg.executable(), "-v", "error", *source, *streams, *tags, path]
    subprocess.run([str(part) for part in command], check=True)
    return path


def info_of(path):
    with VideoReader(path) as reader:
        return reader.info


def test_a_container_that_holds_everything_needs_no_conversion(film, tmp_path):
    info = info_of(film)
    like, converted, left_out = ffmpeg.convert_streams(info, tmp_path / "out.mkv", tmp_path)
    assert like is info
    assert (converted, left_out) == ([], [])
    assert list(tmp_path.iterdir()) == []


def test_subtitles_become_those_of_mp4_and_an_attachment_is_named(film, tmp_path):
    like, converted, left_out = ffmpeg.convert_streams(info_of(film), tmp_path / "out.mp4", tmp_path)
    assert [stream.kind for stream in like.streams] == ["video", "audio", "subtitle", "subtitle"]
    assert [line for line in converted if "mov_text" in line] == converted[-2:]
    assert len(left_out) == 1
    assert "attachment" in left_out[0]
    with av.open(like.path) as container:
        assert container.metadata["title"] == "A film"
        assert container.streams[3].metadata["language"] == "fra"
        times = {}
        for packet in container.demux(container.streams[1], container.streams[2]):
            if packet.size > 2:
                times.setdefault(packet.stream.type, []).append((float(packet.pts * packet.time_base), bytes(packet)))
    assert [(time, text[2:]) for time, text in times["subtitle"]] == [(0.1, b"One"), (0.5, b"Two")]
    assert times["audio"][-1][0] > 0.9


def test_the_info_is_that_of_the_film_but_for_where_the_streams_are(film, tmp_path):
    info = info_of(film)
    like, _, _ = ffmpeg.convert_streams(info, tmp_path / "out.mp4", tmp_path)
    assert (like.size, like.pix_fmt, like.codec, like.time_base) == (info.size, info.pix_fmt, info.codec, info.time_base)
    assert like.stream_index == 0
    assert like.path != info.path


def test_a_language_is_written_as_quicktime_knows_it(film, tmp_path):
    german = tmp_path / "german.mkv"
    command = [
        ffmpeg.executable(),
        "-v",
        "error",
        "-i",
        film,
        "-map",
        "0",
        "-c",
        "copy",
        "-metadata:s:s:1",
        "language=deu",
        german,
    ]
    subprocess.run([str(part) for part in command], check=True)
    like, _, _ = ffmpeg.convert_streams(info_of(german), tmp_path / "out.mov", tmp_path)
    assert like.streams[3].language == "ger"


def test_sound_that_webm_cannot_hold_becomes_opus(film, tmp_path):
    like, converted, _ = ffmpeg.convert_streams(info_of(film), tmp_path / "out.webm", tmp_path)
    assert any("libopus" in line for line in converted)
    assert [stream.codec for stream in like.streams if stream.kind == "audio"] == ["opus"]


def test_titles_chapters_and_time_code_of_quicktime_go_into_webm(film, tmp_path):
    chapters = tmp_path / "chapters.txt"
    chapters.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=900\ntitle=One\n")
    titled = ["-i", chapters, "-map", "0:v", "-map", "0:a", "-map_chapters", "1", "-timecode", "01:00:00:00", "-c", "copy"]
    titled += ["-metadata:s:a", "title=Original", tmp_path / "in.mov"]
    subprocess.run([str(part) for part in [ffmpeg.executable(), "-v", "error", "-i", film, *titled]], check=True)
    with VideoReader(tmp_path / "in.mov") as reader:
        like, _, left_out = ffmpeg.convert_streams(reader.info, tmp_path / "out.webm", tmp_path)
        with VideoWriter(tmp_path / "out.webm", like, preset="ultrafast") as writer:
            for frame in reader:
                writer.write(frame)
    with av.open(str(tmp_path / "out.webm")) as written:
        assert written.streams.audio[0].metadata["title"] == "Original"
        assert written.streams.video[0].metadata["TIMECODE"].startswith("01:00:00:")
        assert [chapter["metadata"]["title"] for chapter in written.chapters()] == ["One"]
    assert left_out == []  # their tracks are not, either


def test_sound_of_an_unknown_kind_is_left_out_and_the_rest_converted(film, tmp_path):
    """As the spatial track of iPhones, which Apple alone decodes."""
    (tmp_path / "in.mkv").write_bytes(film.read_bytes().replace(b"A_PCM/INT", b"A_???/INT"))
    like, converted, left_out = ffmpeg.convert_streams(info_of(tmp_path / "in.mkv"), tmp_path / "out.mp4", tmp_path)
    assert [stream.kind for stream in like.streams] == ["video", "subtitle", "subtitle"]
    assert len(converted) == 2
    assert "stream 1 (audio unknown codec) was left out" in left_out[0]


def test_a_failing_ffmpeg_is_an_input_error_with_its_reason(film, tmp_path, monkeypatch):
    info = info_of(film)
    monkeypatch.setitem(ffmpeg._SUBTITLES, "mp4", "no_such_encoder")
    with pytest.raises(InputError, match="no_such_encoder"):
        ffmpeg.convert_streams(info, tmp_path / "out.mp4", tmp_path)


def test_without_the_program_the_error_names_the_flag(monkeypatch):
    import imageio_ffmpeg

    def missing():
        raise RuntimeError("no binary")

    monkeypatch.setattr(ffmpeg.shutil, "which", lambda name: None)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(DeviceError, match="--convert-streams"):
        ffmpeg.executable()
