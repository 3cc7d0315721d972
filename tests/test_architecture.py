"""Keeps the map of the house true: imports point inward, threads and devices stay where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [  # what stands later may import what stands before, and its own
    {"errors", "types"},
    {"geometry", "flow", "networks", "video", "weights"},
    {"detectors"},
    {"stages"},
    {"pipelines", "training"},
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
# Rooms of one rank that may use each other.
NEIGHBOURS = {
    ("networks", "geometry"),
    ("video", "geometry"),
    ("video", "flow"),
    ("networks", "weights"),
    ("errors", "types"),
    ("pipelines", "training"),
}


def modules():
    for folder in ("vidunmask", "pipelines", "training"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != ROOT / "vidunmask" / "__init__.py":
                yield path


def room_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "vidunmask" else parts[0]


def imported_rooms(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "vidunmask" and len(parts) > 1 and parts[1] in RANK:
                yield parts[1]


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_inward(path):
    room = room_of(path)
    assert room in RANK, f"{path}: a room that the map does not know"
    for other in imported_rooms(path):
        inward = RANK[other] < RANK[room] or other == room or (room, other) in NEIGHBOURS
        assert inward, f"{path.relative_to(ROOT)} ({room}) imports {other}"


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_neither_prints_nor_exits_and_starts_threads_only_in_flow(path):
    inside = path.relative_to(ROOT).parts[0] == "vidunmask"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{path}:{node.lineno}: bare except"
        if inside and isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "exit", "sys.exit", "os._exit"}, f"{path}:{node.lineno}: {called}"
            if path.name != "flow.py":
                assert called not in {"threading.Thread", "Thread", "ThreadPoolExecutor"}, (
                    f"{path}:{node.lineno}: a thread outside flow.py"
                )


def test_the_command_line_starts_without_the_heavy_libraries():
    code = (
        "import sys; from vidunmask.pipelines import cli, commands;"
        "[commands.load(name).parser().format_help() for name in commands.names()];"
        "print(sorted({'torch', 'cv2', 'av', 'face_alignment', 'skimage', 'tqdm'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
