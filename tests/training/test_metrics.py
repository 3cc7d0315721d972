import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vidunmask.training import metrics


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(3)
    a = torch.nn.functional.avg_pool2d(torch.rand(2, 3, 68, 52, generator=generator), 5, stride=1)
    return a, (a + 0.05 * torch.randn(a.shape, generator=generator)).clamp(0, 1)


def test_ssim_agrees_with_scikit_image(pictures):
    a, b = pictures
    for index in range(2):
        expected = structural_similarity(
            a[index].permute(1, 2, 0).double().numpy(),
            b[index].permute(1, 2, 0).double().numpy(),
            channel_axis=2,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert metrics.ssim(a, b)[index].item() == pytest.approx(expected, abs=2e-4)


def test_psnr_agrees_with_scikit_image(pictures):
    a, b = pictures
    expected = peak_signal_noise_ratio(a[0].numpy(), b[0].numpy(), data_range=1.0)
    assert metrics.psnr(a, b)[0].item() == pytest.approx(expected, abs=1e-3)


def test_metrics_agree_with_torchmetrics(pictures):
    image = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is not installed")
    classification = pytest.importorskip("torchmetrics.functional.classification")
    a, b = pictures
    # Their mean counts the border too, whose windows leave the picture; the map inside it is to be the same.
    _, full = image.structural_similarity_index_measure(
        a, b, sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    torch.testing.assert_close(metrics.ssim_map(a, b), full[..., 5:-5, 5:-5].mean(1, keepdim=True), atol=2e-4, rtol=0)
    psnr = image.peak_signal_noise_ratio(a, b, data_range=1.0, dim=(1, 2, 3), reduction="none")
    torch.testing.assert_close(metrics.psnr(a, b), psnr, atol=1e-4, rtol=0)
    for index in range(2):
        expected = classification.binary_jaccard_index(a[index, :1], (b[index, :1] > 0.5).long())
        assert metrics.iou(a[:, :1], b[:, :1])[index].item() == pytest.approx(float(expected), abs=1e-6)


def test_a_region_counts_only_itself():
    a, b = torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 20)
    b[..., :10, :] = 0.5
    region = torch.zeros(1, 1, 20, 20)
    region[..., :5, :] = 1
    assert metrics.l1(a, b, region).item() == pytest.approx(0.5)
    assert metrics.l1(a, b).item() == pytest.approx(0.25)
    assert metrics.psnr(a, b, region).item() == pytest.approx(-20 * np.log10(0.5), abs=1e-4)


def test_iou_by_hand():
    a, b = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    a[0, 0, :2], b[0, 0, 1:3] = 1, 1
    assert metrics.iou(a, b).tolist() == pytest.approx([4 / 12, 1.0])
