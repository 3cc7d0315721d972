"""What the README shows is run; what it says of the program is compared with the program."""

import ast
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vidunmask import errors
from vidunmask.networks import weights
from vidunmask.pipelines import cli, commands, options
from vidunmask.pipelines.commands import remove

ROOT = Path(__file__).resolve().parent.parent
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "training" / "README.md")}
README = PAGES[ROOT / "README.md"]
SCRIPTS = sorted(path for folder in ("benchmarks", "samples") for path in (ROOT / folder).glob("*.py"))
SHIPPED = {"compact-segmenter", "compact-inpainter"} <= set(weights.available())


def blocks(language):
    return [block for page in PAGES.values() for block in re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)]


def shown_commands():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split("&&") if re.match(r"\s*(\.venv/bin/)?vidunmask ", part)]


def test_the_readme_shows_commands_and_python():
    assert len(shown_commands()) >= 5
    assert len(blocks("python")) >= 1


@pytest.mark.parametrize("command", shown_commands())
def test_every_command_of_the_readme_and_of_the_help_is_understood(command):
    name, arguments = cli.split(shlex.split(command)[1:])
    options.config_of(commands.load(name).parser().parse_args(arguments))


def test_what_is_installed_by_the_readme_is_found_by_python_in_the_checkout_too():
    # The folder vidunmask hides an installed one, and of vidunmask.pipelines only -e tells Python where it lies.
    installs = re.findall(r"pip install .*?(?= &&|$)", "\n".join(blocks("sh")), flags=re.MULTILINE)
    assert len(installs) == 2
    assert all(" -e " in line for line in installs)


def test_the_help_shows_the_same_examples_as_the_readme():
    helps = [commands.load(name).parser().epilog for name in commands.names()]
    shown = [line.strip() for text in helps for line in text.splitlines() if line.strip().startswith("vidunmask ")]
    assert sorted(shown) == sorted(command for command in shown_commands() if command.startswith("vidunmask "))


def test_the_exit_codes_are_those_of_the_program():
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert listed == raised | {0, remove.SOME_FAILED, cli.INTERRUPTED, cli.TERMINATED, cli.HUNG_UP}
    for code in listed - {0}:
        assert re.search(rf"\b{code} [a-zC]", options.EXIT_CODES), f"--help does not name {code}"


def test_the_map_names_what_exists():
    named = re.findall(r"^\| `([\w/.]+)` \|", README, flags=re.MULTILINE)
    assert len(named) > 10
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.skipif(not SHIPPED, reason="the weights are not in this checkout")
@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_example_runs(code, clip, tmp_path):
    (tmp_path / "samples").mkdir()
    shutil.copy(clip, tmp_path / "samples" / "astronaut_masked.mp4")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "25 of 25 frames" in result.stdout


@pytest.mark.skipif(not SHIPPED, reason="the weights are not in this checkout")
def test_the_first_command_unmasks_the_sample(tmp_path):
    command = next(command for command in shown_commands() if command.startswith(".venv"))
    arguments = shlex.split(command)[1:]
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    run = [sys.executable, "-m", "vidunmask.pipelines.cli", *arguments, "--report", "run.json"]
    result = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / arguments[1]).stat().st_size > 10000
    assert '"frames_edited": 125' in (tmp_path / "run.json").read_text(encoding="utf-8")


def training_commands():
    """The README's calls of training programs: options of the program, after those of torchrun where it starts it."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    started = [re.sub(r"^torchrun .* -m -- ", "python -m ", line) for line in lines]
    return sorted({line for line in started if line.startswith("python -m vidunmask.training.")})


@pytest.mark.parametrize("command", training_commands())
@pytest.mark.filterwarnings("ignore:.*found in sys.modules.*:RuntimeWarning")
def test_every_training_command_of_the_readme_has_the_options_it_shows(command, monkeypatch, capsys):
    _, _, module, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)  # in a process of its own torch is loaded anew each time
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for flag in (argument for argument in arguments if argument.startswith("--")):
        assert f"{flag} " in shown, flag


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_of_benchmarks_and_samples_ask_the_package_for_what_it_has(script):
    tree = ast.parse(script.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in (node for node in imports if node.module and node.module.startswith("vidunmask")):
        names = [name.name for name in node.names]
        __import__(node.module, fromlist=names)  # submodules as well
        assert [name for name in names if not hasattr(sys.modules[node.module], name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_of_the_readme_exist(page):
    targets = re.findall(r"\]\(([^)#]+)\)", PAGES[page])
    assert len(targets) >= 3
    for target in targets:
        assert (page.parent / target).exists(), target
