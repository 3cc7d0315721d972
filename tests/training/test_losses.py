import pytest
import torch

from vidunmask.errors import WeightsError
from vidunmask.training import losses, metrics
from vidunmask.training.discriminators import FeaturePatchDiscriminator, PatchDiscriminator


def test_composition_is_equation_1():
    image, fill = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    mask = (torch.rand(2, 1, 8, 8) > 0.5).float()
    torch.testing.assert_close(losses.compose(image, fill, mask), (1 - mask) * image + mask * fill)


def test_local_supervision_gives_no_gradient_outside_the_mask():
    image, truth = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    fill = torch.rand(1, 3, 16, 16, requires_grad=True)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:9, 5:12] = 1
    losses.reconstruction(losses.compose(image, fill, mask), truth, mask).backward()
    outside = (mask == 0).expand_as(fill)
    assert fill.grad[outside].abs().max() == 0
    assert fill.grad[~outside].abs().min() > 0


def test_reconstruction_does_not_depend_on_the_size_of_the_mask():
    small, large = torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    small[..., :4, :4] = 1
    fake, real = torch.full((1, 3, 16, 16), 0.75), torch.full((1, 3, 16, 16), 0.5)
    assert losses.reconstruction(fake, real, small) == pytest.approx(0.25)
    assert losses.reconstruction(fake, real, large) == pytest.approx(0.25)


@pytest.mark.parametrize("of", [lambda a, b: losses.gram(a) - losses.gram(b), metrics.ssim_map], ids=["gram", "ssim"])
def test_where_networks_run_in_bfloat16_what_compares_pictures_does_not(of):
    a = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    b = torch.lerp(a, a.flip(3), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = of(a, b)
    torch.testing.assert_close(inside, of(a, b))


def test_dissimilarity_is_one_minus_ssim_of_the_region_and_can_be_trained_on():
    torch.manual_seed(0)
    real = torch.rand(2, 3, 40, 40)
    weight = torch.zeros(2, 1, 40, 40)
    weight[..., 8:30, 8:30] = 1
    fake = torch.lerp(real, torch.rand(2, 3, 40, 40), 0.5).requires_grad_()
    made = losses.dissimilarity(fake, real, weight)
    torch.testing.assert_close(made, 1 - metrics.ssim(fake, real, weight).mean())
    assert losses.dissimilarity(real, real, weight) < 1e-5
    made.backward()
    nearer = fake.detach() - 50 * fake.grad
    assert losses.dissimilarity(nearer, real, weight) < made.detach()
    assert fake.grad[..., 25:, 36:].abs().max() == 0  # beyond the reach of a window about the region


def test_gram_matrix_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # (1, 2, 1, 2)
    torch.testing.assert_close(losses.gram(features), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


def test_gram_has_the_gradient_of_the_product():
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(3), requires_grad=True)
    weights = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(4))
    flat = features.flatten(2)
    (expected,) = torch.autograd.grad((flat @ flat.transpose(1, 2) / 60 * weights).sum(), features)
    (found,) = torch.autograd.grad((losses.gram(features) * weights).sum(), features)
    torch.testing.assert_close(found, expected)


def test_perceptual_and_style_vanish_only_for_equal_features():
    a = [torch.rand(2, 4, 6, 6), torch.rand(2, 8, 3, 3)]
    b = [x.flip(0) for x in a]
    assert losses.perceptual(a, a) < 1e-3
    assert losses.style(a, a) == 0
    assert losses.perceptual(a, b) > 0.1
    assert losses.style(a, b) > 0


def test_relativistic_losses_reward_what_they_should():
    high, low = torch.full((2, 1, 3, 3), 1.0), torch.full((2, 1, 3, 3), 0.0)
    # a critic that scores real above fake by one is right; a generator wants the reverse
    assert losses.relativistic_discriminator(real=high, fake=low) == 0
    assert losses.relativistic_generator(real=low, fake=high) == 0
    assert losses.relativistic_generator(real=high, fake=low) == 8


def test_a_pixel_of_the_patch_critic_sees_70_pixels():
    critic = PatchDiscriminator(width=4)
    image = torch.rand(1, 3, 256, 256, requires_grad=True)
    scores = critic(image)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = image.grad.abs().sum(dim=(0, 1)) > 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == 70


def test_feature_critic_takes_relu3_3() -> None:
    assert FeaturePatchDiscriminator(width=8)(torch.rand(2, 256, 16, 16)).shape[:2] == (2, 1)


def test_missing_vgg_weights_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"--vgg .*none\.pth"):
        losses.VGGFeatures(tmp_path / "none.pth")
    torch.save({"other.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not weights", encoding="utf-8")
    for name in ("other", "text"):
        with pytest.raises(WeightsError, match=rf"--vgg .*{name}\.pth: holds no VGG-16"):
            losses.VGGFeatures(tmp_path / f"{name}.pth")


def test_a_close_up_costs_as_much_as_the_small_picture_and_shows_both_in_the_same_place():
    generator = torch.Generator().manual_seed(3)
    real = torch.rand(2, 3, 192, 224, generator=generator)
    seen = [losses.look(real + 1, real, scale=0.5, close_ups=0.5, generator=generator) for _ in range(20)]
    assert all(fake.shape == truth.shape == (2, 3, 96, 112) for fake, truth in seen)
    small = losses.shrink(real, 0.5)
    close = [truth for _, truth in seen if not torch.equal(truth, small)]
    assert 5 < len(close) < 15
    for fake, truth in seen:
        torch.testing.assert_close(fake - truth, torch.ones_like(truth))
    assert len({float(truth[0, 0, 0, 0]) for truth in close}) > 3  # not always the same window
    windows = real.unfold(2, 96, 1).unfold(3, 112, 1)[0, 0].flatten(0, 1)
    assert all((windows == truth[0, 0]).all(dim=(1, 2)).any() for truth in close)


def test_without_close_ups_no_randomness_is_used():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    losses.look(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), scale=0.5, close_ups=0.0, generator=generator)
    assert torch.equal(before, generator.get_state())
