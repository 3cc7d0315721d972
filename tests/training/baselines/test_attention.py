"""The parts that give the rivals their names do what their papers say."""

import pytest
import torch

from vidunmask.training.baselines.csa import coherent_attention, consistency
from vidunmask.training.baselines.gated_conv import ContextualAttention, Gate
from vidunmask.training.baselines.rfr import KnowledgeConsistentAttention, PartialConv2d
from vidunmask.training.baselines.rn import BasicRN, LearnableRN, normalise_regions


@torch.no_grad()
def test_contextual_attention_copies_the_texture_that_fits():
    # stripes of two kinds, side by side; a hole in the left half, whose features only hint at which kind it is
    x = torch.zeros(1, 2, 32, 32)
    x[:, 0, :, :16], x[:, 1, :, 16:] = 1, 1
    x[:, :, ::2] *= 2
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 12:20, 4:12] = 1
    filled = ContextualAttention()(x, hole)
    inside = filled[0, :, 14:18, 6:10]
    assert inside[0].mean() > 10 * inside[1].mean()


@torch.no_grad()
def test_contextual_attention_never_copies_from_the_hole():
    x = torch.rand(1, 3, 16, 16)
    hole = torch.zeros(1, 1, 16, 16)
    hole[..., 4:12, 4:12] = 1
    marked = torch.where(hole > 0, 0.5, x)
    poisoned = marked.clone()
    poisoned[..., 6:10, 6:10] = 100.0  # well inside: no patch from outside touches it
    filled = ContextualAttention()(poisoned, hole)
    assert filled.max() < 2


@torch.no_grad()
def test_a_gate_can_close():
    gate = Gate(3, 4)
    gate.conv.weight[4:] = 0
    gate.conv.bias[4:] = -60
    assert gate(torch.rand(1, 3, 8, 8)).abs().max() < 1e-12


def test_coherent_attention_is_the_recurrence_of_the_paper():
    torch.manual_seed(0)
    flat, hole = torch.rand(1, 9, 5), torch.tensor([[0, 1, 1, 0, 0, 1, 0, 0, 0]]).bool()
    attention = coherent_attention(flat, hole)[0]
    cosine = torch.nn.functional.cosine_similarity
    known = [index for index in range(9) if not hole[0, index]]
    before = None
    for place in (1, 2, 5):
        likeness = torch.stack([cosine(flat[0, place], flat[0, k], dim=0) for k in known])
        best, match = likeness.max(), flat[0, known[int(likeness.argmax())]]
        if before is None:
            given = match
        else:
            like_before = cosine(flat[0, place], before, dim=0)
            given = (like_before * before + best * match) / (like_before + best)
        torch.testing.assert_close(attention[place] @ flat[0], given)
        before = given
    torch.testing.assert_close(attention[known], torch.eye(9)[known])
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(9))
    assert attention[:, hole[0]].abs().sum() == 0


def test_coherent_attention_of_a_batch_is_that_of_each_picture():
    torch.manual_seed(0)
    flat, hole = torch.rand(3, 12, 4), torch.rand(3, 12) > 0.5
    hole[2] = False
    together = coherent_attention(flat, hole)
    for index in range(3):
        torch.testing.assert_close(together[index], coherent_attention(flat[index : index + 1], hole[index : index + 1])[0])


def test_consistency_counts_the_hole_only():
    truth = torch.zeros(1, 512, 4, 4)
    made, hole = torch.zeros(1, 512, 4, 4), torch.zeros(1, 1, 16, 16)
    hole[..., :8, :8] = 1  # the upper left quarter
    made[..., 3, 3] = 5
    assert consistency([made], truth, hole) == 0
    made[..., 0, 0] = 2
    assert consistency([made, made], truth, hole) == pytest.approx(2 * 4 / 4)


@torch.no_grad()
def test_partial_convolution_of_a_flat_picture_is_flat_whatever_is_hidden():
    layer = PartialConv2d(2, 1, 3)
    layer.conv.weight.fill_(0.5)
    known = (torch.rand(1, 1, 8, 8) > 0.4).float()
    x, seen = layer(torch.full((1, 2, 8, 8), 3.0), known)
    inside = seen[..., 1:-1, 1:-1] > 0
    torch.testing.assert_close(x[..., 1:-1, 1:-1][inside], torch.full((int(inside.sum()),), 3.0 * 2 * 9 * 0.5))


@torch.no_grad()
def test_the_hole_closes_by_a_ring_each_time():
    layer = PartialConv2d(1, 1, 3)
    known = torch.ones(1, 1, 9, 9)
    known[..., 2:7, 2:7] = 0
    sizes = []
    for _ in range(3):
        _, known = layer(torch.rand(1, 1, 9, 9), known)
        sizes.append(int((known == 0).sum()))
    assert sizes == [9, 1, 0]


@torch.no_grad()
def test_attention_scores_are_kept_where_a_place_was_known_before():
    attention = KnowledgeConsistentAttention(4)
    x = torch.rand(1, 4, 4, 4)
    known = torch.zeros(1, 1, 4, 4)
    known[..., :2] = 1
    _, (first, _) = attention(x, known, None)
    torch.testing.assert_close(first.sum(dim=1), torch.ones(1, 4, 4))
    other = torch.rand(1, 4, 4, 4)
    _, (alone, _) = attention(other, known, None)
    _, (second, _) = attention(other, known, (first, known))
    torch.testing.assert_close(second[..., :2], (first[..., :2] + alone[..., :2]) / 2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(second[..., 2:], alone[..., 2:], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_regions_are_normalised_by_themselves():
    x = torch.rand(2, 3, 12, 12)
    region = torch.zeros(2, 1, 12, 12)
    region[..., :5] = 1
    x = x + 10 * region
    done = normalise_regions(x, region)
    for part in (done[..., :5], done[..., 5:]):
        torch.testing.assert_close(part.mean(dim=(2, 3)), torch.zeros(2, 3), atol=1e-4, rtol=0)
        torch.testing.assert_close(part.var(dim=(2, 3), correction=0), torch.ones(2, 3), atol=1e-2, rtol=0)


@torch.no_grad()
def test_basic_rn_has_parameters_for_each_region():
    norm = BasicRN(2)
    norm.beta[0], norm.beta[1] = 3.0, -3.0
    hole = torch.zeros(1, 1, 8, 8)
    hole[..., :4] = 1
    done = norm(torch.rand(1, 2, 8, 8), hole)
    assert done[..., :4].mean() == pytest.approx(-3, abs=1e-3)
    assert done[..., 4:].mean() == pytest.approx(3, abs=1e-3)


@torch.no_grad()
def test_learnable_rn_finds_its_region_in_the_features():
    norm = LearnableRN(kernel=1)
    norm.response.weight.fill_(2.0)
    for conv in (norm.gamma, norm.beta):
        conv.weight.zero_()
        conv.bias.zero_()
    x = torch.rand(1, 4, 8, 8) * 0.1
    x[..., :4] += 5  # above the threshold
    done = norm(x)
    assert done[..., :4].mean() == pytest.approx(0, abs=1e-3)
    assert done[..., 4:].mean() == pytest.approx(0, abs=1e-3)
