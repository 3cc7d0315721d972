"""Numbers of the paper, each worked out by hand: losses, their weights, the learning rate, figures of a region, a gate."""

import argparse

import numpy as np
import pytest
import torch

from vidunmask.networks.layers import GatedConv2d
from vidunmask.training import losses
from vidunmask.training.comparison.scores import METRICS, score
from vidunmask.training.evaluation.methods import widen
from vidunmask.training.evaluation.protocols import MaskedFaces
from vidunmask.training.pack import Order, open_pack
from vidunmask.training.region_attentive import RegionAttentive
from vidunmask.training.running import loop
from vidunmask.training.running.distributed import Team
from vidunmask.training.running.feed import Batch

EPOCH = 158_003  # images of the training set (§4.2)
PERFECT = {"ssim": 1.0, "psnr": 100.0, "l1": 0.0}


def activations(seed):
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4, 5), (2, 6, 2, 3))]


def as_tensors(arrays):
    return [torch.from_numpy(array) for array in arrays]


def test_perceptual_loss_is_the_root_of_the_mean_square_summed_over_layers():
    fake, real = activations(0), activations(1)
    by_hand = sum(np.sqrt(((a - b) ** 2).mean(axis=(1, 2, 3))).mean() for a, b in zip(fake, real, strict=True))
    made = losses.perceptual(as_tensors(fake), as_tensors(real)).item()
    assert made == pytest.approx(by_hand, rel=1e-5)


def test_style_loss_is_the_mean_over_gram_matrices_summed_over_layers():
    fake, real = activations(0), activations(1)
    by_hand = 0.0
    for a, b in zip(fake, real, strict=True):
        count, channels, height, width = a.shape
        grams = [np.einsum("bchw,bdhw->bcd", x, x) / (channels * height * width) for x in (a, b)]
        by_hand += np.abs(grams[0] - grams[1]).sum() / (count * channels * channels)
    made = losses.style(as_tensors(fake), as_tensors(real)).item()
    assert made == pytest.approx(by_hand, rel=1e-5)


def test_the_losses_are_weighted_as_in_the_paper():
    paper = {"reconstruction": 1.0, "perceptual": 0.1, "style": 250.0, "adversarial": 0.1}  # §4.2
    assert dict(RegionAttentive.WEIGHTS) == {**paper, "ssim": 0.0}  # the paper has no SSIM term


def run_of(tmp_path, *, images, cooldown=0, log=print):
    parser = argparse.ArgumentParser()
    loop.add_options(parser, preset="tiny", batch=16, images=images)
    options = parser.parse_args(["--pack", str(tmp_path), "--run", str(tmp_path / "run"), "--cooldown", str(cooldown)])
    average = loop.Average(torch.nn.Linear(1, 1), decay=options.ema)
    return loop.Run(
        options, {}, average=average, order=Order(np.arange(EPOCH), seed=0), team=Team(torch.device("cpu")), log=log
    )


def test_the_learning_rate_stays_for_20_epochs_and_then_falls_by_2e_6_an_epoch(tmp_path):
    run = run_of(tmp_path, images=130 * EPOCH)

    def rate(images):
        return run.learning_rate(Batch(images, (), torch.Generator(), last=True), epoch=EPOCH)

    assert rate(0) == pytest.approx(2e-7)  # the first of 1000 images of warm-up
    assert rate(1000) == rate(20 * EPOCH) == rate(21 * EPOCH - 1) == 2e-4
    assert rate(21 * EPOCH) == pytest.approx(1.98e-4)
    assert rate(119 * EPOCH) == pytest.approx(2e-6)
    assert rate(120 * EPOCH) == pytest.approx(0, abs=1e-12)
    assert rate(125 * EPOCH) == 0


@pytest.mark.parametrize(
    ("images", "cooldown", "said"), [(125 * EPOCH, 0, False), (500 * EPOCH, 0, True), (500 * EPOCH, EPOCH, False)]
)
def test_a_schedule_that_ends_long_before_the_run_is_said_once(tmp_path, images, cooldown, said):
    lines = []
    run = run_of(tmp_path, log=lines.append, images=images, cooldown=cooldown)
    for _ in range(2):
        run.learning_rate(Batch(0, (), torch.Generator(), last=True), epoch=EPOCH)
    assert len(lines) == said
    if said:
        assert f"zero from image {120 * EPOCH} on" in lines[0]


@pytest.mark.parametrize("wrong", ["outside", "inside"])
def test_masked_figures_only_count_what_is_inside_the_region(split_pack, wrong):
    """The segmentation network finds a mask everywhere, so that the whole fill comes into the picture."""
    fills = []

    def masks(chunk):
        mask = torch.zeros(len(chunk.images), 1, 256, 256)
        mask[..., 120:200, 70:180] = 1
        there = widen(mask) if wrong == "inside" else 1 - widen(mask, 12)  # windows of SSIM reach 5 px beyond the region
        fills.append(chunk.images + 0.25 * there)
        return MaskedFaces(torch.lerp(chunk.images, torch.ones(()), mask), mask, chunk.images, ("surgical",) * len(mask))

    class Fill(torch.nn.Module):
        def forward(self, image, mask):
            return fills[-1]

    made = score(Fill(), lambda image: torch.full_like(image[:, :1], 50.0), open_pack(split_pack, "val"), masks, limit=1)
    assert made.faces == 1
    for source, figures in made.figures.items():
        masked = {name: figures[f"{name} masked"] for name in METRICS}
        if wrong == "outside":
            assert masked == pytest.approx(PERFECT, abs=1e-5)
            # by the true mask nothing else is filled, and what is seen there is the truth
            assert (figures["l1"] == 0) == (source == "true")
        else:
            assert masked["l1"] == pytest.approx(0.25, abs=1e-5)
            assert masked["psnr"] == pytest.approx(-20 * np.log10(0.25), abs=1e-3)
            assert masked["ssim"] < 0.99
            assert figures["l1"] == pytest.approx(0.25 * 86 * 116 / 256**2, abs=1e-5)  # the mask, 3 px wider on every side


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_a_gated_layer_multiplies_activated_features_by_the_sigmoid_of_gates(training):
    torch.manual_seed(0)
    layer = GatedConv2d(3, 4, kernel=1).train(training)
    layer.conv.bias.normal_()
    x = torch.randn(2, 3, 5, 6)
    both = torch.einsum("oi,bihw->bohw", layer.conv.weight[:, :, 0, 0], x) + layer.conv.bias[:, None, None]
    features, gates = both[:, :4], both[:, 4:]
    by_hand = torch.where(features > 0, features, 0.2 * features) / (1 + torch.exp(-gates))
    torch.testing.assert_close(layer(x), by_hand)
