import pytest
import torch
from safetensors.torch import load_file, save_file

from vidunmask.errors import WeightsError
from vidunmask.networks import weights


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    arguments = weights.presets("segmenter", "unet")["tiny"]
    module = weights.build("segmenter", "unet", arguments).eval()
    path = tmp_path / "tiny.safetensors"
    weights.save(path, module.state_dict(), kind="segmenter", network="unet", arguments=arguments, provenance={"images": 5})
    return path, module


def test_a_network_comes_back_from_its_file_alone(saved):
    path, module = saved
    again = weights.load(path, kind="segmenter")
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(x), module(x), atol=1e-5, rtol=1e-4)
    assert weights.read_card(path).provenance == {"images": 5}


@torch.no_grad()
def test_whole_numbers_take_a_quarter_of_the_space_and_stand_for_nearly_the_same(tmp_path):
    torch.manual_seed(0)
    arguments = weights.presets("inpainter", "gated_mcsam")["compact"]
    module = weights.build("inpainter", "gated_mcsam", arguments).eval()
    module.to_rgb.weight[0] = 0  # an output of zeros has no scale
    made = {"kind": "inpainter", "network": "gated_mcsam", "arguments": arguments, "provenance": {}}
    sizes = {}
    for name, dtype in weights.STORED.items():
        weights.save(tmp_path / name, module.state_dict(), **made, dtype=dtype)
        sizes[name] = (tmp_path / name).stat().st_size
    assert sizes["int8"] < 0.27 * sizes["float32"]
    _, state = weights.read(tmp_path / "int8")
    assert state.keys() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        if tensor.dim() < 2:
            torch.testing.assert_close(state[name], tensor)
        else:
            step = tensor.flatten(1).abs().amax(1) / 127
            assert ((state[name] - tensor).abs().flatten(1).amax(1) <= 0.51 * step).all()
    image, mask = torch.rand(1, 3, 256, 256), (torch.rand(1, 1, 256, 256) > 0.5).float()
    again = weights.load(tmp_path / "int8", kind="inpainter")
    assert (again(image, mask) - module(image, mask)).abs().mean() < 0.01


def test_a_changed_tensor_is_noticed(saved, tmp_path):
    path, _ = saved
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] += 1
    with path.open("rb") as file:
        import json

        length = int.from_bytes(file.read(8), "little")
        metadata = json.loads(file.read(length))["__metadata__"]
    save_file(tensors, tmp_path / "bad.safetensors", metadata=metadata)
    with pytest.raises(WeightsError, match="SHA-256"):
        weights.load(tmp_path / "bad.safetensors", kind="segmenter")


def test_a_truncated_file_is_refused(saved):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"tiny\.safetensors"):
        weights.load(path, kind="segmenter")


def test_weights_of_the_other_kind_are_refused(saved):
    with pytest.raises(WeightsError, match="is a network of kind segmenter; give one of kind inpainter"):
        weights.load(saved[0], kind="inpainter")


def test_missing_weights_name_the_path_and_what_ships(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors.*no such weights"):
        weights.load(tmp_path / "nowhere.safetensors", kind="segmenter")


def test_a_name_that_no_file_system_takes_is_one_line(tmp_path):
    with pytest.raises(WeightsError, match="cannot be reached"):
        weights.load(tmp_path / ("x" * 300 + ".safetensors"), kind="segmenter")


def test_weights_have_the_permissions_of_any_new_file(saved, tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert saved[0].stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("name", weights.available())
def test_shipped_weights_load_and_say_how_they_were_trained(name):
    card = weights.read_card(name)
    assert weights.load(name, kind=card.kind)
    assert card.provenance["images"] > 1000
    assert card.provenance["tiers"]
