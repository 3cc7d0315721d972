"""A run shown in TensorBoard: curves and sheets of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.utils import make_grid

from vidunmask.errors import UsageError


class Board:
    """Writes into a folder that ``tensorboard --logdir`` shows; the steps are images seen."""

    def __init__(self, folder: Path, *, images: int) -> None:
        """Goes on at ``images``; what an earlier start wrote behind that is hidden. Raises UsageError without the package."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                f"--tensorboard: the package tensorboard is missing ({error}); pip install 'vidunmask[train]', or leave it out"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=images or None)  # type: ignore[no-untyped-call]

    def scalars(self, values: dict[str, float], images: int, *, group: str) -> None:
        """One point of each curve, named ``group/name``."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, images)
        self._writer.flush()

    def sheet(self, pictures: Tensor, images: int, *, columns: int) -> None:
        """A sheet of pictures (N, 3, H, W)."""
        self._writer.add_image("val/sheet", make_grid(pictures.detach().float().cpu(), nrow=columns).clamp(0, 1), images)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
