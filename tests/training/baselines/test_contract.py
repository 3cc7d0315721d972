"""What every rival must keep to, whatever networks are found: what our own inpainter keeps to, and what training needs."""

import pytest
import torch

from vidunmask.training import methods
from vidunmask.training.completion import Trainable
from vidunmask.training.objectives import Target

PAPER = {"gated_conv": 4.1e6, "csa": 132.1e6, "rfr": 31.2e6, "rn": 11.6e6}
RIVALS = [name for name in methods.names() if methods.method(name).kind == methods.BASELINE]
SMALL = [(name, preset) for name in RIVALS for preset in ("compact", "tiny")]
TINY = [(name, "tiny") for name in methods.names()]


def build(name, preset, **more):
    torch.manual_seed(0)
    method = methods.method(name)
    return method.build({**method.arguments(preset), **more})


def faces(size=256, batch=2):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(batch, 3, size // 16, size // 16, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    mask = torch.zeros(batch, 1, size, size)
    mask[:, :, size // 2 : size - size // 8, size // 4 : size - size // 4] = 1
    return image, mask


def target(image, mask):
    box = (slice(0, image.shape[2]), slice(0, image.shape[3]))
    return Target(image, mask, torch.ones_like(mask), box, torch.Generator().manual_seed(0))


def objective(name, vgg, **more):
    options = {"weights": {}, "supervision": "own", "critic_width": 4, "feature_scale": 0.5, "close_ups": 0.0, **more}
    torch.manual_seed(1)
    return methods.method(name).objective(vgg=vgg, device=torch.device("cpu"), **options)


def test_rivals_are_found_by_their_module_names():
    assert set(PAPER) == set(RIVALS)
    assert methods.names()[0] == "gated_mcsam"


@pytest.mark.parametrize("name", PAPER)
def test_a_rival_has_the_parameters_that_the_paper_counts(name):
    with torch.device("meta"):
        count = sum(p.numel() for p in build(name, "paper").parameters())
    assert count == pytest.approx(PAPER[name], rel=0.02)


def test_compact_rivals_cost_what_our_compact_inpainter_costs():
    from vidunmask.pipelines.networks import survey

    costs = {e.network: e.gflop for e in survey(presets={"compact"}, receptive_field=False) if e.kind != "segmenter"}
    ours = costs.pop("gated_mcsam")
    assert costs == {name: pytest.approx(ours, rel=0.05) for name in RIVALS}


@pytest.mark.parametrize(("name", "preset"), SMALL)
@torch.no_grad()
def test_a_rival_fills_with_colours_in_range(name, preset):
    image, mask = faces()
    fill = build(name, preset).eval()(image, mask)
    assert fill.shape == image.shape
    assert fill.dtype == torch.float32
    assert fill.min() >= 0
    assert fill.max() <= 1


@pytest.mark.parametrize("name", RIVALS)
@torch.no_grad()
def test_faces_of_a_batch_do_not_influence_each_other(name):
    module = build(name, "tiny").eval()
    image, mask = torch.rand(3, 3, 128, 128), (torch.rand(3, 1, 128, 128) > 0.5).float()
    mask[1] = faces(128)[1][0]
    torch.testing.assert_close(module(image, mask)[1:2], module(image[1:2], mask[1:2]), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", RIVALS)
@torch.no_grad()
def test_a_rival_does_not_see_what_the_mask_hides(name):
    module = build(name, "tiny").eval()
    image, mask = faces(128)
    other = torch.where(mask > 0, 1 - image, image)
    torch.testing.assert_close(module(image, mask), module(other, mask))


@pytest.mark.parametrize("name", RIVALS)
@torch.no_grad()
def test_a_rival_sees_the_picture_outside_the_mask(name):
    module = build(name, "tiny").eval()
    image, mask = faces(128)
    assert (module(image, mask) - module(1 - image, mask)).abs().max() > 1e-5


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_that_is_empty_or_covers_everything_gives_finite_results_and_gradients(name, value):
    module = build(name, "tiny").train()
    image = torch.rand(2, 3, 128, 128)
    made = module.complete(image, torch.full((2, 1, 128, 128), value))
    made.fill.sum().backward()
    assert made.fill.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize(("name", "preset"), TINY)
def test_every_parameter_learns_from_the_networks_own_objective(name, preset, vgg):
    module = build(name, preset).train()
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if key.endswith("beta") and parameter.numel() == 1:
                parameter.fill_(0.1)  # starts at 0, where the attention's kernel gets none by design
    image, mask = faces(128)
    judge = objective(name, vgg)
    judgement = judge.judge(Trainable(module)(image, mask), target(image, mask), adversarial=judge.has_critics)
    judgement.total.backward()
    silent = [key for key, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a normalisation right behind takes the bias of a convolution away again
    assert [key for key in silent if not key.endswith("bias")] == []
    assert all(p.grad is None for p in judge.critics.parameters())


@pytest.mark.parametrize("name", methods.names())
def test_critics_learn_from_the_pictures_of_a_judgement_and_the_network_does_not(name, vgg):
    judge = objective(name, vgg)
    if not judge.has_critics:
        assert name == "rfr"
        return
    module = build(name, "tiny").train()
    image, mask = faces(128)
    judgement = judge.judge(Trainable(module)(image, mask), target(image, mask), adversarial=True)
    assert len(judgement.pairs) == len(judge.critics)
    judge.criticise(judgement.pairs).backward()
    assert all(p.grad is not None for p in judge.critics.parameters())
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("name", methods.names())
def test_a_perfect_fill_costs_less_than_a_grey_one(name, vgg):
    from vidunmask.training.completion import Completion

    judge = objective(name, vgg)
    image, mask = faces(128)
    features = tuple(torch.zeros(2, 512, 4, 4) for _ in range(2)) if name == "csa" else ()

    def total(picture):
        made = Completion(fill=picture, coarse=picture, features=features)
        return float(judge.judge(made, target(image, mask), adversarial=False).total)

    assert total(image) < total(torch.full_like(image, 0.5))


@pytest.mark.parametrize("name", methods.names())
def test_supervision_says_which_pixels_get_a_gradient(name, vgg):
    from vidunmask.training.completion import Completion

    image, mask = faces(128)
    features = tuple(torch.zeros(2, 512, 4, 4) for _ in range(2)) if name == "csa" else ()
    outside = {}
    for supervision in ("own", "local", "full"):
        fill = torch.full_like(image, 0.4).requires_grad_()
        made = Completion(fill=fill, coarse=fill.detach(), features=features)
        judge = objective(name, vgg, supervision=supervision)
        judge.judge(made, target(image, mask), adversarial=False).total.backward()
        outside[supervision] = float((fill.grad * (1 - mask)).abs().max())
    assert outside["local"] == 0
    assert outside["full"] > 0
    assert (outside["own"] > 0) == (name in ("gated_conv", "csa", "rfr"))


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "rn"])
def test_attention_can_be_left_out_as_in_table_3(name):
    method = methods.method(name)
    module = method.build(method.arguments("tiny", attention=False)).eval()
    image, mask = faces(128)
    assert module(image, mask).shape == image.shape
    attention = dict(module.named_modules())["reason.attention" if name == "rfr" else "attention"]
    assert attention.conv.kernel_size == (3, 3)


def test_structural_similarity_is_a_term_only_where_it_is_asked_for(vgg):
    module = build("gated_mcsam", "tiny").train()
    image, mask = faces(128)
    made = Trainable(module)(image, mask)
    plain, asked = (
        objective("gated_mcsam", vgg, weights=weights).judge(made, target(image, mask), adversarial=False)
        for weights in ({}, {"ssim": 2.0})
    )
    assert set(asked.terms) - set(plain.terms) == {"ssim"}
    assert asked.terms["ssim"] > 0
    torch.testing.assert_close(asked.total, plain.total + 2 * asked.terms["ssim"])
