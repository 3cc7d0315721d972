"""What a network is trained for: the terms of its generator, what its critics are shown, and how they are scored.

The training program is one for all networks; what differs between their papers is an `Objective`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vidunmask.errors import UsageError
from vidunmask.networks import weights as store
from vidunmask.training import losses
from vidunmask.training.completion import Completion

Supervision = Literal["own", "local", "full"]
Pairs = tuple[tuple[Tensor, Tensor], ...]  # for each critic the real and the fake that it is shown

LABELS = {"reconstruction": "l1"}  # what a term is called in the log, where not by its weight


@dataclass(frozen=True)
class Target:
    """What the losses of a step compare with: all (B, C, S, S), the truth in 0..1 and the others 0 or 1."""

    truth: Tensor  # C = 3
    mask: Tensor  # C = 1, 1 = hole
    valid: Tensor  # C = 1, 0 beyond the edge of the photo, where there is no truth
    box: tuple[slice, slice]  # rows and columns that hold all masks of the batch
    generator: torch.Generator  # of what a loss draws by chance


@dataclass(frozen=True)
class Judgement:
    """The terms by their names in the log, their weighted sum, and what the critics are shown of this step."""

    terms: dict[str, Tensor]
    total: Tensor
    pairs: Pairs


class Objective:
    """Base of all objectives. Raises UsageError for a weight of a term that the method does not have.

    weights: factors of terms that differ from the method's own, ``WEIGHTS``. supervision: ``own`` as the method's paper has it,
    ``local`` everything on the composed picture, ``full`` everything on the raw output (Table 2). critic_width: channels of
    the pixel critic's first layer. vgg: a file, or None for torchvision's; it is read only by methods with ``FEATURES``.
    feature_scale and close_ups: how VGG sees the pictures, see `losses.look`.
    """

    WEIGHTS: ClassVar[dict[str, float]]
    FEATURES: ClassVar[int] = 0  # blocks of VGG-16 that the terms look at

    def __init__(
        self,
        *,
        weights: Mapping[str, float],
        supervision: Supervision,
        critic_width: int,
        vgg: losses.Weights,
        feature_scale: float,
        close_ups: float,
        device: torch.device,
    ) -> None:
        for name in weights:
            if name not in self.WEIGHTS:
                raise UsageError(f"--weight {name}: this network has no such term; it has {', '.join(self.WEIGHTS)}")
        self.weights = {**self.WEIGHTS, **weights}
        self.supervision = supervision
        self.feature_scale = feature_scale
        self.close_ups = close_ups
        self.vgg: losses.VGGFeatures | None = None
        if self.FEATURES:
            self.vgg = losses.VGGFeatures(vgg, blocks=self.FEATURES).to(device)
            store.channels_last(self.vgg)
        self.critics = nn.ModuleList(store.channels_last(critic.to(device)) for critic in self.make_critics(critic_width))

    # --- what a method says ---------------------------------------------------------------------------------------------

    def make_critics(self, width: int) -> list[nn.Module]:
        """The critics, if the method has any."""
        return []

    def judge(self, made: Completion, target: Target, *, adversarial: bool) -> Judgement:
        """The generator's terms; with ``adversarial`` also what the critics say and are shown."""
        raise NotImplementedError

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the generator wants of a critic's scores."""
        raise NotImplementedError

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What a critic wants of its scores."""
        raise NotImplementedError

    # --- what is the same for all ---------------------------------------------------------------------------------------

    @property
    def has_critics(self) -> bool:
        """Whether there is anything adversarial to train."""
        return len(self.critics) > 0 and self.weights.get("adversarial", 0) > 0

    def criticise(self, pairs: Pairs) -> Tensor:
        """The critics' loss on the pictures of a judgement."""
        self.critics.requires_grad_(True)
        scores = [
            self.critic_loss(critic(real.detach()).float(), critic(fake.detach()).float())
            for critic, (real, fake) in zip(self.critics, pairs, strict=True)
        ]
        return torch.stack(scores).sum()

    def seen(self, picture: Tensor, target: Target, *, own: Supervision) -> Tensor:
        """The picture (B, 3, S, S) as a term sees it: raw, or composed into the truth where the supervision is local.

        Beyond the photo's edge there is no truth: what stands there in the pack is used on both sides.
        """
        picture = picture.float()
        if self._local(own):
            picture = losses.compose(target.truth, picture, target.mask)
        return losses.compose(target.truth, picture, target.valid)

    def area(self, target: Target, *, own: Supervision) -> Tensor:
        """Where a reconstruction term counts, (B, 1, S, S)."""
        return target.mask * target.valid if self._local(own) else target.valid

    def look(self, fake: Tensor, real: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """What VGG is to see of both pictures (B, C, H, W)."""
        scale, close_ups = self.feature_scale, self.close_ups
        return losses.look(fake, real, scale=scale, close_ups=close_ups, generator=target.generator)

    def features(self, seen: Tensor) -> list[Tensor]:
        """VGG features of a picture (B, 3, H, W)."""
        assert self.vgg is not None
        made: list[Tensor] = self.vgg(seen)
        return made

    def verdict(self, terms: dict[str, Tensor], pairs: Pairs) -> Judgement:
        """The judgement from the terms, whose names are those of their weights; with pairs the critics are asked."""
        if pairs:
            self.critics.requires_grad_(False)
            scores = [
                self.generator_loss(critic(real).float(), critic(fake).float())
                for critic, (real, fake) in zip(self.critics, pairs, strict=True)
            ]
            terms = {**terms, "adversarial": torch.stack(scores).sum()}
        total = torch.stack([self.weights[name] * term.float() for name, term in terms.items()]).sum()
        return Judgement({LABELS.get(name, name): term for name, term in terms.items()}, total, pairs)

    def _local(self, own: Supervision) -> bool:
        return (own if self.supervision == "own" else self.supervision) == "local"
