"""The objective of the paper (§3.2): eq. 6 to 10, on the composed picture only."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vidunmask.training import losses
from vidunmask.training.completion import Completion
from vidunmask.training.discriminators import FeaturePatchDiscriminator, PatchDiscriminator
from vidunmask.training.objectives import Judgement, Objective, Target


class RegionAttentive(Objective):
    """Reconstruction, perceptual, style and adversarial loss, the last of a pixel and a feature critic.

    Beside the paper's there is `losses.dissimilarity`, whose weight ``ssim`` is 0 unless another is asked for.

    Its own supervision is local: all terms see the composed picture of eq. 1. ``full`` is the other row of Table 2: all terms
    see the raw output of the network, over the whole picture.
    """

    WEIGHTS: ClassVar = {"reconstruction": 1.0, "perceptual": 0.1, "style": 250.0, "adversarial": 0.1, "ssim": 0.0}
    FEATURES = 3

    def make_critics(self, width: int) -> list[nn.Module]:
        return [PatchDiscriminator(width=width), FeaturePatchDiscriminator(width=2 * width)]

    def judge(self, made: Completion, target: Target, *, adversarial: bool) -> Judgement:
        rows, columns = (slice(None), slice(None)) if self.supervision == "full" else target.box
        fake = self.seen(made.fill, target, own="local")[:, :, rows, columns]
        real = target.truth[:, :, rows, columns]
        area = self.area(target, own="local")[:, :, rows, columns]
        seen_fake, seen_real = self.look(fake, real, target)
        features_fake = self.features(seen_fake)
        with torch.no_grad():
            features_real = self.features(seen_real)
        terms = {
            "reconstruction": losses.reconstruction(fake, real, area),
            "perceptual": losses.perceptual(features_fake, features_real),
            "style": losses.style(features_fake, features_real),
        }
        if self.weights["ssim"] > 0:
            terms["ssim"] = losses.dissimilarity(fake, real, area)
        return self.verdict(terms, ((real, fake), (features_real[-1], features_fake[-1])) if adversarial else ())

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return losses.relativistic_generator(real, fake)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return losses.relativistic_discriminator(real, fake)
