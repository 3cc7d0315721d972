"""The objective of the paper (§3.2): eq. 6 to 10, on the composed picture only."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vidunmask.training import losses
from vidunmask.training.completion import Completion
from vidunmask.training.discriminators import FeaturePatchDiscriminator, PatchDiscriminator
from vidunmask.training.objectives import Batch, Judgement, Objective


class RegionAttentive(Objective):
    """Reconstruction, perceptual, style and adversarial loss, the last of a pixel and a feature critic.

    Its own supervision is local: all terms see the composed picture of eq. 1. ``full`` is the other row of Table 2: all terms
    see the raw output of the network, over the whole picture.
    """

    WEIGHTS: ClassVar = {"reconstruction": 1.0, "perceptual": 0.1, "style": 250.0, "adversarial": 0.1}
    FEATURES = 3

    def make_critics(self, width: int) -> list[nn.Module]:
        return [PatchDiscriminator(width=width), FeaturePatchDiscriminator(width=2 * width)]

    def judge(self, made: Completion, batch: Batch, *, adversarial: bool) -> Judgement:
        rows, columns = (slice(None), slice(None)) if self.supervision == "full" else region(batch.mask)
        fake = self.seen(made.fill, batch, own="local")[:, :, rows, columns]
        real = batch.truth[:, :, rows, columns]
        area = self.area(batch, own="local")[:, :, rows, columns]
        features_fake = self.features(fake)
        with torch.no_grad():
            features_real = self.features(real)
        terms = {
            "reconstruction": losses.reconstruction(fake, real, area),
            "perceptual": losses.perceptual(features_fake, features_real),
            "style": losses.style(features_fake, features_real),
        }
        return self.verdict(terms, ((real, fake), (features_real[-1], features_fake[-1])) if adversarial else ())

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return losses.relativistic_generator(real, fake)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return losses.relativistic_discriminator(real, fake)


def region(mask: Tensor, *, margin: int = 16, multiple: int = 16) -> tuple[slice, slice]:
    """Rows and columns of the box about all masks (B, 1, H, W) of a batch, its sides rounded up to ``multiple``.

    Composed image and truth are equal outside the masks, so features and critics learn nothing there; skipping it saves half.
    """
    occupied = mask.amax(dim=(0, 1)) > 0
    slices = []
    for axis, length in ((1, mask.shape[2]), (0, mask.shape[3])):
        indices = torch.nonzero(occupied.any(dim=axis)).flatten()
        first, last = (int(indices[0]), int(indices[-1]) + 1) if len(indices) else (0, length)
        first, last = max(0, first - margin), min(length, last + margin)
        first = max(0, last - -(-(last - first) // multiple) * multiple)
        slices.append(slice(first, last))
    return slices[0], slices[1]
