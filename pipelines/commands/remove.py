"""``vidunmask [remove] INPUT OUTPUT``: the main job."""

from __future__ import annotations

from pathlib import Path

from vidunmask.errors import UsageError
from vidunmask.pipelines import commands
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.options import (
    EXIT_CODES,
    Parser,
    add_chain,
    add_talk,
    add_video_out,
    config_of,
    given,
    logging_to,
    say,
)

SOME_FAILED = 7  # exit code: a folder was done, but not every picture in it

_EPILOG = """\
examples:
  vidunmask talk.mp4 talk_unmasked.mp4
  vidunmask talk.mov talk.mkv --codec libx265 --crf 20 --preset slow
  vidunmask portrait.jpg portrait_unmasked.jpg
  vidunmask photos/ unmasked/ --report run.json
  vidunmask long.mkv out.mkv --device cuda --batch 64 --overwrite

INPUT is a video, a picture, or a folder of pictures. The word 'remove' before it may be left out; a file that is called
like a command is given as ./remove.

other commands, each with its own --help: {commands}
"""


def parser() -> Parser:
    """The arguments of ``vidunmask [remove]``."""
    p = Parser(
        prog="vidunmask",
        description="Gives back a video, a picture or a folder of pictures of people in face masks without the masks.",
        epilog=_EPILOG.format(commands=", ".join(name for name in commands.names() if name != "remove")) + f"\n{EXIT_CODES}",
    )
    p.add_argument("input", metavar="INPUT", type=given(Path), help="video, picture or folder of pictures")
    p.add_argument("output", metavar="OUTPUT", type=given(Path), help="file of the same kind, or folder for a folder")
    p.add_argument("--overwrite", action="store_true", help="replace OUTPUT, and FILE of --report, where they exist")
    p.add_argument(
        "--report", metavar="FILE", type=given(Path), help="write faces, frames, time per stage and warnings as JSON"
    )
    add_talk(p)
    add_chain(p)
    add_video_out(p)
    return p


def run(arguments: list[str]) -> int:
    """Does the job and returns the exit code."""
    args = parser().parse_args(arguments)
    config = config_of(args)

    from vidunmask.pipelines import checks
    from vidunmask.pipelines.progress import ProgressBar
    from vidunmask.pipelines.remove import unmask

    checks.readable(args.input)
    if args.input.is_dir() or checks.is_picture(args.input):
        for name in ("codec", "crf", "preset", "pix_fmt", "convert_streams"):
            if getattr(config, name) != getattr(Config(), name):
                raise UsageError(f"--{name.replace('_', '-')}: is for videos, and {args.input} is none; leave it out")
    if args.report is not None:
        weights = (config.segmenter, config.inpainter)
        checks.report(args.report, args.input, args.output, overwrite=config.overwrite, weights=weights)
    bar = ProgressBar(unit="picture" if args.input.is_dir() else "frame", quiet=args.quiet)
    with bar, logging_to(bar.say, quiet=args.quiet, verbose=args.verbose):
        report = unmask(args.input, args.output, config=config, progress=bar)
    if args.report is not None:
        report.write(args.report, overwrite=config.overwrite)
    for failure in report.failures:
        say(f"vidunmask: {failure.message}")
    if not args.quiet:
        faces = "1 face" if report.face_count == 1 else f"{report.face_count} faces"
        edited = f"{report.frames_edited} of {report.frames} frames edited, {faces}"
        copied = ", copied byte for byte" if report.frames_copied else ""
        failed = f", {len(report.failures)} failed" if report.failures else ""
        say(f"{args.output}: {edited}{copied}{failed}, {report.seconds:.1f} s, {report.fps:.1f} frames/s on {report.device}")
    return SOME_FAILED if report.failures else 0
