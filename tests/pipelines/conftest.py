"""Weights and clips small enough to make on the fly."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@dataclass(frozen=True)
class Weights:
    """Tiny networks: two segmenters that see a mask everywhere and nowhere, a third that gives NaN, and an inpainter."""

    everywhere: Path
    nowhere: Path
    nan: Path
    inpainter: Path


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    import torch

    from vidunmask.networks import weights as store

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)

    def save(name, kind, network, bias=None):
        arguments = store.presets(kind, network)["tiny"]
        net = store.build(kind, network, arguments)
        state = net.state_dict()
        if bias is not None:
            state["to_logits.weight"].zero_()
            state["to_logits.bias"].fill_(bias)
        store.save(folder / name, state, kind=kind, network=network, arguments=arguments, provenance={"made_by": "a test"})
        return folder / name

    return Weights(
        everywhere=save("everywhere.safetensors", "segmenter", "unet", 10.0),
        nowhere=save("nowhere.safetensors", "segmenter", "unet", -10.0),
        nan=save("nan.safetensors", "segmenter", "unet", float("nan")),
        inpainter=save("inpainter.safetensors", "inpainter", "gated_mcsam"),
    )


@pytest.fixture(scope="session")
def program():
    """Runs ``vidunmask`` in a process of its own, as a person would; returns the finished process."""

    def run(*arguments, timeout=120, **kwargs):
        return subprocess.run(
            [sys.executable, "-m", "vidunmask.pipelines.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **kwargs.pop("env", {})},
            **kwargs,
        )

    return run


SEGMENT = 1.5  # seconds: three segments of the sample clip, of which the last runs in from the midst


@pytest.fixture(scope="session")
def tiny(weights):
    """The options of the tiny networks."""
    return ["--segmenter", weights.everywhere, "--inpainter", weights.inpainter, "--device", "cpu", "--preset", "ultrafast"]


@pytest.fixture(scope="session")
def in_segments(program, tiny, tmp_path_factory):
    """The result of a batch over the sample clip in segments that nobody disturbed."""
    out = tmp_path_factory.mktemp("batch") / "out"
    result = program("batch", SAMPLES / "astronaut_masked.mp4", "--out", out, "--segment", SEGMENT, *tiny, timeout=300)
    assert result.returncode == 0, result.stderr
    return out / "astronaut_masked.mp4"
