import json
import logging
import os
import threading
import time
from importlib import metadata
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vidunmask.errors import OutputError
from vidunmask.flow import Beside, Hands, prefetch
from vidunmask.pipelines.report import Failure, RunReport, Stopwatch, Tally, WarningLog, library_versions
from vidunmask.types import Fill, FrameFaces


def slowly(items, seconds):
    for item in items:
        time.sleep(seconds)
        yield item


def test_each_stage_is_charged_its_own_time_only():
    watch = Stopwatch()
    inner = watch.stage("inner", slowly(range(10), 0.01))
    outer = watch.stage("outer", slowly(inner, 0.002))
    assert list(outer) == list(range(10))
    assert 0.1 <= watch.seconds["inner"] < 0.2
    assert 0.02 <= watch.seconds["outer"] < 0.08


def test_stages_in_two_threads_do_not_disturb_each_other():
    watch = Stopwatch()
    threads = [threading.Thread(target=lambda n=n: list(watch.stage(n, slowly(range(5), 0.01)))) for n in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watch.seconds["a"] >= 0.05
    assert watch.seconds["b"] >= 0.05


def test_leaving_a_stage_early_closes_what_it_reads():
    closed = []

    def source():
        try:
            yield from range(10)
        finally:
            closed.append(True)

    stage = Stopwatch().stage("a", source())
    next(stage)
    stage.close()
    assert closed == [True]


def test_an_error_passes_through_a_stage_unchanged():
    def source():
        yield 1
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        list(Stopwatch().stage("a", source()))


def fill(track, opacity, confidence):
    empty = np.zeros((4, 4))
    return Fill(track, empty, empty, empty, empty, opacity, confidence, False)


def test_a_tally_counts_frames_and_faces():
    tally = Tally()
    items = [
        FrameFaces(SimpleNamespace(index=0), ()),
        FrameFaces(SimpleNamespace(index=1), (fill(3, 1.0, 0.9), fill(5, 0.0, 0.5))),
        FrameFaces(SimpleNamespace(index=2), (fill(3, 0.0, 0.7),)),
    ]
    assert list(tally.watch(items)) == items
    assert (tally.frames, tally.frames_edited) == (3, 1)
    first, second = tally.faces()
    assert (first.track_id, first.first_frame, first.last_frame, first.frames, first.frames_edited) == (3, 1, 2, 2, 1)
    assert first.confidence == pytest.approx(0.8)
    assert second.frames_edited == 0


def report(**changes):
    values = dict(
        input="a.mp4", output="b.mp4", frames=50, frames_edited=20, seconds=2.0, stages={"decode": 1.0}, faces=(),
        warnings=("ü",), device="cpu", precision="float32", weights={"a.safetensors": "00"},
    )  # fmt: skip
    return RunReport(**{**values, **changes})


def test_a_report_is_json_with_the_frame_rate(tmp_path):
    path = tmp_path / "run.json"
    report(failures=(Failure("x.png", "broken", 3),)).write(path)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["fps"] == 25
    assert read["warnings"] == ["ü"]
    assert read["failures"][0]["exit_code"] == 3


def test_a_report_names_a_file_whose_name_is_no_unicode(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    report(input=name).write(tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["input"] == name


def test_a_report_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="--report"):
        report().write(str(tmp_path / "missing" / "run.json"))


def test_warnings_of_the_library_are_collected_once_each():
    with WarningLog.collecting() as warnings:
        for _ in range(3):
            logging.getLogger("vidunmask.stages.unmask").warning("frame %d", 7)
        logging.getLogger("vidunmask").info("not a warning")
    logging.getLogger("vidunmask").warning("too late")
    assert warnings.messages == ["frame 7"]


def test_runs_side_by_side_have_their_own_warnings():
    together = threading.Barrier(2)
    messages: dict[str, list[str]] = {}

    def source(name):
        together.wait(30)  # both collect
        logging.getLogger("vidunmask.video.reader").warning("read %s", name)
        yield from range(3)

    def run(name):
        beside, hands = Beside(), Hands(2)
        with WarningLog.collecting() as warnings:
            for _ in prefetch(source(name), max_items=1):
                pass
            beside.start(lambda: logging.getLogger("vidunmask").warning("beside %s", name))
            hands.each(logging.getLogger("vidunmask").warning, [f"hand {name}", f"other hand {name}"])
            beside.close()
            together.wait(30)
        hands.close()
        messages[name] = sorted(warnings.messages)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert messages == {
        name: [f"beside {name}", f"hand {name}", f"other hand {name}", f"read {name}"] for name in ("first", "second")
    }


def test_a_thread_of_an_earlier_run_warns_the_run_that_uses_it_now():
    beside = Beside()
    name = ""

    def job():
        logging.getLogger("vidunmask").warning("%s", name)
        return True

    for name in ("first", "second"):
        with WarningLog.collecting() as warnings:
            beside.start(job)
            while not beside.take():
                time.sleep(0.001)
        assert warnings.messages == [name]
    beside.close()


def test_versions_are_known_under_whatever_name_opencv_was_installed(monkeypatch):
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    versions = library_versions()
    assert versions["cv2"] == cv2.__version__
    assert set(versions) == {"python", "torch", "numpy", "cv2", "av"}
