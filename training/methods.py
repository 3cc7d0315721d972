"""Every inpainting method by name: the networks of the library, and the baselines of ``training/baselines``.

The library neither knows nor ships the baselines, so their weights' files have a kind of their own.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from vidunmask import geometry
from vidunmask.errors import UsageError, WeightsError
from vidunmask.networks import weights
from vidunmask.training import baselines
from vidunmask.training.objectives import Objective
from vidunmask.training.region_attentive import RegionAttentive

BASELINE = "baseline"  # kind in a weights' file


@dataclass(frozen=True)
class Method:
    """A network and what it is trained for."""

    name: str
    kind: str  # inpainter or baseline
    presets: dict[str, dict[str, Any]]
    objective: type[Objective]

    def arguments(self, preset: str, *, attention: bool = True, size: int = geometry.CROP_SIZE) -> dict[str, Any]:
        """Constructor arguments of a preset for pictures of ``size`` pixels, with a plain convolution for its attention if so
        asked.

        Raises UsageError for an unknown preset, or where there is no attention to leave out.
        """
        if preset not in self.presets:
            raise UsageError(f"--preset {preset}: {self.name} has {', '.join(self.presets)}")
        if not attention and self.kind == BASELINE and not _module(self.name).ATTENTION:
            raise UsageError(f"--without-csam: {self.name} has no attention to leave out")
        arguments = self.presets[preset]
        if self.kind != BASELINE:
            return {**arguments, "attention": attention}
        fit = getattr(_module(self.name), "fit", None)
        arguments = fit(arguments, size) if fit is not None else dict(arguments)
        return arguments if attention else {**arguments, "attention": False}

    def build(self, arguments: Mapping[str, Any]) -> nn.Module:
        """A network with fresh weights. Raises WeightsError where it does not take the arguments."""
        if self.kind != BASELINE:
            return weights.build(self.kind, self.name, arguments)
        try:
            network: nn.Module = _module(self.name).NETWORK(**arguments)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{self.name} cannot be built from {dict(arguments)}: {error}") from error
        return network


def names() -> tuple[str, ...]:
    """The methods there are: our own first."""
    return (*weights.names("inpainter"), *sorted(module.name for module in pkgutil.iter_modules(baselines.__path__)))


def method(name: str) -> Method:
    """A method by name. Raises UsageError where there is none of that name."""
    if name not in names():
        raise UsageError(f"--network {name}: there are {', '.join(names())}")
    if name in weights.names("inpainter"):
        return Method(name, "inpainter", weights.presets("inpainter", name), RegionAttentive)
    module = _module(name)
    return Method(name, BASELINE, module.PRESETS, module.OBJECTIVE)


def load(path: Path | str, *, device: torch.device | str = "cpu") -> nn.Module:
    """The inpainting network of a weights' file, ours or a baseline, in evaluation mode.

    Raises WeightsError as `weights.load` does.
    """
    card, tensors = weights.read(path)
    if card.kind != BASELINE:
        return weights.load(path, kind="inpainter", device=device)
    if card.network not in names():
        raise WeightsError(f"{card.path}: made for the baseline {card.network!r}; there are: {', '.join(names())}")
    return weights.fill(method(card.network).build(card.arguments), card, tensors, device=device)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{baselines.__name__}.{name}")
