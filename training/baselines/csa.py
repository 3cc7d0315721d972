"""CSA: Liu et al., Coherent semantic attention for image inpainting (ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.networks.layers import PlainAttention
from vidunmask.training import losses
from vidunmask.training.completion import Completion, Rival, full_precision, shrink_mask
from vidunmask.training.discriminators import FeaturePatchDiscriminator, PatchDiscriminator
from vidunmask.training.objectives import Judgement, Objective, Target

PAPER = (64, 128, 256, 512, 512, 512, 512, 512)
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"widths": PAPER},
    "compact": {"widths": (32, 64, 128, 240, 240, 240, 240), "attention_level": 2, "unshuffle": 2, "coordinates": True},
    "tiny": {"widths": (4, 8, 8, 8), "attention_level": 2, "unshuffle": 2, "coordinates": True},
}
ATTENTION = True
VGG_CHANNELS = 512  # of relu4_3, which the consistency loss compares with
HOLE = 5 / 16  # share of a cell that must be hole for it to count as one, the authors' threshold


def fit(arguments: dict[str, Any], size: int) -> dict[str, Any]:
    """The arguments for pictures of ``size`` pixels: its U-Nets halve no further than to a single place."""
    halvings = (size // arguments.get("unshuffle", 1)).bit_length() - 1
    return {**arguments, "widths": tuple(arguments["widths"])[:halvings]}


class CoherentSemanticAttention(nn.Module):
    """Rebuilds the hole's features from known ones, in keeping with the place filled just before (§3.2); shape kept.

    In scan order each place of the hole takes a mean of the known place most like it and of what its predecessor was given,
    weighted by its similarity with both (eq. 3 to 6). The weights are written into an attention map, which is then applied to
    the known features in one product; as in the paper, gradients go through the features and not through the map.
    """

    def forward(self, x: Tensor, hole: Tensor) -> Tensor:
        with full_precision(x):
            flat = x.float().flatten(2).transpose(1, 2)  # (B, N, C)
            attention = coherent_attention(flat.detach(), hole.flatten(1))
            return (attention @ flat).transpose(1, 2).reshape(x.shape)


@torch.compiler.disable
@torch.no_grad()
def coherent_attention(flat: Tensor, hole: Tensor) -> Tensor:
    """The attention map (B, N to, N from) of features (B, N, C) for hole (B, N) bool; known places attend to themselves."""
    batch, places, _ = flat.shape
    unit = F.normalize(flat, dim=2)
    attention = torch.eye(places, device=flat.device).repeat(batch, 1, 1)
    similarity = unit @ unit.transpose(1, 2)  # (B, N, N)
    if flat.is_meta:  # only shapes are asked for, and the chain below goes by values
        return attention
    hole = hole & ~hole.all(dim=1, keepdim=True)  # without anything known there is nothing to take
    best, source = similarity.masked_fill(hole[:, None], -1.0).max(dim=2)  # (B, N)
    best = best.clamp_min(1e-6)
    order = torch.argsort((~hole).to(torch.uint8), dim=1, stable=True)  # each picture's hole in scan order, then the rest
    counts = hole.sum(dim=1)
    rows = torch.arange(batch, device=flat.device)
    given = torch.zeros_like(flat[:, 0])  # (B, C) what the predecessor was given
    weights = torch.zeros_like(attention[:, 0])  # (B, N) of which known places it is made
    for step in range(int(counts.max())):
        here = order[:, step]
        match = source[rows, here]
        # the first has no predecessor; similarities below zero would turn weights negative
        like_before = (unit[rows, here] * F.normalize(given, dim=1)).sum(dim=1).clamp_min(0.0)
        share = (like_before / (like_before + best[rows, here]))[:, None]
        given = share * given + (1 - share) * flat[rows, match]
        weights = share * weights
        weights[rows, match] += 1 - share[:, 0]
        going = (step < counts)[:, None]
        attention[rows, here] = torch.where(going, weights, attention[rows, here])
    return attention


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


class RoughNet(nn.Module):
    """The first stage: the U-Net of pix2pix (Isola et al. 2017) with as many halvings as there are widths."""

    def __init__(self, channels: int, colours: int, widths: Sequence[int]) -> None:
        super().__init__()
        last = len(widths) - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (a, b) in enumerate(pairwise((channels, *widths))):
            layers: list[nn.Module] = [] if level == 0 else [nn.LeakyReLU(0.2)]
            layers.append(nn.Conv2d(a, b, 4, stride=2, padding=1))
            if 0 < level < last:
                layers.append(_norm(b))
            self.down.append(nn.Sequential(*layers))
        for level, (a, b) in enumerate(pairwise((colours, *widths))):
            layers = [nn.ReLU(), nn.ConvTranspose2d(b if level == last else 2 * b, a, 4, stride=2, padding=1)]
            layers.append(nn.Tanh() if level == 0 else _norm(a))
            self.up.append(nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        for level in range(len(self.up) - 1, -1, -1):
            x = self.up[level](x if level == len(self.up) - 1 else torch.cat([x, skips[level]], dim=1))
        return x


class Down(nn.Module):
    """A 4 x 4 dilated convolution that halves the size, then a 3 x 3 one that widens (§3.1)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(channels_in, channels_in, 4, stride=2, padding=3, dilation=2)
        self.between = _norm(channels_in)
        self.widen = nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.halve(F.leaky_relu(x, 0.2)))
        return self.widen(F.leaky_relu(x, 0.2))


class Up(nn.Module):
    """The mirror of `Down`: a 3 x 3 convolution that narrows, then a 4 x 4 transposed one that doubles the size."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.between = _norm(channels_out)
        self.enlarge = nn.ConvTranspose2d(channels_out, channels_out, 4, stride=2, padding=1)
        self.norm = _norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.narrow(F.relu(x)))
        return self.norm(self.enlarge(F.relu(x)))


class CSANet(Rival):
    """A rough network, then a refinement with coherent semantic attention in its encoder (Fig. 2).

    Preset ``paper`` has 132.1M parameters, as the paper counts. widths: channels of the halvings of both networks; the
    refinement has one more layer before them. attention_level: the refinement's halving after which the features are
    rebuilt, 3 in the paper (32 x 32 for 256 x 256). Where the features there have not as many channels as VGG's relu4_3, two
    1 x 1 convolutions, used in training only, lead the consistency loss to them. attention=False puts a 3 x 3 convolution in
    the place of the attention.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        attention_level: int = 3,
        unshuffle: int = 1,
        coordinates: bool = False,
        attention: bool = True,
    ) -> None:
        super().__init__(stride=2 ** len(widths), unshuffle=unshuffle, coordinates=coordinates)
        if not 1 <= attention_level < len(widths):
            raise ValueError(f"attention_level {attention_level}: must be 1 to {len(widths) - 1}")
        self.attention_level = attention_level
        given = self.colours + self.places + self.masks
        self.rough = RoughNet(given, self.colours, widths)
        self.enter_layer = nn.Conv2d(self.colours + given, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Down(a, b) for a, b in pairwise(widths))
        self.down_norms = nn.ModuleList(_norm(b) for b in widths[1:])
        self.bottom_down = nn.Conv2d(widths[-1], widths[-1], 4, stride=2, padding=3, dilation=2)
        self.bottom_up = nn.ConvTranspose2d(widths[-1], widths[-1], 4, stride=2, padding=1)
        self.bottom_norm = _norm(widths[-1])
        self.up = nn.ModuleList(Up(2 * b, a) for a, b in pairwise(widths))
        self.to_rgb = nn.Conv2d(2 * widths[0], self.colours, 3, padding=1)
        channels = widths[attention_level]
        self.attention = CoherentSemanticAttention() if attention else PlainAttention(channels)
        self.to_vgg = nn.ModuleList(
            nn.Identity() if channels == VGG_CHANNELS else nn.Conv2d(channels, VGG_CHANNELS, 1) for _ in range(2)
        )

    def complete(self, image: Tensor, mask: Tensor) -> Completion:
        return self._run(image, mask, compared=True)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self._run(image, mask, compared=False).fill.clamp(0, 1)

    def _run(self, image: Tensor, mask: Tensor, *, compared: bool) -> Completion:
        """The network; features for the consistency loss only where they will be ``compared``."""
        known, hole, places = self.enter(image, mask)
        given = torch.cat([known, hole, places], dim=1)
        rough = self.rough(given)
        pasted = torch.lerp(known, rough.to(known.dtype), hole.repeat(1, 3, 1, 1))
        x = self.enter_layer(torch.cat([pasted, given], dim=1))
        skips, features = [x], []
        for level, (layer, norm) in enumerate(zip(self.down, self.down_norms, strict=True), start=1):
            x = layer(x)
            if level == self.attention_level:
                x = self._attend(x, hole)
                features += [self.to_vgg[0](x)] if compared else []
            x = norm(x)
            skips.append(x)
        x = self.bottom_norm(self.bottom_up(F.relu(self.bottom_down(F.leaky_relu(x, 0.2)))))
        for level in range(len(self.up), 0, -1):
            if level == self.attention_level:
                features += [self.to_vgg[1](x)] if compared else []  # the decoder's features at the same place
            x = self.up[level - 1](torch.cat([x, skips[level]], dim=1))
        fill = self.to_rgb(F.relu(torch.cat([x, skips[0]], dim=1)))
        return Completion(fill=self.leave(fill), coarse=self.leave(rough), features=tuple(features))

    def _attend(self, x: Tensor, hole: Tensor) -> Tensor:
        if not isinstance(self.attention, CoherentSemanticAttention):
            return self.attention(x)
        inside = shrink_mask(hole, (x.shape[2], x.shape[3])) > HOLE
        return self.attention(x, inside).to(x.dtype)


class CSAObjective(Objective):
    """L1 of both stages, the consistency loss at relu4_3 of VGG-16 and two relativistic critics (§3.3 and §3.4).

    The paper's weights are 1, 0.01 and 0.002 for pictures in -1..1; its L1 counts double on ours. Consistency is the mean
    square over the places of the hole, of the attention's features and of the decoder's beside them (eq. 8).
    """

    WEIGHTS: ClassVar = {"reconstruction": 2.0, "coarse": 2.0, "consistency": 0.01, "adversarial": 0.002}
    FEATURES = 4

    def make_critics(self, width: int) -> list[nn.Module]:
        return [PatchDiscriminator(width=width), FeaturePatchDiscriminator(width=2 * width)]

    def judge(self, made: Completion, target: Target, *, adversarial: bool) -> Judgement:
        assert made.coarse is not None
        fake, real = self.seen(made.fill, target, own="full"), target.truth
        area = self.area(target, own="full")
        with torch.no_grad():
            features_real = self.features(losses.shrink(real, self.feature_scale))
        terms = {
            "reconstruction": losses.reconstruction(fake, real, area),
            "coarse": losses.reconstruction(self.seen(made.coarse, target, own="full"), real, area),
            "consistency": consistency(made.features, features_real[3], target.mask * target.valid),
        }
        if not adversarial:
            return self.verdict(terms, ())
        return self.verdict(
            terms, ((real, fake), (features_real[2], self.features(losses.shrink(fake, self.feature_scale))[2]))
        )

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return losses.relativistic_generator(real, fake)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return losses.relativistic_discriminator(real, fake)


def consistency(made: Sequence[Tensor], truth: Tensor, hole: Tensor) -> Tensor:
    """Eq. 8: mean square distance of each features (B, C, h, w) to the truth's (B, C, h', w') inside the hole (B, 1, H, W)."""
    terms = []
    for features in made:
        size = (features.shape[2], features.shape[3])
        inside = (shrink_mask(hole, size) > HOLE).float()
        target = truth.float() if truth.shape[2:] == features.shape[2:] else F.adaptive_avg_pool2d(truth.float(), size)
        square = (features.float() - target).square() * inside
        terms.append(square.sum() / (features.shape[1] * inside.sum()).clamp_min(1.0))
    return torch.stack(terms).sum()


NETWORK = CSANet
OBJECTIVE = CSAObjective
