"""A dump shows what the main job did, and leaves the job alone."""

import errno
import json
import re
import signal
import threading
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from vidunmask.errors import OutputError, UsageError
from vidunmask.pipelines import cli
from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.dump import pictures, store
from vidunmask.pipelines.dump.choice import FrameChoice, TimeChoice
from vidunmask.pipelines.dump.run import dump
from vidunmask.pipelines.remove import unmask
from vidunmask.video.images import read_image
from vidunmask.video.reader import VideoReader

from .conftest import SAMPLES

FACE = ("after", "alpha", "blended", "crop", "logits", "mask", "probability", "raw")


@pytest.fixture(scope="module")
def config(weights):
    return Config(
        device="cpu", precision="float32", segmenter=weights.everywhere, inpainter=weights.inpainter, batch=4, overwrite=True
    )


@pytest.fixture(scope="module")
def parts(config):
    return build(config)


@pytest.fixture(scope="module")
def dumped(clip, config, parts, tmp_path_factory):
    """Frames 2, 6 and 10 of 25."""
    folder = tmp_path_factory.mktemp("dump") / "seams"
    report = dump(clip, folder, choice=FrameChoice("2:14:4"), config=config, parts=parts)
    return folder, report


def lines(folder):
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text(encoding="utf-8").splitlines()]


def calls(folder, name):
    """What data.js hands to one of the page's functions."""
    text = (folder / "data.js").read_text(encoding="utf-8")
    return [json.loads(found) for found in re.findall(rf"^dump\.{name}\((.*)\);$", text, flags=re.MULTILINE)]


def place(folder, index):
    return folder / "frames" / f"{index:06d}"


def test_the_dumped_results_are_what_the_main_job_gives_its_encoder(dumped, clip, tmp_path, config, parts):
    folder, _ = dumped
    unmask(clip, tmp_path / "out.mkv", config=replace(config, codec="ffv1"), parts=parts)
    with VideoReader(tmp_path / "out.mkv") as reader:
        frames = list(reader)
    for line in lines(folder):
        frame = frames[line["index"]]
        assert pictures.fingerprint(frame) == line["result_sha256"]
        assert np.array_equal(pictures.whole(frame), pictures.read_png(place(folder, line["index"]) / "result.png"))


def test_every_stage_has_its_picture_and_every_frame_its_line(dumped):
    folder, report = dumped
    assert [line["index"] for line in lines(folder)] == [2, 6, 10]
    assert report.written == 3
    assert report.frames == 11  # nothing behind the last chosen frame is waited for
    for line in lines(folder):
        (face,) = line["faces"]
        assert face["files"] == [f"face0-{stage}.png" for stage in FACE]
        names = {path.name for path in place(folder, line["index"]).glob("*.png")}
        assert names == {*face["files"], *(f"{n}.png" for n in ("frame", "detections", "tracks", "result", "difference"))}
        assert line["time"] == line["index"] / 25
        assert len(line["detections"][0]["landmarks"]) == 68
        assert 0 < face["area"] <= 1
        assert face["opacity"] == 1
        for name, size in (("crop", (256, 256, 3)), ("mask", (256, 256)), ("raw", (256, 256, 3))):
            assert pictures.read_png(place(folder, line["index"]) / f"face0-{name}.png").shape == size


def test_a_large_face_is_shown_as_the_main_job_writes_it(clip, tmp_path, config, parts):
    """At the frame's own resolution, with the texture that its skin gets beyond the crop's."""
    large = tmp_path / "large.mkv"
    with VideoReader(clip) as reader, av.open(str(large), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 960, "yuv420p"
        for frame, _ in zip(reader, range(4), strict=False):
            native = frame.native.reformat(1280, 960, interpolation="BICUBIC")
            rough = np.frombuffer(native.planes[0], np.uint8)
            rough[:] = np.clip(rough + np.random.default_rng(0).normal(0, 8, rough.shape), 16, 235)
            out.mux(stream.encode(native))
        out.mux(stream.encode(None))
    dump(large, tmp_path / "d", choice=FrameChoice("3"), config=config, parts=parts)
    unmask(large, tmp_path / "out.mkv", config=replace(config, codec="ffv1"), parts=parts)
    with VideoReader(tmp_path / "out.mkv") as reader:
        written = list(reader)[3]
    (face,) = lines(tmp_path / "d")[0]["faces"]
    after = pictures.read_png(place(tmp_path / "d", 3) / "face0-after.png")
    assert np.array_equal(after, pictures.face(written, np.array(face["frame_to_crop"])))
    assert len(after) > 1.3 * 256


def test_the_frame_before_any_edit_is_stored_without_loss(dumped, clip):
    folder, _ = dumped
    with VideoReader(clip) as reader:
        frames = list(reader)
    for line in lines(folder):
        stored = pictures.read_native(place(folder, line["index"]) / "frame.npz", line)
        frame = frames[line["index"]]
        assert pictures.fingerprint(stored) == pictures.fingerprint(frame)
        assert (stored.pts, stored.time_base, stored.display_size) == (frame.pts, frame.time_base, frame.display_size)
        assert np.array_equal(pictures.whole(stored), pictures.whole(frame))


def test_the_page_has_the_same_lines_and_the_plots_every_frame(dumped):
    folder, _ = dumped
    assert calls(folder, "frame") == lines(folder)
    assert calls(folder, "about") == [json.loads((folder / "dump.json").read_text(encoding="utf-8"))]
    points = calls(folder, "point")
    assert [point[0] for point in points] == list(range(11))
    assert all(len(point[2]) == 1 and len(point[2][0]) == 8 for point in points)
    assert points[0][2][0][4] is None  # no jitter before there are three frames
    assert points[5][2][0][4] < 3
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert "class Viewer" in html
    assert not re.search(r"https?://", html)


def test_a_span_of_time_is_written_too_and_no_thread_stays(clip, tmp_path, config, parts):
    before = threading.active_count()
    report = dump(clip, tmp_path / "d", choice=TimeChoice("0.1:0.2"), config=config, parts=parts)
    assert [line["index"] for line in lines(tmp_path / "d")] == [3, 4]
    assert report.written == 2
    assert threading.active_count() == before


def test_a_span_of_time_with_a_step_has_each_of_its_frames(clip, tmp_path, config, parts):
    report = dump(clip, tmp_path / "d", choice=TimeChoice("0.2:0.6:0.1"), config=config, parts=parts)
    assert [line["index"] for line in lines(tmp_path / "d")] == [5, 8, 10, 13]
    assert report.frames <= 15


@pytest.mark.parametrize("which", ["nowhere", "nan"])
def test_faces_that_are_left_alone_are_shown_as_such(which, clip, tmp_path, config, weights):
    bare = replace(config, segmenter=getattr(weights, which))
    dump(clip, tmp_path / "d", choice=FrameChoice("1"), config=bare)
    (line,) = lines(tmp_path / "d")
    (face,) = line["faces"]
    assert (face["opacity"], face["failed"]) == (0, which == "nan")
    assert face["files"] == ["face0-crop.png", "face0-logits.png", "face0-probability.png"]
    assert not pictures.read_png(place(tmp_path / "d", 1) / "difference.png").any()


def test_a_picture_has_one_frame_which_is_the_main_jobs(tmp_path, config, parts):
    source = SAMPLES / "astronaut_masked.jpg"
    dump(source, tmp_path / "d", config=config, parts=parts)
    (line,) = lines(tmp_path / "d")
    unmask(source, tmp_path / "out.png", config=config, parts=parts)
    assert pictures.fingerprint(read_image(tmp_path / "out.png").frame) == line["result_sha256"]
    assert np.array_equal(
        np.array(Image.open(tmp_path / "out.png")), pictures.read_png(place(tmp_path / "d", 0) / "result.png")
    )
    with pytest.raises(UsageError, match=r"--frames 3: .*one frame"):
        dump(source, tmp_path / "e", choice=FrameChoice("3"), config=config, parts=parts)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--frames", "9:3"], "--frames 9:3"),
        (["--frames", "-5:3"], "--frames -5:3"),
        (["--frames", "25:30"], "has 25 frames, the last is 24"),
        (["--time", "1.5:2"], "lasts 1.00 s"),
        (["--time", "2:1"], "--time 2:1"),
        (["--frames", "1", "--time", "0:1"], "exclude each other"),
        (["--frames", "many"], "--frames many"),
    ],
)
def test_a_bad_range_is_one_line_and_makes_nothing(options, said, clip, tmp_path, capfd):
    assert cli.main(["dump", str(clip), str(tmp_path / "d"), *options]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "d").exists()


def test_a_choice_that_falls_between_the_frames_leaves_nothing(clip, tmp_path, config, parts):
    with pytest.raises(UsageError, match=r"--time 0\.01:0\.02.*no such frame"):
        dump(clip, tmp_path / "d", choice=TimeChoice("0.01:0.02"), config=config, parts=parts)
    assert not (tmp_path / "d").exists()


def test_a_range_that_goes_beyond_the_end_gives_what_there_is_and_says_so(clip, tmp_path, config, parts, caplog):
    assert dump(clip, tmp_path / "d", choice=FrameChoice("20:40:3"), config=config, parts=parts).written == 2
    assert "--frames 20:40:3" in caplog.text
    assert "at frame 24" in caplog.text
    caplog.clear()
    assert dump(clip, tmp_path / "e", choice=FrameChoice("22:"), config=config, parts=parts).written == 3
    assert dump(clip, tmp_path / "f", choice=TimeChoice("0.9:1"), config=config, parts=parts).written == 2  # 1 s is the end
    assert caplog.text == ""


def test_a_folder_with_something_in_it_needs_overwrite_which_replaces_only_a_dump(clip, tmp_path, config, parts):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    asking = replace(config, overwrite=False)
    with pytest.raises(OutputError, match="--overwrite"):
        dump(clip, folder, choice=FrameChoice("1"), config=asking, parts=parts)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    for chosen in ("1", "2"):
        dump(clip, folder, choice=FrameChoice(chosen), config=config, parts=parts)
    assert [line["index"] for line in lines(folder)] == [2]
    assert [path.name for path in (folder / "frames").iterdir()] == ["000002"]
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_dump_is_replaced_only_once_the_new_one_has_a_frame(clip, tmp_path, config, parts):
    folder = tmp_path / "d"
    dump(clip, folder, choice=FrameChoice("0"), config=config, parts=parts)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    store.Dump(folder).begin({"format": 1, "chosen": "", "options": {}}, "")  # of a run that was killed then
    with pytest.raises(UsageError, match="no such frame"):
        dump(clip, folder, choice=TimeChoice("0.01:0.02"), config=config, parts=parts)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    dump(clip, folder, choice=FrameChoice("1"), config=config, parts=parts)
    assert sorted(path.name for path in folder.iterdir()) == ["data.js", "dump.json", "frames", "frames.jsonl", "index.html"]
    assert [line["index"] for line in lines(folder)] == [1]


@pytest.mark.parametrize("name", ["frames/a.png", "index.html", "data.js", "dump.json"])
def test_overwrite_never_takes_what_is_no_dump(name, clip, tmp_path, config, parts):
    precious = tmp_path / "film" / name
    precious.parent.mkdir(parents=True)
    precious.write_text("{}")
    with pytest.raises(OutputError, match=rf"film: holds no dump but a {name.split('/')[0]}"):
        dump(clip, tmp_path / "film", choice=FrameChoice("1"), config=config, parts=parts)
    assert [path for path in (tmp_path / "film").rglob("*") if path.is_file()] == [precious]


def test_a_folder_that_cannot_be_used_is_named(clip, tmp_path, config, parts):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "none" / "d", clip.parent):
        with pytest.raises(OutputError, match=re.escape(str(folder))):
            dump(clip, folder, choice=FrameChoice("1"), config=config, parts=parts)
    with pytest.raises(UsageError, match="is a folder"):
        dump(clip.parent, tmp_path / "d", config=config, parts=parts)


def test_a_full_disk_is_one_line_and_the_frames_before_stay(clip, tmp_path, config, parts, monkeypatch):
    write = pictures.write_png

    def full(path, image):
        if path.parent.name == "000007" and path.name == "result.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, image)

    monkeypatch.setattr(pictures, "write_png", full)
    with pytest.raises(OutputError, match="disk is full"):
        dump(clip, tmp_path / "d", choice=FrameChoice("1:20:3"), config=config, parts=parts)
    assert [line["index"] for line in lines(tmp_path / "d")] == [1, 4]
    assert sorted(path.name for path in (tmp_path / "d" / "frames").iterdir()) == ["000001", "000004"]


def test_a_frame_that_has_its_line_is_kept_however_soon_the_run_is_stopped_then(clip, tmp_path, config, parts, monkeypatch):
    add = store.Dump.add_frame

    def pressed(self, line):
        add(self, line)
        raise KeyboardInterrupt

    monkeypatch.setattr(store.Dump, "add_frame", pressed)
    with pytest.raises(KeyboardInterrupt) as stopped:
        dump(clip, tmp_path / "d", choice=FrameChoice("1:9"), config=config, parts=parts)
    assert stopped.value.__notes__ == [f"{tmp_path / 'd' / 'index.html'} shows the 1 frames that were done"]
    assert [path.name for path in (tmp_path / "d" / "frames").iterdir()] == ["000001"]


def test_half_a_line_is_cut_off(tmp_path):
    path = tmp_path / "lines"
    for before, after in ((b"a\nb", b"a\n"), (b"a\n", b"a\n"), (b"a", b""), (b"", b"")):
        path.write_bytes(before)
        store.mend(path)
        assert path.read_bytes() == after


def test_ctrl_c_leaves_the_frames_that_were_done_and_says_so(clip, tmp_path, config, monkeypatch, capfd):
    folder, fingerprint, seen = tmp_path / "d", pictures.fingerprint, []

    def pressed(frame):
        seen.append(frame.index)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return fingerprint(frame)

    options = ["--segmenter", config.segmenter, "--inpainter", config.inpainter, "--device", "cpu", "--batch", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "fingerprint", pressed)  # of a result, when all its pictures are there
        arguments = ["dump", clip, folder, "--frames", "0:25", *options]
        assert cli.main([str(part) for part in arguments]) == cli.INTERRUPTED
    assert f"interrupted, {folder / 'index.html'} shows the 2 frames that were done" in capfd.readouterr().err
    assert [line["index"] for line in lines(folder)] == [0, 1]
    assert sorted(path.name for path in (folder / "frames").iterdir()) == ["000000", "000001"]
    assert [frame["index"] for frame in calls(folder, "frame")] == [0, 1]
    assert cli.main(["redo", str(folder), "--frame", "1", "--from", "blend", "--quiet"]) == 0
