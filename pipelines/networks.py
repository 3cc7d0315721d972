"""Every network and preset with what it costs: parameters, arithmetic for a face, receptive field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vidunmask.geometry import CROP_SIZE
from vidunmask.networks import weights
from vidunmask.training import methods
from vidunmask.training.completion import Trainable

CANVAS = 1024  # px: side of the picture on which receptive fields are measured
CANVAS_GLOBAL = 256  # the same for the baselines, whose attention and statistics run over the whole picture anyway

HOW = f"""\
Parameters: all that are stored. GFLOP: one face of {CROP_SIZE} x {CROP_SIZE}, forward, a multiplication and an addition counted
as two operations, convolutions and matrix products only (torch.utils.flop_counter). Receptive field: side of the
square of input that one pixel in the middle of the output depends on, measured by gradient; "N+": all of a picture
of N x N."""


@dataclass(frozen=True)
class Entry:
    """What one preset of one network costs."""

    kind: str  # segmenter, inpainter or baseline
    network: str
    preset: str
    parameters: int
    gflop: float
    receptive_field: int | None  # px; None where it was not measured
    receptive_field_is_whole_picture: bool | None


def survey(*, presets: set[str] | None = None, receptive_field: bool = True) -> Iterator[Entry]:
    """All networks, one entry a preset, of the named presets only where given."""
    for kind, network, preset, arguments in _all():
        if presets is not None and preset not in presets:
            continue
        field = _receptive_field(kind, network, arguments) if receptive_field else None
        canvas = CANVAS_GLOBAL if kind == methods.BASELINE else CANVAS
        parameters, gflop = _cost(kind, network, arguments)
        whole = None if field is None else field >= canvas
        yield Entry(kind, network, preset, parameters, round(gflop, 3), field, whole)


def table(entries: list[Entry]) -> str:
    """The entries as aligned text, with a legend."""
    head = ("kind", "network", "preset", "parameters", "GFLOP", "receptive field")
    rows = [head]
    for entry in entries:
        field = "" if entry.receptive_field is None else f"{entry.receptive_field}"
        if entry.receptive_field_is_whole_picture:
            field += "+"
        millions = f"{entry.parameters / 1e6:.2f}M"
        rows.append((entry.kind, entry.network, entry.preset, millions, f"{entry.gflop:.2f}", field))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, "", HOW])


def as_json(entries: list[Entry]) -> str:
    """The entries as a JSON list."""
    return json.dumps([asdict(entry) for entry in entries], indent=1)


def _all() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for network in weights.names("segmenter"):
        for preset, arguments in weights.presets("segmenter", network).items():
            yield "segmenter", network, preset, arguments
    for name in methods.names():
        method = methods.method(name)
        for preset in method.presets:
            yield method.kind, name, preset, method.arguments(preset)


def _build(kind: str, network: str, arguments: dict[str, Any]) -> nn.Module:
    made = weights.build(kind, network, arguments) if kind == "segmenter" else methods.method(network).build(arguments)
    return made.eval().requires_grad_(False)


@torch.no_grad()
def _cost(kind: str, network: str, arguments: dict[str, Any]) -> tuple[int, float]:
    """Parameters, and 10^9 operations for a face; on the meta device, where nothing is computed."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        made = _build(kind, network, arguments)
        made(*(torch.zeros(1, channels, CROP_SIZE, CROP_SIZE) for channels in _inputs(kind)))
    return sum(p.numel() for p in made.parameters()), counter.get_total_flops() / 1e9


def _inputs(kind: str) -> tuple[int, ...]:
    return (3,) if kind == "segmenter" else (3, 1)


def _receptive_field(kind: str, network: str, arguments: dict[str, Any]) -> int:
    """Side of the box of input pixels with a gradient of the middle of the output.

    Channels do not change it, so a copy of the network with few of them is measured. Twice: with weights above zero, where no
    path is cancelled or switched off, and with weights of both signs, since a normalised layer whose input is all alike may
    be switched off as a whole. In double precision, because the far ends of a deep network weigh very little.
    """
    thin = {key: _thin(key, value) for key, value in arguments.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return max(_extent(kind, _weighted(_build(kind, network, thin).double(), signs=signs)) for signs in (False, True))


def _weighted(made: nn.Module, *, signs: bool) -> nn.Module:
    """The network with random weights of one size, above zero or of both ``signs``."""
    for module in made.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d):
            count = module.weight[0].numel()
            if signs:
                nn.init.normal_(module.weight, std=(2 / count) ** 0.5)
            else:
                nn.init.uniform_(module.weight, 0.5, 1.0).div_(count)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, parameter in made.named_parameters():
        if name.endswith("attention.beta"):
            nn.init.constant_(parameter, 0.1)  # starts at 0, where the attention sees nothing
    return made


def _extent(kind: str, made: nn.Module) -> int:
    side = CANVAS_GLOBAL if kind == methods.BASELINE else CANVAS
    image = (0.5 + 0.5 * torch.rand(1, 3, side, side, dtype=torch.float64)).requires_grad_()
    hole = torch.zeros(1, 1, side, side, dtype=torch.float64)
    hole[..., side // 4 : side // 4 + 16, side // 4 : side // 4 + 16] = 1
    # a fill before it is cut to 0..1, where nothing has a gradient beyond the range
    output = made(image) if kind == "segmenter" else Trainable(made)(image, hole).fill
    output[..., side // 2, side // 2].sum().backward()
    assert image.grad is not None
    seen = image.grad.abs().sum(dim=(0, 1)) > 0
    sides = [torch.nonzero(seen.any(dim=axis)).flatten() for axis in (0, 1)]
    return max(int(places[-1] - places[0]) + 1 if len(places) else 0 for places in sides)


def _thin(key: str, value: Any) -> Any:
    """A constructor argument with few channels in the place of many; 4, since M-CSAM shares them among four dilations."""
    if key == "widths":
        return (4,) * len(value)
    return 4 if key in ("width", "deep", "refine") and value else value
