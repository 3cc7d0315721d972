"""Live sources: cameras, streams, and files at their own pace. No camera is needed, FFmpeg's test pictures stand in for one."""

import gc
import sys
import threading
import time
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from tests.video.clips import picture, write_clip
from tests.video.clock import Clock
from vidunmask.errors import InputError, UsageError
from vidunmask.flow import Latest
from vidunmask.video import camera, live, live_files
from vidunmask.video.camera import Camera, Mode, OpenCVSource, device_options, open_source
from vidunmask.video.live import LiveSource
from vidunmask.video.live_streams import PacketSource


def test_cameras_are_listed_by_their_first_node(tmp_path):
    for number, index, name in ((10, "0", "Second"), (2, "0", "First"), (3, "1", "First: metadata")):
        node = tmp_path / f"video{number}"
        node.mkdir()
        (node / "index").write_text(f"{index}\n")
        (node / "name").write_text(f"{name}\n")
    found = camera._v4l2_cameras(tmp_path)
    assert found == [Camera(2, "/dev/video2", "First"), Camera(10, "/dev/video10", "Second")]
    assert camera._v4l2_cameras(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("format", "mode", "expected"),
    [
        (
            "v4l2",
            Mode((720, 1280), Fraction(30), "mjpg"),
            {"video_size": "1280x720", "framerate": "30", "input_format": "mjpeg"},
        ),
        ("v4l2", Mode(pix_fmt="yuyv422"), {"input_format": "yuyv422"}),
        ("avfoundation", Mode(), {"framerate": "30"}),
        ("dshow", Mode(pix_fmt="mjpeg"), {"vcodec": "mjpeg", "rtbufsize": "64M"}),
        ("dshow", Mode(pix_fmt="nv12"), {"pixel_format": "nv12", "rtbufsize": "64M"}),
    ],
)
def test_a_mode_becomes_the_options_of_each_system(format, mode, expected):
    assert device_options(format, mode) == {"fflags": "nobuffer", **expected}


def test_a_camera_that_is_not_there_is_named_with_the_reasons_and_the_remedy():
    with pytest.raises(InputError, match=r"/dev/video77.*OpenCV.*--list"):
        open_source("/dev/video77")
    with pytest.raises(InputError, match="--list"):
        open_source("no_such_thing")


def test_what_a_kind_of_source_does_not_have_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--loop"):
        open_source("0", loop=True)
    with pytest.raises(UsageError, match="--size"):
        open_source("udp://127.0.0.1:9", mode=Mode((480, 640)))
    path = write_clip(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="--size"):
        open_source(str(path), mode=Mode((480, 640)))
    with pytest.raises(UsageError, match="--reconnect: a file cannot be lost"):
        open_source(str(path), reconnect=True)


def test_a_device_gives_native_frames_with_times_of_the_wall_clock():
    options = device_options("lavfi", Mode())
    with PacketSource("test", "testsrc2=size=64x48:rate=50", format="lavfi", options=options) as source:
        assert source.info.size == (48, 64)
        assert source.info.average_rate == 50
        frames = [frame for frame, _ in zip(source, range(5), strict=False)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert all(frame.native.format.name == source.info.pix_fmt for frame in frames)
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    assert 0 <= source.age(frames[-1]) < 5
    assert frames[0].native.pts == frames[0].pts


def test_a_camera_that_is_unplugged_is_an_error_and_a_stream_that_ends_is_not():
    def open_(endless):
        url = "testsrc2=size=64x48:rate=50:duration=0.2"
        return PacketSource("it", url, format="lavfi", endless=endless, paced=True)

    with open_(False) as source:
        assert len(list(source)) == 9
    with open_(True) as source, pytest.raises(InputError, match="it: gives no more pictures; it may have been unplugged"):
        list(source)


class FakeCapture:
    """What OpenCV's VideoCapture does for a camera with four pictures."""

    def __init__(self, device):
        self.device, self.left, self.asked = device, 4, {}

    def isOpened(self):  # noqa: N802
        return self.device == 1

    def set(self, what, value):
        self.asked[what] = value

    def get(self, what):
        return 29.97

    def read(self):
        self.left -= 1
        return self.left >= 0, np.ascontiguousarray(picture(48, 64, seed=self.left)[..., ::-1])

    def release(self):
        self.left = 0


def test_opencv_steps_in_where_ffmpeg_cannot_open_a_camera(monkeypatch):
    import cv2

    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(camera, "device_url", lambda source: "/dev/no-such-camera")
    source = open_source("1", mode=Mode((48, 64), Fraction(30), "mjpeg"))
    assert isinstance(source, OpenCVSource)
    assert source.info.pix_fmt == "bgr24"
    assert source.info.average_rate == Fraction(2997, 100)
    with source:
        frames = iter(source)
        first = next(frames)
        assert np.array_equal(first.native.to_ndarray(format="rgb24"), picture(48, 64, seed=2))
        with pytest.raises(InputError, match="unplugged"):
            list(frames)


def test_a_file_is_played_at_its_own_pace_and_again_with_loop(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", frames=10)
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    monkeypatch.setattr(live_files, "time", clock)
    with open_source(str(path)) as source:
        source._stopped = clock
        steps = np.diff([float(frame.time) for frame in source])
    assert steps == pytest.approx([1 / 25] * 9, abs=1e-5)

    with open_source(str(path), loop=True) as source:
        looped = [frame for frame, _ in zip(source, range(25), strict=False)]
    assert [frame.index for frame in looped] == list(range(25))
    assert all(a.pts < b.pts for a, b in pairwise(looped))


def test_times_that_begin_late_are_not_waited_for_when_a_file_is_played_again(tmp_path, monkeypatch):
    """As in MPEG-TS, whose times go on from those of the broadcast that it was cut from."""
    path = write_clip(tmp_path / "a.mp4", time_base=Fraction(1, 10), pts=[3000, 3001, 3002], frames=3)
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    monkeypatch.setattr(live_files, "time", clock)
    with open_source(str(path), loop=True) as source:
        source._stopped = clock
        times = [float(frame.time) for frame, _ in zip(source, range(9), strict=False)]
    assert max(np.diff(times)) < 0.2


def test_a_file_that_is_played_again_leaves_no_picture_behind(tmp_path):
    """Not even until Python's collector of cycles comes by, which is minutes in live mode."""
    path = write_clip(tmp_path / "a.mp4", frames=2)
    gc.collect()
    gc.disable()
    try:
        with open_source(str(path), loop=True) as source:
            for frame in source:
                if frame.index == 20:
                    break
            del frame
        held = [native for native in gc.get_objects() if type(native) is av.VideoFrame and native.width > 16]
    finally:
        gc.enable()
    assert held == []


def test_a_slow_reader_gets_the_newest_picture(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=30)
    ages = []
    with open_source(str(path)) as source:
        newest = Latest(source, 1)
        for frame in newest:
            ages.append(source.age(frame))
            time.sleep(0.15)
            newest.done()
    assert len(ages) < 12
    assert np.median(ages) < 0.06


def test_stop_ends_the_iteration_from_another_thread(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=10, time_base=Fraction(1, 10), pts=[0, 600, 1200, *range(1300, 1307)])
    with open_source(str(path)) as source:
        threading.Timer(0.2, source.stop).start()
        began = time.monotonic()
        assert len(list(source)) == 1  # the next would come after a minute
        assert time.monotonic() - began < 2


class Flaky(LiveSource):
    """Gives two pictures each time it is opened, of another size the second time; cannot be opened in between."""

    def __init__(self, **options):
        self.opened = 0
        super().__init__("flaky", **options)

    def _open(self):
        self.opened += 1
        if self.opened in (2, 3):
            raise InputError("flaky: no answer")
        return self._give((48, 64) if self.opened == 1 else (96, 96))

    def _give(self, size):
        for seed in range(3):
            native = av.VideoFrame.from_ndarray(picture(*size, seed=seed), format="rgb24")
            yield time.monotonic(), native.reformat(format="yuv420p" if size[0] == 48 else "yuv444p")
        raise InputError("flaky: lost")


def test_a_lost_source_is_an_error_or_is_opened_again(monkeypatch, caplog):
    monkeypatch.setattr(live, "_PAUSES", (0.01,))
    with Flaky() as source, pytest.raises(InputError, match="lost"):
        list(source)
    with Flaky(reconnect=True) as source, caplog.at_level("WARNING"):
        frames = [frame for _, frame in zip(range(5), source, strict=False)]
        assert source.opened == 4
    assert {(frame.native.height, frame.native.width, frame.native.format.name) for frame in frames} == {(48, 64, "yuv420p")}
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert "trying to get it back" in caplog.text
    assert "is back" in caplog.text
    assert caplog.text.count("flaky: gives 96x96 now, stretched to 64x48 as at first") == 1


def test_a_source_that_is_stopped_is_not_lost(caplog):
    with Flaky(reconnect=True) as source, caplog.at_level("WARNING"):
        for _ in source:
            source.stop()
        assert source.captured == 1
    assert caplog.text == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the list is Linux's")
def test_the_list_of_cameras_is_made_without_opening_one():
    assert all(found.device.startswith("/dev/video") for found in camera.cameras())
