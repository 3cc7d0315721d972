"""GatedConv: Yu et al., Free-form image inpainting with gated convolution (ICCV 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.networks.layers import PlainAttention
from vidunmask.training import losses
from vidunmask.training.completion import Completion, Rival, full_precision, shrink_mask
from vidunmask.training.discriminators import SNPatchDiscriminator
from vidunmask.training.objectives import Judgement, Objective, Target

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"width": 24},
    "compact": {"width": 14, "deep": 48, "unshuffle": 2, "coordinates": True},
    "tiny": {"width": 4, "unshuffle": 2, "coordinates": True},
}
ATTENTION = True
DILATIONS = (2, 4, 8, 16)


class Gate(nn.Module):
    """Gated convolution (§3.1): ``act(features) * sigmoid(gates)``, ELU by default; twice the size first if ``grow``."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        grow: bool = False,
        activation: Callable[[Tensor], Tensor] = F.elu,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(channels_in, 2 * channels_out, kernel, stride=stride, padding=padding, dilation=dilation)
        # Twice the usual size: gates start half open and ELU takes its part, and 33 such layers in a row must not let the
        # picture fade away before anything is learned. The paper does not say how it starts.
        nn.init.normal_(self.conv.weight, std=2 * (channels_in * kernel**2) ** -0.5)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)
        self.grow = grow
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        if self.grow:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        features, gates = self.conv(x).chunk(2, dim=1)
        return self.activation(features) * torch.sigmoid(gates)


class ContextualAttention(nn.Module):
    """Copies patches from outside the hole to where they fit (Yu et al., CVPR 2018, §4.1; used in §3.2 here); shape kept.

    Features (B, C, H, W) at even H and W are compared as 3 x 3 patches at half the size by cosine similarity, times the norm of
    the patch that asks, as the authors have it. The similarities are smoothed along diagonals in both scan orders, so that
    neighbours copy from neighbours, and each place is rebuilt as the softmax-weighted mean of 4 x 4 patches of the original
    features. Patches that touch the hole are never copied from.
    """

    SHARPNESS = 10.0

    def forward(self, x: Tensor, hole: Tensor) -> Tensor:
        with full_precision(x):
            return self._attend(x.float(), hole.float())

    def _attend(self, x: Tensor, hole: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        rows, columns = height // 2, width // 2
        small = F.interpolate(x, size=(rows, columns), mode="nearest")
        patches = F.unfold(small, 3, padding=1)  # (B, 9 C, N)
        keys = F.normalize(patches, dim=1, eps=1e-4)
        scores = keys.transpose(1, 2) @ patches  # (B, N from, N to)

        shape = (batch, rows, columns, rows, columns)
        scores = _smooth_diagonals(scores)
        scores = scores.view(shape).permute(0, 2, 1, 4, 3).reshape(batch, rows * columns, rows * columns)
        scores = _smooth_diagonals(scores)
        scores = scores.view(batch, columns, rows, columns, rows).permute(0, 2, 1, 4, 3).reshape(batch, rows * columns, -1)

        share = shrink_mask(hole, (rows, columns))
        known = (F.max_pool2d(share, 3, stride=1, padding=1) == 0).float().flatten(2).transpose(1, 2)  # (B, N, 1)
        weights = torch.softmax(scores * known * self.SHARPNESS, dim=1) * known
        sources = F.unfold(x, 4, stride=2, padding=1)  # (B, 16 C, N)
        return F.fold(sources @ weights, (height, width), 4, stride=2, padding=1) / 4  # four patches overlap everywhere


def _smooth_diagonals(scores: Tensor) -> Tensor:
    """Scores (B, N, N) plus those of the next and of the previous place at the next and the previous source."""
    padded = F.pad(scores, (1, 1, 1, 1))
    return padded[:, :-2, :-2] + scores + padded[:, 2:, 2:]


def _encoder(channels: int, widths: Sequence[int], *, last: Callable[[Tensor], Tensor] = F.elu) -> list[nn.Module]:
    """Six layers down to a quarter of the size (Fig. 3)."""
    a, b, c, d, e, f = widths
    return [
        Gate(channels, a, kernel=5),
        Gate(a, b, stride=2),
        Gate(b, c),
        Gate(c, d, stride=2),
        Gate(d, e),
        Gate(e, f, activation=last),
    ]


def _dilated(channels: int) -> list[nn.Module]:
    """Four layers that see ever farther."""
    return [Gate(channels, channels, dilation=rate) for rate in DILATIONS]


def _decoder(channels: int, deep: int, width: int, colours: int) -> list[nn.Module]:
    """Two layers, and four more up to the full size and to colours in -1..1."""
    return [
        Gate(channels, deep),
        Gate(deep, deep),
        Gate(deep, 2 * width, grow=True),
        Gate(2 * width, 2 * width),
        Gate(2 * width, width, grow=True),
        Gate(width, width // 2),
        nn.Conv2d(width // 2, colours, 3, padding=1),
        nn.Tanh(),
    ]


class GatedConvNet(Rival):
    """Two gated stages (Fig. 3): a coarse network, then a refinement whose two branches, one dilated and one with contextual
    attention, meet in one decoder.

    Preset ``paper`` has 4.05M parameters; the paper counts 4.1M. width: channels after the first gate; the authors' release
    says 48 and counts features and gates together. deep: channels at the smallest size, four times the width by default.
    attention=False puts a 3 x 3 convolution in the place of contextual attention.
    """

    def __init__(
        self, *, width: int, deep: int | None = None, unshuffle: int = 1, coordinates: bool = False, attention: bool = True
    ) -> None:
        super().__init__(stride=8, unshuffle=unshuffle, coordinates=coordinates)
        w, d = width, deep or 4 * width
        ladder, slim, look = (w, 2 * w, 2 * w, d, d, d), (w, w, 2 * w, 2 * w, d, d), (w, w, 2 * w, d, d, d)
        channels = self.colours + self.places
        self.coarse = nn.Sequential(
            *_encoder(channels + self.masks + 1, ladder), *_dilated(d), *_decoder(d, d, w, self.colours)
        )
        self.hallucinate = nn.Sequential(*_encoder(channels, slim), *_dilated(d))
        self.look = nn.Sequential(*_encoder(channels, look, last=F.relu))
        self.attention = ContextualAttention() if attention else PlainAttention(d)
        self.after = nn.Sequential(Gate(d, d), Gate(d, d))
        self.refine = nn.Sequential(*_decoder(2 * d, d, w, self.colours))

    def complete(self, image: Tensor, mask: Tensor) -> Completion:
        known, hole, places = self.enter(image, mask)
        ones = torch.ones_like(hole[:, :1])  # tells the border, which is padded with zeros, from the picture
        coarse = self.coarse(torch.cat([known, ones, hole, places], dim=1))
        whole = hole.repeat(1, 3, 1, 1)  # the mask of each colour behind space-to-depth
        pasted = torch.cat([torch.lerp(known, coarse.to(known.dtype), whole), places], dim=1)
        looked = self.look(pasted)
        if isinstance(self.attention, ContextualAttention):
            looked = self.attention(looked, hole).to(looked.dtype)
        else:
            looked = self.attention(looked)
        fill = self.refine(torch.cat([self.hallucinate(pasted), self.after(looked)], dim=1))
        return Completion(fill=self.leave(fill), coarse=self.leave(coarse))


class GatedConvObjective(Objective):
    """L1 of both stages over the whole picture, and the hinge loss of SN-PatchGAN on the composed picture with its mask (§3.3).

    The paper's L1 is on pictures in -1..1; ours are in 0..1, hence 2 for its 1.
    """

    WEIGHTS: ClassVar = {"reconstruction": 2.0, "coarse": 2.0, "adversarial": 1.0}

    def make_critics(self, width: int) -> list[nn.Module]:
        return [SNPatchDiscriminator(channels=4, width=width)]

    def judge(self, made: Completion, target: Target, *, adversarial: bool) -> Judgement:
        assert made.coarse is not None
        whole, composed = self.seen(made.fill, target, own="full"), self.seen(made.fill, target, own="local")
        terms = {
            "reconstruction": losses.reconstruction(whole, target.truth, self.area(target, own="full")),
            "coarse": losses.reconstruction(
                self.seen(made.coarse, target, own="full"), target.truth, self.area(target, own="full")
            ),
        }
        pairs = ((torch.cat([target.truth, target.mask], dim=1), torch.cat([composed, target.mask], dim=1)),)
        return self.verdict(terms, pairs if adversarial else ())

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -fake.mean()

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


NETWORK = GatedConvNet
OBJECTIVE = GatedConvObjective
