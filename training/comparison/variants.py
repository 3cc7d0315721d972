"""What races: names for sets of options of the training program, from a built-in list, the command line, or a file."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidunmask.errors import InputError, UsageError

BASE = "baseline"
MIRRORED = "+mirrored"  # behind a name: the same weights, averaged over the face and its mirror image when measuring
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Variant:
    """A name, options for the training program, and whether it is measured with mirrored averaging."""

    name: str
    options: tuple[str, ...]
    mirrored: bool = False

    @property
    def label(self) -> str:
        """What it is called in tables and on sheets."""
        return self.name + MIRRORED if self.mirrored else self.name


# One idea each, against what the options after -- and the preset say. The widths and depths are made for `compact`, and cost
# what it costs within a few percent where the name does not say otherwise.
BUILT_IN: dict[str, str] = {
    BASE: "",
    # crops
    "no-jitter": "--jitter 0",
    "double-jitter": "--jitter 2",
    "turned": "--turn 0.25",
    # what the network sees
    "no-coordinates": "--set coordinates=false",
    "sees-the-mask": "--set hide_masked=false",
    "tight-holes": "--grow 0",
    "wide-holes": "--grow 20",
    # where the computation sits
    "wide-stem": "--set widths=[24,48,80,208]",
    "wide-middle": "--set widths=[16,32,72,240]",
    "shallow-middle": "--set modules=1",
    "deep-middle": "--set modules=5",
    "near-middle": "--set dilations=[1,1,2,4]",
    "without-csam": "--without-csam",
    "instance-norm": "--set normalisation=instance",
    "group-norm": "--set normalisation=group",
    # what it is trained for
    "full-supervision": "--full-supervision",
    "strong-l1": "--weight-reconstruction 10",
    "weak-style": "--weight-style 40",
    "no-style": "--weight-style 0",
    "critics-at-once": "--adversarial-from 0",  # the same as the baseline, unless that lets them begin later
    "no-critics": "--weight-adversarial 0",
    # how
    "short-average": "--ema 0.99",
    "long-average": "--ema 0.9995",
    "rate-2.5e-4": "--lr 2.5e-4",
    "rate-1e-3": "--lr 1e-3",
    # on what
    "tier-a": "--tiers A",
    "tiers-ab": "--tiers AB",
}


def read_file(path: Path) -> dict[str, str]:
    """Variants of a TOML file: a table ``[variants]`` of ``name = "options"``. Raises InputError where it is not that."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))["variants"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise InputError(f'--variants-file {path}: needs a table [variants] of name = "options" ({error})') from error
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise InputError(f'--variants-file {path}: every variant must be name = "options"')
    return table


def choose(given: Sequence[str], own: dict[str, str]) -> tuple[Variant, ...]:
    """The variants of the command line: names, of ``own`` first and then built in, or NAME=OPTIONS.

    Raises UsageError for an unknown name, one given twice, options that cannot be split, or a mirrored one whose weights no
    other entry trains.
    """
    chosen: list[Variant] = []
    for text in given:
        name, separator, options = text.partition("=")
        base = name.removesuffix(MIRRORED)
        if not _NAME.fullmatch(base):
            raise UsageError(f"--variants {text}: a name has letters, digits, - _ and . only")
        if not separator:
            known = {**BUILT_IN, **{variant.name: shlex.join(variant.options) for variant in chosen}, **own}
            if base not in known:
                raise UsageError(f"--variants {text}: give NAME=OPTIONS, or one of {', '.join({**BUILT_IN, **own})}")
            options = known[base]
        try:
            chosen.append(Variant(base, tuple(shlex.split(options)), name.endswith(MIRRORED)))
        except ValueError as error:
            raise UsageError(f"--variants {text}: {error}") from error
    for index, variant in enumerate(chosen):
        if variant.label in (other.label for other in chosen[:index]):
            raise UsageError(f"--variants: {variant.label!r} is named twice")
        if variant.mirrored and variant.name not in (other.name for other in chosen if not other.mirrored):
            raise UsageError(f"--variants {variant.label}: name {variant.name} too, whose weights it takes")
    return tuple(chosen)
