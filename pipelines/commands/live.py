"""``vidunmask live``: camera, stream or file to window, recording, virtual camera or stream, as it happens."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vidunmask.pipelines.live.config import BACKENDS, LiveConfig, rate_of, size_of
from vidunmask.pipelines.options import EXIT_CODES, Parser, add_chain, add_talk, config_of, given, logging_to, say, show

STOPPED = "recordings that had begun are finished and kept"  # what Ctrl-C, SIGTERM and SIGHUP leave; see cli

_EPILOG = """\
examples:
  vidunmask live
  vidunmask live --source 1 --size 1280x720 --rate 30 --input-format mjpeg
  vidunmask live --source rtsp://camera.local/stream --reconnect --record visit.mkv
  vidunmask live --source talk.mp4 --split --overlay
  vidunmask live --virtual-camera --no-window
  vidunmask live --stream rtmp://live.example.org/app/key
  vidunmask live --list

keys in the window:
  q, Esc quit   space pause   b before/after   s split view   o boxes, masks, timings
  p save this picture   r record/stop   h help
"""

T = TypeVar("T")


def parser() -> Parser:
    """The arguments of ``vidunmask live``."""
    default = LiveConfig()
    p = Parser(
        prog="vidunmask live",
        description="Removes face masks from a camera, a network stream or a file at its own pace, as it happens.",
        epilog=f"{_EPILOG}\n{EXIT_CODES}",
    )
    source = p.add_argument_group("source")
    which = "a camera's index or device, a URL (rtsp, rtmp, http, udp ...) or a file (default: camera %(default)s)"
    source.add_argument(
        "--source", metavar="SOURCE", type=given(str, "a camera, a URL or a file"), default=default.source, help=which
    )
    source.add_argument("--list", action="store_true", help="list the cameras and stop")
    source.add_argument("--size", metavar="WxH", type=_kind(size_of, "such as 1280x720"), help="picture size of a camera")
    source.add_argument("--rate", metavar="N", type=_kind(rate_of, "such as 30 or 29.97"), help="pictures a second of a camera")
    formats = "pixel format or codec of a camera, such as yuyv422, nv12 or mjpeg"
    source.add_argument("--input-format", metavar="NAME", type=given(str, "a format"), help=formats)
    source.add_argument(
        "--backend", choices=BACKENDS, default=default.backend, help="what opens a camera (default: %(default)s)"
    )
    silence = "lost after S seconds of silence (default: %(default)s)"
    source.add_argument("--timeout", metavar="S", type=float, default=default.timeout, help=silence)
    source.add_argument("--reconnect", action="store_true", help="open a lost camera or stream again, however long it takes")
    source.add_argument("--loop", action="store_true", help="play a file again and again")

    out = p.add_argument_group("out (any number at once)")
    out.add_argument("--no-window", dest="window", action="store_false", help="no preview")
    out.add_argument("--split", action="store_true", help="begin with the split view")
    out.add_argument("--overlay", action="store_true", help="begin with boxes, masks and timings over the picture")
    out.add_argument("--record", metavar="FILE", type=given(Path), help="write a video; it appears when the run ends")
    send = "send to rtmp://, rtsp://, udp://, srt://, http://, or write FILE.m3u8 (HLS)"
    out.add_argument("--stream", metavar="URL", type=given(str, "a URL or a FILE.m3u8"), help=send)
    camera = "feed a virtual camera, without DEVICE the first one (pip install 'vidunmask[live]')"
    out.add_argument(
        "--virtual-camera", metavar="DEVICE", nargs="?", const="auto", type=given(str, "a device, or auto"), help=camera
    )
    saved = "for what the keys p and r save"
    out.add_argument("--folder", metavar="DIR", type=given(Path, "a folder"), default=default.folder, help=saved)
    out.add_argument(
        "--overwrite", action="store_true", help="replace the FILE of --record, --stream and --stats where it exists"
    )
    out.add_argument("--codec", metavar="NAME", help="encoder of recordings (default: libx264, ultrafast)")
    out.add_argument("--crf", metavar="N", type=int, help="quality of recordings; less is better")
    out.add_argument("--preset", metavar="NAME", help="speed of the encoder of recordings")

    run_ = p.add_argument_group("run")
    run_.add_argument("--fixed", action="store_true", help="never trade quality for the rate")
    run_.add_argument("--duration", metavar="S", type=float, help="stop after S seconds")
    run_.add_argument("--stats", metavar="FILE", type=given(Path), help="write rate, latency and memory as CSV while it runs")
    every = "seconds between two lines of --stats (default: %(default)s)"
    run_.add_argument("--stats-every", metavar="S", type=float, default=default.stats_every, help=every)
    add_talk(p)
    add_chain(p)
    return p


def _kind(convert: Callable[[str], T], like: str) -> Callable[[str], T]:
    def check(text: str) -> T:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: must be {like}") from error

    return check


def run(arguments: list[str]) -> int:
    """Does the job and returns the exit code."""
    args = parser().parse_args(arguments)
    if args.list:
        return _list()
    config = config_of(args)
    names = ("source", "size", "rate", "input_format", "backend", "timeout", "reconnect", "loop", "window", "split", "overlay")
    more = ("record", "stream", "virtual_camera", "folder", "fixed", "duration", "stats", "stats_every")
    live = LiveConfig(**{name: getattr(args, name) for name in (*names, *more)})

    import cv2  # noqa: F401 - before PyAV, see live.window

    from vidunmask.pipelines.live.program import run as run_live

    with contextlib.ExitStack() as stack:
        stack.enter_context(logging_to(say, quiet=args.quiet, verbose=args.verbose))
        report = run_live(live, config, say=None if args.quiet else say)
    if not args.quiet:
        say(str(report))
    return 0


def _list() -> int:
    from vidunmask.video.camera import cameras, device_format

    found = cameras()
    for camera in found:
        show(f"{camera.index}  {camera.device}  {camera.name}")
    if not found:
        say(f"no camera was found ({device_format()}); --source also takes a URL or a file")
    return 0
