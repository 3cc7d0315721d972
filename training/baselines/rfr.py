"""RFR: Li et al., Recurrent feature reasoning for image inpainting (CVPR 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.networks.layers import PlainAttention
from vidunmask.training import losses
from vidunmask.training.completion import Completion, Rival, full_precision
from vidunmask.training.objectives import Judgement, Objective, Target

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"width": 64},
    "compact": {"width": 16, "tail": 32, "unshuffle": 2, "coordinates": True},
    "tiny": {"width": 4, "recurrences": 2, "unshuffle": 2, "coordinates": True},
}
ATTENTION = True


class PartialConv2d(nn.Module):
    """Partial convolution (Liu et al., ECCV 2018) without bias: features (B, C, H, W) and what is known of them, (B,
    1 or C, H, W), to features and what is known then, (B, 1, H', W').

    The sum over the known part of a window is scaled up to the whole window; a place is known if its window holds anything
    known.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        share = F.avg_pool2d(known.float().mean(dim=1, keepdim=True), self.kernel, self.stride, self.kernel // 2)
        seen = (share > 1e-6).float()
        x = self.conv(x * known) * (seen / share.clamp_min(1e-6))
        return x, seen


class KnowledgeConsistentAttention(nn.Module):
    """Attention whose scores are blended with those of the recurrence before (§3.3, eq. 3 to 7); shape kept.

    Scores are similarities of places, averaged over 3 x 3 neighbours, softmaxed. Where a place was already known in the
    recurrence before, its old scores count 1 and the new ones a learned weight. As in the authors' release the features that
    ask are not normalised; cosines alone would make the softmax nearly flat.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ratio = nn.Parameter(torch.ones(1))
        self.combine = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor, known: Tensor, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        with full_precision(x):
            scores = self._scores(x.float())  # (B, N from, h, w)
            if before is not None:
                old, was_known = before
                new = self.ratio.float().abs() + 1e-7
                scores = (old * was_known + scores * new) / (was_known + new)
            flat = x.float().flatten(2)  # (B, C, N)
            taken = (flat @ scores.flatten(2)).view(x.shape)
        return self.combine(torch.cat([taken.to(x.dtype), x], dim=1)), (scores, known)

    @staticmethod
    def _scores(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        flat = x.flatten(2)
        similarity = F.normalize(flat, dim=1).transpose(1, 2) @ flat  # (B, N from, N to)
        similarity = similarity.view(batch, height * width, height, width)
        return torch.softmax(9 * F.avg_pool2d(similarity, 3, stride=1, padding=1), dim=1)


class Reason(nn.Module):
    """The feature reasoning module (§3.2): six layers down, five up, attention at the third from the top."""

    def __init__(self, width: int, *, attention: bool) -> None:
        super().__init__()
        w = width
        sizes = ((w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w))
        self.down = nn.ModuleList(_layer(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), b, 0.0) for a, b in sizes)
        self.down.extend(_layer(nn.Conv2d(8 * w, 8 * w, 3, padding=2, dilation=2, bias=False), 8 * w, 0.0) for _ in range(3))
        self.up = nn.ModuleList(
            _layer(nn.Conv2d(16 * w, 8 * w, 3, padding=2, dilation=2, bias=False), 8 * w, 0.2) for _ in range(2)
        )
        grown = ((16 * w, 8 * w), (12 * w, 4 * w), (6 * w, w))
        self.up.extend(_layer(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=False), b, 0.2) for a, b in grown)
        self.attention = KnowledgeConsistentAttention(8 * w) if attention else PlainAttention(8 * w)

    def forward(
        self, x: Tensor, known: Tensor, before: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        skips.pop()
        for index, layer in enumerate(self.up):
            x = layer(torch.cat([x, skips.pop()], dim=1))
            if index == 2:
                if isinstance(self.attention, KnowledgeConsistentAttention):
                    small = F.interpolate(known, size=(x.shape[2], x.shape[3]), mode="nearest")
                    x, before = self.attention(x, small, before)
                else:
                    x = self.attention(x)
        return x, before


def _layer(conv: nn.Module, channels: int, slope: float) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.LeakyReLU(slope) if slope else nn.ReLU())


class Bottleneck(nn.Sequential):
    """1 x 1, 3 x 3, 1 x 1, each with batch normalisation; the input is added by the caller."""

    def __init__(self, channels: int, narrow: int) -> None:
        super().__init__(
            *(nn.Conv2d(channels, narrow, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()),
            *(nn.Conv2d(narrow, narrow, 3, padding=1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()),
            *(nn.Conv2d(narrow, channels, 1, bias=False), nn.BatchNorm2d(channels)),
        )


class RFRNet(Rival):
    """Fills the hole's features ring by ring with one module used again and again, then merges the results (Fig. 2).

    In each of ``recurrences`` rounds partial convolutions find the ring that can be inferred next, and the reasoning module
    fills it; the feature maps of all rounds are averaged over where they are known (eq. 8), decoded and joined with the
    picture. Preset ``paper`` has 31.2M parameters, as the paper counts. width: channels at half the size. tail: at the
    full size, half as many by default. attention=False puts
    a 3 x 3 convolution in the place of the knowledge consistent attention.
    """

    def __init__(
        self,
        *,
        width: int,
        tail: int | None = None,
        recurrences: int = 6,
        unshuffle: int = 1,
        coordinates: bool = False,
        attention: bool = True,
    ) -> None:
        super().__init__(stride=16, unshuffle=unshuffle, coordinates=coordinates)
        w, tail = width, tail or max(4, width // 2)
        self.recurrences = recurrences
        self.first = PartialConv2d(self.colours + self.places, w, 7, stride=2)
        self.first_norm = nn.BatchNorm2d(w)
        self.second = PartialConv2d(w, w, 7)
        self.second_norm = nn.BatchNorm2d(w)
        self.ring = nn.ModuleList([PartialConv2d(w, w, 7), PartialConv2d(w, w, 7)])
        self.ring_norm = nn.BatchNorm2d(w)
        self.reason = Reason(w, attention=attention)
        self.grow = nn.ConvTranspose2d(w, w, 4, stride=2, padding=1, bias=False)
        self.grow_norm = nn.BatchNorm2d(w)
        self.join = PartialConv2d(self.colours + w, tail, 3)
        self.polish = Bottleneck(tail, max(1, tail // 4))
        self.to_rgb = nn.Conv2d(2 * tail, self.colours, 3, padding=1, bias=False)

    def complete(self, image: Tensor, mask: Tensor) -> Completion:
        picture, hole, places = self.enter(image, mask)
        known_pixels = 1 - hole.repeat(1, 3, 1, 1)
        known = torch.cat([known_pixels, torch.ones_like(places)], dim=1)
        # coordinates are known everywhere, so they alone must not make a place known
        x, _ = self.first(torch.cat([picture, places], dim=1), known)
        seen = (F.avg_pool2d(known_pixels.mean(dim=1, keepdim=True), 7, 2, 3) > 1e-6).float()
        x = F.relu(self.first_norm(x))
        x, seen = self.second(x, seen)
        x = F.relu(self.second_norm(x))
        total, weight = x * seen, seen
        before = None
        for _ in range(self.recurrences):
            for layer in self.ring:
                x, seen = layer(x, seen)
            x = F.leaky_relu(self.ring_norm(x), 0.01)
            x, before = self.reason(x, seen, before)
            x = x * seen
            total, weight = total + x, weight + seen
        merged = total / weight.clamp_min(1e-6)
        up = F.leaky_relu(self.grow_norm(self.grow(merged)), 0.01)
        seen = F.interpolate(seen, scale_factor=2.0, mode="nearest")
        both = torch.cat([known_pixels, seen.expand(-1, up.shape[1], -1, -1)], dim=1)
        y, _ = self.join(torch.cat([picture, up.to(picture.dtype)], dim=1), both)
        y = F.leaky_relu(y, 0.01)
        fill = self.to_rgb(torch.cat([y, F.relu(y + self.polish(y))], dim=1))
        return Completion(fill=self.leave(fill))


class RFRObjective(Objective):
    """L1 on known pixels and, six times stronger, in the hole; perceptual and style loss of the raw and of the composed
    picture, at the pooling layers of VGG-16; total variation in the hole. No critics (§3.4).

    The weights are the paper's, that of the total variation the authors' release's. Pictures are in 0..1 there too.
    """

    WEIGHTS: ClassVar = {"valid": 1.0, "hole": 6.0, "perceptual": 0.05, "style": 120.0, "variation": 0.1}
    FEATURES = 3

    def judge(self, made: Completion, target: Target, *, adversarial: bool) -> Judgement:
        raw, composed = self.seen(made.fill, target, own="full"), self.seen(made.fill, target, own="local")
        # both along the channels, so that a close-up shows the same place of both
        both, twice = torch.cat([raw, composed], dim=1), torch.cat([target.truth, target.truth], dim=1)
        seen, seen_real = self.look(both, twice, target)
        with torch.no_grad():
            real = self._pooled(seen_real[:, :3])
        views = [self._pooled(picture) for picture in seen.split(3, dim=1)]
        difference = (raw - target.truth).abs()
        terms = {
            "valid": (difference * (1 - target.mask)).mean(),
            "hole": (difference * target.mask).mean(),
            "perceptual": torch.stack([_l1(view, real) for view in views]).sum(),
            "style": torch.stack([losses.style(view, real) for view in views]).sum(),
            "variation": losses.total_variation(composed * target.mask),
        }
        return self.verdict(terms, ())

    def _pooled(self, picture: Tensor) -> list[Tensor]:
        assert self.vgg is not None
        # undoes VGG's own normalisation: the weights are for features of pictures in 0..1 as they are, which the authors'
        # release takes; those of normalised pictures are four times larger and would weigh style, a square, 19 times as much
        plain = picture * self.vgg.std + self.vgg.mean
        return [F.max_pool2d(features, 2) for features in self.features(plain)]


def _l1(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.stack([(x.float() - y.float()).abs().mean() for x, y in zip(a, b, strict=True)]).sum()


NETWORK = RFRNet
OBJECTIVE = RFRObjective
