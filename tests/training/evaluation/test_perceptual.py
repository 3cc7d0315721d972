import numpy as np
import pytest
import torch

from vidunmask.errors import WeightsError
from vidunmask.training.evaluation import perceptual
from vidunmask.training.evaluation.perceptual import frechet, load_perceptual, summary


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    a = torch.nn.functional.interpolate(torch.rand(2, 3, 9, 9, generator=generator), size=(96, 96), mode="bicubic").clamp(0, 1)
    return a, (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)


def test_lpips_agrees_with_torchmetrics(pictures):
    reference = pytest.importorskip("torchmetrics.functional.image.lpips", reason="torchmetrics is not installed")
    net = reference._LPIPS(pretrained=True, net="alex", pnet_rand=True)
    features = {
        f"{index}.{part}": getattr(layer, part)
        for piece in (net.net.slice1, net.net.slice2, net.net.slice3, net.net.slice4, net.net.slice5)
        for index, layer in piece.named_children()
        for part in ("weight", "bias")
        if hasattr(layer, part)
    }
    linear = {f"lin{i}.model.1.weight": getattr(net, f"lin{i}").model[1].weight for i in range(5)}
    ours = perceptual.Perceptual(features, linear)
    a, b = pictures
    with torch.no_grad():
        expected = net(a * 2 - 1, b * 2 - 1).flatten()
        torch.testing.assert_close(ours.distance(ours(a), ours(b)), expected, rtol=1e-4, atol=1e-6)


def test_lpips_of_a_region_counts_only_what_differs_there(alexnet_files, pictures):
    net, _ = load_perceptual([alexnet_files])
    a = pictures[0]
    b = a.clone()
    b[..., 60:90, 60:90] = 0
    here, there = torch.zeros(2, 1, 96, 96), torch.zeros(2, 1, 96, 96)
    here[..., 60:90, 60:90], there[..., :20, :20] = 1, 1
    x, y = net(a), net(b)
    assert (net.distance(x, y, here) > 5 * net.distance(x, y, there)).all()
    assert (net.distance(x, x) == 0).all()


def test_the_weights_at_hand_are_the_metric(shared_dir, pictures):
    net, digests = load_perceptual([shared_dir / "weights"])
    assert set(digests) == {"alexnet_features_imagenet.pth", "lpips_lin_alexnet.pth"}
    a, b = pictures
    blurred = torch.nn.functional.avg_pool2d(a, 5, 1, 2)
    assert net.distance(net(a), net(b)).mean() > net.distance(net(a), net(blurred)).mean() > 0


def test_missing_weights_are_named_with_the_remedy(alexnet_files, monkeypatch):
    monkeypatch.setattr(perceptual, "_candidates", lambda given: list(given))
    with pytest.raises(WeightsError, match="LPIPS's linear weights not found"):
        load_perceptual([alexnet_files / "alexnet.pth"])
    with pytest.raises(WeightsError, match=r"AlexNet's weights and LPIPS.*--lpips-weights FOLDER"):
        load_perceptual([])


def test_a_damaged_download_is_refused(tmp_path, alexnet_files):
    damaged = tmp_path / "alexnet-owt-7be5be79.pth"
    damaged.write_bytes((alexnet_files / "alexnet.pth").read_bytes())
    with pytest.raises(WeightsError, match="not 7be5be79"):
        load_perceptual([damaged])
    (tmp_path / "alex.pth").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=r"alex\.pth: cannot be read"):
        load_perceptual([tmp_path / "alex.pth"])


def test_frechet_distance_of_known_normals():
    random = np.random.default_rng(0)
    a = random.normal(0, 1, (20000, 3))
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, a + np.array([2, 0, 0])) == pytest.approx(4, rel=1e-3)
    assert frechet(a, 3 * a) == pytest.approx(3 * (3 - 1) ** 2, rel=0.05)


def test_frechet_distance_agrees_with_torchmetrics():
    reference = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is not installed")
    random = np.random.default_rng(1)
    a, b = random.normal(0, 1, (300, 8)), random.normal(0.3, 1.4, (200, 8)) @ random.normal(0, 1, (8, 8))
    parts = [part for x in (a, b) for part in (torch.from_numpy(x.mean(0)), torch.from_numpy(np.cov(x, rowvar=False)))]
    assert frechet(a, b) == pytest.approx(float(reference._compute_fid(*parts)), rel=1e-6)


def test_what_frechet_compares_is_one_vector_an_image(alexnet_files, pictures):
    net, _ = load_perceptual([alexnet_files])
    assert summary(net(pictures[0])).shape == (2, 256)
