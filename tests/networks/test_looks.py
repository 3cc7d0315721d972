"""The second look of a segmenter: who gets one, and what comes of it."""

import pytest
import torch
from torch import nn

from vidunmask.networks.looks import DEEP_DOUBT, DOUBT, SecondLook, doubt


class Reader(nn.Module):
    """Reads logits off the picture: red is the probability. Counts its calls and the faces in them."""

    def __init__(self, see=lambda image: image[:, :1]):
        super().__init__()
        self.see, self.calls = see, []

    def forward(self, image):
        self.calls.append(len(image))
        return torch.logit(self.see(image).clamp(0.001, 0.999))


def face(inside, *, size=64):
    """A picture whose middle is mask with probability ``inside``."""
    image = torch.zeros(1, 3, size, size)
    image[:, :, 16:48, 12:40] = inside
    return image


def test_doubt_grows_from_a_clear_mask_to_one_of_which_nothing_is_known():
    doubts = [doubt(face(p)[:, :1]).item() for p in (0.99, 0.9, 0.7, 0.5)]
    assert doubts == sorted(doubts)
    assert doubts[0] < DOUBT
    assert doubts[-1] == pytest.approx(2, abs=0.1)  # 4 p (1 - p) / p
    nothing = doubt(torch.zeros(1, 1, 64, 64)).item()
    assert nothing < 0.01


@torch.no_grad()
def test_a_faint_haze_over_a_bare_face_is_no_doubt():
    network = Reader()
    assert doubt(face(0.15)[:, :1]).item() < 0.01
    SecondLook(network)(face(0.15))
    assert network.calls == [1]


@torch.no_grad()
def test_only_doubtful_faces_are_looked_at_again():
    network = Reader()
    pictures = torch.cat([face(0.99), face(0.9), face(0.5)])
    seen = SecondLook(network)(pictures)
    assert network.calls == [3, 2, 2]  # all; two mirrored; one from further away, plain and mirrored
    assert DOUBT < doubt(torch.sigmoid(seen[1:2])) < DEEP_DOUBT
    torch.testing.assert_close(seen[:2], Reader()(pictures[:2]))  # what sees alike in the mirror says the same


@torch.no_grad()
def test_small_faces_get_one_look():
    network = Reader()
    seen = SecondLook(network)(torch.cat([face(0.5), face(0.5)]), torch.tensor([False, True]))
    assert network.calls == [2, 1, 2]
    torch.testing.assert_close(seen[:1], Reader()(face(0.5)))


@torch.no_grad()
def test_views_come_back_to_where_they_were_taken():
    seen = torch.sigmoid(SecondLook(Reader())(face(0.5)))[0, 0]
    assert (seen[20:44, 16:36] - 0.5).abs().max() < 0.02
    assert seen[:12].max() < 0.01
    assert seen[:, 44:].max() < 0.01


@torch.no_grad()
def test_half_of_a_mask_is_found_in_the_mirror():
    def left_eyed(image):
        """Sure of what lies left of the middle, and hardly of what lies right of it."""
        red = image[:, :1].clone()
        red[..., 32:] *= 0.3
        return red

    pictures = face(0.99)
    plain = torch.sigmoid(Reader(left_eyed)(pictures))
    seen = torch.sigmoid(SecondLook(Reader(left_eyed))(pictures))
    assert plain[0, 0, 30, 38] < 0.5
    assert seen[0, 0, 30, 38] > 0.5
    assert seen[0, 0, 30, 20] > 0.5


@torch.no_grad()
def test_a_network_that_gives_nothing_is_not_asked_again():
    network = Reader(lambda image: image[:, :1] * torch.nan)
    assert SecondLook(network)(face(0.5)).isnan().all()
    assert network.calls == [1]
