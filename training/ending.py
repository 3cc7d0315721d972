"""How a program that is started with ``python -m`` ends: an error is one line, and its code is that of the README's table."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import NoReturn

from vidunmask.errors import OutputError, VidunmaskError

INTERRUPTED = 130  # as the shells have it: 128 + SIGINT


def run(main: Callable[[], object]) -> NoReturn:
    """Runs a program and exits, with what it returns where that is a code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path or a table that the terminal has no letters for ends no run
    try:
        code = main()
    except VidunmaskError as error:
        _fail(str(error), error.exit_code)
    except FloatingPointError as error:
        _fail(str(error), 1)
    except OSError as error:  # a full disk shows itself at any write
        _fail(str(error), OutputError.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
