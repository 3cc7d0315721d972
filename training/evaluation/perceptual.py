"""What AlexNet sees: LPIPS, and a Fréchet distance over its features. Weights are read from disk, never downloaded here.

LPIPS: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018, version 0.1 with
AlexNet.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.errors import WeightsError
from vidunmask.training.metrics import mean_over
from vidunmask.types import FloatArray

REMEDY = (
    "python -c \"from torchvision.models import alexnet; alexnet(weights='DEFAULT')\" and pip install lpips, "
    "or --lpips-weights FOLDER with both files"
)
_ENDS = (2, 5, 8, 10, 12)  # layers of torchvision's AlexNet.features after which LPIPS looks: each ReLU
_FIRST = (64, 3, 11, 11)  # shape of AlexNet's first weight
_LINEAR = (64, 192, 384, 256, 256)  # channels of the five layers, as many weights has the linear part
_HASH = "7be5be79"  # torchvision names alexnet-owt-7be5be79.pth after the SHA-256 of its content
_PACKAGED = (("lpips", "weights/v0.1/alex.pth"), ("torchmetrics", "functional/image/lpips_models/alex.pth"))


class Perceptual(nn.Module):
    """AlexNet's convolutions and the linear weights of LPIPS; frozen.

    features: state of torchvision's ``alexnet().features``, keys with or without ``features.``. linear:
    ``linN.model.1.weight``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, features: dict[str, Tensor], linear: dict[str, Tensor]) -> None:
        super().__init__()
        from torchvision.models import alexnet

        with torch.device("meta"):  # else all 61M weights are drawn at random and thrown away
            net = alexnet(weights=None).features
        net.to_empty(device="cpu")
        state = {key.removeprefix("features."): value.float() for key, value in features.items() if "classifier" not in key}
        net.load_state_dict(state)
        layers = [layer for layer in net.children()]
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        self.slices = nn.ModuleList(nn.Sequential(*layers[a:b]) for a, b in zip((0, *_ENDS), _ENDS, strict=False))
        for index, channels in enumerate(_LINEAR):
            self.register_buffer(f"linear{index}", linear[f"lin{index}.model.1.weight"].float().view(1, channels, 1, 1))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Activations of the five layers for images (B, 3, H, W) in 0..1."""
        x = ((2 * image - 1) - self.shift) / self.scale
        outputs = []
        for part in self.slices:
            x = part(x)
            outputs.append(x)
        return outputs

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
        """LPIPS (B,) between the activations of two batches, over the region ``weight`` (B, 1, H, W) where given."""
        total = torch.zeros(len(a[0]), device=a[0].device)
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            difference = (_unit(x) - _unit(y)).square_().mul_(getattr(self, f"linear{index}")).sum(1, keepdim=True)
            here = None if weight is None else F.interpolate(weight, size=difference.shape[2:], mode="area")
            total += mean_over(difference, here)
        return total


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt_() + 1e-10)


def summary(activations: Sequence[Tensor]) -> Tensor:
    """(B, 256) the last layer's activations averaged over the image: what the Fréchet distance compares."""
    return activations[-1].mean((2, 3))


def frechet(a: FloatArray, b: FloatArray) -> float:
    """Fréchet distance between normal distributions fitted to features a (N, D) and b (M, D).

    Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017, eq. 6; it is FID only over the features of their
    Inception network (see `inception`). It falls as N grows, so only figures of the same N compare.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root).clip(0)).sum()
    return float(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross)


def load_perceptual(given: Sequence[Path]) -> tuple[Perceptual, dict[str, str]]:
    """The network, and the SHA-256 of its two files by name.

    ``given`` are files or folders; what they lack is looked for where torchvision downloads to and in the packages lpips and
    torchmetrics. Raises WeightsError where a given path cannot be read or something is missing, with the remedy.
    """
    features: dict[str, Tensor] | None = None
    linear: dict[str, Tensor] | None = None
    digests: dict[str, str] = {}
    for path in _candidates(given):
        state = _read(path)
        if state is None:
            if path in given:
                raise WeightsError(f"--lpips-weights {path}: neither AlexNet nor the linear weights of LPIPS for it")
            continue
        first = state.get("features.0.weight", state.get("0.weight"))
        if features is None and first is not None and tuple(first.shape) == _FIRST:
            features = state
        elif linear is None and _is_linear(state):
            linear = state
        else:
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name.startswith("alexnet-owt-") and not digest.startswith(_HASH):
            raise WeightsError(f"{path}: its SHA-256 starts with {digest[:8]}, not {_HASH}; delete it and fetch it again")
        digests[path.name] = digest
    if features is None or linear is None:
        missing = " and ".join(
            name for name, state in (("AlexNet's weights", features), ("LPIPS's linear weights", linear)) if state is None
        )
        raise WeightsError(f"LPIPS: {missing} not found; {REMEDY}")
    try:
        return Perceptual(features, linear), digests
    except (RuntimeError, KeyError) as error:
        raise WeightsError(f"LPIPS: {' and '.join(digests)} do not fit ({str(error).splitlines()[0]})") from error


def _candidates(given: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise WeightsError(f"--lpips-weights {path}: no such file or folder")
        found += sorted(p for p in path.glob("*.pth") if "alex" in p.name.lower()) if path.is_dir() else [path]
    found += sorted((Path(torch.hub.get_dir()) / "checkpoints").glob("alexnet-*.pth"))
    for package, inside in _PACKAGED:
        spec = importlib.util.find_spec(package)  # found, not imported
        found += [Path(folder) / inside for folder in (spec.submodule_search_locations or ()) if spec] if spec else []
    return [path for path in found if path.is_file()]


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the unpickler
        raise WeightsError(f"{path}: cannot be read as weights ({str(error).splitlines()[0]})") from error
    return state if isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values()) else None


def _is_linear(state: dict[str, Tensor]) -> bool:
    shapes = [tuple(state[key].shape) for key in (f"lin{i}.model.1.weight" for i in range(5)) if key in state]
    return shapes == [(1, channels, 1, 1) for channels in _LINEAR]
