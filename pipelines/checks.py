"""What can be found wrong with paths before any work is done. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from vidunmask.errors import InputError, OutputError

# What Pillow both reads and writes without loss of kind, and what a camera or a phone makes.
PICTURES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def is_picture(path: Path) -> bool:
    """Whether a path is named like a still image."""
    return path.suffix.lower() in PICTURES


def readable(path: Path) -> None:
    """Raises InputError where a file or folder cannot be read."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")


def folder(path: Path, *, source: Path) -> None:
    """Raises OutputError where the results of the folder ``source`` cannot be put into the folder ``path``; makes nothing."""
    if same(path, source):
        raise OutputError(f"{path}: is the input itself; give another folder")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file, but {source} is a folder; name a folder")
    if not path.exists() and not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{path}: no permission to write there")


def report(path: Path, source: Path, output: Path) -> None:
    """Raises OutputError where --report names a file that must not or cannot be written."""
    if path.is_dir() or not path.parent.is_dir():
        raise OutputError(f"--report {path}: name a file in a folder that exists")
    if same(path, source) or same(path, output):
        raise OutputError(f"--report {path}: is also the input or the output; give another name")


def same(a: Path, b: Path) -> bool:
    """Whether two paths are the same file, through links too; a path that does not exist yet is compared by name."""
    if a.exists() and b.exists():
        return a.samefile(b)
    return a.resolve() == b.resolve()
