"""``vidunmask dump INPUT DIR``: what every stage saw and made, as pictures and a page to look at them."""

from __future__ import annotations

import re
from pathlib import Path

from vidunmask.pipelines.options import EXIT_CODES, Parser, add_chain, add_talk, config_of, given, logging_to, say

_EPILOG = """\
examples:
  vidunmask dump talk.mp4 seams --frames 100:200:5
  vidunmask dump talk.mp4 seams --time 3.2:4.0 --overwrite
  vidunmask dump portrait.jpg seams

Open DIR/index.html in a browser; it needs no server. Everything up to the last chosen frame is run as the main job runs it,
so the results are the same to the bit. After Ctrl-C DIR has the frames that were done. 'vidunmask redo' runs one of them again.
"""


def parser() -> Parser:
    """The arguments of ``vidunmask dump``."""
    from vidunmask.pipelines.dump.choice import DEFAULT

    p = Parser(
        prog="vidunmask dump",
        description="Writes what every stage saw and made of chosen frames, with a page to look at it.",
        epilog=f"{_EPILOG}\n{EXIT_CODES}",
    )
    p.add_argument("input", metavar="INPUT", type=given(Path), help="video or picture")
    p.add_argument("dir", metavar="DIR", type=given(Path, "a folder"), help="folder for the dump")
    frames = f"from 0, STOP not included; one number, or several ranges with commas (default: {DEFAULT})"
    p.add_argument("--frames", metavar="START:STOP[:STEP]", help=frames)
    p.add_argument("--time", metavar="START:STOP[:STEP]", help="in seconds from the first frame, instead of --frames")
    p.add_argument("--overwrite", action="store_true", help="replace a dump in DIR, or write into a folder with other files")
    add_talk(p)
    add_chain(p)
    return p


def run(arguments: list[str]) -> int:
    """Does the job and returns the exit code."""
    args = parser().parse_args(_with_signs(arguments))
    config = config_of(args)

    from vidunmask.pipelines import checks
    from vidunmask.pipelines.dump.choice import choose
    from vidunmask.pipelines.dump.run import dump
    from vidunmask.pipelines.progress import ProgressBar

    unasked = args.frames is None and args.time is None
    choice = None if unasked and checks.is_picture(args.input) else choose(args.frames, args.time)
    with ProgressBar(quiet=args.quiet) as bar, logging_to(bar.say, quiet=args.quiet, verbose=args.verbose):
        report = dump(args.input, args.dir, choice=choice, config=config, progress=bar)
    if not args.quiet:
        say(f"{report.page}: {report.written} of {report.frames} frames written, on {report.device}")
    return 0


def _with_signs(arguments: list[str]) -> list[str]:
    """``--frames -5:3`` as one word: argparse would take the value for an option, and its message would not help."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--frames", "--time") and re.match(r"-[\d.:]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
