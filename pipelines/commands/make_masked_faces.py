"""``vidunmask make-masked-faces PHOTOS FOLDER``: the paper's dataset."""

from __future__ import annotations

import os
import time
from pathlib import Path

from vidunmask.errors import UsageError
from vidunmask.pipelines.options import EXIT_CODES, Parser, add_talk, given, logging_to, say

_EPILOG = """\
examples:
  vidunmask make-masked-faces celeba/ masked-faces/ --jobs 16
  vidunmask make-masked-faces photos/ masked-faces/ --kinds surgical cloth none --seed 7 --export-pictures 20

PHOTOS is CelebA as it is distributed (img_align_celeba or img_celeba with list_eval_partition.txt or .csv; its own splits
are kept), or any folder of photos, with an images.csv (file, split, tier, source) or without. The same command goes on where
it was stopped. The result depends on the photos and the options, not on --jobs.
"""


def parser() -> Parser:
    """The arguments of ``vidunmask make-masked-faces``."""
    p = Parser(
        prog="vidunmask make-masked-faces",
        description="Builds the Masked-Faces dataset: aligned faces with a mask drawn on each, the mask and the truth.",
        epilog=f"{_EPILOG}\n{EXIT_CODES}",
    )
    add = p.add_argument
    add("photos", metavar="PHOTOS", type=given(Path, "a folder"), help="CelebA or a folder of photos")
    where = "where to build; what is there of the same dataset is kept"
    add("folder", metavar="FOLDER", type=given(Path, "a folder"), help=where)
    add("--seed", metavar="N", type=int, default=0, help="of every random choice (default: %(default)s)")
    add("--jobs", metavar="N", type=int, help="processes (default: one a core)")
    add(
        "--kinds",
        metavar="KIND",
        nargs="+",
        help="draw from these: surgical cloth n95 kn95 scarf (the default), none, template",
    )
    add(
        "--crop",
        default="aligned",
        help="aligned: as the networks see faces; centre: the photo's middle (default: %(default)s)",
    )
    pictures = "pictures of masks for the kind 'template', and cloth for prints"
    add("--templates", metavar="FOLDER", type=given(Path, "a folder"), help=pictures)
    add(
        "--camera", metavar="0..1", type=float, default=0.0, help="how bad the camera is: blur, noise, compression (default: 0)"
    )
    add("--occlusion", metavar="0..1", type=float, default=0.0, help="how often hands and things are in front (default: 0)")
    add("--pictures", default="webp", help="webp (lossless) or png, or jpeg, which is half as large (default: %(default)s)")
    add("--shard", metavar="N", type=int, default=1000, help="photos in one shard (default: %(default)s)")
    add("--limit", metavar="N", type=int, help="only the first N photos")
    add("--export-pictures", metavar="N", type=int, default=0, help="also write N samples of each split as loose PNG files")
    add_talk(p)
    return p


def run(arguments: list[str]) -> int:
    """Does the job and returns the exit code."""
    args = parser().parse_args(arguments)
    if args.quiet and args.verbose:
        raise UsageError("--quiet and --verbose exclude each other")
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}: must be 1 or more")
    if args.export_pictures < 0:
        raise UsageError(f"--export-pictures {args.export_pictures}: must not be negative")

    from vidunmask.pipelines import checks
    from vidunmask.pipelines.progress import ProgressBar
    from vidunmask.training.dataset import build as builder

    checks.readable(args.photos)
    settings = builder.Settings(
        seed=args.seed,
        kinds=tuple(args.kinds) if args.kinds else builder.FIVE,
        crop=args.crop,
        templates=args.templates,
        camera=args.camera,
        occlusion=args.occlusion,
        pictures=args.pictures,
        shard=args.shard,
        limit=args.limit,
    )
    began = time.monotonic()
    bar = ProgressBar(unit="photo", quiet=args.quiet)
    with bar, logging_to(bar.say, quiet=args.quiet, verbose=args.verbose):
        try:
            built = builder.build(args.photos, args.folder, settings, jobs=args.jobs or os.cpu_count() or 1, progress=bar)
            if args.export_pictures:
                builder.export_pictures(args.folder, args.export_pictures)
        except BaseException as stopped:
            if not isinstance(stopped, Exception):  # Ctrl-C and SIGTERM
                stopped.add_note("finished shards are kept, the same command goes on")
            raise
    if not args.quiet:
        seconds = time.monotonic() - began
        rate = f", {built.made_now / seconds:.1f} photos/s" if built.made_now else " (nothing was left to do)"
        splits = ", ".join(f"{split} {count}" for split, count in built.splits.items())
        size = f"{built.bytes / 1e9:.2f} GB, {built.bytes / max(built.faces, 1) / 1e3:.0f} kB a face"
        say(f"{args.folder}: {built.faces} faces ({splits}), {size}{rate}")
        if built.failed:
            reasons = ", ".join(f"{reason} {count}" for reason, count in built.failed.most_common())
            say(f"{built.failed.total()} of {built.photos} photos gave no face ({reasons}); they are listed in failed.csv")
    return 0
