"""The networks are those of the paper: sizes, equations, layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vidunmask.networks import weights
from vidunmask.networks.layers import ChannelSpatialAttention, GatedConv2d, MultiScaleCSAM, fold_norms


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_paper_inpainter_has_the_parameters_the_paper_counts():
    module = weights.build("inpainter", "gated_mcsam", weights.presets("inpainter", "gated_mcsam")["paper"])
    assert parameters(module) == pytest.approx(44.7e6, rel=0.02)
    assert len(module.encoder) == len(module.decoder) == 4
    assert len(module.middle) == 3


@torch.no_grad()
def test_compact_pair_costs_about_six_gigaflop_a_face():
    with FlopCounterMode(display=False) as counter:
        for kind, network, inputs in (("segmenter", "unet", (3,)), ("inpainter", "gated_mcsam", (3, 1))):
            module = weights.build(kind, network, weights.presets(kind, network)["compact"])
            module(*(torch.rand(1, c, 256, 256) for c in inputs))
    assert counter.get_total_flops() < 6.3e9


@torch.no_grad()
def test_folded_normalisations_leave_what_the_segmenter_sees_as_it_was():
    module = weights.load("compact-segmenter", kind="segmenter")
    image = torch.rand(1, 3, 64, 64)
    before = module(image)
    folded = fold_norms(module)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    torch.testing.assert_close(folded(image), before, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_csam_is_equation_3():
    module = ChannelSpatialAttention()
    module.beta.fill_(0.7)
    x = torch.randn(2, 8, 6, 5)
    volume = torch.nn.functional.conv3d(x[:, None], module.conv.weight, module.conv.bias, padding=1)[:, 0]  # eq. 2
    torch.testing.assert_close(module(x), 0.7 * torch.sigmoid(volume) * x + x)


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2, 7])
def test_csam_is_the_same_as_a_convolution_from_all_channels_to_all(channels):
    module = ChannelSpatialAttention()
    x = torch.randn(2, channels, 6, 5)
    volume = module.conv(x[:, None])[:, 0]
    torch.testing.assert_close(F.conv2d(x, module.banded(channels), module.conv.bias.expand(channels), padding=1), volume)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_csam_on_a_gpu_is_csam_on_a_processor():
    module = ChannelSpatialAttention()
    torch.nn.init.ones_(module.beta)
    x = torch.randn(2, 8, 6, 5)
    torch.testing.assert_close(module.cuda()(x.cuda()).cpu(), module.cpu()(x), rtol=1e-3, atol=1e-3)


def test_csam_starts_as_the_identity_and_learns_to_leave_it():
    module = ChannelSpatialAttention()
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(module(x), x)
    module(x).square().sum().backward()
    assert module.beta.grad.abs() > 0


@torch.no_grad()
def test_mcsam_has_four_dilations_and_both_residuals():
    module = MultiScaleCSAM(16, (1, 2, 4, 8), attention=ChannelSpatialAttention())
    assert [branch.dilation[0] for branch in module.branches] == [1, 2, 4, 8]
    assert [branch.out_channels for branch in module.branches] == [4, 4, 4, 4]
    for branch in module.branches:
        branch.weight.zero_()
        branch.bias.zero_()
    x = torch.randn(1, 16, 9, 9)
    torch.testing.assert_close(module(x), x)  # with silent branches only the residual of eq. 5 is left


def test_mcsam_refuses_channels_that_cannot_be_shared():
    with pytest.raises(ValueError, match="18 channels"):
        MultiScaleCSAM(18, (1, 2, 4, 8), attention=ChannelSpatialAttention())


@torch.no_grad()
def test_a_closed_gate_lets_nothing_through():
    layer = GatedConv2d(3, 5, kernel=3)
    layer.conv.weight[5:] = 0
    layer.conv.bias[5:] = -50
    assert layer(torch.randn(1, 3, 8, 8)).abs().max() < 1e-12


@pytest.mark.parametrize("training", [True, False])
def test_a_gated_layer_gives_the_same_where_it_learns_and_where_it_only_runs(training):
    layer = GatedConv2d(3, 5, kernel=3).train(training)
    image = torch.randn(1, 3, 8, 8)
    learned = layer(image)
    learned.sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(layer(image), learned)


def test_unet_has_four_blocks_each_way_with_batch_norm_and_pooling():
    module = weights.build("segmenter", "unet", weights.presets("segmenter", "unet")["paper"])
    assert len(module.encoder) == len(module.decoder) == 4
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in module.modules()) == 18
