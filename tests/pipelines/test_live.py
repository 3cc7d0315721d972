"""Live mode as a whole: a file at its own pace or a loopback stream in, recordings and streams out."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from tests.pipelines.conftest import SAMPLES
from tests.video.clips import write_clip
from vidunmask import flow
from vidunmask.errors import InputError, OutputError
from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.live import program, window
from vidunmask.pipelines.live.config import LiveConfig
from vidunmask.pipelines.live.pace import Stats
from vidunmask.pipelines.live.program import run
from vidunmask.video.live import LiveSource
from vidunmask.video.live_files import FileSource

COMMAND = [sys.executable, "-m", "vidunmask.pipelines.cli", "live"]


@pytest.fixture(scope="module")
def config(weights):
    return Config(segmenter=weights.everywhere, inpainter=weights.inpainter, device="cpu", overwrite=True)


@pytest.fixture(scope="module")
def parts(config):
    return build(config)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    before, there = threading.active_count(), set(children())  # other tests' worker pools may be there
    yield
    assert threading.active_count() <= before
    assert set(children()) <= there


def children():
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False)
    return [line for line in listed.stdout.splitlines() if line.strip() and not line.strip().endswith(" ps")]


def ffmpeg():
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def times_of(path):
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


def column(stats, name):
    """A column of what --stats has written so far."""
    if not stats.exists():
        return []
    header, *lines = [line.split(",") for line in stats.read_text().split("\n")[:-1]] or [[]]
    return [float(line[header.index(name)]) for line in lines]


def test_a_file_is_recorded_with_the_times_of_the_wall_clock(clip, tmp_path, config, parts):
    said = []
    live = LiveConfig(
        source=str(clip), window=False, record=tmp_path / "out.mp4", stats=tmp_path / "stats.csv", stats_every=0.2, loop=True,
        duration=3,
    )  # fmt: skip
    report = run(live, config, parts=parts, say=said.append)
    times = times_of(tmp_path / "out.mp4")
    assert len(times) == report.shown > 3  # however slow the machine is
    assert times[0] == 0
    assert abs(times[-1] - report.seconds) < 2  # the one by capture, the other by display
    assert 0.5 < report.seconds < 6
    assert report.captured >= report.shown
    assert 0 < report.p50 <= report.p95 < 2000
    assert "out.mp4" in said[-1]
    assert "3 s are over" in str(report)
    assert {"detect", "segment", "inpaint", "blend"} <= set(report.stages)
    header, *lines = (tmp_path / "stats.csv").read_text().splitlines()
    assert header.split(",")[:4] == ["seconds", "captured", "shown", "rate"]
    assert len(lines) >= 4
    assert all(len(line.split(",")) == len(header.split(",")) for line in lines)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert "synthesized" in container.metadata["comment"]


def as_dict(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_an_hls_playlist_is_written(clip, tmp_path, config, parts):
    live = LiveConfig(source=str(clip), loop=True, window=False, stream=str(tmp_path / "live.m3u8"), duration=2.5)
    said = []
    run(live, config, parts=parts, say=said.append)
    assert "pictures sent" in said[-1]
    assert "#EXTM3U" in (tmp_path / "live.m3u8").read_text()
    assert len(times_of(tmp_path / "live.m3u8")) > 5


def test_a_stream_that_nobody_takes_does_not_spoil_the_recording(clip, tmp_path, config, parts, caplog):
    live = LiveConfig(
        source=str(clip), loop=True, window=False, stream="rtmp://127.0.0.1:1/live/x", record=tmp_path / "out.mp4", duration=2
    )
    with pytest.raises(OutputError, match=r"--stream rtmp://127.0.0.1:1/live/\*\*\*: ffmpeg gave up \(.*refused"):
        run(live, config, parts=parts)
    times = times_of(tmp_path / "out.mp4")
    assert times[-1] > 0.3
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("beside", [True, False], ids=["beside-a-recording", "alone"])
def test_figures_that_fail_end_only_a_run_that_has_nothing_else(clip, tmp_path, config, parts, monkeypatch, beside):
    def full(self, *arguments):
        raise OutputError("--stats: the disk is full")

    monkeypatch.setattr(Stats, "write_when_due", full)
    live = LiveConfig(
        source=str(clip), loop=True, window=False, stats=tmp_path / "s.csv", duration=1.5 if beside else 600,
        record=tmp_path / "out.mp4" if beside else None,
    )  # fmt: skip
    with pytest.raises(OutputError, match="the disk is full"):
        run(live, config, parts=parts)
    assert not beside or times_of(tmp_path / "out.mp4")[-1] > 0.2


class Viewer:
    """Stands in for the window; presses a key whenever another picture has been shown."""

    closed = False

    def __init__(self, keys):
        self._keys = iter(keys)
        self.pictures, self._answered = [], 0

    def show(self, picture):
        self.pictures.append(picture)

    def keys(self):
        fresh, self._answered = len(self.pictures) > self._answered, len(self.pictures)
        return [next(self._keys)] if fresh else []

    def close(self):
        pass

    def watch(self, clip, config, parts, monkeypatch, **more):
        monkeypatch.setattr(window, "check_display", lambda: None)
        monkeypatch.setattr(window, "Window", lambda title, size: self)
        return run(LiveConfig(source=str(clip), loop=True, **more), config, parts=parts)


def test_the_masks_are_gone_and_the_rest_is_as_it_was(tmp_path, config, parts, monkeypatch):
    sample, figures = SAMPLES / "astronaut_masked.mp4", tmp_path / "s.csv"

    class Waiting(Viewer):
        def keys(self):  # enough once faces were edited at two looks: a slow machine needs seconds to find the first
            return ["q"] if sum(faces > 0 for faces in column(figures, "faces")) > 1 else []

    Waiting(()).watch(
        sample, Config(**{**as_dict(config), "crf": 1}), parts, monkeypatch,
        record=tmp_path / "out.mkv", stats=figures, stats_every=0.2, duration=60,
    )  # fmt: skip
    with av.open(str(sample)) as a, av.open(str(tmp_path / "out.mkv")) as b:
        before = [frame.to_ndarray(format="rgb24").astype(int) for frame in a.decode(video=0)]
        after = [frame.to_ndarray(format="rgb24").astype(int) for frame in b.decode(video=0)]
    edited = 0
    for picture in after[-8:]:
        same = min(before, key=lambda other: np.abs(picture[:, :100] - other[:, :100]).mean())
        assert np.abs(picture[:, :100] - same[:, :100]).mean() < 3  # beside the face only the encoder
        edited += np.abs(picture - same)[150:330, 220:420].max() > 60
    assert edited


def test_a_stream_goes_out_and_comes_back_in(tmp_path, config, parts, monkeypatch):
    """Sent over UDP by one run and received by another, which ends when the first one stops: as soon as enough was received."""
    url, figures = "udp://127.0.0.1:56411", tmp_path / "s.csv"
    clip = write_clip(tmp_path / "small.mp4", size=(96, 128))  # without a face, so that a slow machine keeps its pace
    received = []

    def receive():
        options = {"timeout": 3, "record": tmp_path / "got.mkv", "stats": figures, "stats_every": 0.2}
        try:
            run(LiveConfig(source=url, window=False, **options), config, parts=build(config))
        except InputError as error:
            received.append(str(error))

    thread = threading.Thread(target=receive)

    class Sender(Viewer):
        def show(self, picture):
            if not self.pictures:
                thread.start()
            super().show(picture)

        def keys(self):
            return ["q"] if max(column(figures, "shown"), default=0) > 8 else []

    sender = Sender(()).watch(clip, config, parts, monkeypatch, stream=f"{url}?pkt_size=1316", duration=60)
    thread.join(60)
    assert "stopped by the viewer" in str(sender)
    assert "stalled" in received[0]
    assert len(times_of(tmp_path / "got.mkv")) > 5  # what came before it stalled is kept
    with av.open(str(tmp_path / "got.mkv")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (128, 96)


def test_a_picture_that_stands_can_be_compared_with_what_it_was_before(clip, config, parts, monkeypatch):
    shown = []
    compose = program.compose
    monkeypatch.setattr(program, "compose", lambda *what: shown.append((what[1], what[2].before)) or compose(*what))
    Viewer(" bq").watch(clip, config, parts, monkeypatch)  # a pause comes first
    assert [asked for _, asked in shown][-1]
    assert all(before is not None for before, _ in shown)


def test_the_window_is_gone_as_soon_as_the_viewer_quits(clip, config, parts, monkeypatch):
    at_work = []
    viewer = Viewer("hhhq")
    viewer.close = lambda: at_work.extend(thread for thread in threading.enumerate() if thread.name == "vidunmask-flow")
    assert "stopped by the viewer" in str(viewer.watch(clip, config, parts, monkeypatch))
    assert at_work  # and may be waiting for a stream that is silent


def test_a_recording_is_there_before_the_source_is_waited_for(clip, tmp_path, config, parts, monkeypatch):
    there = []
    stop = LiveSource.stop
    monkeypatch.setattr(LiveSource, "stop", lambda self: there.append((tmp_path / "out.mkv").exists()) or stop(self))
    run(LiveConfig(source=str(clip), window=False, duration=0.2, record=tmp_path / "out.mkv"), config, parts=parts)
    assert there[0]


def test_a_silent_source_is_not_waited_for(clip, tmp_path, config, parts, monkeypatch):
    """FFmpeg holds its thread until the timeout."""
    release, answered = threading.Event(), threading.Event()

    class Silent(FileSource):
        def _play(self, reader):
            yield from itertools.islice(super()._play(reader), 3)
            release.wait(30)
            answered.set()

    monkeypatch.setattr(flow, "_PATIENCE", 0.01)
    monkeypatch.setattr(program, "open_source", lambda source, **options: Silent(source))
    run(LiveConfig(source=str(clip), window=False, duration=0.1, record=tmp_path / "out.mkv"), config, parts=parts)
    assert not answered.is_set()
    assert times_of(tmp_path / "out.mkv")
    release.set()
    while any(thread.name == "vidunmask-flow" for thread in threading.enumerate()):
        time.sleep(0.01)


def test_a_target_that_cannot_be_is_known_before_the_networks_are_loaded(clip, tmp_path, config):
    with pytest.raises(OutputError, match="does not exist"):
        run(LiveConfig(source=str(clip), window=False, record=tmp_path / "no" / "out.mp4"), config)


def test_as_many_detectors_are_made_for_it_as_for_a_file(clip, config, parts, monkeypatch):
    import cv2

    from vidunmask.pipelines.build import detectors_at_once

    made, running = [], []
    monkeypatch.setattr(program, "build", lambda config: made.append(detectors_at_once()) or parts)
    monkeypatch.setattr(program, "warm_up", lambda parts: running.append(cv2.getNumThreads()))
    before = cv2.getNumThreads()
    cv2.setNumThreads(15)
    try:
        run(LiveConfig(source=str(clip), window=False, duration=0.2, stats=Path(os.devnull)), config)
        assert cv2.getNumThreads() == 15
    finally:
        cv2.setNumThreads(before)
    assert made == [5]
    assert running[0] <= 4  # the stages run beside each other


def test_no_display_is_one_line_and_its_code(clip, tmp_path, monkeypatch):
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    result = subprocess.run([*COMMAND, "--source", clip], capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == 5
    assert "--no-window" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGHUP, 129)],
    ids=["ctrl-c", "closed-terminal"],
)
def test_a_run_that_is_stopped_keeps_its_recording(clip, tmp_path, weights, number, code):
    command = [
        *COMMAND, "--source", clip, "--loop", "--no-window", "--record", tmp_path / "out.mp4", "--stats", tmp_path / "s.csv",
        "--stats-every", "0.2", "--segmenter", weights.everywhere, "--inpainter", weights.inpainter, "--device", "cpu",
    ]  # fmt: skip
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while max(column(tmp_path / "s.csv", "shown"), default=0) < 10:
            assert process.poll() is None
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, said
    assert "Traceback" not in said
    figures, last = said.strip().splitlines()[-2:]
    assert figures.endswith("; it was broken off")
    assert last.endswith("recordings that had begun are finished and kept")
    assert len(times_of(tmp_path / "out.mp4")) > 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "s.csv"]


@pytest.mark.parametrize(("imports", "said"), [("cv2", "there is no display"), ("av, cv2", "import cv2 first")])
def test_a_window_that_would_never_open_is_an_error(imports, said):
    code = f"import {imports}; from vidunmask.pipelines.live.window import check_display; check_display()"
    environment = {**os.environ, "DISPLAY": ":9753", "QT_QPA_PLATFORM": "xcb"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert said in result.stderr


def test_every_stage_gives_a_frame_back_before_it_takes_the_next(clip, config, parts):
    from vidunmask.stages.blend import TemporalBlender, blend
    from vidunmask.stages.crop import crop
    from vidunmask.stages.detect import detect
    from vidunmask.stages.track import Tracker, track
    from vidunmask.stages.unmask import unmask
    from vidunmask.video.reader import VideoReader

    taken = []

    def frames(reader):
        for frame in reader:
            taken.append(frame.index)
            yield frame

    with VideoReader(Path(clip)) as reader:
        tracked = track(detect(frames(reader), parts.detector, look_back=0), Tracker(look_ahead=0))
        fills = unmask(crop(tracked, look_ahead=0), parts.unmasker, min_faces=1, max_frames=1, look_ahead=0)
        for number, frame in enumerate(blend(fills, TemporalBlender())):
            assert frame.index == number
            assert taken == list(range(number + 1))
            if number == 8:
                break
