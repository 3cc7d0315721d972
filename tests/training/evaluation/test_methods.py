import pytest
import torch

from vidunmask.errors import UsageError
from vidunmask.training.evaluation.methods import load_methods, mean_colour, telea
from vidunmask.training.losses import compose

CPU = torch.device("cpu")


def test_trivial_fills_leave_what_is_seen_alone():
    image, mask = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 10:20, 10:20] = 1
    for fill in (telea(image, mask), mean_colour(image, mask)):
        composed = compose(image, fill, mask)
        torch.testing.assert_close(composed[..., :10, :], image[..., :10, :])
        assert not torch.equal(composed[..., 10:20, 10:20], image[..., 10:20, 10:20])


def test_methods_are_named_by_their_file_or_as_asked(networks):
    first, second, third = load_methods([str(networks.inpainter), f"mine={networks.inpainter}", "telea"], device=CPU)
    assert (first.name, second.name, third.name) == ("inpainter", "mine", "Telea")
    assert first.sha256 == second.sha256
    assert first.parameters > 0
    assert third.weights is None


def test_two_methods_of_one_name_are_refused(networks):
    with pytest.raises(UsageError, match="'inpainter' stands for more than one"):
        load_methods([str(networks.inpainter)] * 2, device=CPU)
