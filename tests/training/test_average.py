"""The average of weights."""

import pytest
import torch
from safetensors.torch import load_file

from vidunmask.errors import UsageError, WeightsError
from vidunmask.networks import weights
from vidunmask.training import average


def stored(path, value, *, preset="tiny", **provenance):
    arguments = weights.presets("segmenter", "unet")[preset]
    state = {name: torch.full_like(t, value) for name, t in weights.build("segmenter", "unet", arguments).state_dict().items()}
    weights.save(path, state, kind="segmenter", network="unet", arguments=arguments, provenance=provenance)
    return path


def test_the_average_has_the_shares_that_were_asked_for_and_says_of_what_it_is(tmp_path, capsys):
    one = stored(tmp_path / "one", 1.0, images=5, sources=["a"], tiers=["A"])
    two = stored(tmp_path / "two", 3.0, images=7, sources=["b"], tiers=["C"])
    average.main([str(one), str(two), "--out", str(tmp_path / "new" / "both"), "--shares", "3", "1"])
    assert "averaged 2 files" in capsys.readouterr().out
    card, state = weights.read(tmp_path / "new" / "both")
    assert all((tensor == 1.5).all() for tensor in state.values() if tensor.is_floating_point())
    assert (card.provenance["images"], card.provenance["sources"], card.provenance["tiers"]) == (12, ["a", "b"], ["A", "C"])
    assert [part["share"] for part in card.provenance["average_of"]] == [0.75, 0.25]
    assert card.provenance["average_of"][1]["sha256"] == weights.read_card(two).sha256
    weights.load(tmp_path / "new" / "both", kind="segmenter")


@pytest.mark.parametrize("store", weights.STORED)
def test_averages_are_stored_as_the_numbers_that_were_asked_for(store, tmp_path):
    one, two = stored(tmp_path / "one", 1.0), stored(tmp_path / "two", 3.0)
    average.main([str(one), str(two), "--out", str(tmp_path / "both"), "--store", store])
    assert weights.STORED[store] in {tensor.dtype for tensor in load_file(tmp_path / "both").values()}
    _, state = weights.read(tmp_path / "both")
    for tensor in state.values():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.float(), torch.full_like(tensor, 2.0).float())


def test_other_networks_and_shares_that_do_not_fit_are_refused(tmp_path):
    one, other = stored(tmp_path / "one", 1.0), stored(tmp_path / "other", 1.0, preset="compact")
    with pytest.raises(WeightsError, match="other: holds another network than"):
        average.average([one, other], tmp_path / "out")
    for shares in ([1.0], [1.0, -1.0], [0.0, 0.0]):
        with pytest.raises(UsageError, match="--shares"):
            average.average([one, one], tmp_path / "out", shares=shares)
    assert not (tmp_path / "out").exists()
