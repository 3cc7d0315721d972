import numpy as np
import pytest
import torch

from vidunmask.training.evaluation.masks import BINS, Calibration, Segmentation, body_of


def test_calibration_error_agrees_with_torchmetrics():
    reference = pytest.importorskip("torchmetrics.functional.classification", reason="torchmetrics is not installed")
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(4000, generator=generator)
    truth = (torch.rand(4000, generator=generator) < probability**2).float()
    ours = Calibration()
    for part in (slice(0, 1000), slice(1000, 4000)):
        ours.add(probability[part], truth[part])
    expected = reference.binary_calibration_error(probability, truth.long(), n_bins=BINS, norm="l1")
    assert ours.error == pytest.approx(float(expected), abs=1e-5)
    assert sum(count for _, _, count in ours.curve()) == 4000


def test_a_calibrated_network_has_no_error():
    ours = Calibration()
    ours.add(torch.full((1000,), 0.25), (torch.arange(1000) % 4 == 0).float())
    assert ours.error == pytest.approx(0, abs=1e-9)


def test_the_body_of_a_mask_has_no_straps():
    mask = np.zeros((256, 256), np.uint8)
    mask[120:220, 80:180] = 1
    body = mask.copy()
    mask[130:138, 0:80] = mask[200:210, 180:256] = 1
    overlap = (body_of(mask) & body).sum() / (body_of(mask) | body).sum()
    assert overlap > 0.97
    assert body_of(mask)[:, :70].sum() == 0


def test_the_summary_tells_types_and_bare_faces_apart():
    records = [{"type": "cloth", "iou": value, "iou of the body": value} for value in (0.9, 0.8, 1.0)]
    records += [{"type": "n95", "iou": 0.5, "iou of the body": 0.6}]
    records += [{"type": "none", "false area": area} for area in (0.0, 0.02)]
    figures = Segmentation(0.0, records, Calibration(), Calibration()).figures()
    assert figures["iou"] == pytest.approx(0.8)
    assert figures["iou, median"] == pytest.approx(0.85)
    assert figures["iou cloth"] == pytest.approx(0.9)
    assert figures["false area of bare faces"] == pytest.approx(0.01)
    assert figures["bare faces with more than 0.5% segmented"] == pytest.approx(0.5)
