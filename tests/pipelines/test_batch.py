"""Many files, seen from the outside."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vidunmask.errors import DeviceError, InputError, OutputError, UsageError
from vidunmask.pipelines.batch.ledger import WORK, Entry, Ledger, Work
from vidunmask.pipelines.batch.run import batch
from vidunmask.pipelines.batch.terms import BatchOptions, BatchReport, Listener
from vidunmask.pipelines.commands.batch import table
from vidunmask.pipelines.config import Config

from .conftest import SAMPLES, SEGMENT


@pytest.fixture(scope="module")
def config(weights):
    return Config(device="cpu", segmenter=weights.everywhere, inpainter=weights.inpainter, preset="ultrafast", batch=8)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(SAMPLES / "astronaut_masked.jpg").resize((300, 300)).save(path)
    return path


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def book(folder):
    return json.loads((folder / "batch.json").read_text(encoding="utf-8"))


def decoded(path):
    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, frame.to_ndarray()) for frame in container.decode(video=0)]


def sound(path):
    with av.open(str(path)) as container:
        return [(p.pts, p.dts, bytes(p)) for p in container.demux(audio=0) if p.size]


def assert_same_video(a, b):
    one, other = decoded(a), decoded(b)
    assert [time for time, _ in one] == [time for time, _ in other]
    assert all(np.array_equal(x, y) for (_, x), (_, y) in zip(one, other, strict=True))
    assert sound(a) == sound(b)


def statuses(report):
    return [(entry.output, entry.status) for entry in report.entries]


def test_videos_and_pictures_are_done_past_a_bad_one_and_skipped_the_next_time(clip, tmp_path, config):
    source, out = tmp_path / "in put", tmp_path / "out"
    picture(source / "b" / "Фото.jpg")
    shutil.copy(clip, source / "a talk.mp4")
    (source / "bad.mp4").write_bytes(b"no film")
    (source / "notes.txt").write_text("x")
    said = []

    class Heard(Listener):
        def note(self, message):
            said.append(message)

    report = batch([source], out, config=config, listener=Heard())
    assert statuses(report) == [("a talk.mp4", "done"), ("bad.mp4", "failed"), ("b/Фото.jpg", "done")]
    assert contents(out) == ["a talk.mp4", "b/Фото.jpg", "batch.json"]
    assert [entry.exit_code for entry in report.entries] == [0, 3, 0]
    assert [entry.frames_edited for entry in report.entries] == [25, 0, 1]
    assert said == ["notes.txt: neither video nor picture, left alone"]
    written = book(out)
    assert (written["state"], written["counts"]) == ("failed", {"done": 2, "failed": 1})
    assert "not a video" in written["files"][1]["message"]

    before = (out / "a talk.mp4").stat()
    report = batch([source], out, config=config)
    assert [status for _, status in statuses(report)] == ["skipped", "failed", "skipped"]
    assert report.entries[0].frames == 25
    assert (out / "a talk.mp4").stat() == before


def test_what_changed_is_done_again_and_what_is_not_ours_is_kept(tmp_path, config):
    names = ["a.png", "b.png", "c.png", "d.png"]
    for name in names:
        picture(tmp_path / "in" / name)
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"precious")
    report = batch([tmp_path / "in"], out, config=config)
    assert [status for _, status in statuses(report)] == ["failed", "done", "done", "done"]
    assert "--overwrite" in report.entries[0].message
    assert report.entries[0].exit_code == 4
    assert (out / "a.png").read_bytes() == b"precious"

    picture(tmp_path / "in" / "b.png")
    os.utime(tmp_path / "in" / "b.png", ns=(1, 1))  # another input of the same name
    (out / "c.png").write_bytes((out / "c.png").read_bytes()[:100])  # no longer as it was finished
    (out / "d.png").unlink()
    report = batch([tmp_path / "in"], out, config=config)
    assert [status for _, status in statuses(report)] == ["failed", "done", "failed", "done"]
    assert len((out / "c.png").read_bytes()) == 100

    report = batch([tmp_path / "in"], out, config=replace(config, overwrite=True))
    assert [status for _, status in statuses(report)] == ["done", "skipped", "done", "skipped"]
    report = batch([tmp_path / "in"], out, config=replace(config, temporal=False))  # other options, our own results
    assert [status for _, status in statuses(report)] == ["done"] * 4


def test_an_earlier_batch_of_other_files_stays_in_the_book(tmp_path, config):
    one, two = picture(tmp_path / "x" / "a.png"), picture(tmp_path / "y" / "a.png")
    batch([one], tmp_path / "out", config=config)
    report = batch([two], tmp_path / "out", config=config)
    assert statuses(report) == [("y/a.png", "done")]
    assert len(book(tmp_path / "out")["files"]) == 2
    assert statuses(batch([two, one], tmp_path / "out", config=config)) == [("y/a.png", "skipped"), ("a.png", "skipped")]


def test_a_result_is_known_as_our_own_even_if_the_end_came_before_the_book_was_written(tmp_path, config, monkeypatch):
    name = "a\u2028b\x85c.png"  # ends of lines to Python, but not to JSON
    source, out = picture(tmp_path / name), tmp_path / "out"
    write = Ledger.write

    def until_the_end(self, **options):
        if any(entry.status == "done" for entry in self.entries.values()):
            raise SystemExit
        write(self, **options)

    monkeypatch.setattr(Ledger, "write", until_the_end)
    with pytest.raises(SystemExit):
        batch([source], out, config=config)
    monkeypatch.undo()
    assert book(out)["files"][0]["status"] != "done"
    assert statuses(batch([source], out, config=config)) == [(name, "skipped")]
    assert contents(out) == [name, "batch.json"]


def test_what_stands_there_stays_our_own_where_the_next_result_did_not_get_to_its_place(tmp_path, config, monkeypatch):
    from vidunmask.video import atomic

    source, out = picture(tmp_path / "a.png"), tmp_path / "out"
    batch([source], out, config=config)
    commit = atomic.commit

    def fail(error):
        def instead(temporary, target, *, overwrite):
            if target == out / "a.png":
                raise error
            commit(temporary, target, overwrite=overwrite)

        monkeypatch.setattr(atomic, "commit", instead)

    other = replace(config, temporal=False)
    fail(OutputError("no room"))
    assert statuses(batch([source], out, config=other)) == [("a.png", "failed")]
    fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        batch([source], out, config=other)
    fail(SystemExit())
    monkeypatch.setattr(Ledger, "write", lambda self, **options: None)  # the power goes
    with pytest.raises(SystemExit):
        batch([source], out, config=other)
    monkeypatch.undo()
    assert statuses(batch([source], out, config=other)) == [("a.png", "done")]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """Forty small frames without a face, long enough for segments of half a second."""
    path = tmp_path_factory.mktemp("empty") / "empty.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((120, 160, 3), 5 * number, np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("seconds", [0.5, 0])
def test_a_file_that_changes_under_the_work_is_not_done(tmp_path, config, empty, seconds):
    source, out = tmp_path / "a.mp4", tmp_path / "out"
    shutil.copy(empty, source)

    class Changing(Listener):
        def progress(self, done, expected):
            if done == 5:
                source.write_bytes(source.read_bytes() + bytes(8))

    options = BatchOptions(segment_seconds=seconds)
    report = batch([source], out, config=config, options=options, listener=Changing())
    assert (report.entries[0].status, report.entries[0].exit_code) == ("failed", 3)
    assert "was changed while it was being worked on" in report.entries[0].message
    assert not (out / "a.mp4").exists()
    assert statuses(batch([source], out, config=config, options=options)) == [("a.mp4", "done")]


@pytest.mark.parametrize("seconds", [0.5, 0])
def test_of_a_video_without_a_mask_all_frames_are_copied_and_nothing_else_is_said(tmp_path, config, weights, empty, seconds):
    bare = replace(config, segmenter=weights.nowhere, preset=None)
    options = BatchOptions(segment_seconds=seconds, container="mp4")
    report = batch([empty], tmp_path / "out", config=bare, options=options)
    assert (tmp_path / "out" / empty.name).read_bytes() == empty.read_bytes()
    entry = report.entries[0]
    assert (entry.frames, entry.frames_copied, entry.warnings) == (40, 40, [])


def test_where_there_is_no_room_for_a_copy_the_segments_are_put_together(tmp_path, config, weights, empty, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    bare = replace(config, segmenter=weights.nowhere, preset=None)
    report = batch([empty], tmp_path / "out", config=bare, options=BatchOptions(segment_seconds=0.5))
    assert (report.entries[0].status, report.entries[0].frames_copied) == ("done", 0)
    assert report.entries[0].segments == 3
    assert len(decoded(tmp_path / "out" / empty.name)) == 40


def test_the_frames_expected_are_those_of_all_files_that_were_begun(tmp_path, config, empty):
    expected = set()

    class Heard(Listener):
        def progress(self, done, of):
            expected.add(of)

    for name in "abcd":
        shutil.copy(empty, tmp_path / f"{name}.mp4")
    inputs = [*(tmp_path / f"{name}.mp4" for name in "abcd"), picture(tmp_path / "e.png")]
    batch(inputs, tmp_path / "out", config=config, options=BatchOptions(segment_seconds=0.5), listener=Heard())
    assert expected == {40, 80, 120, 160, 161}


def test_a_surprise_while_a_result_is_put_together_ends_its_file_alone(tmp_path, config, empty, monkeypatch):
    def surprised(*arguments, **options):
        raise ValueError("who knows")

    monkeypatch.setattr("vidunmask.pipelines.batch.job.assemble", surprised)
    inputs = [empty, picture(tmp_path / "b.png")]
    report = batch(inputs, tmp_path / "out", config=config, options=BatchOptions(segment_seconds=0.5))
    assert statuses(report) == [("empty.mp4", "failed"), ("b.png", "done")]
    assert report.entries[0].message.endswith("unexpected ValueError: who knows")
    assert report.entries[0].exit_code == 1


def test_a_long_book_is_not_written_for_every_file(tmp_path, config, monkeypatch):
    monkeypatch.setattr("vidunmask.pipelines.batch.ledger._FEW", 1)
    monkeypatch.setattr("vidunmask.pipelines.batch.ledger._SELDOM", 600.0)
    times = []
    write = Ledger.write
    monkeypatch.setattr(Ledger, "write", lambda self, **options: (times.append(1), write(self, **options)))
    for name in "abcde":
        picture(tmp_path / "in" / f"{name}.png")
    assert len(batch([tmp_path / "in"], tmp_path / "out", config=config).entries) == 5
    assert len(times) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"jobs": 0}, UsageError, "--jobs 0"),
        ({"jobs": "2"}, UsageError, "--jobs '2': must be a whole number"),
        ({"segment_seconds": "60"}, UsageError, "--segment 60"),
        ({"segment_seconds": 0.1}, UsageError, "--segment 0.1"),
        ({"segment_seconds": float("nan")}, UsageError, "--segment nan"),
        ({"container": "a/b"}, UsageError, "--container a/b"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(arguments, error, said):
    with pytest.raises(error, match=said):
        BatchOptions(**arguments)


def test_what_is_wrong_for_all_files_ends_the_batch_before_any_work(tmp_path, config):
    source = picture(tmp_path / "a.png")
    (tmp_path / "file").write_text("x")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "batch.json").write_text('{"mine": true}')
    with pytest.raises(OutputError, match="is a file"):
        batch([source], tmp_path / "file", config=config)
    with pytest.raises(OutputError, match="was not made by vidunmask"):
        batch([source], tmp_path / "strange", config=config)
    for one in ([tmp_path / "none"], tmp_path / "none", str(tmp_path / "none")):  # a name alone is not a list of its letters
        with pytest.raises(InputError, match="none: no such file"):
            batch(one, tmp_path / "out", config=config)
    with pytest.raises(DeviceError, match="--device"):
        batch([source], tmp_path / "out", config=Config(device="mps" if sys.platform != "darwin" else "cuda"))
    assert not (tmp_path / "out").exists()
    assert contents(tmp_path / "strange") == ["batch.json"]


def test_a_result_never_replaces_another_input(tmp_path, config):
    picture(tmp_path / "in" / "b" / "a.png")
    other = picture(tmp_path / "out" / "b" / "a.png")
    before = other.read_bytes()
    report = batch([tmp_path / "in", other], tmp_path / "out", config=replace(config, overwrite=True))
    assert [(entry.output, entry.status, entry.exit_code) for entry in report.entries] == [
        ("b/a.png", "failed", 2),
        ("a.png", "done", 0),
    ]
    assert "which the result of" in report.entries[0].message
    assert other.read_bytes() == before


def test_two_batches_in_one_folder_are_refused(tmp_path, config):
    source = picture(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    with Work(tmp_path / "out").locked(keep=False), pytest.raises(OutputError, match="another batch is at work"):
        batch([source], tmp_path / "out", config=config)
    assert batch([source], tmp_path / "out", config=config).failed == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path, config):
    source = picture(tmp_path / "a.png")
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="permission"):
        batch([source], tmp_path / "out", config=config)


def test_a_damaged_book_is_begun_anew_and_said(tmp_path, config):
    source = picture(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "batch.json").write_text('{"made_by": "vidunmask ba')
    assert batch([source], tmp_path / "out", config=config).failed == []
    assert book(tmp_path / "out")["state"] == "done"


def test_all_videos_can_get_another_container(clip, tmp_path, config):
    report = batch([clip], tmp_path / "out", config=config, options=BatchOptions(container="mkv"))
    assert statuses(report) == [("clip.mkv", "done")]
    with av.open(str(tmp_path / "out" / "clip.mkv")) as container:
        assert "matroska" in container.format.name


def test_a_batch_in_segments_keeps_times_and_sound_and_tells_one_face(in_segments):
    source = SAMPLES / "astronaut_masked.mp4"
    with av.open(str(source)) as a, av.open(str(in_segments)) as b:
        assert [f.pts * f.time_base for f in a.decode(video=0)] == [f.pts * f.time_base for f in b.decode(video=0)]
    assert [data for *_, data in sound(in_segments)] == [data for *_, data in sound(source)]
    entry = book(in_segments.parent)["files"][0]
    assert (entry["segments"], entry["segments_done"]) == (3, 3)
    assert (entry["frames"], entry["frames_edited"], entry["faces"]) == (125, 125, 1)
    assert contents(in_segments.parent) == ["astronaut_masked.mp4", "batch.json"]
    assert not (in_segments.parent / WORK).exists()


def start(*arguments, **options):
    command = [sys.executable, "-m", "vidunmask.pipelines.cli", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **options)


def wait_for(process, condition, timeout=300):
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ends_soon(group):
    """Whether nobody of a process group is left within a few seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def begun(out, number):
    return lambda: bool(list(out.glob(f"{WORK}/*/{number:05d}.packets.*.part")))


def test_after_kill_9_the_same_command_goes_on_to_the_same_result(program, tmp_path, tiny, in_segments):
    out = tmp_path / "out"
    command = ["batch", SAMPLES / "astronaut_masked.mp4", "--out", out, "--segment", SEGMENT, *tiny]
    process = start(*command)
    try:
        wait_for(process, begun(out, 2))
    finally:
        process.kill()
        process.communicate()
    assert not (out / "astronaut_masked.mp4").exists()
    assert book(out)["files"][0]["segments_done"] == 2
    # A segment that did not survive the crash whole counts for nothing.
    damaged = next(out.glob(f"{WORK}/*/00000.packets"))
    damaged.write_bytes(damaged.read_bytes()[:-50])
    result = program(*command, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "going on, 1 of 3 segments" in result.stderr
    assert_same_video(out / "astronaut_masked.mp4", in_segments)
    assert contents(out) == ["astronaut_masked.mp4", "batch.json"]


@pytest.mark.parametrize(("number", "code", "jobs"), [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 2)])
def test_a_batch_that_is_stopped_keeps_what_is_finished_and_says_so(tmp_path, tiny, number, code, jobs):
    source, out = tmp_path / "in", tmp_path / "out"
    picture(source / "a.png")
    shutil.copy(SAMPLES / "astronaut_masked.mp4", source / "b.mp4")
    picture(source / "c.png")
    process = start("batch", source, "--out", out, "--segment", 1, "--jobs", jobs, *tiny, start_new_session=True)
    try:
        wait_for(process, lambda: (out / "a.png").exists() and begun(out, 1)())
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == code, said
    assert "of 3 files are done; the same command goes on from here" in said
    assert "Traceback" not in said
    assert book(out)["state"] == "interrupted"
    by_name = {entry["output"]: entry["status"] for entry in book(out)["files"]}
    assert (by_name["a.png"], by_name["b.mp4"]) == ("done", "interrupted")
    assert not (out / "b.mp4").exists()
    assert not list(out.rglob("*.part"))
    assert ends_soon(process.pid)


def test_a_worker_that_dies_is_replaced_and_its_work_done_again(tmp_path, config, monkeypatch, clip):
    from vidunmask.pipelines.batch import run

    class Mortal(run.Processes):
        killed = False

        def submit(self, key, task):
            super().submit(key, task)
            if not Mortal.killed:
                Mortal.killed = True
                os.kill(next(worker.process.pid for worker in self._workers if worker.key == key), signal.SIGKILL)

    monkeypatch.setattr(run, "Processes", Mortal)
    monkeypatch.delenv("OMP_NUM_THREADS")  # the workers share the cores
    notes = []

    class Heard(Listener):
        def note(self, message):
            notes.append(message)

    shutil.copy(clip, tmp_path / "b.mp4")
    report = batch(
        [clip, tmp_path / "b.mp4"], tmp_path / "out", config=config, options=BatchOptions(jobs=2), listener=Heard()
    )  # fmt: skip
    assert Mortal.killed
    assert [entry.status for entry in report.entries] == ["done", "done"]
    assert any("worker was lost" in note for note in notes)


@pytest.mark.parametrize("segment", [60, SEGMENT])
def test_a_full_disk_is_named_for_the_file_and_leaves_nothing_of_it(program, tmp_path, tiny, clip, segment):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    source, out = tmp_path / "clip.mp4", tmp_path / "out"
    shutil.copy(clip if segment == 60 else SAMPLES / "astronaut_masked.mp4", source)
    options = ["--quiet", "--crf", 1, "--segment", segment]
    result = program("batch", source, "--out", out, *options, *tiny, preexec_fn=limit)
    assert result.returncode == 7, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("vidunmask: ")]
    assert lines == [f"vidunmask: {out / 'clip.mp4'}: the disk is full; free some space or write elsewhere"]
    assert [name for name in contents(out) if not name.startswith(WORK)] == ["batch.json"]
    assert (out / WORK).exists() == (segment != 60)  # for the segments that would be finished
    assert not list(out.rglob("*.part"))


CODECS = {
    "libx264": {"crf": "20", "preset": "ultrafast", "bf": "2"},
    "libx265": {"crf": "20", "preset": "ultrafast", "x265-params": "log-level=error:open-gop=0"},
    "libsvtav1": {"crf": "30", "preset": "12"},
}


@pytest.fixture(scope="module", params=CODECS)
def half_masked(request, tmp_path_factory):
    """Two seconds without a mask and then one with, in groups of 25 frames, with the sound of the sample."""
    path = tmp_path_factory.mktemp("half") / "half.mp4"
    with av.open(str(path), "w") as out:
        sources = [av.open(str(SAMPLES / name)) for name in ("astronaut_truth.mp4", "astronaut_masked.mp4")]
        like = sources[0].streams.video[0]
        video = out.add_stream(request.param, rate=25, options={"g": "25", **CODECS[request.param]})
        video.width, video.height, video.pix_fmt, video.time_base = like.width, like.height, "yuv420p", like.time_base
        video.codec_context.time_base = like.time_base
        track = out.add_stream_from_template(sources[0].streams.audio[0])
        for index, (bare, masked) in enumerate(zip(*(source.decode(video=0) for source in sources), strict=True)):
            if index < 75:
                frame = bare if index < 50 else masked
                frame.pict_type = 0
                out.mux(video.encode(frame))
        out.mux(video.encode(None))
        with av.open(str(SAMPLES / "astronaut_truth.mp4")) as again:
            for packet in again.demux(audio=0):
                if packet.size and packet.pts * packet.time_base < 3:
                    packet.stream = track
                    out.mux(packet)
        for source in sources:
            source.close()
    return path


def test_parts_without_a_masked_face_are_passed_through(half_masked, tmp_path, shipped):
    config = Config(device="cpu", preset="ultrafast")
    report = batch([half_masked], tmp_path / "out", config=config, options=BatchOptions(copy_untouched=True))
    entry = report.entries[0]
    assert (entry.status, entry.warnings) == ("done", [])
    assert entry.frames_copied in (25, 50)  # the fade begins a little before the mask
    assert 25 <= entry.frames_edited <= 50
    before, after = decoded(half_masked), decoded(tmp_path / "out" / "half.mp4")
    assert [time for time, _ in before] == [time for time, _ in after]
    same = [np.array_equal(a, b) for (_, a), (_, b) in zip(before, after, strict=True)]
    assert all(same[: entry.frames_copied])
    assert not any(same[50:])
    assert sound(half_masked) == sound(tmp_path / "out" / "half.mp4")


@pytest.fixture(scope="module")
def shipped():
    from vidunmask.networks import weights

    if not {"compact-segmenter", "compact-inpainter"} <= set(weights.available()):
        pytest.skip("the weights are not in this checkout")


def test_where_nothing_can_be_passed_through_a_warning_says_why(clip, tmp_path, config):
    other = replace(config, codec="libx265")
    report = batch([clip], tmp_path / "out", config=other, options=BatchOptions(copy_untouched=True))
    assert report.entries[0].status == "done"
    assert report.entries[0].warnings == ["--copy-untouched: the output is encoded by libx265; all of it is encoded"]


def test_where_every_part_has_an_edited_face_a_warning_says_so(tmp_path, config):
    path = tmp_path / "one part.mp4"
    with av.open(str(SAMPLES / "astronaut_masked.mp4")) as sample, av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "100", "sc_threshold": "0"})
        stream.width, stream.height = 320, 240
        masked = next(sample.decode(video=0)).reformat(320, 240).to_ndarray(format="rgb24")
        for number in range(60):
            picture = masked if number < 5 else np.zeros_like(masked)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    report = batch([path], tmp_path / "out", config=config, options=BatchOptions(copy_untouched=True))
    entry = report.entries[0]
    assert 5 <= entry.frames_edited < 60
    assert entry.frames_copied == 0
    assert [warning.partition(";")[0] for warning in entry.warnings] == [
        "--copy-untouched: there is an edited face in every part from key frame to key frame (1 of this video)"
    ]


def test_a_video_that_cannot_be_read_in_parts_is_done_in_one_go(tmp_path, config, empty, monkeypatch):
    from vidunmask.video import spans

    def refuse(self):
        raise spans.SpanError(f"{self._path}: frame 5 cannot be reached")

    monkeypatch.setattr(spans.SpanReader, "_next", refuse)
    report = batch([empty], tmp_path / "out", config=config, options=BatchOptions(segment_seconds=0.5))
    entry = report.entries[0]
    assert (entry.status, entry.frames, entry.segments) == ("done", 40, 0)
    assert entry.warnings == ["it is done in one go and cannot be resumed: frame 5 cannot be reached"]


def test_the_table_and_the_exit_code_tell_what_became_of_the_files(program, tmp_path, tiny):
    picture(tmp_path / "in" / "a picture.png")
    (tmp_path / "in" / "b.mp4").write_bytes(b"")
    result = program("batch", tmp_path / "in", "--out", tmp_path / "out", *tiny)
    assert result.returncode == 7
    lines = result.stderr.splitlines()
    assert any(line.startswith("vidunmask: ") and "b.mp4: the file is empty" in line for line in lines)
    table = lines[-4:]
    assert table[0].split() == ["file", "status", "frames", "edited", "copied", "faces", "seconds"]
    assert table[1].startswith("a picture.png  done")
    assert table[2].split() == ["b.mp4", "failed"]
    assert table[3].startswith("2 files: 1 done, 1 failed")


def test_a_line_break_in_a_name_breaks_no_line_of_the_table_and_bytes_that_are_no_text_no_column():
    report = BatchReport([Entry(input="/a\nb.mp4", output="a\nb.mp4", status="done")])
    assert [line[:8] for line in table(report)] == ["file    ", "a\\nb.mp4", "1 file: "]
    report = BatchReport([Entry(input=f"/{name}", output=name, status="done") for name in ("caf\udce9.mp4", "b.mp4")])
    assert len({line.encode(errors="backslashreplace").index(b" done ") for line in table(report)[1:3]}) == 1


def test_no_input_at_all_is_a_usage_error(program, tmp_path):
    result = program("batch", "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "INPUTS" in result.stderr
    assert not Path(tmp_path / "out").exists()
