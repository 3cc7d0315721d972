"""What both training programs share: averaging of weights, exact checkpoints, the clock, the command-line options of a run."""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.utils import save_image

from vidunmask.errors import OutputError, UsageError, WeightsError
from vidunmask.networks import precision, weights
from vidunmask.training.pack import Order, Pack
from vidunmask.training.running.board import Board
from vidunmask.training.running.clock import Clock
from vidunmask.training.running.distributed import Team
from vidunmask.training.running.feed import WHERE, Batch, Prepare, draw_batches
from vidunmask.training.running.health import Watch
from vidunmask.training.running.schedule import end_of_schedule, learning_rate
from vidunmask.training.running.settings import changes, settings_of

CHECKPOINT = "checkpoint.pt"  # in the folder of a run


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
        try:
            torch.save({"parts": state, "values": values}, partial)
            partial.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch calls a full disk an "unexpected pos"
            partial.unlink(missing_ok=True)
            raise OutputError(
                f"{self.path}: cannot be written, perhaps for want of space ({str(error).splitlines()[0]}); "
                "make room and run the same command again, the last checkpoint is as it was"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """Restores the parts and returns the values, or None where no checkpoint was written yet."""
        if not self.path.exists():
            return None
        try:
            stored = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise WeightsError(f"{self.path}: is damaged; delete it to begin anew, or name another --run") from error
        try:
            for name, part in self.parts.items():
                if name in stored["parts"]:
                    part.load_state_dict(stored["parts"][name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise WeightsError(
                f"{self.path}: does not fit this run ({str(error).splitlines()[0]}); "
                "use the options it was started with, or another --run"
            ) from error
        return stored["values"]


class Run:
    """Where a run stands and what goes on around its steps: batches, checkpoints, the log, health, evaluation, the board."""

    SAVE_SECONDS = 180

    def __init__(
        self,
        options: argparse.Namespace,
        parts: dict[str, Any],
        *,
        average: Average,
        order: Order,
        team: Team,
        log: Callable[[str], None],
    ) -> None:
        """Resumes the run in ``options.run`` where there is one, whichever version of this program wrote its checkpoint."""
        self.options, self.average, self.order, self.team, self.log = options, average, order, team, log
        self.checkpoint = Checkpoint(options.run / CHECKPOINT, {**parts, "average": average.network})
        self.clock = Clock(images=0, total_images=options.images, minutes=options.minutes, paced=options.pace)
        self.watch = Watch(team)
        self.spent = 0.0  # seconds of training before this start of the program
        self.rates: list[tuple[float, float]] = []  # of every line: images/s, share of the time that the data took
        self._saved = time.monotonic()
        self._rated = False  # whether a learning rate was asked for
        self._norms: dict[str, Tensor] = {}
        stored = self.checkpoint.load()
        if all(team.any(stored is None, stored is not None)):
            raise UsageError(f"--run {options.run}: not all processes see the same folder; name one that all machines share")
        if stored is not None:
            self.clock.images = self.clock.start_images = stored["images"]
            average.updates, self.spent = stored["updates"], stored["spent"]
            self.clock.before = self.spent
            if "watch" in stored:
                self.watch.load_state_dict(stored["watch"])
            log(f"resumed at {stored['images']} images")
            changed = changes(stored.get("options", {}), settings_of(options, team))
            if changed:
                log(f"resumed with other options than before: {', '.join(changed)}")
        self.board = (
            Board(options.run / "tensorboard", images=self.clock.images) if options.tensorboard and team.first else None
        )

    def __enter__(self) -> Run:
        """From here on Ctrl-C, SIGTERM and SIGHUP end the run after the step in hand."""
        self.clock.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends what the run opened and leaves the other processes, who do not wait for one that failed."""
        self.clock.close()
        if self.board:
            self.board.close()
        if kind is None:
            self.team.close()

    def batches(self, prepare: Prepare) -> Iterator[Batch]:
        """The batches to learn from until the budget is spent: ``--accumulate`` of them make a step.

        All processes stop after the same step.
        """
        options, clock = self.options, self.clock
        ahead = options.ahead if options.ahead is not None else 2 if self.team.device.type == "cuda" else 0
        source = draw_batches(
            prepare,
            self.order,
            team=self.team,
            batch=options.batch,
            accumulate=options.accumulate,
            seed=options.seed,
            start=clock.images,
            ahead=ahead,
            together=options.together,
        )
        clock.skip()
        with contextlib.closing(source):  # type: ignore[type-var]
            same: list[Batch] = []
            while not self.team.any(clock.over)[0]:
                for index in range(options.accumulate):
                    began = time.monotonic()
                    if not options.same_batch or len(same) < options.accumulate:
                        batch = next(source)
                        same.append(batch)
                    if not options.same_batch:
                        same.clear()
                    else:
                        batch = dataclasses.replace(same[index], images=clock.images)
                    clock.waited += time.monotonic() - began
                    self.team.synchronise = batch.last
                    yield batch

    def position(self, batch: Batch) -> float:
        """Where a batch stands in the run's schedule of ``--images``: at its images, or with ``--pace`` at the time's share."""
        return self.clock.progress * self.options.images if self.options.pace else batch.images

    def learning_rate(self, batch: Batch, *, epoch: int) -> float:
        """The rate of the step that a batch belongs to; an epoch has ``epoch`` images."""
        options = self.options
        warmup = max(1000, 60 * options.batch)
        if not self._rated:
            self._rated = True
            end = end_of_schedule(base=options.lr, epoch=epoch)
            if not options.cooldown and end < 0.9 * options.images:
                self.log(
                    f"the learning rate is zero from image {end} on, {options.images} are to come: the paper's schedule counts "
                    f"epochs, here of {epoch} images; give --images {end} or less, or --cooldown"
                )
        return learning_rate(
            self.position(batch), base=options.lr, epoch=epoch, total=options.images, cooldown=options.cooldown, warmup=warmup
        )

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a batch's loss to those of its step."""
        (loss / self.options.accumulate if self.options.accumulate > 1 else loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, module: nn.Module, *, wrapped: bool, clip: float | None = None) -> None:
        """Moves the weights of a module along the gradients of a whole step, of all processes, and clears them.

        wrapped: its gradients are averaged already, by what `Team.wrap` made of it, and their norm is logged. clip: the
        largest norm that those may have.
        """
        if wrapped:
            largest = float("inf") if clip is None else clip
            self._norms = {"gradient": nn.utils.clip_grad_norm_(module.parameters(), largest)}
        else:
            self.team.average_gradients(module)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def after(self, batch: Batch, terms: dict[str, Tensor], report: Callable[[], object]) -> None:
        """Counts a batch and its losses; after the last of a step logs, evaluates and saves what is due.

        The first of the ``terms`` is the loss that must fall. Raises FloatingPointError where the run has failed; the last
        checkpoint is from before that.
        """
        options, clock = self.options, self.clock
        clock.images += options.batch if batch.last else 0
        self.watch.add({**terms, **self._norms}, step=batch.last, images=clock.images)
        self._norms = {}
        if not batch.last:
            return
        if clock.due(options.log_every, options.batch):
            means = self.watch.means(clock.images)
            rate, waiting = clock.rate()
            self.rates.append((rate, waiting))
            self.log(clock.line(means, rate, waiting))
            if self.board:
                group = {"images per second": rate, "waiting for data": waiting}
                self.board.scalars(means, clock.images, group="train")
                self.board.scalars(group, clock.images, group="speed")
        if clock.due(options.evaluate_every, options.batch) and not clock.over:  # at its end a run is measured anyway
            if self.team.first:
                report()
            clock.skip()
        if self.team.any(self.team.first and time.monotonic() - self._saved > self.SAVE_SECONDS)[0]:
            self.save()

    def show(self, figures: dict[str, float], sheet: Tensor, *, columns: int) -> None:
        """Logs the figures of an evaluation and keeps its sheet of pictures (N, 3, H, W)."""
        images = self.clock.images
        save_image(sheet, self.options.run / f"val_{images:08d}.png", nrow=columns)
        self.log(f"{images:>8d} val  " + "  ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        if self.board:
            self.board.scalars(figures, images, group="val")
            self.board.sheet(sheet, images, columns=columns)

    def save(self) -> None:
        """Writes the checkpoint, unless the run is not well: then the last good one stays."""
        self._saved = time.monotonic()
        self.watch.check(self.clock.images)
        if not self.watch.healthy:
            self.log(
                f"no checkpoint at {self.clock.images} images: the loss is {self.watch.recent:.4g}, was {self.watch.best:.4g}"
            )
        elif self.team.first:
            self.checkpoint.save(
                images=self.clock.images,
                updates=self.average.updates,
                spent=self.spent + self.clock.elapsed,
                watch=self.watch.state_dict(),
                options=settings_of(self.options, self.team),
            )

    def end(self) -> None:
        """Writes the last checkpoint. From here on signals end the program at once: nobody has to wait for the last figures."""
        self.save()
        self.clock.close()

    @property
    def exit_code(self) -> int:
        """That of the program: 0, or as the shells have it of one that a signal has ended."""
        return 128 + self.clock.interrupted if self.clock.interrupted else 0

    def provenance(self, options: argparse.Namespace, pack: Pack, figures: dict[str, float]) -> dict[str, Any]:
        """What the weights' file will say of how they were made."""
        templates = getattr(options, "templates", None)  # an option of the segmenter's program alone
        return {
            "images": self.clock.images,
            "hours": round((self.spent + self.clock.elapsed) / 3600, 2),
            "preset": options.preset,
            "val": {name: round(value, 5) for name, value in figures.items()},
            "sources": pack.sources,
            "tiers": pack.tiers,
            "templates": templates.name if templates else None,
            "started_from": Path(options.start_from).name if options.start_from else None,
        }


def add_options(parser: argparse.ArgumentParser, *, preset: str, batch: int, images: int) -> None:
    """The options that both programs have."""
    add = parser.add_argument
    add("--pack", type=Path, required=True, help="folder made by vidunmask.training.pack, or a Masked-Faces dataset")
    add("--run", type=Path, required=True, help="folder of checkpoints, sheets and the log; a run in it is resumed")
    add("--preset", default=preset, help="size of the network (default: %(default)s)")
    add("--tiers", default="ABC", help="rights tiers of the photos to train on (default: %(default)s)")
    add(
        "--turn",
        type=float,
        default=0.0,
        help="share of the faces that are turned aside, see synthesis.turn (default: %(default)s)",
    )
    dark = "share of the faces that get darker skin, see synthesis.tone (default: %(default)s)"
    add("--dark", type=float, default=0.0, metavar="SHARE", help=dark)
    add("--batch", type=int, default=batch, help="images a step, over all passes and processes (default: %(default)s)")
    add("--images", type=int, default=images, help="stop after so many images (default: %(default)s)")
    add("--minutes", type=float, default=1e9, help="stop after so much time, with a checkpoint")
    add(
        "--pace",
        action="store_true",
        help="make the whole run last --minutes, however many images that is: --images and what counts in them are then shares "
        "of the time, for a machine whose speed is not known and whose end is",
    )
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
    fastest = "of autocast; auto takes bfloat16 where the hardware multiplies it (default: %(default)s)"
    add("--precision", choices=precision.PRECISIONS, default="auto", help=fastest)
    add("--compile", action="store_true", help="torch.compile the network")
    add("--accumulate", type=int, default=1, help="passes a step, each over a part of --batch (default: %(default)s)")
    add("--data", choices=WHERE, default="auto", help="where the images are held (default: on the GPU, if they fit)")
    add("--ahead", type=int, help="batches made ahead by a thread beside the step (default: 2 on a GPU, else 0)")
    add("--together", type=int, default=1, help="steps whose pictures are drawn at once, see feed.py (default: %(default)s)")
    add("--tensorboard", action="store_true", help="curves and sheets for TensorBoard, in the run's folder")
    add("--log-every", type=int, default=800, help="images between lines of the log (default: %(default)s)")
    few = "faces of val, evenly spread, that a run evaluates itself on (default: %(default)s)"
    add("--val-faces", type=int, default=500, metavar="N", help=few)
    add("--same-batch", action="store_true", help="learn one batch again and again: its rate is that of the step alone")
    add("--start-from", help="weights to start a new run from")
    add("--evaluate-every", type=int, default=8000, help="images between evaluations on val (default: %(default)s)")
    add("--export", type=Path, help="write the averaged weights here at the end")
    add("--store", choices=weights.STORED, default="float16", help="numbers of the exported file (default: %(default)s)")


def check_least(options: argparse.Namespace, least: int, *names: str) -> None:
    """Raises UsageError for an option that is given, and less."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value >= least:  # which no comparison with "nan" is
            must = f"be {least} or more" if least else "not be negative"
            raise UsageError(f"--{name.replace('_', '-')} {value}: must {must}")


def check_shares(options: argparse.Namespace, *names: str) -> None:
    """Raises UsageError for an option that is no share of a whole."""
    for name in names:
        value = getattr(options, name)
        if not 0 <= value <= 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must lie from 0 to 1")


def check_options(options: argparse.Namespace) -> torch.device:
    """Rejects options that cannot work, and returns the device."""
    check_least(options, 1, "batch", "images", "accumulate", "together", "log_every", "evaluate_every", "val_faces")
    check_least(options, 0, "minutes", "cooldown", "seed", "ahead")
    check_shares(options, "turn", "dark", "ema")
    if not 0 < options.lr < float("inf"):
        raise UsageError(f"--lr {options.lr}: must be a number above 0")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    parts = options.accumulate * processes
    if options.batch % parts:
        raise UsageError(f"--batch {options.batch}: cannot be shared equally by {parts} passes and processes; give a multiple")
    if options.pace and options.minutes >= 1e9:
        raise UsageError("--pace: needs --minutes, the time that the run is to take")
    if options.pace and processes > 1:
        raise UsageError(
            "--pace: the clocks of several processes differ, and with them the learning rates; give --images instead"
        )
    kind, _, number = options.device.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 0)
    if not (number or "0").isdigit() or int(number or "0") >= there:
        raise UsageError(f"--device {options.device}: is not available to torch on this machine; use --device cpu")
    device = torch.device(options.device)
    if options.compile:
        precision.check_compiler(device)
    torch.manual_seed(options.seed)
    dtype = precision.choose_dtype(options.precision, device)
    options.precision = str(dtype).removeprefix("torch.")  # what is noted of the run is what it runs with
    return device


def log_to(folder: Path, team: Team) -> Callable[[str], None]:
    """A function that prints a line and appends it to ``log.txt`` of the run, in the first process of a team."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "log.txt"

    def log(line: str) -> None:
        if not team.first:
            return
        print(line, flush=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    return log


def export(
    path: Path,
    average: Average,
    *,
    kind: str,
    network: str,
    arguments: dict[str, Any],
    provenance: dict[str, Any],
    store: str = "float16",
) -> str:
    """Writes the averaged weights, as numbers of ``store``, with their provenance; returns a line that says so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = weights.save(
            path,
            average.network.state_dict(),
            kind=kind,
            network=network,
            arguments=arguments,
            provenance=json.loads(json.dumps(provenance, default=str)),
            dtype=weights.STORED[store],
        )
    except OSError as error:
        raise OutputError(
            f"--export {path}: cannot be written ({error}); make room or name another file, and run the same command again"
        ) from error
    return f"exported {path} ({path.stat().st_size / 1e6:.1f} MB, sha256 {digest[:12]})"
