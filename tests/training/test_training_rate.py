"""The benchmark of the training rate runs and writes its table."""

import importlib.util
from pathlib import Path

import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_rate.py"


def test_rates_of_data_step_and_run_are_measured_side_by_side(pack, vgg, tmp_path):
    spec = importlib.util.spec_from_file_location("training_rate", SCRIPT)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    table = tmp_path / "rate.md"
    fixed = ["--preset", "tiny", "--batch", "2", "--images", "6", "--feature-scale", "0.25", "--turn", "0.5", "--cpu-time"]
    benchmark.main([str(pack), "--vgg", str(vgg), *fixed, "--out", str(table)])
    text = table.read_text(encoding="utf-8")
    assert f"torch {torch.__version__}, preset tiny, batch 2, 50% turned aside, images on disk" in text
    assert "images/s of processor time" in text
    for program in ("segmenter", "inpainter"):
        line = next(line for line in text.splitlines() if line.startswith(f"| {program} |"))
        *rates, waiting = line.strip("| ").split(" | ")[1:]
        assert all(float(rate) > 0 for rate in rates)
        assert 0 <= float(waiting.removesuffix("%")) <= 100
