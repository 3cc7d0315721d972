import shutil

import pytest
import torch

from vidunmask.errors import DeviceError, UsageError, WeightsError
from vidunmask.networks.precision import choose_dtype
from vidunmask.pipelines.build import build, choose_device
from vidunmask.pipelines.config import Config
from vidunmask.training import segmenter
from vidunmask.training.running.loop import check_options


def test_a_device_that_is_not_there_is_an_error_that_names_what_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(DeviceError, match=rf"--device {name}: .*available: cpu"):
            choose_device(name)
    assert choose_device("auto") == torch.device("cpu")


def test_the_automatic_choice_prefers_cuda_then_apple_then_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


def test_where_nothing_can_be_compiled_compile_is_an_error_in_one_line_before_any_work(monkeypatch):
    def compile(network, **options):
        def fail(*inputs):
            raise RuntimeError("No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1")

        return fail

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(
        DeviceError, match=r"--compile: torch cannot compile here \(No working C\+\+ compiler found\); leave it out"
    ):
        build(Config(device="cpu", compile=True))


def test_precision_is_taken_at_its_word_and_chosen_by_the_hardware_otherwise(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_dtype("float32", cpu) == torch.float32
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert choose_dtype("auto", cpu) == torch.float32
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert choose_dtype("auto", cpu) == torch.bfloat16


def test_training_notes_the_precision_that_auto_stands_for(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    for native, named in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda native=native: native, raising=False)
        options = segmenter.parse(["--pack", "p", "--run", "r"])
        assert options.precision == "auto"
        check_options(options)
        assert options.precision == named


def test_the_parts_say_what_they_were_made_of(weights):
    parts = build(Config(device="cpu", precision="float32", segmenter=weights.nowhere, inpainter=weights.inpainter))
    assert (parts.device, parts.precision) == ("cpu", "float32")
    assert list(parts.weights) == ["nowhere.safetensors", "inpainter.safetensors"]
    assert all(len(digest) == 64 for digest in parts.weights.values())


def test_of_two_files_of_weights_with_one_name_both_are_known(weights, tmp_path):
    segmenter, inpainter = tmp_path / "a" / "weights.safetensors", tmp_path / "b" / "weights.safetensors"
    for source, target in ((weights.nowhere, segmenter), (weights.inpainter, inpainter)):
        target.parent.mkdir()
        shutil.copy(source, target)
    parts = build(Config(device="cpu", precision="float32", segmenter=segmenter, inpainter=inpainter))
    assert list(parts.weights) == [str(segmenter), str(inpainter)]


def test_networks_that_only_run_have_no_normalisations_of_their_own(weights, monkeypatch):
    made = []
    monkeypatch.setattr("vidunmask.stages.unmask.Unmasker", lambda *networks, **options: made.extend(networks))
    build(Config(device="cpu", precision="float32", segmenter=weights.nowhere, inpainter=weights.inpainter))
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for network in made for part in network.modules())


def test_weights_of_the_wrong_kind_are_refused(weights):
    with pytest.raises(WeightsError, match="give one of kind segmenter"):
        build(Config(device="cpu", segmenter=weights.inpainter, inpainter=weights.inpainter))


def test_an_unknown_detector_is_refused(weights):
    with pytest.raises(UsageError, match="nobody"):
        build(Config(device="cpu", detector="nobody", segmenter=weights.nowhere, inpainter=weights.inpainter))
