"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from vidunmask.errors import OutputError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_target(target: str | Path, *, source: str | Path | None = None, overwrite: bool = False) -> Path:
    """The target as a path, after everything that can be known before any work.

    Raises `UsageError` where the target is the source itself (by whatever name or link), `OutputError` where its folder is
    missing or cannot be written to, where it is a folder, or where it exists and ``overwrite`` is false.
    """
    path = Path(target)
    if source is not None and _same_file(path, Path(source)):
        raise UsageError(f"{target}: output and input are the same file; choose another output")
    folder = path.parent
    try:
        if not folder.is_dir():
            raise OutputError(f"{target}: the folder {folder} does not exist; make it first")
        if path.is_dir():
            raise OutputError(f"{target}: is a folder; name a file in it")
        if path.exists() and not overwrite:
            raise OutputError(f"{target}: exists already; add --overwrite to replace it")
    except OSError as error:  # a closed folder, or a name that no file system takes
        raise write_error(path, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{target}: no permission to write in the folder {folder}")
    return path


def _same_file(target: Path, source: Path) -> bool:
    try:
        return target.samefile(source)
    except OSError:  # one of them does not exist, or the source is no local file
        return False


def reserve(target: Path) -> Path:
    """An empty file of a fresh name beside ``target`` with the same extension; raises `OutputError`."""
    temporary = target.with_name(f".vidunmask-{secrets.token_hex(6)}{target.suffix}")
    try:
        # Not tempfile's 0600: the result should have the permissions of any new file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise write_error(target, error) from error
    return temporary


def commit(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Moves a finished file to its target in one step, after its bytes have reached the disk."""
    try:
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if target.exists() and not overwrite:
            raise OutputError(f"{target}: appeared while the result was being made; add --overwrite to replace it")
        os.replace(temporary, target)  # noqa: PTH105 - the name says what it does
    except OSError as error:
        raise write_error(target, error) from error


def discard(temporary: Path) -> None:
    """Removes a temporary file; one that is gone already is fine."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary path to write to, moved to ``target`` where the block ends well and removed where it does not."""
    temporary = reserve(target)
    try:
        try:
            yield temporary
        except OSError as error:
            raise write_error(target, error) from error
        commit(temporary, target, overwrite=overwrite)
    finally:
        discard(temporary)


def write_error(target: str | Path, error: Exception) -> OutputError:
    """An operating system's refusal as one line with the remedy."""
    number = getattr(error, "errno", None)  # FFmpeg's errors carry it too
    if number in _FULL:
        return OutputError(f"{target}: the disk is full; free some space or write elsewhere")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"{target}: no permission to write there")
    return OutputError(f"{target}: cannot be written ({getattr(error, 'strerror', None) or error})")
