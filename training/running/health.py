"""Whether a run still learns: losses and gradients stay finite, and the loss stays near the best it was."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor

from vidunmask.training.running.distributed import Team

WINDOW = 50  # steps whose mean is compared
DIVERGED = 3.0  # times the best window's loss, and worse than the first window
SUSPECT = 2.0  # from here on no checkpoint is written: the last good one is to stay


class Watch:
    """Adds up the losses of the steps where they are made, and reads them now and then.

    Reading a number from a GPU waits for all it has to do, so there the sums are only read every 25 steps, when a line is
    logged and before a checkpoint; a sum keeps what is not finite until then.
    """

    def __init__(self, team: Team) -> None:
        self.team = team
        self.every = 25 if team.device.type == "cuda" else 1
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._unread = 0  # steps
        self._means: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))  # of the steps since the last line
        self._window = (0.0, 0)  # sum of the first loss, steps
        self.first: float | None = None
        self.best: float | None = None
        self.recent: float | None = None

    def add(self, terms: dict[str, Tensor], *, step: bool, images: int) -> None:
        """Takes the losses of a batch, the first of which is the one that must fall; ``step`` says that a step is complete.

        Raises FloatingPointError where one is not finite, or the first has diverged.
        """
        for name, value in terms.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] += 1
        if step:
            self._unread += 1
            if self._unread >= self.every:
                self.check(images)

    def check(self, images: int) -> None:
        """Reads the sums. All processes must ask at the same point; raises as `add`, in all of them."""
        if not self._sums:
            return
        names = list(self._sums)
        numbers = torch.stack(list(self._sums.values())).double().cpu()
        counts = torch.tensor([self._counts[name] for name in names])
        steps, self._unread = self._unread, 0
        self._sums.clear()
        self._counts.clear()
        means = numbers / counts
        if self.team.any(not bool(means.isfinite().all()))[0]:
            bad = [
                f"{name!r} became {value}"
                for name, value in zip(names, means.tolist(), strict=True)
                if not math.isfinite(value)
            ]
            since = f", within the last {steps} steps" if steps > 1 else ""
            raise FloatingPointError(
                f"after {images} images {bad[0] if bad else 'a loss of another process'}{since}; the last checkpoint is "
                "intact, go on from it with a lower --lr or --precision float32"
            )
        for name, mean, count in zip(names, means.tolist(), counts.tolist(), strict=True):
            total, so_far = self._means[name]
            self._means[name] = (total + mean * count, so_far + count)
        total, so_far = self._window
        self._window = (total + means[0].item() * max(steps, 1), so_far + max(steps, 1))
        if self._window[1] >= WINDOW:
            self._compare(names[0], images)

    def _compare(self, name: str, images: int) -> None:
        total, steps = self._window
        self._window = (0.0, 0)
        self.recent = float(self.team.mean(torch.tensor([total / steps], dtype=torch.float64))[0])
        self.first = self.recent if self.first is None else self.first
        self.best = self.recent if self.best is None else min(self.best, self.recent)
        if self.recent > DIVERGED * self.best and self.recent > self.first:
            raise FloatingPointError(
                f"after {images} images the loss {name!r} is {self.recent:.4g}, it was {self.best:.4g} at best: the run "
                "diverges; the last checkpoint was written before that, go on from it with a lower --lr"
            )

    @property
    def healthy(self) -> bool:
        """False while the loss is so high that a checkpoint would better not be written."""
        if self.recent is None or self.best is None or self.first is None:
            return True
        return self.recent <= SUSPECT * self.best or self.recent <= self.first

    def means(self, images: int) -> dict[str, float]:
        """Mean losses since they were last asked for, over all processes; all must ask at the same point."""
        self.check(images)
        names = list(self._means)
        if not names:
            return {}
        values = torch.tensor([self._means[name][0] / self._means[name][1] for name in names], dtype=torch.float64)
        self._means.clear()
        return dict(zip(names, self.team.mean(values).tolist(), strict=True))

    def state_dict(self) -> dict[str, float | None]:
        """What a checkpoint keeps of it."""
        return {"first": self.first, "best": self.best, "recent": self.recent}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Goes on from `state_dict`."""
        self.first, self.best, self.recent = state["first"], state["best"], state["recent"]
