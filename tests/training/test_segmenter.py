"""What the training of the segmenter weighs, and its options."""

import pytest
import torch

from vidunmask.errors import UsageError
from vidunmask.training.segmenter import FRAMING, parse, thin_parts


def test_loops_are_thin_parts_and_the_body_of_a_mask_is_not():
    mask = torch.zeros(1, 1, 96, 96)
    mask[:, :, 40:80, 30:70] = 1
    mask[:, :, 10:40, 32:35] = 1  # a loop up from the body's corner
    thin = thin_parts(mask)
    assert (thin[0, 0, 10:36, 28:39] == 1).all()  # the loop and the skin beside it
    assert thin[0, 0, 50:75, 35:65].max() == 0
    assert thin[0, 0, 60:, 80:].max() == 0


def test_a_negative_weight_of_thin_parts_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--weight-thin -1\.0: must not be negative"):
        parse(["--pack", str(tmp_path), "--run", str(tmp_path), "--weight-thin", "-1"])


def test_every_share_of_the_framing_is_an_option_of_0_to_1(tmp_path):
    paths = ["--pack", str(tmp_path), "--run", str(tmp_path)]
    options = parse([*paths, *(word for name in FRAMING for word in (f"--{name}", "0.25"))])
    assert [getattr(options, name) for name in FRAMING] == [0.25] * 3
    for name in FRAMING:
        with pytest.raises(UsageError, match=rf"--{name} 1\.5"):
            parse([*paths, f"--{name}", "1.5"])
