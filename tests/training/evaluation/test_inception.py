"""FID's network is loaded for real, from made-up weights: the real ones are a download of 95 MB."""

import hashlib

import pytest
import torch

from vidunmask.errors import WeightsError
from vidunmask.training.evaluation import inception

CPU = torch.device("cpu")


def test_any_other_file_than_fids_is_refused_with_its_hash(tmp_path):
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    other = tmp_path / "weights.pth"
    other.write_bytes(b"something else")
    digest = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(WeightsError, match=f"starts with {digest[:8]}, not 6726825d.*fetch https://github.com/toshas"):
        inception.Inception(other, device=CPU)


def test_without_torch_fidelity_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(inception.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"vidunmask\[eval\]"):
        inception.Inception(tmp_path / "weights.pth", device=CPU)


def test_features_are_those_of_torch_fidelity(tmp_path, monkeypatch):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is not installed")
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *a, **k: {})
    monkeypatch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    torch.manual_seed(0)
    fresh = module.FeatureExtractorInceptionV3("fid", ["2048"])
    monkeypatch.undo()
    path = tmp_path / "weights.pth"
    torch.save(fresh.state_dict(), path)
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    net = inception.Inception(path, device=CPU)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = fresh((images * 255).round().to(torch.uint8))[0]
    torch.testing.assert_close(net(images), expected.float())


def test_weights_are_found_in_torchs_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert inception.find(None) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / inception.FILE).write_bytes(b"")
    assert inception.find(None) == tmp_path / "checkpoints" / inception.FILE
    assert inception.find(tmp_path / "mine.pth") == tmp_path / "mine.pth"
