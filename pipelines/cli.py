"""The command line: arguments in, exit code out. Nothing heavy is imported before the arguments are known to be good.

Even what is light is imported where it is used, so that the signals are in hand as early as can be.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType

from vidunmask.errors import OutputError, UsageError, VidunmaskError, unforeseen

INTERRUPTED = 130  # as the shells have it: 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM
HUNG_UP = 129  # 128 + SIGHUP
_OUT_OF_REACH = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code (see ``vidunmask --help``)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments
    left = "nothing was written"
    try:
        with _signals():
            from vidunmask.pipelines import commands

            command, rest = split(arguments)
            module = commands.load(command)
            left = getattr(module, "STOPPED", left)  # what a command leaves where it is stopped
            return module.run(rest)
    except VidunmaskError as error:
        # Where a wrong argument was noticed helps nobody.
        return _fail(str(error), error.exit_code, verbose=verbose and not isinstance(error, UsageError))
    except KeyboardInterrupt as stopped:
        return _fail(f"interrupted, {_left_behind(stopped, left)}", INTERRUPTED, verbose=False)
    except _Terminated as stopped:
        return _fail(f"terminated, {_left_behind(stopped, left)}", TERMINATED, verbose=False)
    except _HungUp as stopped:
        return _fail(f"the terminal was closed, {_left_behind(stopped, left)}", HUNG_UP, verbose=False)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OUT_OF_REACH and error.filename:
            # Inputs were looked at before: this is, as a rule, where something is to be written.
            return _fail(f"{error.filename}: cannot be reached ({error.strerror})", OutputError.exit_code, verbose=verbose)
        # The last line of defence: an error nobody foresaw is still one line and a code, with its trace on demand.
        hint = "" if verbose else " (--verbose shows where)"
        return _fail(f"{unforeseen(error)}{hint}", 1, verbose=verbose)


def split(arguments: list[str]) -> tuple[str, list[str]]:
    """The command and its arguments. The first word is a command if it is exactly one's name, else the command is remove."""
    from vidunmask.pipelines import commands

    if arguments and arguments[0] in commands.names():
        return arguments[0], arguments[1:]
    return "remove", arguments


def _fail(message: str, code: int, *, verbose: bool) -> int:
    from vidunmask.pipelines.options import say

    if verbose:
        import traceback

        traceback.print_exc()
    say(f"vidunmask: {message}")
    return code


def _left_behind(stopped: BaseException, usual: str) -> str:
    """What stands there of a run that was stopped: what it noted on the exception, or what its command usually leaves."""
    return "; ".join(getattr(stopped, "__notes__", [])) or usual


class _Terminated(BaseException):
    """SIGTERM; a BaseException like KeyboardInterrupt, so that only `with` and `finally` see it on its way out."""


class _HungUp(BaseException):
    """SIGHUP: the terminal was closed; like `_Terminated`."""


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Turns SIGTERM, SIGINT and SIGHUP into exceptions, so that everything opened is closed and the temporary file is removed.

    A terminal and its parent may both deliver the same signal; repeats within two seconds do not disturb the cleaning up.
    A SIGHUP that is ignored already, as under nohup, stays so.
    """
    raised: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: _Terminated}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
        raised[signal.SIGHUP] = _HungUp
    first = [float("-inf")]
    # To this very thread: one that a timer sends to its own would not end a sleep here. Windows knows no other way.
    send = getattr(signal, "pthread_kill", lambda thread, number: signal.raise_signal(number))
    again = threading.Timer(0.0, send)

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal again
        now = time.monotonic()
        if now - first[0] < 2.0:
            return
        again.cancel()  # a repeat would come when all is cleaned up and nobody is there to take it
        if _is_importing(frame):
            again = threading.Timer(0.05, send, (threading.get_ident(), number))
            again.start()
            return
        first[0] = now
        raise raised[number]

    try:
        before = {number: signal.signal(number, handler) for number in raised}
    except ValueError:  # not the main thread: whoever called owns the signals
        before = {}
    try:
        yield
    finally:
        again.cancel()
        for number, old in before.items():
            signal.signal(number, old)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether `main` is in the midst of an import: numpy makes an ImportError of what is raised then, torch may abort."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    sys.exit(main())
