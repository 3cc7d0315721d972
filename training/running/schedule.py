"""The learning rate over a run."""

from __future__ import annotations

import math

_FALL = 2e-6  # of the rate, an epoch (§4.2)


def learning_rate(images: float, *, base: float, epoch: int, total: int, cooldown: int, warmup: int = 0) -> float:
    """The rate after ``images`` images.

    Without a cooldown the paper's schedule (§4.2): ``base``, and from epoch 20 on 2e-6 less an epoch (``epoch`` images each).
    With one, ``base`` until the last ``cooldown`` images of ``total``, then linearly to zero, for runs shorter than 20 epochs.
    """
    if images < warmup:
        return base * (images + 1) / warmup
    if cooldown:
        return base * min(1.0, max(0.0, (total - images) / cooldown))
    return max(0.0, base - _FALL * max(0, int(images) // epoch - 20))


def end_of_schedule(*, base: float, epoch: int) -> int:
    """How many images the paper's schedule learns anything from."""
    return epoch * (20 + math.ceil(round(base / _FALL, 6)))
