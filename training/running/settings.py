"""What a run was started with, kept in its checkpoint, and what is different when it goes on."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from vidunmask.training.running.distributed import Team

# Options that may change from one start of a run to the next without changing what it learns.
FREE = (
    *(
        "run",
        "images",
        "minutes",
        "device",
        "compile",
        "evaluate_every",
        "val_faces",
        "export",
        "store",
        "tensorboard",
        "log_every",
    ),
    *("data", "ahead", "pack", "vgg"),  # places may change, contents should not
)


def settings_of(options: argparse.Namespace, team: Team) -> dict[str, Any]:
    """The options that decide what a run learns, as plain values, and into how many batches a step is divided."""
    plain = {
        name: value if isinstance(value, bool | int | float | str | None) else str(value)
        for name, value in vars(options).items()
        if name not in FREE or (name == "images" and options.cooldown) or (name == "minutes" and options.pace)
    }
    return plain | {"batches a step": options.accumulate * team.size, "torch": str(torch.__version__)}


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Which options are not what they were, in words; one that was not known before does not count."""
    return [
        f"{name} {now[name]} (was {before[name]})"
        for name in now
        # what counts is into how many batches a step is divided, not whether by processes or in time
        if name in before and name != "accumulate" and before[name] != now[name]
    ]
