"""``vidunmask batch INPUTS... --out DIR``: many files, long ones in segments, and again where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidunmask.pipelines.commands.remove import SOME_FAILED
from vidunmask.pipelines.options import (
    EXIT_CODES,
    Parser,
    add_chain,
    add_talk,
    add_video_out,
    config_of,
    given,
    logging_to,
    one_line,
    say,
)

if TYPE_CHECKING:
    from vidunmask.pipelines.batch.ledger import Entry
    from vidunmask.pipelines.batch.terms import BatchReport

_EPILOG = """\
examples:
  vidunmask batch talks/ --out unmasked/
  vidunmask batch a/talk.mp4 b/talk.mp4 'clips/**/*.mkv' portrait.jpg --out unmasked/ --jobs 2
  vidunmask batch @list.txt --out unmasked/ --container mkv --crf 18
  vidunmask batch lectures/ --out unmasked/ --copy-untouched --segment 120
  vidunmask batch /shared/talks --out /shared/unmasked --ray auto

INPUTS are videos, pictures, folders with all that lies in them, patterns, and @lists of one path a line. What is done already
is skipped; what was begun is gone on with: after a crash or Ctrl-C give the same command again. DIR/batch.json says what
became of each file.
"""


def parser() -> Parser:
    """The arguments of ``vidunmask batch``."""
    p = Parser(
        prog="vidunmask batch",
        description="Does the main job for many files, skips what is done, and goes on where it was stopped.",
        epilog=f"{_EPILOG}\n{EXIT_CODES}",
    )
    p.add_argument("inputs", metavar="INPUTS", nargs="*", type=given(str), help="videos, pictures, folders, patterns, @lists")
    lists = "file of one path a line, where # begins a comment; - for stdin"
    p.add_argument("--list", metavar="FILE", dest="lists", action="append", type=given(str), default=[], help=lists)
    p.add_argument("--out", metavar="DIR", type=given(Path, "a folder"), required=True, help="folder for the results; is made")
    p.add_argument("--overwrite", action="store_true", help="replace files in DIR that this command did not make")
    add_talk(p)

    work = p.add_argument_group("how it is done")
    work.add_argument("--jobs", metavar="N", type=int, help="files or segments at a time (default: 1, or what a cluster holds)")
    work.add_argument(
        "--segment", metavar="SECONDS", dest="segment_seconds", type=float, default=60.0,
        help="length of the parts that a video of twice that length is done in; 0: never (default: %(default)g)",
    )  # fmt: skip
    work.add_argument("--keep-work", action="store_true", help="keep the finished segments of each file")
    work.add_argument("--copy-untouched", action="store_true", help="do not encode parts without a masked face")
    extension = "extension for all videos, such as mkv (default: the input's)"
    work.add_argument("--container", metavar="EXT", type=given(str, "an extension such as mkv"), help=extension)
    address = "use a Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT"
    work.add_argument("--ray", metavar="ADDRESS", type=given(str, "an address such as auto"), help=address)
    add_chain(p)
    add_video_out(p)
    return p


def run(arguments: list[str]) -> int:
    """Does the job and returns the exit code."""
    p = parser()
    args = p.parse_args(arguments)
    config = config_of(args)
    if not args.inputs and not args.lists:
        p.error("give INPUTS or --list")

    from vidunmask.pipelines.batch.run import batch
    from vidunmask.pipelines.batch.terms import BatchOptions, Listener
    from vidunmask.pipelines.progress import ProgressBar

    options = BatchOptions(
        lists=tuple(args.lists), jobs=args.jobs, segment_seconds=args.segment_seconds, copy_untouched=args.copy_untouched,
        keep_work=args.keep_work, container=args.container and args.container.lstrip(".").lower(), ray=args.ray,
    )  # fmt: skip
    bar = ProgressBar(quiet=args.quiet)

    class Shown(Listener):
        def progress(self, done: int, expected: int | None) -> None:
            bar(done, expected)

        def finished(self, entry: Entry, number: int, of: int) -> None:
            if entry.message:
                bar.say(f"vidunmask: {entry.message}")
            if not args.quiet:
                for message in entry.warnings if entry.status != "skipped" else ():
                    bar.say(f"vidunmask: warning: {entry.input}: {message}")
                bar.say(f"[{number}/{of}] {entry.output}: {outcome(entry)}")

        def note(self, message: str) -> None:
            if not args.quiet:
                bar.say(f"vidunmask: {message}")

    # Warnings are shown with the name of their file, when it is finished.
    with bar, logging_to(bar.say, quiet=not args.verbose, verbose=args.verbose):
        report = batch(args.inputs, args.out, config=config, options=options, listener=Shown())
    if not args.quiet:
        for line in table(report):
            say(line)
    return SOME_FAILED if report.failed else 0


def outcome(entry: Entry) -> str:
    """What became of a file, in a few words."""
    if entry.status != "done":
        return {"skipped": "done before"}.get(entry.status, entry.status)
    copied = f", {entry.frames_copied} copied" if entry.frames_copied else ""
    parts = f" in {entry.segments} segments" if entry.segments > 1 else ""
    return f"{entry.frames_edited} of {entry.frames} frames edited{copied}, {entry.seconds:.1f} s{parts}"


def table(report: BatchReport) -> list[str]:
    """The files and what became of them, as lines of columns."""
    head = ("file", "status", "frames", "edited", "copied", "faces", "seconds")
    rows = [head]
    for e in report.entries:
        numbers = (e.frames, e.frames_edited, e.frames_copied, e.faces, f"{e.seconds:.1f}")
        rows.append((one_line(e.output), e.status, *(map(str, numbers) if e.status in ("done", "skipped") else [""] * 5)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    failed = f", {len(report.failed)} failed" if report.failed else ""
    skipped = f", {report.count('skipped')} done before" if report.count("skipped") else ""
    files = "1 file" if len(report.entries) == 1 else f"{len(report.entries)} files"
    lines.append(f"{files}: {report.count('done')} done{skipped}{failed}, {report.seconds:.1f} s")
    return lines
