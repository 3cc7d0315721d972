import json
import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
from PIL import Image

import vidunmask
from vidunmask.errors import InputError, OutputError, UsageError
from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.remove import SYNTHESIZED, unmask

from .conftest import SAMPLES


@pytest.fixture(scope="module")
def config(weights):
    return Config(
        device="cpu",
        precision="float32",
        segmenter=weights.everywhere,
        inpainter=weights.inpainter,
        preset="ultrafast",
        batch=8,
    )


@pytest.fixture(scope="module")
def parts(config):
    return build(config)


@pytest.fixture(scope="module")
def bare_parts(config, weights):
    return build(Config(device="cpu", precision="float32", segmenter=weights.nowhere, inpainter=weights.inpainter))


def times(path):
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sound(path):
    with av.open(str(path)) as container:
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


def test_a_masked_clip_is_edited_and_keeps_times_sound_and_tags(clip, tmp_path, config, parts):
    seen = []
    report = unmask(clip, tmp_path / "out.mp4", config=config, parts=parts, progress=lambda *at: seen.append(at))
    assert times(tmp_path / "out.mp4") == times(clip) == [Fraction(i, 25) for i in range(25)]
    assert sound(tmp_path / "out.mp4") == sound(clip)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["comment"].startswith("Portrait: NASA")
        assert container.metadata["comment"].endswith(SYNTHESIZED)
        assert container.metadata["comment"].count("Portrait: NASA") == 1
        assert container.metadata["synthesized_by"] == f"vidunmask {vidunmask.__version__}"
    assert (report.frames, report.frames_edited, len(report.faces)) == (25, 25, 1)
    assert report.faces[0].frames_edited == 25
    assert seen[-1] == (25, 25)
    assert {"decode", "detect", "track", "aim", "crop", "segment", "inpaint", "blend", "encode"} <= set(report.stages)
    assert all(seconds >= 0 for seconds in report.stages.values())
    assert set(report.weights) == {"everywhere.safetensors", "inpainter.safetensors"}


def test_a_face_without_a_mask_reaches_a_lossless_encoder_bit_for_bit(clip, tmp_path, bare_parts):
    report = unmask(clip, tmp_path / "out.mkv", config=Config(codec="ffv1"), parts=bare_parts)
    assert report.frames_edited == 0
    assert len(report.faces) == 1
    with av.open(str(clip)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        for a, b in zip(before.decode(video=0), after.decode(video=0), strict=True):
            assert np.array_equal(a.to_ndarray(), b.to_ndarray())


def test_only_the_region_of_the_face_changes(clip, tmp_path, config, parts):
    lossless = replace(config, codec="ffv1", preset=None)
    unmask(clip, tmp_path / "out.mkv", config=lossless, parts=parts)
    with av.open(str(clip)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        for a, b in zip(before.decode(video=0), after.decode(video=0), strict=True):
            changed = np.argwhere(a.to_ndarray(format="gray") != b.to_ndarray(format="gray"))
            assert len(changed) > 1000
            # The crop is about three face widths; the corners of the picture are outside of it.
            assert changed.min(axis=0)[1] > 40
            assert changed.max(axis=0)[1] < 600


def test_two_runs_give_the_same_bytes(clip, tmp_path, config, parts):
    for name in ("a.mkv", "b.mkv"):
        unmask(clip, tmp_path / name, config=config, parts=parts)
    first, second = (
        [frame.to_ndarray() for frame in av.open(str(tmp_path / name)).decode(video=0)] for name in ("a.mkv", "b.mkv")
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_api_stands_in_the_package():
    assert vidunmask.unmask is unmask


@pytest.mark.parametrize("names", [("", "b"), ("a.jpg", "")])
def test_an_empty_name_is_no_file_and_not_the_current_folder(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="name input and output"):
        unmask(*names)


def test_a_picture_is_edited_and_keeps_its_size_and_metadata(tmp_path, config, parts):
    source, target = tmp_path / "in.jpg", tmp_path / "out.jpg"
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    Image.open(SAMPLES / "astronaut_masked.jpg").save(source, exif=exif, quality=95)
    report = unmask(source, target, config=config, parts=parts)
    assert (report.frames, report.frames_edited) == (1, 1)
    assert {"detect", "aim", "crop", "segment", "inpaint", "blend"} <= set(report.stages)
    after = Image.open(target)
    assert after.size == (512, 512)
    assert after.getexif()[0x010F] == "A camera"
    assert SYNTHESIZED.encode() in after.info["comment"]
    assert np.abs(np.asarray(after, int) - np.asarray(Image.open(source), int)).max() > 50


def test_a_picture_without_a_mask_is_copied_byte_for_byte(tmp_path, bare_parts):
    source = SAMPLES / "astronaut_masked.jpg"
    unmask(source, tmp_path / "out.jpg", config=Config(), parts=bare_parts)
    assert (tmp_path / "out.jpg").read_bytes() == source.read_bytes()


def test_a_video_without_a_mask_is_copied_byte_for_byte_unless_another_encoding_is_asked_for(clip, tmp_path, bare_parts):
    copied, encoded = tmp_path / "a.mp4", tmp_path / "b.mp4"
    assert unmask(clip, copied, config=Config(), parts=bare_parts).frames_edited == 0
    assert copied.read_bytes() == clip.read_bytes()
    unmask(clip, encoded, config=Config(crf=30), parts=bare_parts)
    assert encoded.read_bytes() != clip.read_bytes()


def test_stopped_while_it_copies_a_run_leaves_what_stood_there(clip, tmp_path, bare_parts, monkeypatch):
    def stop(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfile", stop)
    with pytest.raises(KeyboardInterrupt):
        unmask(clip, tmp_path / "out.mp4", config=Config(), parts=bare_parts)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(KeyboardInterrupt):
        unmask(clip, tmp_path / "out.mp4", config=Config(overwrite=True), parts=bare_parts)
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


def test_a_file_that_took_the_place_of_the_input_is_not_copied_unseen(clip, tmp_path, bare_parts):
    source, other = shutil.copy(clip, tmp_path / "in.mp4"), shutil.copy(SAMPLES / "astronaut_masked.mp4", tmp_path / "b.mp4")

    def exchange(done, of):
        if other.exists():
            other.replace(source)

    report = unmask(source, tmp_path / "out.mp4", config=Config(), parts=bare_parts, progress=exchange)
    assert report.frames == len(times(tmp_path / "out.mp4")) == 25
    assert report.frames_copied == 0
    assert report.warnings == (f"{source}: was changed while it was read; run it again",)


def test_what_is_said_of_an_encoding_does_not_stand_in_the_report_of_a_copy(tmp_path, bare_parts, config, parts, caplog):
    source = tmp_path / "in.avi"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 320, 240
        with av.open(str(SAMPLES / "astronaut_masked.mp4")) as sample:
            for frame in islice(sample.decode(video=0), 5):
                container.mux(stream.encode(frame.reformat(320, 240)))
        container.mux(stream.encode(None))
    becomes = "the video was mpeg4 and becomes h264; --codec mpeg4 keeps it"
    report = unmask(source, tmp_path / "out.avi", config=Config(), parts=bare_parts)
    assert (report.frames, report.frames_copied, report.warnings) == (5, 5, ())
    assert caplog.messages == [f"if a mask is found, {becomes}"]
    caplog.clear()
    report = unmask(source, tmp_path / "edited.avi", config=replace(config, preset=None), parts=parts)
    assert (report.frames_edited, report.warnings) == (5, (becomes,))
    assert caplog.messages == [f"if a mask is found, {becomes}"]
    report = unmask(source, tmp_path / "out.mkv", config=Config(preset="ultrafast"), parts=bare_parts)
    assert report.frames_copied == 0
    assert "becomes h264" in report.warnings[0]


def test_a_folder_goes_on_past_a_bad_picture_and_names_it(tmp_path, config, parts):
    source = tmp_path / "photos with spaces, Фото"
    source.mkdir()
    picture = Image.open(SAMPLES / "astronaut_masked.jpg")
    picture.save(source / "a.jpg")
    (source / "b.png").write_bytes(b"broken")
    picture.resize((300, 300)).save(source / "c.png")
    (source / "notes.txt").write_text("not a picture")
    target = tmp_path / "out"
    report = unmask(source, target, config=config, parts=parts)
    assert sorted(path.name for path in target.iterdir()) == ["a.jpg", "c.png"]
    assert Image.open(target / "c.png").size == (300, 300)
    assert [failure.path for failure in report.failures] == [str(source / "b.png")]
    assert (report.frames, len(report.files)) == (2, 2)
    assert json.loads(report.to_json())["failures"][0]["exit_code"] == 3

    with pytest.raises(OutputError, match=r"a\.jpg and 1 more: exists already"):
        unmask(source, target, config=config, parts=parts)


def test_a_surprise_over_one_picture_of_a_folder_is_its_failure_alone(tmp_path, config, parts, monkeypatch):
    from vidunmask.video import images

    for name in ("a.png", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.open(SAMPLES / "astronaut_masked.jpg").resize((300, 300)).save(tmp_path / "in" / name)
    read = images.read_image

    def surprised(path):
        if path.name == "a.png":
            raise MemoryError("no room for it\nand more lines")
        return read(path)

    monkeypatch.setattr(images, "read_image", surprised)
    report = unmask(tmp_path / "in", tmp_path / "out", config=config, parts=parts)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]
    failure = report.failures[0]
    assert (failure.exit_code, failure.message) == (1, f"{tmp_path / 'in' / 'a.png'}: unexpected MemoryError: no room for it")


def test_a_folder_without_pictures_is_an_input_error_and_makes_nothing(tmp_path, config):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no pictures \([^)]*\)$"):
        unmask(tmp_path / "empty", tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty" / "a.mp4").touch()
    with pytest.raises(InputError, match=r"the videos are done by: vidunmask batch .*empty --out .*out$"):
        unmask(tmp_path / "empty", tmp_path / "out", config=config)


def test_a_folder_into_itself_or_onto_a_file_is_refused(tmp_path, config):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="input itself"):
        unmask(tmp_path, tmp_path, config=config)
    with pytest.raises(OutputError, match="is a file"):
        unmask(tmp_path, tmp_path / "file", config=config)


def test_a_failing_stage_leaves_nothing_and_ends_its_threads(clip, tmp_path, config, parts, monkeypatch):
    import threading

    calls = []

    def fail(images, holes):
        calls.append(len(images))
        if len(calls) > 1:
            raise RuntimeError("in the midst")
        return np.stack(images).astype(np.float32)

    monkeypatch.setattr(parts.unmasker, "inpaint", fail)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="in the midst"):
        unmask(clip, tmp_path / "out.mp4", config=config, parts=parts)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


def subtitled(clip, path):
    """The clip with a text subtitle that MP4 cannot hold."""
    from vidunmask.video import ffmpeg as own

    words = path.with_suffix(".srt")
    words.write_text("1\n00:00:00,200 --> 00:00:00,700\nGood morning\n")
    import ffmpeg

    film, text = ffmpeg.input(str(clip)), ffmpeg.input(str(words))
    streams = (film["v"], film["a"], text["s"])
    options = {"c": "copy", "c:s": "ass", "metadata:s:s:0": "language=eng"}
    ffmpeg.output(*streams, str(path), **options).run(cmd=own.executable(), quiet=True)
    words.unlink()


def test_a_subtitle_that_the_target_cannot_hold_is_left_out_by_name_or_converted_on_request(clip, tmp_path, config, parts):
    source = tmp_path / "in.mkv"
    subtitled(clip, source)
    report = unmask(source, tmp_path / "plain.mp4", config=config, parts=parts)
    assert any("subtitle" in warning and "left out" in warning for warning in report.warnings)

    converting = replace(config, convert_streams=True)
    report = unmask(source, tmp_path / "converted.mp4", config=converting, parts=parts)
    assert report.warnings == ()
    with av.open(str(tmp_path / "converted.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio", "subtitle"]
        subtitle = container.streams.subtitles[0]
        assert subtitle.metadata["language"] == "eng"
        texts = [bytes(packet)[2:] for packet in container.demux(subtitle) if packet.size > 2]
        assert texts == [b"Good morning"]
        assert container.metadata["title"] == "A sample of vidunmask"
    assert times(tmp_path / "converted.mp4") == times(clip)
    assert [data for _, data in sound(tmp_path / "converted.mp4")] == [data for _, data in sound(clip)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["converted.mp4", "in.mkv", "plain.mp4"]
