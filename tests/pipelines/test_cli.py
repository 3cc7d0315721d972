import importlib
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from vidunmask import __version__
from vidunmask.errors import InputError
from vidunmask.pipelines import cli, options
from vidunmask.pipelines.commands import remove
from vidunmask.pipelines.progress import ProgressBar


@pytest.fixture
def command(monkeypatch):
    """Puts a function in the place of the program and gives back what it was called with."""
    calls = []

    def put(action=lambda rest: 0):
        monkeypatch.setattr(remove, "run", lambda rest: calls.append(rest) or action(rest))
        return calls

    return put


def test_the_word_remove_may_be_left_out_and_a_file_of_a_commands_name_is_given_with_its_folder(command):
    calls = command()
    assert cli.main(["a.mp4", "b.mp4"]) == 0
    assert cli.main(["remove", "a.mp4", "b.mp4"]) == 0
    assert cli.main(["./remove", "b.mp4"]) == 0
    assert calls == [["a.mp4", "b.mp4"], ["a.mp4", "b.mp4"], ["./remove", "b.mp4"]]


def test_an_error_is_one_line_and_its_own_code(command, capsys):
    def fail(rest):
        raise InputError("a.mp4: is broken")

    command(fail)
    assert cli.main(["a.mp4", "b.mp4"]) == 3
    assert capsys.readouterr().err == "vidunmask: a.mp4: is broken\n"


@pytest.mark.parametrize("say", [options.say, ProgressBar().say])
def test_a_line_is_one_whatever_the_names_in_it_and_moves_no_cursor(say, capsys):
    say("a\nb\u2028\x1b[2J é.mp4: is broken")
    assert capsys.readouterr().err == "a\\nb\\u2028\\x1b[2J é.mp4: is broken\n"


def test_an_error_that_nobody_foresaw_is_one_line_too_and_its_trace_comes_on_request(command, capsys):
    def fail(rest):
        raise KeyError("first line\nsecond line")

    command(fail)
    assert cli.main(["a.mp4", "b.mp4"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "KeyError" in said
    assert "--verbose" in said
    assert cli.main(["a.mp4", "b.mp4", "--verbose"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_becomes_its_exit_code_and_the_handlers_are_put_back(command, number, code):
    def stop(rest):
        signal.raise_signal(number)

    command(stop)
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(each) for each in every]
    assert cli.main(["a.mp4", "b.mp4"]) == code
    assert [signal.getsignal(each) for each in every] == before


@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_in_the_midst_of_an_import_waits_for_its_end_and_comes_once(command, tmp_path, monkeypatch, capsys, times):
    # As numpy does with whatever is raised while its own modules are loaded.
    lines = (
        "import signal",
        "try:",
        f"    for _ in range({times}):",
        "        signal.raise_signal(signal.SIGINT)",
        "except BaseException:",
        "    raise ImportError",
    )
    (tmp_path / f"takes_{times}_times.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)

    def stop(rest):
        importlib.import_module(f"takes_{times}_times")
        time.sleep(30)

    command(stop)
    began = time.monotonic()
    assert cli.main(["a.mp4", "b.mp4"]) == 130
    assert time.monotonic() - began < 20  # the sleep ended
    time.sleep(0.2)  # a repeat would come now, as a KeyboardInterrupt of the test
    assert capsys.readouterr().err == "vidunmask: interrupted, nothing was written\n"


def test_nothing_else_of_the_package_is_loaded_before_the_signals_are_in_hand():
    code = "import sys, vidunmask.pipelines.cli; print(*sorted(name for name in sys.modules if 'vidunmask.' in name))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == ["vidunmask.errors", "vidunmask.pipelines", "vidunmask.pipelines.cli"]


def test_a_hangup_that_is_ignored_as_under_nohup_stays_so(command):
    command(lambda rest: signal.raise_signal(signal.SIGHUP) or 0)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli.main(["a.mp4", "b.mp4"]) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_where_there_is_no_hangup_as_on_windows_nothing_is_done_about_it(command, monkeypatch):
    command()
    monkeypatch.delattr(signal, "SIGHUP")
    assert cli.main(["a.mp4", "b.mp4"]) == 0


def test_a_second_signal_does_not_disturb_the_cleaning_up(command):
    cleaned = []

    def stop(rest):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            cleaned.append(True)

    command(stop)
    assert cli.main(["a.mp4", "b.mp4"]) == 130
    assert cleaned == [True]


@pytest.mark.parametrize("words", [["--version"], ["networks", "--preset", "tiny"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_is_no_error(words, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)  # as of `| true`
    result = subprocess.run(
        [sys.executable, "-m", "vidunmask.pipelines.cli", *words],
        stdout=writer, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, timeout=120, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")


def test_help_and_version_exit_well(capsys):
    for flag, shown in (("--help", "examples:"), ("--version", f"vidunmask {__version__}")):
        with pytest.raises(SystemExit) as exit_:
            cli.main([flag])
        assert exit_.value.code == 0
        assert shown in capsys.readouterr().out


def test_missing_arguments_are_one_line(capsys):
    assert cli.main([]) == 2
    assert "INPUT" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "shown"), [((), ["a warning"]), (("verbose",), ["a detail", "a warning"]), (("quiet",), [])])
def test_what_is_logged_is_shown_according_to_the_flags(flags, shown):
    lines = []
    with options.logging_to(lines.append, quiet="quiet" in flags, verbose="verbose" in flags):
        logging.getLogger("vidunmask.x").info("a detail")
        logging.getLogger("vidunmask.x").warning("a warning")
    assert len(lines) == len(shown)
    assert all(word in line for word, line in zip(shown, lines, strict=True))


def test_an_error_before_any_work_is_the_only_line(tmp_path, capfd):
    assert cli.main([str(tmp_path / "missing.mp4"), str(tmp_path / "out.mp4")]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "missing.mp4" in err
