"""The folder of a dump: how it is laid out, made, written to line by line and read back.

``dump.json`` says what was run; ``frames.jsonl`` has a line for each frame, written when all its files are there; ``data.js``
has the same for the page, which cannot read files beside it from a disk in any other way; ``frames/000100/`` has the files.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidunmask.errors import InputError, OutputError, UsageError
from vidunmask.pipelines import checks
from vidunmask.pipelines.config import Config

ABOUT, LINES, DATA, PAGE, FRAMES = "dump.json", "frames.jsonl", "data.js", "index.html", "frames"
_BEFORE = ".vidunmask-before"  # folder of the dump that one without a frame yet is to replace
FORMAT = 1  # of the files; a later one may read fewer or more fields
# Options of a run that decide pixels; the others are about files and encoders.
CHAIN = ("detector", "detect_every", "device", "precision", "batch", "segmenter", "inpainter", "compile", "temporal")


def check(folder: Path, *, source: Path, overwrite: bool) -> None:
    """Raises OutputError where a dump of ``source`` cannot be put into ``folder``; makes nothing."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; name a folder for the dump")
    parent = folder if folder.exists() else folder.parent
    if not parent.is_dir():
        raise OutputError(f"{folder}: there is no folder {parent}; make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write there")
    if not folder.exists():
        return
    if folder.resolve() in source.resolve().parents:
        raise OutputError(f"{folder}: holds the input {source.name}; name a folder of its own for the dump")
    if any(folder.iterdir()) and not overwrite:
        raise OutputError(f"{folder}: exists and is not empty; add --overwrite to replace a dump there")
    taken = next((name for name in (FRAMES, LINES, DATA, PAGE, ABOUT) if (folder / name).exists()), None)
    if taken is not None and not _is_dump(folder):
        raise OutputError(f"{folder}: holds no dump but a {taken} of something else, which stays; name another folder")


def _is_dump(folder: Path) -> bool:
    """Whether what a dump would replace in a folder is a dump; a folder ``frames`` may be anybody's work."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and {"format", "chosen", "options"} <= about.keys()


class Dump:
    """A dump being written. Every line is on disk when its call returns, so that a stopped run leaves a page that works."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder, or puts a dump in it aside until there is a frame; other files stay. Raises OutputError."""
        self.folder = folder
        self._made = not folder.exists()
        self._before = folder / _BEFORE
        with writing(folder):
            folder.mkdir(exist_ok=True)
            if self._before.exists():  # of a run that was killed before it had a frame
                self._remove()
            elif (folder / ABOUT).exists():
                self._before.mkdir()
                _move(folder, self._before)

    def begin(self, about: Mapping[str, Any], page: str) -> None:
        """Writes what the run is and the page."""
        (self.folder / ABOUT).write_text(dumps(about, indent=2) + "\n", encoding="utf-8")
        (self.folder / PAGE).write_text(page, encoding="utf-8")
        (self.folder / LINES).write_text("", encoding="utf-8")
        (self.folder / DATA).write_text(f"dump.about({dumps(about)});\n", encoding="utf-8")

    def place(self, index: int) -> Path:
        """The folder of a frame, made."""
        path = frame_folder(self.folder, index)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def add_frame(self, line: Mapping[str, Any]) -> None:
        """Adds a frame whose files are there."""
        text = dumps(line)
        append(self.folder / LINES, text)
        append(self.folder / DATA, f"dump.frame({text});")
        shutil.rmtree(self._before, ignore_errors=True)

    def add_point(self, point: list[Any]) -> None:
        """Adds what the plots show of a frame."""
        append(self.folder / DATA, f"dump.point({dumps(point)});")

    def mend(self) -> int:
        """Takes off what a run that was stopped left of its last frames, and returns how many were done."""
        for name in (LINES, DATA):
            mend(self.folder / name)
        done = [frame_folder(self.folder, index) for index in _lines(self.folder)] if (self.folder / LINES).exists() else []
        for place in (self.folder / FRAMES).glob("*"):
            if place not in done:
                shutil.rmtree(place, ignore_errors=True)
        return len(done)

    def discard(self) -> None:
        """Takes everything back, for a run that made no frame; a dump that was to be replaced stands there again."""
        self._remove()
        if self._before.exists():
            _move(self._before, self.folder)
            self._before.rmdir()
        if self._made and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _remove(self) -> None:
        shutil.rmtree(self.folder / FRAMES, ignore_errors=True)
        for name in (ABOUT, LINES, DATA, PAGE):
            (self.folder / name).unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    """Moves what belongs to a dump from folder to folder."""
    for name in (ABOUT, LINES, DATA, PAGE, FRAMES):
        if (source / name).exists():
            (source / name).rename(target / name)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an operating system's refusal into an OutputError that names the folder."""
    try:
        yield
    except OSError as error:
        from vidunmask.video import atomic

        raise atomic.write_error(folder, error) from error


def frame_folder(folder: Path, index: int) -> Path:
    """Where the files of a frame lie."""
    return folder / FRAMES / f"{index:06d}"


def append(path: Path, line: str) -> None:
    """Adds a line to a file of lines, in one call of the system: killed at any moment, a run leaves no half a line."""
    coded = (line + "\n").encode()
    with path.open("ab", buffering=0) as file:
        if file.write(coded) < len(coded):
            raise OSError(errno.ENOSPC, "No space left on device")


def mend(path: Path) -> None:
    """Cuts a file of lines behind its last whole line; a page with half a line would show nothing at all."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def dumps(value: Any, *, indent: int | None = None) -> str:
    """JSON of numbers, arrays and paths; what is not finite becomes null, since JSON has no word for it."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False, separators=None if indent else (",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def options_of(config: Config) -> dict[str, Any]:
    """The options of a run as JSON has them; weights given as files get their whole path, to be found from anywhere."""
    options = {name: getattr(config, name) for name in CHAIN}
    for name in ("segmenter", "inpainter"):
        if Path(options[name]).is_file():
            options[name] = str(Path(options[name]).resolve())
    return options


def read_about(folder: Path) -> dict[str, Any]:
    """What a dump says of its run. Raises InputError where the folder holds none."""
    checks.readable(folder)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise InputError(f"{folder}: a dump of format {about['format']}, this version reads {FORMAT}; dump again")
        return dict(about)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder}: holds no dump (no {ABOUT}); make one with: vidunmask dump INPUT DIR") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / ABOUT}: cannot be read ({error}); dump again") from error


def read_config(about: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """The config of a dump with what is ``given`` in its place. Raises UsageError."""
    known = {field.name for field in fields(Config)}
    stored = Config(**{name: value for name, value in about["options"].items() if name in known})
    return replace(stored, **given)


def read_frame(folder: Path, index: int) -> dict[str, Any]:
    """The line of a frame. Raises UsageError where the dump has no such frame and InputError where it is damaged."""
    try:
        found = _lines(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / LINES}: cannot be read ({error}); dump again") from error
    if index not in found:
        if not found:
            raise InputError(f"{folder}: the dump holds no frames; dump again")
        near = sorted(sorted(found, key=lambda other: abs(other - index))[:2])
        names = " and ".join(map(str, near))
        raise UsageError(f"--frame {index}: not among the {len(found)} frames of {folder}; the nearest are {names}")
    return found[index]


def _lines(folder: Path) -> dict[int, dict[str, Any]]:
    """The lines of all frames, by index."""
    lines = (folder / LINES).read_text(encoding="utf-8").splitlines(keepends=True)
    entries = [json.loads(line) for line in lines if line.endswith("\n")]  # the last one of a run that was killed may not
    return {entry["index"]: entry for entry in entries}
