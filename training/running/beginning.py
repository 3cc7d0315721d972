"""What a new run begins with: the weights of a network that was trained before, the critics of another run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from vidunmask.errors import UsageError, WeightsError
from vidunmask.networks import weights
from vidunmask.training.pack import Pack
from vidunmask.training.running.loop import CHECKPOINT


def start_from(network: nn.Module, options: argparse.Namespace, *, kind: str, log: Callable[[str], None]) -> None:
    """Gives the network of a new run the weights of ``--start-from``; one that goes on has its own, and that file may be gone.

    The network may have layers that the file has not, such as a refinement added since: they keep their fresh weights and are
    named in the log. Raises WeightsError where the file has tensors that the network has not, or of other shapes.
    """
    source = options.start_from
    if source is None or (options.run / CHECKPOINT).exists():
        return
    card, state = weights.read(source)
    if card.kind != kind:
        raise WeightsError(f"--start-from {source}: is a network of kind {card.kind}; give one of kind {kind}")
    try:
        fresh, foreign = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(
            f"--start-from {source}: other shapes than this --preset ({str(error).splitlines()[-1].strip()})"
        ) from error
    if foreign:
        raise WeightsError(f"--start-from {source}: has {', '.join(foreign[:3])}, which this --preset has not")
    layers = sorted({name.split(".")[0] for name in fresh})
    log(f"started from {source}" + (f", fresh: {', '.join(layers)}" if layers else ""))


def critics_from(critics: nn.Module, options: argparse.Namespace, *, log: Callable[[str], None]) -> None:
    """Gives the critics of a new run those of the run in ``--critics-from``; one that goes on has its own.

    Critics that begin anew take thousands of images to see what is wrong with a network that was trained for long. Raises
    WeightsError where that folder has no checkpoint with critics, or others than this run's.
    """
    source: Path | None = options.critics_from
    if source is None or (options.run / CHECKPOINT).exists():
        return
    path = source / CHECKPOINT if source.is_dir() else source
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["parts"]["critics"]
    except OSError as error:
        raise WeightsError(f"--critics-from {source}: cannot be read ({error}); name the folder of a run") from error
    except (RuntimeError, EOFError, UnpicklingError, KeyError, TypeError) as error:
        raise WeightsError(f"--critics-from {source}: holds no critics; name the folder of a run of this program") from error
    if not state:
        raise WeightsError(f"--critics-from {source}: that run has no critics; name one of a network that has")
    try:
        critics.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"--critics-from {source}: other critics than this run's ({str(error).splitlines()[-1].strip()}); "
            "give the --network and the --critic-width of that run"
        ) from error
    log(f"critics of {source}")


def check_dark(options: argparse.Namespace, pack: Pack) -> None:
    """Raises UsageError where skin is to be darkened in pictures whose masks are drawn already, which would hide it."""
    if options.dark and "mask" in pack.layers:
        raise UsageError(
            f"--dark {options.dark:g}: {options.pack} has its masks drawn already; leave it out, or train on a pack of photos"
        )
