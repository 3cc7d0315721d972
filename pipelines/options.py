"""What the programs' command lines share: the options of a run, how errors and log lines are shown."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from vidunmask import __version__
from vidunmask.errors import UsageError
from vidunmask.pipelines.config import DEVICES, PRECISIONS, Config

T = TypeVar("T")
_EMPTY = "is empty"
WHERE = "where the networks run; auto: CUDA, else Apple's GPU, else the processor (default: %(default)s)"  # of --device

EXIT_CODES = """\
exit codes:
  0 done   1 unexpected error   2 wrong option or argument   3 input missing or unreadable
  4 output exists or cannot be written   5 device, encoder or precision not available   6 weights missing or damaged
  7 some files or pictures failed, the others were done   129 terminal closed   130 Ctrl-C   143 terminated
"""


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument as the library does, in one line instead of the whole usage."""

    def __init__(self, *, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.register("type", Path, given(Path, "a name"))  # no path is ever empty, whoever adds the option

    def _print_message(self, message: str, file: Any = None) -> None:
        show(message.rstrip("\n"))  # help and version; errors are raised

    def error(self, message: str) -> NoReturn:
        name, empty, remedy = message.removeprefix("argument ").partition(f": {_EMPTY}")
        if empty:
            raise UsageError(f"{name} {_EMPTY}{remedy}")
        raise UsageError(f"{message} (see {self.prog} --help)")


def given(kind: Callable[[str], T], what: str = "a file name") -> Callable[[str], T]:
    """A type for argparse: ``kind`` of what was given, which must not be empty; the error asks for ``what``.

    An empty path would be the current folder, and comes from a variable that a script has not set.
    """

    def convert(text: str) -> T:
        if not text.strip():
            raise argparse.ArgumentTypeError(f"{_EMPTY}: give {what}")
        return kind(text)

    return convert


def add_talk(p: argparse.ArgumentParser) -> None:
    """``--quiet``, ``--verbose`` and ``--version``."""
    p.add_argument("--quiet", action="store_true", help="print nothing but errors")
    p.add_argument("--verbose", action="store_true", help="say what is chosen, and show where an error comes from")
    p.add_argument("--version", action="version", version=f"vidunmask {__version__}")


def add_chain(p: argparse.ArgumentParser) -> None:
    """The options of faces and networks, which every program has that runs the chain."""
    from vidunmask import detectors

    default = Config()
    faces = p.add_argument_group("faces")
    which = "face-alignment fetches its weights the first time (default: %(default)s)"
    faces.add_argument("--detector", default=default.detector, choices=detectors.names(), help=which)
    every = "search every N frames (default: %(default)s)"
    faces.add_argument("--detect-every", metavar="N", type=int, default=default.detect_every, help=every)
    faces.add_argument(
        "--no-temporal",
        dest="temporal",
        action="store_false",
        help="decide, fill and blend every frame alone (crops stay steady)",
    )

    networks = p.add_argument_group("networks")
    networks.add_argument("--device", default=default.device, choices=DEVICES, help=WHERE)
    numbers = "auto: bfloat16 where the hardware multiplies it, else float32 (default: %(default)s)"
    networks.add_argument("--precision", default=default.precision, choices=PRECISIONS, help=numbers)
    networks.add_argument(
        "--batch", metavar="N", type=int, default=default.batch, help="faces in one call of a network (default: %(default)s)"
    )
    weights = given(str, "a file or a shipped name")
    which = "a shipped name or a file (default: %(default)s)"
    networks.add_argument("--segmenter", metavar="WEIGHTS", type=weights, default=default.segmenter, help=which)
    which = "compact-inpainter, paper-inpainter (for GPUs) or a file (default: %(default)s)"
    networks.add_argument("--inpainter", metavar="WEIGHTS", type=weights, default=default.inpainter, help=which)
    networks.add_argument("--compile", action="store_true", help="torch.compile: a slow start, then faster")


def add_video_out(p: argparse.ArgumentParser) -> None:
    """The options of the encoder and of the streams beside the picture."""
    video = p.add_argument_group("video out (default: as the input, visually lossless)")
    video.add_argument("--codec", metavar="NAME", help="an encoder, such as libx264, libx265, libsvtav1, h264_nvenc")
    video.add_argument("--crf", metavar="N", type=int, help="constant quality; less is better")
    video.add_argument("--preset", metavar="NAME", help="the encoder's own: speed against size")
    video.add_argument("--pix-fmt", metavar="NAME", help="pixel format, such as yuv420p or yuv420p10le")
    convert = "convert sound and subtitles that OUTPUT cannot hold instead of leaving them out"
    video.add_argument("--convert-streams", action="store_true", help=convert)


def config_of(args: argparse.Namespace) -> Config:
    """The config that the parsed options ask for; options that a program does not have keep their defaults.

    Raises UsageError for a value that cannot be used.
    """
    if args.quiet and args.verbose:
        raise UsageError("--quiet and --verbose exclude each other")
    given: dict[str, Any] = vars(args)
    return Config(**{field.name: given[field.name] for field in fields(Config) if field.name in given})


def show(text: object) -> None:
    """Prints on stdout, if there is one; where its reader has gone, as of ``| head``, the rest goes nowhere."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try once more at its end


def say(message: str) -> None:
    """Prints a line on stderr, if there is one."""
    if sys.stderr is None:  # closed by whoever started the program; the exit code still tells
        return
    with contextlib.suppress(OSError, ValueError):
        print(one_line(message), file=sys.stderr)


def one_line(text: str) -> str:
    """The text with what a name may have that is no text (line ends, control characters, bytes) as Python writes it."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda found: repr(found[0])[1:-1], text)


class _Lines(logging.Handler):
    def __init__(self, say: Callable[[str], None], level: int) -> None:
        super().__init__(level)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        self._say(f"vidunmask: {kind}{record.getMessage()}")


@contextlib.contextmanager
def logging_to(say: Callable[[str], None], *, quiet: bool, verbose: bool) -> Iterator[None]:
    """Shows the library's log lines by ``say`` during the body: warnings, everything if verbose, errors if quiet."""
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
