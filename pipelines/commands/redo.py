"""``vidunmask redo DIR --frame N``: one frame of a dump run again, to see what a change of code or weights does."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidunmask.errors import UsageError
from vidunmask.pipelines.options import EXIT_CODES, Parser, add_chain, add_talk, config_of, given, logging_to, say, show

_EPILOG = """\
examples:
  vidunmask redo seams --frame 100
  vidunmask redo seams --frame 100 --from inpaint --inpainter runs/new.safetensors

Options that are not given are those of the dump. The new pictures lie in DIR/frames/N/redo/ and on the page. What one frame
cannot know comes from the dump: the path of the crop, masks and decisions of the frames around, what was blended before. Only
--from detect has no past: it searches the frame as if it were the first.
"""


def parser() -> Parser:
    """The arguments of ``vidunmask redo``."""
    from vidunmask.pipelines.dump.redo import STAGES

    p = Parser(
        prog="vidunmask redo",
        description="Runs one frame of a dump again and says what changed.",
        epilog=f"{_EPILOG}\n{EXIT_CODES}",
    )
    p.add_argument("dir", metavar="DIR", type=given(Path, "a folder"), help="folder of a dump")
    p.add_argument("--frame", metavar="N", type=int, required=True, help="its number, as in the dump")
    p.add_argument("--from", dest="start", choices=STAGES, default="crop", help="first stage to run (default: %(default)s)")
    add_talk(p)
    own = {id(action) for action in p._actions}
    add_chain(p)
    for action in p._actions:
        if id(action) not in own:  # what is not given stays as it was in the dump
            action.default = argparse.SUPPRESS
            action.help = (action.help or "").replace("%(default)s", "as dumped")
    return p


def run(arguments: list[str]) -> int:
    """Does the job, prints what changed, and returns the exit code."""
    args = parser().parse_args(arguments)
    config_of(args)  # checks what is given

    from vidunmask.pipelines.dump.redo import redo
    from vidunmask.pipelines.dump.store import CHAIN

    if args.frame < 0:
        raise UsageError(f"--frame {args.frame}: frames are counted from 0")
    given = {name: value for name, value in vars(args).items() if name in CHAIN}
    with logging_to(say, quiet=args.quiet, verbose=args.verbose):
        report = redo(args.dir, args.frame, start=args.start, given=given)
    for change in report.changes:
        show(change)
    if not args.quiet:
        for note in report.notes:
            say(f"vidunmask: {note}")
        outcome = "the result is identical" if report.identical else "the result differs"
        say(f"{report.page}: frame {args.frame} from {args.start}, {outcome}; pictures in {report.folder}")
    return 0
