"""What both training programs share: averaging of weights, exact checkpoints, the clock, the command-line options of a run."""

from __future__ import annotations

import argparse
import copy
import json
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from vidunmask.errors import UsageError, WeightsError
from vidunmask.networks import weights
from vidunmask.training.pack import Order, Pack


class Average:
    """Exponential moving average of a network's weights (and of its buffers, as they are)."""

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the average a step; early steps count more, or the first thousand would only show the initial weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, current in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(current, 1 - decay)
        for kept, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(buffer)


class Checkpoint:
    """Everything a run needs to go on exactly where it stopped, in one file that is replaced atomically.

    ``parts`` are objects with state_dict and load_state_dict; ``values`` are plain numbers and tensors.
    """

    def __init__(self, path: Path, parts: dict[str, Any]) -> None:
        self.path, self.parts = path, parts

    def save(self, **values: Any) -> None:
        """Writes the state of all parts and the values beside them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self.parts.items()}
        partial = self.path.with_suffix(".partial")
        torch.save({"parts": state, "values": values}, partial)
        partial.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """Restores the parts and returns the values, or None where no checkpoint was written yet."""
        if not self.path.exists():
            return None
        try:
            stored = torch.load(self.path, map_location="cpu", weights_only=True)
            for name, part in self.parts.items():
                if name in stored["parts"]:
                    part.load_state_dict(stored["parts"][name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise WeightsError(
                f"{self.path}: does not fit this run ({str(error).splitlines()[0]}); "
                "use the options it was started with, or another --run"
            ) from error
        return stored["values"]


class Clock:
    """Counts images against the budgets, keeps running means of the losses, and says when to log, look and stop."""

    def __init__(self, *, images: int, total_images: int, minutes: float) -> None:
        self.images, self.total_images, self.minutes = images, total_images, minutes
        self.start, self.start_images = time.monotonic(), images
        self.sums: dict[str, float] = defaultdict(float)
        self.counted = 0
        self.interrupted = False

    def listen(self) -> None:
        """Lets Ctrl-C and SIGTERM end the run after the step in hand, with a checkpoint."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.interrupted = True

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)

    def __iter__(self) -> Iterator[int]:
        while self.images < self.total_images and not self.interrupted and self.elapsed < 60 * self.minutes:
            yield self.images

    @property
    def elapsed(self) -> float:
        """Seconds since the program started."""
        return time.monotonic() - self.start

    def step(self, batch: int, losses: dict[str, Tensor]) -> None:
        """Counts a batch and its losses. Raises FloatingPointError where one is not finite."""
        self.images += batch
        self.counted += 1
        for name, value in losses.items():
            number = float(value.detach())
            if number != number or abs(number) == float("inf"):
                raise FloatingPointError(
                    f"the loss {name!r} became {number} after {self.images} images; the last checkpoint is intact, "
                    "go on from it with a lower --lr or --precision float32"
                )
            self.sums[name] += number

    def due(self, every: int, batch: int) -> bool:
        """Whether the batch just counted crossed a multiple of ``every`` images."""
        return self.images // every != (self.images - batch) // every

    def line(self) -> str:
        """One line of progress with mean losses since the last one, rate and time left."""
        rate = (self.images - self.start_images) / max(self.elapsed, 1e-6)
        left = min((self.total_images - self.images) / max(rate, 1e-6), 60 * self.minutes - self.elapsed)
        means = "  ".join(f"{name} {value / max(self.counted, 1):.4f}" for name, value in self.sums.items())
        self.sums.clear()
        self.counted = 0
        return f"{self.images:>8d} images  {rate * 3600:6.0f}/h  left {left / 60:5.1f} min  {means}"


class Run:
    """Where a run stands: the clock, the order of the photos, the randomness and the averages, stored and resumed together."""

    SAVE_SECONDS = 180

    def __init__(
        self,
        options: argparse.Namespace,
        parts: dict[str, Any],
        *,
        average: Average,
        order: Order,
        generator: torch.Generator,
    ) -> None:
        self.average, self.order, self.generator = average, order, generator
        self.checkpoint = Checkpoint(options.run / "checkpoint.pt", {**parts, "average": average.network})
        self.clock = Clock(images=0, total_images=options.images, minutes=options.minutes)
        self.spent = 0.0  # seconds of training before this start of the program
        self._saved = time.monotonic()
        stored = self.checkpoint.load()
        if stored is not None:
            self.clock.images = self.clock.start_images = order.position = stored["images"]
            average.updates, self.spent = stored["updates"], stored["spent"]
            generator.set_state(stored["generator"])

    def save(self) -> None:
        """Writes the checkpoint."""
        self.checkpoint.save(
            images=self.clock.images,
            updates=self.average.updates,
            spent=self.spent + self.clock.elapsed,
            generator=self.generator.get_state(),
        )
        self._saved = time.monotonic()

    def save_when_due(self) -> None:
        """Writes the checkpoint where the last one is `SAVE_SECONDS` old."""
        if time.monotonic() - self._saved > self.SAVE_SECONDS:
            self.save()

    def provenance(self, options: argparse.Namespace, pack: Pack, figures: dict[str, float]) -> dict[str, Any]:
        """What the weights' file will say of how they were made."""
        return {
            "images": self.clock.images,
            "hours": round((self.spent + self.clock.elapsed) / 3600, 2),
            "preset": options.preset,
            "val": {name: round(value, 5) for name, value in figures.items()},
            "sources": pack.sources,
            "tiers": pack.tiers,
            "templates": options.templates.name if options.templates else None,
            "started_from": Path(options.start_from).name if options.start_from else None,
        }


def start_from(network: nn.Module, source: str | None, *, kind: str, log: Callable[[str], None]) -> None:
    """Gives a new network the weights of a file, or nothing where ``source`` is None.

    The network may have layers that the file has not, such as a refinement added since: they keep their fresh weights and are
    named in the log. Raises WeightsError where the file has tensors that the network has not, or of other shapes.
    """
    if source is None:
        return
    card, state = weights.read(source)
    if card.kind != kind:
        raise WeightsError(f"--start-from {source}: holds a {card.kind}, a {kind} is needed")
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


def learning_rate(images: int, *, base: float, epoch: int, total: int, cooldown: int, warmup: int = 0) -> float:
    """The rate after ``images`` images.

    Without a cooldown the paper's schedule (§4.2): ``base``, and from epoch 20 on 2e-6 less an epoch (``epoch`` images each).
    With one, ``base`` until the last ``cooldown`` images of ``total``, then linearly to zero, for runs shorter than 20 epochs.
    """
    if images < warmup:
        return base * (images + 1) / warmup
    if cooldown:
        return base * min(1.0, max(0.0, (total - images) / cooldown))
    return max(0.0, base - 2e-6 * max(0, images // epoch - 20))


def add_options(parser: argparse.ArgumentParser, *, preset: str, batch: int, images: int) -> None:
    """The options that both programs have."""
    add = parser.add_argument
    add("--pack", type=Path, required=True, help="folder made by vidunmask.training.pack")
    add("--run", type=Path, required=True, help="folder of checkpoints, sheets and the log; a run in it is resumed")
    add("--preset", default=preset, help="size of the network (default: %(default)s)")
    add("--templates", type=Path, help="folder of mask pictures with alpha, beside the drawn masks")
    add("--tiers", default="ABC", help="rights tiers of the photos to train on (default: %(default)s)")
    add("--turn", type=float, default=0.0, help="share of the faces that are turned aside, see turn.py (default: %(default)s)")
    add("--batch", type=int, default=batch, help="images a step (default: %(default)s)")
    add("--images", type=int, default=images, help="stop after so many images (default: %(default)s)")
    add("--minutes", type=float, default=1e9, help="stop after so much time, with a checkpoint")
    add("--lr", type=float, default=2e-4, help="base learning rate (default: %(default)s, the paper's)")
    add(
        "--cooldown",
        type=int,
        default=0,
        help="fall linearly to zero over the last so many images instead of the paper's schedule",
    )
    add("--ema", type=float, default=0.999, help="decay of the averaged weights (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--device", default="cpu", help="cpu, cuda or mps")
    add("--precision", choices=("float32", "bfloat16"), default="bfloat16", help="of autocast (default: %(default)s)")
    add("--compile", action="store_true", help="torch.compile the network")
    add("--start-from", help="weights to start a new run from")
    add("--evaluate-every", type=int, default=8000, help="images between evaluations on val (default: %(default)s)")
    add("--export", type=Path, help="write the averaged weights here at the end")


def check_options(options: argparse.Namespace) -> torch.device:
    """Rejects options that cannot work, and returns the device."""
    for name in ("batch", "images"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} {getattr(options, name)}: must be 1 or more")
    if not 0 <= options.turn <= 1:
        raise UsageError(f"--turn {options.turn}: must lie from 0 to 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no CUDA device is available to torch; use --device cpu")
    torch.manual_seed(options.seed)
    return torch.device(options.device)


def log_to(folder: Path) -> Callable[[str], None]:
    """A function that prints a line and appends it to ``log.txt`` of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "log.txt"

    def log(line: str) -> None:
        print(line, flush=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    return log


def export(
    path: Path, average: Average, *, kind: str, network: str, arguments: dict[str, Any], provenance: dict[str, Any]
) -> str:
    """Writes the averaged weights in half precision with their provenance; returns a line that says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = weights.save(
        path,
        average.network.state_dict(),
        kind=kind,
        network=network,
        arguments=arguments,
        provenance=json.loads(json.dumps(provenance, default=str)),
        dtype=torch.float16,
    )
    return f"exported {path} ({path.stat().st_size / 1e6:.1f} MB, sha256 {digest[:12]})"
