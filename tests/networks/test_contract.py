"""What every segmenter and inpainter must keep to, run over whatever networks and presets are found."""

import pytest
import torch

from vidunmask.networks import weights

SEGMENTERS = [(n, p) for n in weights.names("segmenter") for p in weights.presets("segmenter", n)]
INPAINTERS = [(n, p) for n in weights.names("inpainter") for p in weights.presets("inpainter", n)]


def build(kind, network, preset):
    torch.manual_seed(0)
    return weights.build(kind, network, weights.presets(kind, network)[preset]).eval()


def test_networks_are_found_by_their_module_names():
    assert "unet" in weights.names("segmenter")
    assert "gated_mcsam" in weights.names("inpainter")


@pytest.mark.parametrize(("network", "preset"), SEGMENTERS)
@torch.no_grad()
def test_segmenter_gives_one_logit_a_pixel(network, preset):
    module = build("segmenter", network, preset)
    size = 2 * module.multiple
    image = torch.rand(2, 3, size, size)
    logits = module(image)
    assert logits.shape == (2, 1, size, size)
    last = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    last.bias -= 40
    torch.testing.assert_close(module(image), logits - 40)  # a sigmoid inside would have flattened the shift


@pytest.mark.parametrize(("network", "preset"), INPAINTERS)
@torch.no_grad()
def test_inpainter_fills_with_colours_in_range(network, preset):
    module = build("inpainter", network, preset)
    size = 4 * module.multiple
    mask = torch.zeros(2, 1, size, size)
    mask[:, :, size // 2 :] = 1
    fill = module(torch.rand(2, 3, size, size), mask)
    assert fill.shape == (2, 3, size, size)
    assert fill.min() >= 0
    assert fill.max() <= 1


@pytest.mark.parametrize(("network", "preset"), INPAINTERS + SEGMENTERS)
@torch.no_grad()
def test_faces_of_a_batch_do_not_influence_each_other(network, preset):
    kind = "inpainter" if (network, preset) in INPAINTERS else "segmenter"
    module = build(kind, network, preset)
    size = 4 * module.multiple
    inputs = [torch.rand(3, 3, size, size)]
    if kind == "inpainter":
        inputs.append((torch.rand(3, 1, size, size) > 0.5).float())
    together = module(*inputs)
    alone = module(*(x[1:2] for x in inputs))
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("network", "preset"), [x for x in INPAINTERS if x[1] != "paper"])
def test_every_parameter_of_an_inpainter_gets_a_gradient(network, preset):
    module = build("inpainter", network, preset)
    for name, parameter in module.named_parameters():
        if name.endswith("beta"):
            parameter.data.fill_(0.1)  # starts at 0, where the attention's kernel gets none by design
    module(torch.rand(1, 3, 128, 128), (torch.rand(1, 1, 128, 128) > 0.5).float()).sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("network", weights.names("inpainter"))
@torch.no_grad()
def test_compact_inpainter_does_not_see_what_the_mask_hides(network):
    module = build("inpainter", network, "compact")
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 20:50, 10:40] = 1
    other = torch.where(mask > 0, 1 - image, image)
    torch.testing.assert_close(module(image, mask), module(other, mask))
