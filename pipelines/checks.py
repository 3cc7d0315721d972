"""What can be found wrong with paths before any work is done. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from vidunmask.errors import InputError, OutputError, UsageError

# Of a folder these are taken; a video that is named itself may be called anything.
VIDEOS = (
    ".3gp", ".apng", ".avi", ".dv", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
    ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
# What Pillow both reads and writes without loss of kind, and what a camera or a phone makes.
PICTURES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Other pictures that people have. FFmpeg takes some of them for videos of one frame, turned and coloured as it likes.
_OTHER_PICTURES = {
    "HEIC": (".heic", ".heif", ".hif"),
    "JPEG 2000": (".j2k", ".jp2", ".jpf", ".jpx"),
    "JPEG XL": (".jxl",),
    "MPO": (".mpo",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TGA": (".tga",),
    "Photoshop": (".psb", ".psd"),
    "raw": (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
    "EXR": (".exr",),
    "HDR": (".hdr",),
    "SVG": (".svg",),
    "ICO": (".ico",),
}


def is_video(path: Path) -> bool:
    """Whether a path is named like a video."""
    return path.suffix.lower() in VIDEOS


def is_picture(path: Path) -> bool:
    """Whether a path is named like a still image."""
    return path.suffix.lower() in PICTURES


def visible_files(folder: Path) -> list[Path]:
    """The files of a folder that are not hidden, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def unreadable_kind(path: Path) -> str | None:
    """The kind of picture that a path is named like, where it is one that cannot be read."""
    return next((kind for kind, suffixes in _OTHER_PICTURES.items() if path.suffix.lower() in suffixes), None)


def left_alone(strangers: Sequence[Path], *, what: str) -> Iterator[str]:
    """A line on files of a folder that are ``what`` ("no picture"), and one on pictures among them that cannot be read."""
    kinds = {path: kind for path in strangers if (kind := unreadable_kind(path))}
    others = [path.name for path in strangers if path not in kinds]
    if others:
        yield f"{first_of(others)}: {what}, left alone"
    if kinds:
        named = " and ".join(sorted(set(kinds.values())))
        yield f"{first_of([path.name for path in kinds])}: {named} pictures cannot be read; convert them to JPEG or PNG first"


def first_of(names: Sequence[str | Path]) -> str:
    """The first of some names, and how many there are besides."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else str(names[0])


def missing(path: Path) -> str | None:
    """Why there is no file or folder of that name, or why that cannot be known; None where there is one."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "no such file or folder"
    except OSError as error:  # in a folder that is closed, or too long
        return f"cannot be read ({error.strerror})"
    return None


def readable(path: Path) -> None:
    """Raises InputError where a file or folder cannot be read, more than once too, or is a picture of a kind that cannot."""
    if (reason := missing(path)) is not None:
        raise InputError(f"{path}: {reason}")
    if not path.is_file() and not path.is_dir():
        raise InputError(f"{path}: is a pipe or a device; save what comes from it in a file first")
    if path.is_file() and (kind := unreadable_kind(path)):
        raise InputError(f"{path}: {kind} pictures cannot be read; convert it to JPEG or PNG first")
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


def report(path: Path, source: Path, output: Path, *, overwrite: bool, weights: Iterable[str | Path] = ()) -> None:
    """Raises UsageError or OutputError where --report names a file that must not or cannot be written.

    InputError where ``source`` cannot be read. ``weights`` are names or files of networks. Of two folders the pictures within
    count as inputs and outputs too.
    """
    readable(source)
    pictures = [p for p in source.iterdir() if is_picture(p)] if source.is_dir() else []
    inputs = [source, *pictures, *files(weights)]
    if any(same(path, other) for other in inputs):
        raise UsageError(f"--report {path}: is an input as well; choose another file")
    if same(path, output) or any(same(path, output / picture.name) for picture in pictures):
        raise UsageError(f"--report {path}: is an output as well; choose another file")
    free("--report", path, overwrite=overwrite)


def apart(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Raises UsageError where a file that is to be written is also read, or written twice, by whatever name or link.

    Both are by flag, None for one that is not given.
    """
    read = [(flag, path) for flag, path in inputs.items() if path is not None]
    written: list[tuple[str, Path]] = []
    for flag, path in outputs.items():
        if path is None:
            continue
        for other, taken in (*read, *written):
            if same(path, taken):
                raise UsageError(f"{flag} {path}: is the file of {other} as well; choose another file")
        written.append((flag, path))


def free(flag: str, path: Path, *, overwrite: bool) -> None:
    """Raises OutputError where ``path`` exists and may not be replaced, or cannot be made.

    For what a command writes beside its output; ``flag`` names it.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise OutputError(f"{flag} {path}: name a file in a folder that exists")
    if _taken(path) and not overwrite:
        raise _exists(flag, path)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{flag} {path}: no permission to write there")


def open_new(flag: str, path: Path, *, overwrite: bool) -> TextIO:
    """The file that `free` allows, opened to write text to, line by line; raises as it does."""
    free(flag, path, overwrite=overwrite)
    try:
        replace = overwrite or (path.exists() and not _taken(path))
        # A name that is no Unicode is written as JSON has it: \udce9.
        return path.open("w" if replace else "x", encoding="utf-8", errors="backslashreplace", buffering=1)
    except FileExistsError as error:
        raise _exists(flag, path) from error
    except OSError as error:
        raise OutputError(f"{flag} {path}: cannot be written ({error.strerror or error})") from error


def _taken(path: Path) -> bool:
    """Whether something stands there that writing would destroy; a terminal, a pipe or a device takes what it gets."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _exists(flag: str, path: Path) -> OutputError:
    return OutputError(f"{flag} {path}: exists already; add --overwrite to replace it")


def files(weights: Iterable[str | Path]) -> list[Path]:
    """Those of some weights that are given as files, not by a shipped name."""
    return [Path(name) for name in weights if Path(name).is_file()]


def same(a: Path, b: Path) -> bool:
    """Whether two paths are the same file, through links too; a path that does not exist yet is compared by name."""
    try:
        return a.samefile(b)
    except OSError:
        return a.resolve() == b.resolve()
