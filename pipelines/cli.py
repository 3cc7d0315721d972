"""The command line: arguments in, exit code out. Nothing heavy is imported before the arguments are known to be good."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from vidunmask import __version__
from vidunmask.errors import UsageError, VidunmaskError
from vidunmask.pipelines.config import DEVICES, PRECISIONS, Config

SOME_FAILED = 7  # exit code: a folder was done, but not every picture in it
INTERRUPTED = 130  # as the shells have it: 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM

_EPILOG = """\
examples:
  vidunmask talk.mp4 talk_unmasked.mp4
  vidunmask talk.mov talk.mkv --codec libx265 --crf 20 --preset slow
  vidunmask portrait.jpg portrait_unmasked.jpg
  vidunmask photos/ unmasked/ --report run.json
  vidunmask long.mkv out.mkv --device cuda --batch 64 --overwrite

INPUT is a video, a picture, or a folder of pictures. The word 'remove' before it may be left out; a file that is called
like a command is given as ./remove.

exit codes:
  0 done   1 unexpected error   2 wrong option or argument   3 input missing or unreadable
  4 output exists or cannot be written   5 device, encoder or precision not available   6 weights missing or damaged
  7 some pictures of a folder failed   130 Ctrl-C   143 terminated
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code (see ``vidunmask --help``)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command, rest = _split(arguments)
    verbose = "--verbose" in arguments
    try:
        with _signals():
            return _COMMANDS[command](rest)
    except VidunmaskError as error:
        # Where a wrong argument was noticed helps nobody.
        return _fail(str(error), error.exit_code, verbose=verbose and not isinstance(error, UsageError))
    except KeyboardInterrupt:
        return _fail("interrupted, nothing was written", INTERRUPTED, verbose=False)
    except _Terminated:
        return _fail("terminated, nothing was written", TERMINATED, verbose=False)
    except Exception as error:
        # The last line of defence: an error nobody foresaw is still one line and a code, with its trace on demand.
        hint = "" if verbose else " (--verbose shows where)"
        return _fail(f"unexpected {type(error).__name__}: {_one_line(error)}{hint}", 1, verbose=verbose)


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """The command and its arguments. The first word is a command if it is exactly one's name, else the command is remove."""
    if arguments and arguments[0] in _COMMANDS:
        return arguments[0], arguments[1:]
    return "remove", arguments


def _fail(message: str, code: int, *, verbose: bool) -> int:
    if verbose:
        import traceback

        traceback.print_exc()
    _say(f"vidunmask: {message}")
    return code


def _one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


class _Terminated(BaseException):
    """SIGTERM; a BaseException like KeyboardInterrupt, so that only `with` and `finally` see it on its way out."""


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Turns SIGTERM and SIGINT into exceptions, so that everything opened is closed and the temporary file is removed.

    A terminal and its parent may both deliver the same signal; repeats within two seconds do not disturb the cleaning up.
    """
    first = [float("-inf")]

    def handler(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - first[0] < 2.0:
            return
        first[0] = now
        raise KeyboardInterrupt if number == signal.SIGINT else _Terminated

    try:
        before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever called owns the signals
        before = {}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument as the library does, in one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see vidunmask --help)")


def parser() -> argparse.ArgumentParser:
    """The arguments of ``vidunmask [remove]``."""
    from vidunmask import detectors

    p = _Parser(
        prog="vidunmask",
        description="Gives back a video, a picture or a folder of pictures of people in face masks without the masks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = Config()
    p.add_argument("input", metavar="INPUT", type=Path, help="video, picture or folder of pictures")
    p.add_argument("output", metavar="OUTPUT", type=Path, help="file of the same kind, or folder for a folder")
    p.add_argument("--overwrite", action="store_true", help="replace OUTPUT where it exists")
    p.add_argument("--report", metavar="FILE", type=Path, help="write faces, frames, time per stage and warnings as JSON")
    p.add_argument("--quiet", action="store_true", help="print nothing but errors")
    p.add_argument("--verbose", action="store_true", help="say what is chosen, and show where an error comes from")
    p.add_argument("--version", action="version", version=f"vidunmask {__version__}")

    faces = p.add_argument_group("faces")
    faces.add_argument("--detector", default=default.detector, choices=detectors.names(), help="(default: %(default)s)")
    every = "search every N frames (default: %(default)s)"
    faces.add_argument("--detect-every", metavar="N", type=int, default=default.detect_every, help=every)
    faces.add_argument("--no-temporal", dest="temporal", action="store_false", help="treat every frame alone")

    networks = p.add_argument_group("networks")
    networks.add_argument("--device", default=default.device, choices=DEVICES, help="(default: %(default)s)")
    networks.add_argument("--precision", default=default.precision, choices=PRECISIONS, help="(default: %(default)s)")
    networks.add_argument(
        "--batch", metavar="N", type=int, default=default.batch, help="faces in one call of a network (default: %(default)s)"
    )
    which = "a file or a shipped name (default: %(default)s)"
    networks.add_argument("--segmenter", metavar="WEIGHTS", default=default.segmenter, help=which)
    networks.add_argument("--inpainter", metavar="WEIGHTS", default=default.inpainter, help=which)
    networks.add_argument("--compile", action="store_true", help="torch.compile: a slow start, then faster")

    video = p.add_argument_group("video out (default: as the input, visually lossless)")
    video.add_argument("--codec", metavar="NAME", help="an encoder, such as libx264, libx265, libsvtav1, h264_nvenc")
    video.add_argument("--crf", metavar="N", type=int, help="constant quality; less is better")
    video.add_argument("--preset", metavar="NAME", help="the encoder's own: speed against size")
    video.add_argument("--pix-fmt", metavar="NAME", help="pixel format, such as yuv420p or yuv420p10le")
    convert = "convert sound and subtitles that OUTPUT cannot hold instead of leaving them out"
    video.add_argument("--convert-streams", action="store_true", help=convert)
    return p


def _config(args: argparse.Namespace) -> Config:
    return Config(
        overwrite=args.overwrite,
        detector=args.detector,
        detect_every=args.detect_every,
        device=args.device,
        precision=args.precision,
        batch=args.batch,
        segmenter=args.segmenter,
        inpainter=args.inpainter,
        compile=args.compile,
        temporal=args.temporal,
        codec=args.codec,
        crf=args.crf,
        preset=args.preset,
        pix_fmt=args.pix_fmt,
        convert_streams=args.convert_streams,
    )


def _remove(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    config = _config(args)
    if args.quiet and args.verbose:
        raise UsageError("--quiet and --verbose exclude each other")

    from vidunmask.pipelines import checks
    from vidunmask.pipelines.remove import unmask

    if args.report is not None:
        checks.report(args.report, args.input, args.output)
    with contextlib.ExitStack() as stack:
        progress = None
        say = _say
        if not args.quiet and sys.stderr is not None:
            from vidunmask.pipelines.progress import ProgressBar

            progress = stack.enter_context(ProgressBar(unit="picture" if args.input.is_dir() else "frame"))
            say = progress.say
        stack.enter_context(_logging(say, quiet=args.quiet, verbose=args.verbose))
        report = unmask(args.input, args.output, config=config, progress=progress)
    if args.report is not None:
        report.write(args.report)
    for failure in report.failures:
        _say(f"vidunmask: {failure.message}")
    if not args.quiet:
        edited = f"{report.frames_edited} of {report.frames} frames edited, {len(report.faces)} faces"
        _say(f"{args.output}: {edited}, {report.seconds:.1f} s, {report.fps:.1f} frames/s on {report.device}")
    return SOME_FAILED if report.failures else 0


def _say(message: str) -> None:
    if sys.stderr is None:  # closed by whoever started the program; the exit code still tells
        return
    with contextlib.suppress(OSError, ValueError):
        print(message, file=sys.stderr)


class _Lines(logging.Handler):
    def __init__(self, say: Callable[[str], None], level: int) -> None:
        super().__init__(level)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        self._say(f"vidunmask: {kind}{record.getMessage()}")


@contextlib.contextmanager
def _logging(say: Callable[[str], None], *, quiet: bool, verbose: bool) -> Iterator[None]:
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
    handler, logger = _Lines(say, level), logging.getLogger("vidunmask")
    old, logger.propagate = (logger.level, logger.propagate), False
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = old


# Another program joins here: its name, and a function from its arguments to an exit code.
_COMMANDS: dict[str, Callable[[list[str]], int]] = {"remove": _remove}


if __name__ == "__main__":
    sys.exit(main())
