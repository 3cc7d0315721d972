"""The whole chain on a GPU, where there is one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.remove import unmask
from vidunmask.video.reader import VideoReader

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CLIP = Path(__file__).resolve().parents[2] / "samples" / "astronaut_masked.mp4"


def pictures(path):
    with VideoReader(path) as reader:
        return np.stack([frame.native.to_ndarray(format="gray") for frame in reader])


def run(folder, device, precision):
    target = folder / f"{device}-{precision}.mkv"
    config = Config(device=device, precision=precision, codec="ffv1")
    report = unmask(CLIP, target, config=config, parts=build(config))
    assert report.device.startswith(device)
    assert report.precision == precision
    return report, pictures(target).astype(np.float32)


def test_a_gpu_gives_the_frames_that_the_processor_gives(tmp_path):
    source = pictures(CLIP).astype(np.float32)
    on_cpu, expected = run(tmp_path, "cpu", "float32")
    assert np.abs(expected - source).mean() > 1  # a mask was taken off
    for precision, mean in (("float32", 0.05), ("bfloat16", 0.5)):
        on_gpu, found = run(tmp_path, "cuda", precision)
        assert on_gpu.frames_edited == on_cpu.frames_edited
        assert np.abs(found - expected).mean() < mean
