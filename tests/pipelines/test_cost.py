"""The benchmark of what a face costs runs and writes its table."""

import importlib.util
from pathlib import Path

import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cost.py"


def test_both_networks_are_timed_in_both_number_types(tmp_path):
    spec = importlib.util.spec_from_file_location("cost", SCRIPT)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    table = tmp_path / "cost.md"
    benchmark.main(["--presets", "tiny", "--batches", "1", "2", "--seconds", "0", "--out", str(table)])
    text = table.read_text(encoding="utf-8")
    assert f"torch {torch.__version__}" in text
    assert "| float32, 1 | float32, 2 | bfloat16, 1 | bfloat16, 2 |" in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if " | tiny | " in line]
    assert {row[0] for row in rows} == {"unet", "gated_mcsam"}
    assert all(float(value) > 0 for row in rows for value in row[3:])
