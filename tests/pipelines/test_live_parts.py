"""What live mode is made of: pace, fall-back, what the window shows, where pictures go."""

import errno
import io
import os
import re
import sys
import types
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from tests.video.clips import as_frame, native, picture
from vidunmask import geometry
from vidunmask.errors import DeviceError, OutputError, UsageError
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.live.config import LiveConfig, rate_of, size_of
from vidunmask.pipelines.live.network import stream_options
from vidunmask.pipelines.live.pace import Governor, Latencies, Meter, Pace, Stats, levels
from vidunmask.pipelines.live.program import as_sent
from vidunmask.pipelines.live.sinks import Recorder, Sinks, VirtualCamera, fresh_name
from vidunmask.pipelines.live.view import Figures, View, compose, strip_height
from vidunmask.types import Fill
from vidunmask.video.reader import VideoReader


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 0}, "--timeout 0"),
        ({"duration": -1}, "--duration -1"),
        ({"size": (4, 640)}, "--size 640x4"),
        ({"rate": Fraction(0)}, "--rate 0"),
        ({"source": " "}, "--source"),
        ({"virtual_camera": ""}, "--virtual-camera ''"),
        ({"backend": "gstreamer"}, "--backend"),
        ({"stream": "out.mp4"}, "--stream out.mp4"),
        ({"stream": "a/talk:1.m3u8"}, "--stream a/talk:1.m3u8: players take ':'"),
        ({"stream": "ftp://host/x"}, "--stream ftp://host/x"),
        ({"stream": "ftp://me:secret@host/x"}, r"--stream ftp://me:\*\*\*@host/x: must"),
        ({"window": False}, "--no-window"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options, said):
    with pytest.raises(UsageError, match=said):
        LiveConfig(**options)


def test_sizes_and_rates_are_read():
    assert size_of("1280x720") == (720, 1280)
    assert rate_of("30000/1001") == Fraction(30000, 1001)
    assert rate_of("29.97") == Fraction(2997, 100)
    for wrong in ("1280", "axb", "1280x720x3"):
        with pytest.raises(ValueError, match=wrong):
            size_of(wrong)


def test_latencies_are_counted_in_constant_memory():
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert abs(latencies.percentile(0.5) - 500) <= 1
    assert abs(latencies.percentile(0.95) - 950) <= 1
    latencies.add(1e9)
    assert latencies.percentile(1) == 10_000
    latencies.clear()
    assert latencies.percentile(0.5) == 0


def test_the_meter_tells_rate_latency_and_the_busiest_thread():
    meter = Meter(span=2.0, places=2)
    pace = Pace()
    for tick in range(100):  # 50 a second, every second one lost
        now = 10 + tick / 50
        if tick % 2:
            meter.show(now, 0.04)
        if tick % 25 == 0:
            pace = meter.look(now, tick, {"detect": 0.3 * (now - 10), "inpaint": 0.7 * (now - 10)})
    assert abs(pace.captured - 50) < 1
    assert abs(pace.shown - 25) < 2
    assert pace.p50 == pytest.approx(40)
    assert pace.busy == pytest.approx(0.7)
    assert pace.full == pytest.approx(0.5, abs=0.05)  # one on its way all the time
    in_none_out = [(20, 200), (21, 225), (22, 225), (23, 225)]
    assert [meter.look(at, captured, {}).full for at, captured in in_none_out] == [0, 1, 1, 0]


def test_quality_is_given_up_step_by_step_and_taken_back_when_there_is_room():
    steps = levels(3)
    governor = Governor(steps)
    slow, fine = Pace(captured=25, shown=15, busy=0.99, full=1.0), Pace(captured=25, shown=25, busy=0.4)
    changes = []
    for second in range(40):
        level = governor.step(float(second), slow if second < 12 else fine)
        if level is not None:
            changes.append((governor.at, governor.reason))
    assert changes == [(1, "to keep up"), (2, "to keep up"), (1, "there is room again"), (0, "everything again")]
    assert governor.level in steps
    assert all(a.every <= b.every and a.inpaint_every <= b.inpaint_every for a, b in pairwise(steps))


def test_a_step_up_that_fails_is_not_tried_again_soon():
    governor = Governor(levels(3)[:2])
    slow, fine = Pace(captured=25, shown=15, busy=0.99, full=1.0), Pace(captured=25, shown=25, busy=0.4)
    rises = []
    for second in range(300):
        before = governor.at
        # level 0 never suffices
        governor.step(float(second), slow if governor.at == 0 else fine)
        if governor.at < before:
            rises.append(second)
    gaps = np.diff(rises)
    assert len(rises) >= 3
    assert all(b > 1.5 * a for a, b in pairwise(gaps))


def test_after_a_step_up_that_lasted_the_next_one_is_tried_soon():
    governor = Governor(levels(3))
    slow, fine = Pace(captured=25, shown=15, busy=0.99, full=1.0), Pace(captured=25, shown=25, busy=0.4)
    for second in range(3600):  # only level 3 suffices
        governor.step(float(second), slow if governor.at < 3 else fine)
    for second in range(3600, 3600 + 700):  # everything does
        governor.step(float(second), fine)
    assert governor.at == 0


@pytest.mark.parametrize("pace", [Pace(captured=25, shown=16, busy=0.1, full=0.1), Pace(captured=1, shown=0.5, full=0.02)])
def test_pictures_that_come_several_at_once_and_overtake_one_another_are_no_sign_of_a_slow_machine(pace):
    governor = Governor(levels(3))
    assert all(governor.step(float(second), pace) is None for second in range(60))


def test_an_outage_is_no_sign_of_room():
    governor = Governor(levels(3))
    slow = Pace(captured=25, shown=15, busy=0.99, full=1.0)
    changes = [governor.step(float(second), slow if second < 4 else Pace()) for second in range(60)]
    assert governor.at == 1
    assert governor.step(60.0, Pace(captured=25, shown=25, busy=0.4)) is None
    assert sum(change is not None for change in changes) == 1


def test_a_pace_that_is_kept_changes_nothing():
    governor = Governor(levels(3))
    assert all(governor.step(float(t), Pace(captured=25, shown=24.5, busy=0.9)) is None for t in range(60))


def fill(opacity=1.0):
    crop = picture(256, 256, seed=3)
    mask = np.zeros((256, 256), np.float32)
    mask[130:220, 60:200] = 1
    return Fill(7, crop, crop, mask, np.array([[2.0, 0, -100], [0, 2.0, -40]]), opacity, 0.9, False)


def test_the_window_shows_before_after_or_both():
    after, before = picture(120, 160, seed=1), picture(120, 160, seed=2)
    plain = np.eye(2, 3)

    def shown(view, earlier=before):
        made = compose(after, earlier, view, (), plain, Figures())
        assert made.shape == (120 + strip_height(160, 120), 160, 3)
        return made[:120, :, ::-1]  # RGB

    assert np.array_equal(shown(View()), after)
    middle = slice(40, 80)
    assert np.array_equal(shown(View(before=True))[middle], before[middle])
    split = shown(View(split=True))
    assert np.array_equal(split[middle, :70], before[middle, :70])
    assert np.array_equal(split[middle, 90:], after[middle, 90:])
    assert np.array_equal(shown(View(split=True), None)[middle, :70], after[middle, :70])  # not there yet


def test_the_overlay_draws_the_face_its_mask_and_the_timings():
    after = picture(240, 320)
    clean = compose(after, None, View(), (fill(),), np.eye(2, 3), Figures())
    figures = Figures(stages={"detect": 12.0, "inpaint": 20.0})
    drawn = compose(after, None, View(overlay=True), (fill(),), np.eye(2, 3), figures)
    changed = (clean[:240] != drawn[:240]).any(axis=2)
    box = np.round(geometry.apply(geometry.invert(fill().frame_to_crop), np.array([[0.0, 0], [256, 256]]))).astype(int)
    assert changed[(box[0][1] + box[1][1]) // 2, box[0][0]]  # the left edge of the crop
    assert changed[15:30, 15:60].any()  # the timings
    assert not changed[:, 300:].any()


def test_the_strip_says_what_was_given_up_and_that_it_records():
    def strip(figures, size=(480, 640)):
        after = np.zeros((*size, 3), np.uint8)
        return compose(after, None, View(help=True, paused=True), (), np.eye(2, 3), figures)[size[0] :]

    plain = strip(Figures())
    assert not np.array_equal(strip(Figures(recording=5.0)), plain)
    amber = strip(Figures(reduced="to keep up: less")).astype(int)
    assert ((amber[..., 2] > 150) & (amber[..., 0] < 120)).any()
    assert strip(Figures(), size=(40, 30)).shape[1] == 30


@pytest.mark.parametrize("size", [(1080, 1920), (480, 640), (120, 160)])
def test_the_strip_says_first_what_could_not_be_done_so_that_it_is_seen_in_small_windows_too(size):
    after = np.zeros((*size, 3), np.uint8)
    strips = [compose(after, None, View(), (), np.eye(2, 3), Figures(failed=text)) for text in ("", "recording failed")]
    plain, failed = (made[size[0] :].astype(int) for made in strips)
    red = (failed[..., 2] > 150) & (failed[..., 1] < 120)
    assert red.any()
    assert red.any(axis=0).argmax() < 20 + size[1] // 100
    assert not ((plain[..., 2] > 150) & (plain[..., 1] < 120)).any()


def test_options_of_a_stream_follow_its_protocol():
    assert stream_options("rtmp://host/app/key")["format"] == "flv"
    assert stream_options("rtsp://host/x")["rtsp_transport"] == "tcp"
    assert stream_options("udp://127.0.0.1:1")["format"] == "mpegts"
    assert stream_options("folder/live.m3u8")["format"] == "hls"
    assert stream_options("https://host/live.m3u8")["method"] == "PUT"


class FakeSink:
    def __init__(self, name, error=None):
        self.name, self.dropped, self._error, self.taken, self.closed = name, 0, error, 0, 0

    def push(self, frame):
        if self._error is not None:
            raise self._error
        self.taken += 1

    def close(self):
        self.closed += 1
        return f"{self.name}: done"


def test_a_sink_that_fails_is_left_out_and_the_others_go_on(caplog):
    good, bad = FakeSink("good"), FakeSink("bad", OutputError("bad: no more"))
    sinks = Sinks()
    sinks.add(bad)
    sinks.add(good)
    for _ in range(3):
        sinks.push(None)
    assert (good.taken, good.closed, bad.closed, len(sinks)) == (3, 0, 1, 1)
    assert "bad: no more" in caplog.text
    sinks.close()
    assert sinks.outcomes == ["good: done"]
    assert [str(error) for error in sinks.failed] == ["bad: no more"]


def test_all_sinks_are_closed_also_where_one_is_interrupted():
    class Stuck(FakeSink):
        def close(self):
            raise KeyboardInterrupt  # a second Ctrl-C, while a stream waits for the far end

    sinks, others = Sinks(), [FakeSink("before"), FakeSink("after")]
    for sink in (others[0], Stuck("stuck"), others[1]):
        sinks.add(sink)
    with pytest.raises(KeyboardInterrupt):
        sinks.close()
    assert [sink.closed for sink in others] == [1, 1]
    assert sinks.outcomes == ["before: done", "after: done"]


class Disk(io.StringIO):
    name = "figures.csv"
    full = False

    def write(self, text):
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(text)


def test_figures_that_cannot_be_written_are_an_error_once():
    said = "--stats figures.csv: cannot be written (No space left on device)"
    disk = Disk()
    stats = Stats(disk, 1.0)
    stats.start(0.0)
    stats.add(0.04)
    disk.full = True
    with pytest.raises(OutputError, match=re.escape(said)):
        stats.write_when_due(1.5, captured=2, level=0, faces=1)
    stats.close()
    with pytest.raises(OutputError, match=re.escape(said)):
        Stats(type("Full", (Disk,), {"full": True})(), 1.0)


def test_after_a_pause_there_is_one_line_of_figures_and_not_one_for_each_that_is_missing():
    disk = Disk()
    stats = Stats(disk, 10.0)
    stats.start(0.0)
    for second in (5.0, 10.0, 95.0, 95.02, 95.04, 99.0, 100.0):
        stats.add(0.04)
        stats.write_when_due(second, captured=2, level=0, faces=1)
    assert [line.split(",")[0] for line in disk.getvalue().splitlines()[1:]] == ["10.0", "95.0", "100.0"]


@pytest.mark.parametrize("suffix", ["gif", "apng", "webm", "mp4"])
def test_recordings_may_be_of_any_kind(tmp_path, suffix, clip):
    with VideoReader(clip) as reader:
        like = replace(reader.info, path="", size=(48, 64), display_size=(48, 64), streams=(), codec="h264")
    recorder = Recorder(tmp_path / f"out.{suffix}", like, Config())
    for number in range(3):
        frame = as_frame(native(picture(48, 64, shift=number), "yuv420p"))
        frame.native.time_base = frame.time_base
        recorder.push(replace(frame, index=number, pts=number))
    assert recorder.close().startswith(f"{tmp_path / f'out.{suffix}'}: 3 pictures")


@pytest.mark.parametrize(("promised", "sent"), [(25, 25), (240, 240), (1000, None), (None, None)])
def test_a_rate_that_is_a_clock_is_not_sent_at(clip, promised, sent):
    with VideoReader(clip) as reader:
        info = as_sent(replace(reader.info, average_rate=promised and Fraction(promised)))
    assert (info.average_rate, info.codec) == (sent, "h264")


def test_a_virtual_camera_gets_the_pictures_and_its_absence_is_explained(monkeypatch):
    sent, opened = [], []

    class Camera:
        device = "/dev/video9"

        def __init__(self, **options):
            opened.append(options["device"])
            if options["device"] == "/dev/video8":
                raise RuntimeError("no loopback device. Did you run modprobe?")

        def send(self, image):
            sent.append(image.copy())

        def close(self):
            sent.append("closed")

    frame = as_frame(native(picture(48, 64), "yuv420p"))
    like = types.SimpleNamespace(display_size=(48, 64), average_rate=Fraction(25))
    fake = types.SimpleNamespace(Camera=Camera, PixelFormat=types.SimpleNamespace(RGB="rgb"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", fake)
    sink = VirtualCamera("auto", like)
    sink.push(frame)
    assert sink.close() == "virtual camera /dev/video9: 1 pictures"
    assert sent[0].shape == (48, 64, 3)
    assert sent[1] == "closed"
    with pytest.raises(DeviceError, match=r"--virtual-camera /dev/video8: .*v4l2loopback"):
        VirtualCamera("/dev/video8", like)
    assert opened == [None, "/dev/video8"]
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(DeviceError, match=r"pip install 'vidunmask\[live\]'"):
        VirtualCamera("auto", like)


def test_names_by_the_time_of_day_do_not_collide(tmp_path):
    names = set()
    for _ in range(3):
        path = fresh_name(tmp_path, ".png")
        path.touch()
        names.add(path)
    assert len(names) == 3
