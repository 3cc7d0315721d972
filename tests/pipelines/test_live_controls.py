"""What the keys of live mode do where it does not work out: it is seen, and may be tried again."""

import time
from dataclasses import replace

import av
import pytest
from PIL import Image

from tests.video.clips import as_frame, native, picture
from vidunmask.errors import OutputError
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.live.controls import Controls
from vidunmask.pipelines.live.sinks import Sinks
from vidunmask.pipelines.live.view import View
from vidunmask.video.reader import VideoReader
from vidunmask.video.writer import VideoWriter

SIZE = (96, 128)


@pytest.fixture
def sinks():
    sinks = Sinks(window=True)
    yield sinks
    sinks.close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "saved").mkdir()
    return tmp_path / "saved"


@pytest.fixture
def controls(clip, sinks, folder):
    with VideoReader(clip) as reader:
        like = replace(reader.info, path="", size=SIZE, display_size=SIZE, streams=(), codec="")
    return Controls(View(), sinks, like, Config(), folder)


def frame(number=0):
    return replace(as_frame(native(picture(*SIZE, shift=number), "yuv420p")), index=number, pts=number)


def until(what):
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def record(controls, sinks, *, till):
    """Hands pictures over until something is so."""
    numbers = iter(range(10_000))

    def done():
        sinks.push(frame(next(numbers)))
        controls.obey((), None)
        return till()

    until(done)


def test_a_recording_that_fails_no_longer_counts_and_may_be_begun_again(controls, sinks, folder, monkeypatch, caplog):
    def full(self, frame):
        raise OutputError("saved: the disk is full")

    controls.obey("r", None)
    assert controls.recording is not None
    with monkeypatch.context() as patched:
        patched.setattr(VideoWriter, "write", full)
        record(controls, sinks, till=lambda: controls.recording is None)
    assert controls.failed == "recording failed"
    assert caplog.text.count("the disk is full") == 1
    assert list(folder.iterdir()) == []

    controls.obey("r", None)
    assert controls.recording is not None
    assert controls.failed == ""
    began = time.monotonic()
    record(controls, sinks, till=lambda: time.monotonic() - began > 0.3)
    controls.obey("r", None)
    assert controls.recording is None
    assert controls.failed == ""
    with av.open(str(next(folder.glob("*.mp4")))) as container:
        assert len(list(container.decode(video=0))) > 2
    assert [str(error) for error in sinks.failed] == ["saved: the disk is full"]


def test_a_recording_that_cannot_be_begun_or_finished_is_shown(controls, sinks, folder, monkeypatch):
    folder.rmdir()
    controls.obey("r", None)
    assert (controls.recording, controls.failed) == (None, "recording failed")
    folder.mkdir()
    controls.obey("r", None)
    assert controls.failed == ""

    def full(self, *arguments):
        raise OutputError("saved: the disk is full")

    sinks.push(frame())
    monkeypatch.setattr(VideoWriter, "__exit__", full)
    controls.obey("r", None)
    assert (controls.recording, controls.failed) == (None, "recording failed")
    assert len(sinks.failed) == 1


def test_a_picture_that_cannot_be_saved_is_shown_also_in_a_pause_and_the_next_one_is_saved(controls, sinks, folder, caplog):
    folder.rmdir()
    controls.obey("p", frame())
    until(lambda: controls.obey((), None) or controls.failed)  # no picture is pushed, as in a pause
    assert controls.failed == "picture not saved"
    assert caplog.text.count(str(folder)) == 1
    folder.mkdir()
    controls.obey("p", frame(1))
    assert controls.failed == ""
    until(lambda: list(folder.glob("*.png")))
    sinks.close()
    assert controls.failed == ""
    assert [outcome for outcome in sinks.outcomes if "1 pictures saved" in outcome]
    with Image.open(next(folder.glob("*.png"))) as saved:
        assert saved.size == SIZE[::-1]
    assert len(sinks.failed) == 1  # for the exit code


def test_a_picture_that_fails_right_before_the_end_is_named(controls, sinks, folder, caplog):
    folder.rmdir()
    controls.obey("p", frame())
    sinks.close()
    assert len(sinks.failed) == 1
    assert str(folder) in caplog.text
