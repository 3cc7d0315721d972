"""Weights on disk: safetensors that carry how to rebuild their network, where they come from, and a hash.

The metadata entry ``vidunmask`` is JSON: ``kind`` (segmenter or inpainter), ``network`` (module name), ``arguments``
(constructor), ``provenance`` (how they were trained) and ``sha256`` (of the tensors, in sorted order). Loading is strict and
runs no code from the file.

Large networks are stored in a quarter of the space: where ``dtype`` is int8, tensors of two or more dimensions are kept as
whole numbers -127..127 with one scale for each of the first dimension, which are a convolution's outputs (Krishnamoorthi,
Quantizing deep convolutional networks, 2018, §3.1). That is for the file alone; the network computes with the numbers that
they stand for.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidunmask.errors import WeightsError

STORED = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}  # numbers of a file, by name
SCALE = ":scale"  # behind the name of a tensor that is stored as whole numbers
KINDS = {"segmenter": "vidunmask.networks.segmenters", "inpainter": "vidunmask.networks.inpainters"}


@dataclass(frozen=True, slots=True)
class Card:
    """What a weights file says of itself."""

    path: Path
    kind: str
    network: str
    arguments: dict[str, Any]
    provenance: dict[str, Any]
    sha256: str


def names(kind: str) -> tuple[str, ...]:
    """The networks of a kind, by module name; a new file in the kind's folder shows up here."""
    package = importlib.import_module(KINDS[kind])
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__)))


def presets(kind: str, network: str) -> dict[str, dict[str, Any]]:
    """Constructor arguments of a network's presets, by preset name."""
    return importlib.import_module(f"{KINDS[kind]}.{network}").PRESETS


def build(kind: str, network: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network with fresh weights. Raises WeightsError where there is no such network or it does not take the arguments."""
    if kind not in KINDS or network not in names(kind):
        known = ", ".join(f"{k} {n}" for k in KINDS for n in names(k))
        raise WeightsError(f"no {kind} network named {network!r}; there are: {known}")
    try:
        return importlib.import_module(f"{KINDS[kind]}.{network}").NETWORK(**arguments)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{kind} {network} cannot be built from {dict(arguments)}: {error}") from error


def save(
    path: Path | str,
    state: Mapping[str, Tensor],
    *,
    kind: str,
    network: str,
    arguments: Mapping[str, Any],
    provenance: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> str:
    """Writes weights; floating tensors are stored as ``dtype``, one of STORED. Returns the SHA-256 of the tensors."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        if value.is_floating_point() and dtype == torch.int8:
            if value.dim() > 1:
                value, tensors[key + SCALE] = _to_whole(value.float())
            else:
                value = value.float()
        elif value.is_floating_point():
            value = value.to(dtype)
        tensors[key] = value
    digest = _digest(tensors)
    card = {
        "kind": kind,
        "network": network,
        "arguments": dict(arguments),
        "provenance": dict(provenance),
        "sha256": digest,
    }
    # Not save_file, whose files nobody else may read: these have the permissions of any new file.
    Path(path).write_bytes(save(tensors, metadata={"vidunmask": json.dumps(card)}))
    return digest


def available() -> dict[str, Path]:
    """The weights that ship with the package, by name without ending, such as ``compact-segmenter``."""
    folder = Path(str(resources.files("vidunmask") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find(name_or_path: Path | str) -> Path:
    """The file of shipped weights by name, or the path itself. Raises WeightsError where neither exists."""
    shipped = available()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    try:
        there = path.is_file()
    except OSError as error:  # a closed folder, or a name that no file system takes
        raise WeightsError(f"{path}: cannot be reached ({error.strerror}); give a file that can be read") from error
    if not there:
        raise WeightsError(
            f"{path}: no such weights; give a .safetensors file or one of: {', '.join(shipped) or 'none shipped'}"
        )
    return path


def read_card(name_or_path: Path | str) -> Card:
    """What the file says of itself, without loading the tensors."""
    from safetensors import SafetensorError, safe_open

    path = find(name_or_path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        fields = json.loads(metadata["vidunmask"])
        return Card(path=path, **{k: fields[k] for k in ("kind", "network", "arguments", "provenance", "sha256")})
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a weights file of vidunmask ({error}); it may be cut short or of another program"
        ) from error


def load(name_or_path: Path | str, *, kind: str, device: torch.device | str = "cpu") -> nn.Module:
    """The network of a weights file, in float32 evaluation mode on ``device``.

    Raises WeightsError where the file is missing, of the wrong kind, damaged (hash) or does not fit its network exactly.
    """
    card, tensors = read(name_or_path)
    if card.kind != kind:
        raise WeightsError(f"{card.path}: is a network of kind {card.kind}; give one of kind {kind}")
    return fill(build(card.kind, card.network, card.arguments), card, tensors, device=device)


def read(name_or_path: Path | str) -> tuple[Card, dict[str, Tensor]]:
    """What a file says of itself, and its tensors. Raises WeightsError where it is missing or damaged (hash)."""
    from safetensors.torch import load_file

    card = read_card(name_or_path)
    tensors = load_file(card.path)
    if _digest(tensors) != card.sha256:
        raise WeightsError(f"{card.path}: the tensors do not match their SHA-256; the file is damaged, fetch it again")
    scales = {key: tensors.pop(key) for key in list(tensors) if key.endswith(SCALE)}
    for key, scale in scales.items():
        name = key.removesuffix(SCALE)
        tensors[name] = tensors[name].float() * _along_first(scale, tensors[name])
    return card, tensors


def fill(network: nn.Module, card: Card, tensors: Mapping[str, Tensor], *, device: torch.device | str) -> nn.Module:
    """The network with the tensors of its file, in float32 evaluation mode on ``device``. Raises WeightsError where they do
    not fit exactly."""
    try:
        network.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in tensors.items()})
    except RuntimeError as error:
        raise WeightsError(f"{card.path}: does not fit {card.network}: {str(error).splitlines()[-1].strip()}") from error
    return channels_last(network.eval().requires_grad_(False).to(device))


def channels_last(network: nn.Module) -> nn.Module:
    """Lays the 2-D convolutions' weights out channels-last, in place (``.to(memory_format=...)`` refuses networks with 3-D
    ones)."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _to_whole(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor (N, ...) as whole numbers in int8 and what they are to be multiplied by, (N,)."""
    scale = tensor.flatten(1).abs().amax(dim=1) / 127
    divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (tensor / _along_first(divisor, tensor)).round().to(torch.int8), scale


def _along_first(vector: Tensor, like: Tensor) -> Tensor:
    return vector.reshape(-1, *[1] * (like.dim() - 1))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
