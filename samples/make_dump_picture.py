"""Makes the README's picture of a dump's page, from the sample clip, by the program as it stands. Needs Chromium.

python samples/make_dump_picture.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

from vidunmask.pipelines.config import Config
from vidunmask.pipelines.dump.choice import FrameChoice
from vidunmask.pipelines.dump.run import dump

HERE = Path(__file__).parent
SIZE = (1440, 1352)  # of the window
WIDTH = 1200  # of the picture


def main() -> None:
    """Dumps some frames, opens the page on one of them, and writes ``dump_page.jpg``."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("make_dump_picture.py: Chromium is missing (Debian package chromium)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = dump(HERE / "astronaut_masked.mp4", folder / "seams", choice=FrameChoice("0:100:5"), config=Config())
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
            "--virtual-time-budget=5000", f"--user-data-dir={folder / 'profile'}", f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--screenshot={folder / 'page.png'}",
        ]  # fmt: skip
        subprocess.run([program, *flags, f"{report.page.as_uri()}#45"], check=True, capture_output=True, timeout=120)
        picture = cv2.imread(str(folder / "page.png"))
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(HERE / "dump_page.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 82])


if __name__ == "__main__":
    main()
