"""The programs of the command line, one module each: its name, with dashes for underscores, is the command, and what it has is

- ``parser()``: its arguments, made without importing anything heavy;
- ``run(arguments)``: does it and returns the exit code; errors are VidunmaskErrors.

A new file here is a new command.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names() -> tuple[str, ...]:
    """The commands there are."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
