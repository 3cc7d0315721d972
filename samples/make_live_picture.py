"""Makes the README's picture of the live window, from the sample clip, by the program as it stands. Needs Xvfb.

python samples/make_live_picture.py [--seconds 15] [--rate 10]

``--rate`` plays the clip slower, for a machine that is busy with other things and could not keep up.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SCREEN = "1280x800"


def main() -> None:
    """Runs live mode on a screen of its own, takes a picture of its window, and writes ``live_window.jpg``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="until the picture is taken (default %(default)s)")
    parser.add_argument("--rate", type=int, help="pictures a second to play the clip at (default its own)")
    options = parser.parse_args()
    if shutil.which("Xvfb") is None:
        sys.exit("make_live_picture.py: Xvfb is missing (Debian package xvfb)")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{SCREEN}x24", "-noreset"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    clip = HERE / "astronaut_masked.mp4"
    try:
        with os.fdopen(read) as pipe:
            display = f":{pipe.readline().strip()}"
        with tempfile.TemporaryDirectory() as folder:
            if options.rate is not None:
                clip = slower(clip, options.rate, Path(folder))
            command = [
                sys.executable, "-m", "vidunmask.pipelines.cli", "live", "--source", clip.name, "--loop",
                "--split", "--overlay", "--duration", str(options.seconds + 5),
            ]  # fmt: skip
            screen = {"DISPLAY": display, "QT_QPA_PLATFORM": "xcb"}
            live = subprocess.Popen(command, env={**os.environ, **screen}, cwd=clip.parent)
            time.sleep(options.seconds)
            window = grabbed(display)
            live.wait()
    finally:
        server.terminate()
        server.wait()
    window.save(HERE / "live_window.jpg", quality=88)


def slower(clip: Path, rate: int, folder: Path) -> Path:
    """The pictures of a clip at ``rate`` a second."""
    import av

    path = folder / clip.name
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        factor = video.average_rate / rate
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = int(packet.pts * factor), int(packet.dts * factor), stream
                target.mux(packet)
    return path


def grabbed(display: str):
    """The part of the screen that is not empty."""
    import av

    with av.open(display, format="x11grab", options={"video_size": SCREEN, "draw_mouse": "0"}) as screen:
        image = next(screen.decode(video=0)).to_image()
    return image.crop(image.getbbox())


if __name__ == "__main__":
    main()
