"""``vidunmask evaluate``: measures the networks on faces, or the whole pipeline on clips."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidunmask.errors import UsageError
from vidunmask.pipelines.config import DEVICES, Config
from vidunmask.pipelines.options import EXIT_CODES, WHERE, Parser, add_talk, config_of, logging_to, say, show

_EPILOG = """\
examples:
  vidunmask evaluate --pack pack/ --out figures/
  vidunmask evaluate --pack pack/ --out hard/ --protocol hard --methods new=inpainter.safetensors compact-inpainter telea
  vidunmask evaluate --clips clean_videos/ --out clip_figures/ --seconds 5

PACK is made by python -m vidunmask.training.pack PHOTOS PACK. Clips show unmasked faces; a mask is put on, taken off by the
whole pipeline, and the result compared with the clip as it was.
"""


def parser() -> Parser:
    """The arguments of ``vidunmask evaluate``."""
    from vidunmask.training.evaluate import add_common, add_faces

    p = Parser(
        prog="vidunmask evaluate",
        description="Measures segmentation and inpainting on the faces of a pack, or the whole pipeline on clips.",
        epilog=f"{_EPILOG}\n{EXIT_CODES}",
    )
    add_common(p)
    p.add_argument("--device", default=Config().device, choices=DEVICES, help=WHERE)
    add_talk(p)
    add_faces(p)
    _add_clips(p)
    return p


def _add_clips(p: argparse.ArgumentParser) -> None:
    """The options of measuring clips."""
    from vidunmask.pipelines.evaluate import KINDS

    clips = p.add_argument_group("clips")
    clips.add_argument("--clips", metavar="PATH", type=Path, nargs="+", help="videos, or folders of them, of unmasked faces")
    clips.add_argument(
        "--seconds", metavar="N", type=float, default=10.0, help="of each clip, from its start (default: %(default)g)"
    )
    clips.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="types of mask, one a clip in turn (default: all five)"
    )
    clips.add_argument(
        "--no-temporal", dest="temporal", action="store_false", help="the pipeline fills and blends every frame alone"
    )


def _refuse_others(args: argparse.Namespace) -> None:
    """Raises UsageError for an option of faces where clips are measured, or of clips where faces are."""
    from vidunmask.training.evaluate import add_faces

    add, measured = (_add_clips, "--pack") if args.clips is None else (add_faces, "--clips")
    others = argparse.ArgumentParser()
    add(others)
    for name, default in vars(others.parse_args([])).items():
        if getattr(args, name) != default:
            flag = "--no-" + name if default is True else "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: has no meaning with {measured}; leave it out")


def run(arguments: list[str]) -> int:
    """Does the job and returns the exit code."""
    args = parser().parse_args(arguments)
    config = config_of(args)
    if (args.pack is None) == (args.clips is None):
        raise UsageError("name what to measure on: either --pack PACK or --clips PATH (see vidunmask evaluate --help)")
    _refuse_others(args)

    from vidunmask.pipelines.build import choose_device
    from vidunmask.pipelines.evaluate import evaluate_clips
    from vidunmask.pipelines.progress import ProgressBar
    from vidunmask.training.evaluate import evaluate_faces

    bar = ProgressBar(unit="face" if args.clips is None else "frame", quiet=args.quiet)
    with bar, logging_to(bar.say, quiet=args.quiet, verbose=args.verbose):
        if args.clips is None:
            text = evaluate_faces(args, device=choose_device(args.device), progress=bar)
        else:
            text = evaluate_clips(args, config=config, progress=bar)
    if not args.quiet:
        show(text)
        say(f"{args.out}: done")
    return 0
