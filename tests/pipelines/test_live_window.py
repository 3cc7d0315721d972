"""The window of live mode on a screen of its own: keys, and the cross that closes it."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import av
import pytest


class Screen:
    """A viewer at an X server, through libX11 and libXtst."""

    def __init__(self, display):
        self._x, self._test = ctypes.CDLL("libX11.so.6"), ctypes.CDLL("libXtst.so.6")
        self._x.XOpenDisplay.restype = ctypes.c_void_p
        for name in ("XDefaultRootWindow", "XInternAtom", "XStringToKeysym"):
            getattr(self._x, name).restype = ctypes.c_ulong
        self._display = ctypes.c_void_p(self._x.XOpenDisplay(display.encode()))
        self.name = display

    def find(self, title, window=None):
        """The window whose title begins so, None where there is none."""
        window = ctypes.c_ulong(window or self._x.XDefaultRootWindow(self._display))
        name = ctypes.c_char_p()
        if self._x.XFetchName(self._display, window, ctypes.byref(name)) and name.value.decode().startswith(title):
            return window.value
        root, parent, count, children = ctypes.c_ulong(), ctypes.c_ulong(), ctypes.c_uint(), ctypes.POINTER(ctypes.c_ulong)()
        self._x.XQueryTree(self._display, window, *map(ctypes.byref, (root, parent, children, count)))
        return next((found for i in range(count.value) if (found := self.find(title, children[i]))), None)

    def focus(self, window):
        self._x.XSetInputFocus(self._display, ctypes.c_ulong(window), 1, ctypes.c_ulong(0))
        self._x.XSync(self._display, 0)

    def press(self, key):
        code = self._x.XKeysymToKeycode(self._display, ctypes.c_ulong(self._x.XStringToKeysym(key.encode())))
        for down in (1, 0):
            self._test.XTestFakeKeyEvent(self._display, code & 0xFF, down, ctypes.c_ulong(0))
        self._x.XSync(self._display, 0)

    def ask_to_close(self, window):
        """What a window manager does at a click on the cross: the client message WM_DELETE_WINDOW (ICCCM 4.2.8.1)."""

        class Message(ctypes.Structure):
            _fields_ = [
                ("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("send_event", ctypes.c_int), ("display", ctypes.c_void_p),
                ("window", ctypes.c_ulong), ("message_type", ctypes.c_ulong), ("format", ctypes.c_int),
                ("data", ctypes.c_long * 5), ("room", ctypes.c_long * 12),  # an XEvent is the size of its largest member
            ]  # fmt: skip

        protocols, delete = (self._x.XInternAtom(self._display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
        message = Message(type=33, window=window, message_type=protocols, format=32)  # 33: ClientMessage
        message.data[0] = delete
        self._x.XSendEvent(self._display, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(message))
        self._x.XSync(self._display, 0)


@pytest.fixture
def screen():
    """The number is found by the server."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1000x800x24", "-noreset"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    try:
        yield Screen(f":{number}")
    except OSError:
        pytest.skip("libX11 or libXtst is not installed")
    finally:
        server.terminate()
        server.wait()


@contextmanager
def showing(screen, weights, *arguments):
    """A run with a window that has been there for a moment, and a way to wait for something to happen in it."""
    command = [
        sys.executable, "-m", "vidunmask.pipelines.cli", "live", "--loop", "--duration", "60",
        "--segmenter", weights.everywhere, "--inpainter", weights.inpainter, "--device", "cpu", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "DISPLAY": screen.name, "QT_QPA_PLATFORM": "xcb"}
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True, env=environment)

    def until(what):
        deadline = time.monotonic() + 40
        while not (found := what()):
            assert process.poll() is None
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.1)
        return found

    try:
        window = until(lambda: screen.find("vidunmask:"))
        time.sleep(1.5)
        screen.focus(window)
        yield process, window, until
    finally:
        process.kill()
        process.communicate()


def pictures_of(path):
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


@pytest.mark.parametrize(
    ("code", "keys"),
    [(-1, []), (0x71, ["q"]), (0x51, ["q"]), (0x100071, ["q"]), (27, ["\x1b"]), (32, [" "]), (0xFF51, []), (0xFFE1, [])],
    ids=["none", "q", "Q", "q-with-num-lock", "escape", "space", "left", "shift"],
)
def test_keys_without_a_character_mean_nothing(monkeypatch, code, keys):
    from vidunmask.pipelines.live import window

    for name in ("namedWindow", "resizeWindow"):
        monkeypatch.setattr(window.cv2, name, lambda *arguments: None)
    monkeypatch.setattr(window.cv2, "pollKey", lambda: code)
    assert window.Window("title", (4, 4)).keys() == keys


def test_the_window_obeys_its_keys(clip, tmp_path, weights, screen):
    with showing(screen, weights, "--source", clip, "--folder", tmp_path) as (process, _, until):
        for key in ("Left", "s", "o", "b", "h", "space", "space", "p"):  # nothing, views, a pause, a picture
            screen.press(key)
            time.sleep(0.2)  # OpenCV keeps only the last key between two looks
        until(lambda: list(tmp_path.glob("vidunmask-*.png")))
        screen.press("r")
        time.sleep(1.5)
        screen.press("r")
        until(lambda: list(tmp_path.glob("vidunmask-*.mp4")))
        screen.press("q")
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 0, said
    assert "stopped by the viewer" in said
    assert "recorded" in said
    assert pictures_of(next(tmp_path.glob("vidunmask-*.mp4"))) > 0


def test_a_window_that_is_closed_ends_the_run(clip, tmp_path, weights, screen):
    more = ["--source", clip, "--record", tmp_path / "out.mp4", "--split", "--overlay"]
    with showing(screen, weights, *more) as (process, window, _):
        screen.ask_to_close(window)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 0, said
    assert "the window was closed" in said
    assert pictures_of(tmp_path / "out.mp4") > 0
