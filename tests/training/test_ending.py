"""How programs of training end."""

import io
import sys

import pytest

from vidunmask.errors import OutputError, UsageError
from vidunmask.training import ending


def fails(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: 130, 130, ""),
        (fails(UsageError("--batch 0: must be 1 or more")), UsageError.exit_code, "error: --batch 0: must be 1 or more\n"),
        (fails(FloatingPointError("the run diverges")), 1, "error: the run diverges\n"),
        (fails(OSError(28, "No space left", "log.txt")), OutputError.exit_code, "error: [Errno 28] No space left: 'log.txt'\n"),
        (fails(KeyboardInterrupt()), 130, "error: interrupted\n"),
    ],
)
def test_a_program_ends_with_a_code_and_at_most_a_line(main, code, said, capsys):
    with pytest.raises(SystemExit) as ended:
        ending.run(main)
    assert ended.value.code == code
    assert capsys.readouterr().err == said


def test_what_the_terminal_has_no_letters_for_ends_no_program(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(SystemExit) as ended:
        ending.run(lambda: print("28.15 \N{PLUS-MINUS SIGN} 0.02"))
    assert ended.value.code == 0
    terminal.flush()
    assert terminal.buffer.getvalue() == b"28.15 \\xb1 0.02\n"
