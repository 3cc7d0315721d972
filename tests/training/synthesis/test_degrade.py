"""The camera of training: the same for every scene, and as mild as asked."""

from __future__ import annotations

import pytest
import torch

from vidunmask.training.synthesis.degrade import Camera, compress
from vidunmask.training.synthesis.dice import Dice


def _pictures(count: int = 16, size: int = 64) -> torch.Tensor:
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def _dice(count: int, seed: int = 0) -> Dice:
    return Dice(torch.Generator().manual_seed(seed), torch.device("cpu"), count)


def test_equal_scenes_stay_equal() -> None:
    pictures = _pictures()
    first, second = Camera(1.0)(torch.stack([pictures, pictures], 1), _dice(16)).unbind(1)
    assert torch.equal(first, second)
    assert (first - pictures).abs().mean() > 0.02


def test_no_strength_changes_nothing_and_more_strength_changes_more() -> None:
    scenes = _pictures(64)[:, None]
    change = [(Camera(s)(scenes.clone(), _dice(64)) - scenes).abs().mean().item() for s in (0.0, 0.3, 1.0)]
    assert change[0] == 0
    assert 0 < change[1] < 0.6 * change[2]


def test_a_side_that_blocks_do_not_divide_is_photographed_too() -> None:
    out = Camera(1.0)(_pictures(8, 50)[:, None], _dice(8))
    assert out.shape == (8, 1, 3, 50, 50)
    assert out.isfinite().all()


def test_compression_loses_more_at_lower_quality() -> None:
    pictures = _pictures(3) + 0.05 * torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    pictures = pictures.clamp(0, 1)
    loss = [(compress(pictures, torch.full((3,), q)) - pictures).abs().mean().item() for q in (95.0, 60.0, 15.0)]
    assert loss[0] < loss[1] < loss[2]
    assert loss[2] < 0.1


def test_compression_at_best_quality_keeps_grey_pictures() -> None:
    grey = _pictures(2).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(compress(grey, torch.full((2,), 100.0)), grey, atol=0.01, rtol=0)


def test_a_strength_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Camera(1.5)
