"""Distillation: a small inpainter learns from the fills of a large one too, beside the truth."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vidunmask.networks import weights
from vidunmask.training import losses


class Teacher:
    """A trained inpainter whose fills another one is to make.

    Ba and Caruana, Do deep nets really need to be deep?, 2014: the small network fits the outputs of the large one. The truth
    under a mask is one of many faces that fit, the teacher's fill is nearer to what can be known.

    source: a weights file, or the name of weights that ship. weight: the factor of `distance` in the sum of all terms. Raises
    WeightsError where the file cannot be used.
    """

    def __init__(self, source: str, *, weight: float, device: torch.device) -> None:
        self.network = weights.channels_last(weights.load(source, kind="inpainter", device=device)).requires_grad_(False)
        self.name = Path(source).name
        self.weight = weight

    def distance(self, fill: Tensor, shown: Tensor, mask: Tensor) -> Tensor:
        """L1 distance of a fill (B, 3, S, S) to the teacher's for the same face (B, 3, S, S), under the mask (B, 1, S, S).

        Beyond the photo's edge too, where there is no truth.
        """
        with torch.no_grad():
            taught = self.network(shown, mask)
        return losses.reconstruction(fill.float(), taught.float(), mask)
