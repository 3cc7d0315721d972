"""``vidunmask networks``: what the networks cost."""

from __future__ import annotations

from vidunmask.pipelines.options import EXIT_CODES, Parser, add_talk, show

_EPILOG = """\
examples:
  vidunmask networks
  vidunmask networks --preset compact --json
"""


def parser() -> Parser:
    """The arguments of ``vidunmask networks``."""
    p = Parser(
        prog="vidunmask networks",
        description="Lists every network and preset, also of the paper's rivals: parameters, GFLOP a face, receptive field.",
        epilog=f"{_EPILOG}\n{EXIT_CODES}",
    )
    p.add_argument("--preset", dest="sizes", metavar="NAME", action="append", help="only presets of this name; may be repeated")
    p.add_argument("--no-receptive-field", dest="receptive_field", action="store_false", help="leave that column empty: faster")
    p.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    add_talk(p)
    return p


def run(arguments: list[str]) -> int:
    """Prints the list and returns the exit code."""
    args = parser().parse_args(arguments)

    from vidunmask.errors import UsageError
    from vidunmask.pipelines import networks

    entries = list(networks.survey(presets=set(args.sizes) if args.sizes else None, receptive_field=args.receptive_field))
    if not entries:
        raise UsageError(f"--preset {' '.join(args.sizes)}: no network has it; there are paper, compact and tiny")
    show(networks.as_json(entries) if args.json else networks.table(entries))
    return 0
