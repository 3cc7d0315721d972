import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vidunmask.networks import weights
from vidunmask.pipelines import cli, networks
from vidunmask.training import methods


@pytest.fixture(scope="module")
def tiny():
    return list(networks.survey(presets={"tiny"}))


def test_every_network_is_listed_with_its_costs(tiny):
    assert {(e.kind, e.network) for e in tiny} >= {("segmenter", "unet"), ("inpainter", "gated_mcsam"), ("baseline", "csa")}
    assert len(tiny) == len(weights.names("segmenter")) + len(methods.names())
    for entry in tiny:
        assert entry.parameters > 1000
        assert entry.gflop > 0.01


@torch.no_grad()
def test_costs_counted_without_computing_are_those_of_a_real_run(tiny):
    for entry in tiny:
        inputs = [torch.rand(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)]
        if entry.kind == "segmenter":
            module = weights.build("segmenter", entry.network, weights.presets("segmenter", entry.network)["tiny"])
            inputs = inputs[:1]
        else:
            method = methods.method(entry.network)
            module = method.build(method.arguments("tiny"))
        with FlopCounterMode(display=False) as counter:
            module.eval()(*inputs)
        assert counter.get_total_flops() / 1e9 == pytest.approx(entry.gflop, abs=2e-3), entry.network


def test_the_receptive_field_is_that_of_the_layers(tiny, monkeypatch):
    class Two(torch.nn.Module):
        """5 x 5, then a 3 x 3 dilated by 3: 1 + 4 + 6."""

        def __init__(self, *, width):
            super().__init__()
            self.a = torch.nn.Conv2d(3, width, 5, padding=2)
            self.b = torch.nn.Conv2d(width, 1, 3, padding=3, dilation=3)

        def forward(self, image):
            return self.b(torch.relu(self.a(image)))

    monkeypatch.setattr(weights, "build", lambda kind, network, arguments: Two(**arguments))
    monkeypatch.setattr(networks, "CANVAS", 64)
    assert networks._receptive_field("segmenter", "two", {"width": 32}) == 11


def test_attention_and_region_statistics_see_the_whole_picture(tiny):
    whole = {entry.network for entry in tiny if entry.receptive_field_is_whole_picture}
    assert whole >= {"gated_conv", "csa", "rfr", "rn"}
    assert "unet" not in whole


def test_the_table_is_printed_and_so_is_json(capsys):
    assert cli.main(["networks", "--preset", "tiny", "--no-receptive-field"]) == 0
    table = capsys.readouterr().out
    assert "gated_mcsam" in table
    assert "multiplication and an addition" in table
    assert cli.main(["networks", "--preset", "tiny", "--json", "--no-receptive-field"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {"kind", "network", "preset", "parameters", "gflop", "receptive_field"} <= set(entries[0])


def test_a_preset_that_no_network_has_is_one_line(capsys):
    assert cli.main(["networks", "--preset", "huge"]) == 2
    assert "--preset huge: no network has it" in capsys.readouterr().err
