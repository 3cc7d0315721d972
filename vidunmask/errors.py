"""What the library raises. Each message names the file or flag, the value, and the remedy, in one line.

The exit code of the program stands with the error, so that a code and its cause are kept in one place.
"""


class VidunmaskError(Exception):
    """Base of everything this package raises on purpose."""

    exit_code = 1


class UsageError(VidunmaskError):
    """An option or argument that cannot be used as given."""

    exit_code = 2


class InputError(VidunmaskError):
    """An input that is missing, unreadable or holds no picture."""

    exit_code = 3


class OutputError(VidunmaskError):
    """An output that cannot be written, or already exists."""

    exit_code = 4


class DeviceError(VidunmaskError):
    """A device, encoder or precision that this machine does not have."""

    exit_code = 5


class WeightsError(VidunmaskError):
    """Weights that are missing, damaged or made for another network."""

    exit_code = 6


def unforeseen(error: BaseException) -> str:
    """An error that nobody raised on purpose, in one line."""
    line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"unexpected {type(error).__name__}: {line}"
