"""The Inception network of FID, through torch-fidelity; its weights are read from disk, never downloaded here."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from vidunmask.errors import WeightsError

FILE = "weights-inception-2015-12-05-6726825d.pth"  # the end of the name is the start of its SHA-256
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
SHA256 = "6726825d"


class Inception:
    """Features of images for FID: the pool3 layer of the Inception network of 2015, 2048 numbers an image."""

    def __init__(self, weights: Path, *, device: torch.device) -> None:
        """Raises WeightsError where the file is missing, is not the one that FID is defined by, or torch-fidelity is not
        installed."""
        if importlib.util.find_spec("torch_fidelity") is None:
            raise WeightsError(f"--fid-weights {weights}: FID needs torch-fidelity; pip install 'vidunmask[eval]'")
        if not weights.is_file():
            raise WeightsError(f"--fid-weights {weights}: no such file; fetch {URL}")
        self.sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        if not self.sha256.startswith(SHA256):
            raise WeightsError(
                f"--fid-weights {weights}: its SHA-256 starts with {self.sha256[:8]}, not {SHA256}: another file or a damaged "
                f"one, and its figures would not be FID; fetch {URL}"
            )
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        try:
            torch.load(weights, map_location="cpu", weights_only=True)  # nothing but tensors: torch-fidelity would run code
            network = FeatureExtractorInceptionV3("fid", ["2048"], feature_extractor_weights_path=str(weights))
        except Exception as error:  # torch-fidelity lets through whatever torch.load and load_state_dict raise
            raise WeightsError(f"--fid-weights {weights}: cannot be loaded ({str(error).splitlines()[0]})") from error
        self._network = network.to(device).eval()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, 2048) of images (B, 3, H, W) in 0..1, rounded to bytes as FID wants them."""
        return self._network((images * 255).round().clamp(0, 255).to(torch.uint8))[0].float()


def find(given: Path | None) -> Path | None:
    """The weights' file: the given one, else the one in torch's cache, else None."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    return given if given is not None else cached if cached.is_file() else None
