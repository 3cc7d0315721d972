"""The batches of a run: which images, with which randomness, made ahead where that keeps a GPU busy.

The randomness of what is drawn depends on the seed and on its place among all images of the run alone. So a run goes on exactly
where it stopped, whatever was made ahead, and two processes draw what one process with two batches a step would.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidunmask.flow import prefetch
from vidunmask.training.pack import Order, Pack, on_device
from vidunmask.training.running.distributed import Team

WHERE = ("auto", "disk", "memory", "device")
# Rows of the pack and a seeded generator on the CPU, to what a step needs: tensors (B, ...), and things that go for all.
Prepare = Callable[[np.ndarray, torch.Generator], tuple[Any, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one forward and backward pass works on."""

    images: int  # images of the run before this step
    data: tuple[Any, ...]  # what was prepared
    generator: torch.Generator  # for what is left to draw, on the CPU
    last: bool  # of its step: the weights move after it
    ready: Any = None  # the event on the GPU after which the data is there


def draw_batches(
    prepare: Prepare,
    order: Order,
    *,
    team: Team,
    batch: int,
    accumulate: int,
    seed: int,
    start: int,
    ahead: int,
    together: int = 1,
) -> Iterator[Batch]:
    """Endless batches for this process from image ``start`` on; ``team`` and ``accumulate`` divide a step's ``batch`` images.

    ``ahead`` of them are made by a thread beside the step, on a GPU in a stream of its own; 0 makes each when it is asked for.
    ``together`` steps are drawn at once and then handed out one by one: drawing is thousands of small operations whatever the
    number of pictures, and a GPU is through with small ones before the processor has asked for the next.
    """
    made = _make(prepare, order, team=team, batch=batch, accumulate=accumulate, seed=seed, start=start, together=together)
    if ahead == 0:
        yield from made
        return
    with contextlib.closing(prefetch(made, max(ahead, together * accumulate))) as coming:  # type: ignore[type-var]
        for item in coming:
            if item.ready is not None:
                stream = torch.cuda.current_stream(team.device)
                stream.wait_event(item.ready)
                for tensor in item.data:
                    if isinstance(tensor, Tensor):  # its memory must not be used again before the step is through with it
                        tensor.record_stream(stream)
            yield item


def _make(
    prepare: Prepare, order: Order, *, team: Team, batch: int, accumulate: int, seed: int, start: int, together: int
) -> Iterator[Batch]:
    share = batch // (team.size * accumulate)
    cuda = team.device.type == "cuda"
    stream = torch.cuda.Stream(team.device) if cuda else None
    first = start - (start // batch) % together * batch  # groups of steps begin at the same images wherever a run is resumed
    while True:
        groups: list[tuple[tuple[Any, ...], Any]] = []  # of each pass: what all its steps need
        for step in range(together):
            begin = first + step * batch
            for index in range(accumulate):
                offset = (team.rank * accumulate + index) * share
                if step == 0:
                    generator = torch.Generator().manual_seed(_seed(seed, first + offset))
                    rows = np.concatenate([order.at(first + k * batch + offset, share) for k in range(together)])
                    with torch.cuda.stream(stream) if cuda else contextlib.nullcontext():  # type: ignore[attr-defined]
                        data = prepare(rows, generator)
                        groups.append((data, stream.record_event() if stream is not None else None))
                else:
                    generator = torch.Generator().manual_seed(_seed(seed, begin + offset))
                data, ready = groups[index]
                if begin >= start:
                    part = slice(step * share, (step + 1) * share)
                    own = tuple(x[part] if isinstance(x, Tensor) else x for x in data) if together > 1 else data
                    yield Batch(begin, own, generator, index == accumulate - 1, ready)
        first += together * batch


def _seed(seed: int, position: int) -> int:
    return int(np.random.SeedSequence((seed, position)).generate_state(1, np.uint64)[0] >> 1)


class Held:
    """The images of some rows of a pack in one tensor, in memory or on a GPU."""

    def __init__(self, pack: Pack, device: torch.device, *, chunk: int = 256) -> None:
        self._place = np.full(len(pack.images), -1, np.int64)  # of a row in the tensor
        self._place[pack.rows] = np.arange(len(pack.rows))
        first = on_device(pack.images[pack.rows[:1]], device)
        self.tensor = torch.empty((len(pack.rows), *first.shape[1:]), dtype=torch.uint8, device=device)
        for begin in range(0, len(pack.rows), chunk):
            self.tensor[begin : begin + chunk] = on_device(pack.images[pack.rows[begin : begin + chunk]], device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # other streams read it from now on

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        places = torch.from_numpy(self._place[rows])
        if self.tensor.is_cuda:
            places = places.pin_memory().to(self.tensor.device, non_blocking=True)
        return self.tensor[places]


def hold(pack: Pack, where: str, device: torch.device) -> tuple[Pack, str]:
    """The pack with its images ``where`` they are wanted (one of WHERE), and where that is.

    ``auto`` puts them on a GPU where they fit into half of what is free there, decoded shards into memory by the same rule (in
    each process of this machine), and otherwise leaves them on the disk, which for a memory-mapped pack means: in the system's
    cache.
    """
    size = len(pack.rows) * int(np.prod(pack.images[pack.rows[:1]].shape[1:]))
    if where == "auto":
        where = "disk"
        if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2:
            where = "device"
        elif device.type == "cuda" and not isinstance(pack.images, np.ndarray):
            processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
            where = "memory" if size * processes < _free_memory() / 2 else "disk"
    if where == "disk":
        return pack, f"on disk ({size / 1e9:.1f} GB)"
    place = device if where == "device" else torch.device("cpu")
    return dataclasses.replace(pack, images=Held(pack, place)), f"held on {place} ({size / 1e9:.1f} GB)"


def _free_memory() -> float:
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not every system says
        return 0.0
