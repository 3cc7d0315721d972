"""From the words of the command line to files, and to a name for each result. Imports nothing heavy."""

from __future__ import annotations

import glob
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vidunmask.errors import InputError, UsageError
from vidunmask.pipelines import checks


@dataclass(frozen=True, slots=True)
class Found:
    """A file to do, and its place under the folder that was named."""

    path: Path  # absolute
    relative: PurePath
    problem: str = ""  # why it cannot be done, where that is known already


@dataclass(frozen=True, slots=True)
class Named:
    """A file to do and where its result goes, relative to the folder of results."""

    path: Path
    output: PurePath
    problem: str = ""


def collect(words: Sequence[str], *, lists: Sequence[str] = (), out: Path) -> tuple[list[Found], list[Path]]:
    """The files that ``words`` name, each once, in their order; and others that lay in the folders.

    A word is a file, a folder (with all that lies in it), a pattern (``'clips/**/*.mp4'``) or ``@list.txt``; ``lists`` are
    files of one path a line. ``out`` and what it holds is left out. What is not there is found with its ``problem``. Raises
    UsageError for an empty name or none, InputError where a list cannot be read, or where there is nothing to do.
    """
    found: dict[Path, Found] = {}
    strangers: dict[Path, None] = {}
    if "" in words or not (words or lists):  # from a variable that is not set; as a path "" would be the current folder
        raise UsageError("no input is named, or one by an empty name; name files, folders or patterns")
    for word, base in [*_expanded(words), *(line for name in lists for line in _lines(name))]:
        for item in _of_word(word, base, out):
            if isinstance(item, Found):
                found.setdefault(item.path, item)
            else:
                strangers[_absolute(item)] = None
    if not found:
        nothing = f"holds no videos or pictures ({', '.join((*checks.VIDEOS, *checks.PICTURES))})"
        unreadable = checks.left_alone([path for path in strangers if checks.unreadable_kind(path)], what="")
        raise InputError("; ".join([f"{' '.join(words) or ' '.join(lists)}: {nothing}", *unreadable]))
    if all(item.problem for item in found.values()):
        raise InputError(next(iter(found.values())).problem)
    return list(found.values()), list(strangers)


def _expanded(words: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for word in words:
        if word.startswith("@") and checks.missing(Path(word)):
            yield from _lines(word[1:])
        else:
            yield word, Path()


def _lines(name: str) -> Iterator[tuple[str, Path]]:
    """The paths in a list, which are relative to its folder; ``-`` is stdin, relative to the current folder."""
    path = Path(name)
    try:
        text = sys.stdin.read() if name == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or str(error))
        raise InputError(f"--list {name}: cannot be read ({reason}); give a text file with one path a line") from error
    if "\0" in text:
        raise InputError(f"--list {name}: holds NUL characters; give a text file with one path a line")
    for line in text.split("\n"):  # splitlines would part names with U+2028 or U+0085 in them
        if line.strip() and not line.startswith("#"):
            yield line.strip(), Path() if name == "-" else path.parent


def _of_word(word: str, base: Path, out: Path) -> Iterator[Found | Path]:
    """The files of one word; the bare path of each file of a folder that is neither video nor picture."""
    path = base / _at_home(word)
    if (problem := checks.missing(path)) is None:
        yield from _of_folder(path, out) if path.is_dir() else [Found(_absolute(path), PurePath(path.name))]
    elif glob.has_magic(word):
        pattern = str(Path(glob.escape(str(base))) / _at_home(word))
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns from the root, `**` included
        if not matches:
            yield Found(_absolute(path), PurePath(path.name), f"{word}: no file matches this pattern")
        for match in map(Path, matches):
            if match.is_dir():
                continue  # what `**` found in it is matched on its own
            if not _is_known(match):
                yield match
            elif not _is_inside(match, out):
                yield Found(_absolute(match), PurePath(match.name))
    else:
        yield Found(_absolute(path), PurePath(path.name), f"{word}: {problem}")


def _at_home(word: str) -> Path:
    """The path with ``~`` as the shell has it: a name such as ``~draft.mp4`` that is nobody's home is itself."""
    try:
        return Path(word).expanduser()
    except RuntimeError:
        return Path(word)


def _of_folder(folder: Path, out: Path) -> Iterator[Found | Path]:
    refused: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _is_inside(Path(parent, name), out))
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            yield Found(_absolute(path), PurePath(path.relative_to(folder))) if _is_known(path) else path
    for error in refused:
        closed = Path(error.filename)
        relative = PurePath(closed.relative_to(folder)) if closed != folder else PurePath(folder.name)
        yield Found(_absolute(closed), relative, f"{closed}: cannot be read ({error.strerror})")


def _is_known(path: Path) -> bool:
    return checks.is_video(path) or checks.is_picture(path)


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a file or folder lies in a folder, by whatever links either was named."""
    real = Path(os.path.realpath(path.parent), path.name)
    return _absolute(path).is_relative_to(_absolute(folder)) or real.is_relative_to(os.path.realpath(folder))


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they were named


def name_outputs(
    found: Sequence[Found], *, container: str | None = None, before: Mapping[str, str] | None = None
) -> list[Named]:
    """A result's name for each file: its place under the folder that was named, with folders before it where two would collide.

    ``container`` is the extension that all videos get. ``before`` maps files to the names that they got in an earlier run,
    which they keep.
    """
    before = before or {}
    wanted = [_with_container(item.relative, container) for item in found]
    taken: dict[str, int] = {}
    named: dict[int, PurePath] = {}
    for number, item in enumerate(found):
        old = before.get(str(item.path))
        if old is not None and PurePath(old).suffix == wanted[number].suffix and _key(PurePath(old)) not in taken:
            named[number] = PurePath(old)
            taken[_key(named[number])] = number
    reserved = {_key(PurePath(name)) for source, name in before.items() if source not in {str(item.path) for item in found}}
    shared = _repeated(_key(name) for name in wanted)
    for number, item in enumerate(found):
        if number in named:
            continue
        for candidate in _candidates(item.path, wanted[number], collides=_key(wanted[number]) in shared):
            if _key(candidate) not in taken and _key(candidate) not in reserved:
                named[number] = candidate
                taken[_key(candidate)] = number
                break
    return [Named(item.path, named[number], item.problem) for number, item in enumerate(found)]


def _candidates(path: Path, name: PurePath, *, collides: bool) -> Iterator[PurePath]:
    """Names in the order in which they are tried; one that others want too begins with a folder."""
    if not collides:
        yield name
    depth = len(name.parts)
    folders = [part for part in path.parts[:-depth] if part != path.anchor]
    for count in range(1, len(folders) + 1):
        yield PurePath(*folders[-count:], name)
    for number in range(2, 1 << 30):
        yield name.with_name(f"{name.stem} ({number}){name.suffix}")


def _with_container(name: PurePath, container: str | None) -> PurePath:
    return name.with_suffix(f".{container}") if container and not checks.is_picture(Path(name)) else name


def _key(name: PurePath) -> str:
    """Names that some file systems hold to be one are one here; ``batch.json`` is taken."""
    return unicodedata.normalize("NFC", str(name)).casefold()


def _repeated(keys: Iterable[str]) -> set[str]:
    seen: set[str] = {"batch.json"}
    return {key for key in keys if key in seen or seen.add(key)}  # type: ignore[func-returns-value]
