"""The preview window, through OpenCV. Only the main thread may touch it."""

from __future__ import annotations

import subprocess
import sys

import cv2

from vidunmask.errors import DeviceError
from vidunmask.types import ByteArray

_REMEDY = "use --no-window with --record, --stream or --virtual-camera"


def check_display() -> None:
    """Raises DeviceError where no window can be opened here.

    Tried in a process of its own: without a display OpenCV's Qt ends the whole process instead of raising.
    """
    loaded = list(sys.modules)  # in the order of import
    if sys.platform == "linux" and "av" in loaded and loaded.index("av") < loaded.index("cv2"):
        # Both bring a libxcb; with PyAV's in place first, OpenCV's Qt waits for the X server for ever (seen with 18.1 and 5.0).
        raise DeviceError("no window can be opened: PyAV was imported before OpenCV; import cv2 first, or use --no-window")
    code = "import cv2; cv2.namedWindow('vidunmask'); cv2.destroyAllWindows()"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"no window can be opened: the display does not answer; {_REMEDY}") from error
    if done.returncode == 0:
        return
    if "not implemented" in done.stderr:
        raise DeviceError(f"no window can be opened: this OpenCV was built without them (headless); {_REMEDY}")
    raise DeviceError(f"no window can be opened: there is no display; {_REMEDY}")


class Window:
    """A window that can be resized; `show` puts a picture into it, `keys` gives what was typed since the last time."""

    def __init__(self, title: str, size: tuple[int, int]) -> None:
        """size: (height, width) of its pictures, which decides the size at the start."""
        self._title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | getattr(cv2, "WINDOW_GUI_NORMAL", 0))
        cv2.resizeWindow(title, size[1], size[0])
        self._seen = False

    def show(self, picture: ByteArray) -> None:
        """Shows a picture (H, W, 3) BGR; it is on the screen when `keys` has been called."""
        cv2.imshow(self._title, picture)

    def keys(self) -> list[str]:
        """The keys that were pressed, as characters; lets the window draw and react."""
        # OpenCV keeps only the last one. Arrows and the like lie beyond ASCII, and 0xff51 is no Q.
        code = cv2.pollKey() & 0xFFFF  # above it GTK has Shift and the like
        return [chr(code).lower()] if code < 128 else []

    @property
    def closed(self) -> bool:
        """Whether the viewer has closed it."""
        try:
            there = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            there = False
        # some window systems show it only a moment after it was made
        self._seen = self._seen or there
        return self._seen and not there

    def close(self) -> None:
        """Takes the window away."""
        # No look for keys after this: without a window OpenCV's Qt may wait for a timer that nobody runs.
        cv2.destroyAllWindows()
