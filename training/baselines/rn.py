"""RN: Yu et al., Region normalization for image inpainting (AAAI 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidunmask.training import losses
from vidunmask.training.completion import Completion, Rival, shrink_mask
from vidunmask.training.discriminators import PatchDiscriminator
from vidunmask.training.objectives import Judgement, Objective, Target

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"width": 64},
    "compact": {"width": 24, "unshuffle": 2, "coordinates": True},
    "tiny": {"width": 4, "blocks": 2, "unshuffle": 2, "coordinates": True},
}
ATTENTION = False
EPSILON = 1e-5


def normalise_regions(x: Tensor, region: Tensor) -> Tensor:
    """Each channel of x (B, C, H, W) with mean 0 and variance 1 inside the region (B, 1, H, W), 0 or 1, and outside it, by
    itself (eq. 3 to 5); float32.

    As in the authors' release epsilon grows as the region shrinks: a region of a few pixels that are all alike would else
    multiply its gradient by 300 in every layer.
    """
    x, region = x.float(), region.float()
    result = torch.zeros_like(x)
    for part in (region, 1 - region):
        area = part.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
        share = area / (x.shape[2] * x.shape[3])
        mean = (x * part).sum(dim=(2, 3), keepdim=True) / area
        centred = (x - mean) * part
        variance = centred.square().sum(dim=(2, 3), keepdim=True) / area
        result = result + centred * torch.rsqrt(variance + EPSILON / share)
    return result


class BasicRN(nn.Module):
    """RN-B (§3.3): the regions are hole and known, each with its own affine parameters for every channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(2, channels))  # known, hole
        self.beta = nn.Parameter(torch.zeros(2, channels))

    def forward(self, x: Tensor, hole: Tensor) -> Tensor:
        region = (shrink_mask(hole, (x.shape[2], x.shape[3])) >= 0.5).to(self.gamma.dtype)
        gamma = torch.lerp(self.gamma[0][:, None, None], self.gamma[1][:, None, None], region)  # (B, C, H, W)
        beta = torch.lerp(self.beta[0][:, None, None], self.beta[1][:, None, None], region)
        return (normalise_regions(x, region) * gamma + beta).to(x.dtype)


class LearnableRN(nn.Module):
    """RN-L (§3.3): the regions are where a learned response to the features' mean and maximum exceeds a threshold, and the
    affine parameters are maps made of that response, alike for all channels."""

    def __init__(self, threshold: float = 0.8, kernel: int = 7) -> None:
        super().__init__()
        self.threshold = threshold
        self.response = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.gamma = nn.Conv2d(1, 1, kernel, padding=kernel // 2)
        self.beta = nn.Conv2d(1, 1, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)  # (B, 2, H, W)
        response = torch.sigmoid(self.response(pooled))
        normalised = normalise_regions(x, response.detach() > self.threshold)
        return (normalised * (1 + self.gamma(response)) + self.beta(response)).to(x.dtype)


class Residual(nn.Module):
    """Two 3 x 3 convolutions, the first dilated by two, each with RN-L, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, padding_mode="reflect")
        self.first_norm = LearnableRN()
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.second_norm = LearnableRN()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))


class RNNet(Rival):
    """EdgeConnect's generator with region normalisation: RN-B in the encoder, which knows the hole, RN-L behind it (Fig. 3).

    Preset ``paper`` has 11.6M parameters, as the paper counts; nine tenths are the eight residual blocks. Statistics are those
    of each picture, as the paper's equations have them; the authors' release takes them over the batch. width: channels of
    the first layer.
    """

    def __init__(self, *, width: int, blocks: int = 8, unshuffle: int = 1, coordinates: bool = False) -> None:
        super().__init__(stride=4, unshuffle=unshuffle, coordinates=coordinates)
        w = width
        # behind space-to-depth the finest mask has several channels and no longer shows in one region map
        channels = self.colours + self.places + (self.masks if unshuffle > 1 else 0)
        self.encoder = nn.ModuleList(
            [
                nn.Conv2d(channels, w, 7, padding=3, padding_mode="reflect"),
                nn.Conv2d(w, 2 * w, 4, stride=2, padding=1),
                nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1),
            ]
        )
        self.encoder_norms = nn.ModuleList(BasicRN(c) for c in (w, 2 * w, 4 * w))
        self.middle = nn.Sequential(*(Residual(4 * w) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            *(nn.Conv2d(4 * w, 8 * w, 3, padding=1), nn.PixelShuffle(2), LearnableRN(), nn.ReLU()),
            *(nn.Conv2d(2 * w, 4 * w, 3, padding=1), nn.PixelShuffle(2), LearnableRN(), nn.ReLU()),
            nn.Conv2d(w, self.colours, 7, padding=3, padding_mode="reflect"),
            nn.Tanh(),
        )

    def complete(self, image: Tensor, mask: Tensor) -> Completion:
        known, hole, places = self.enter(image, mask)
        # the paper's input has white holes and no mask beside the picture
        x = torch.cat([known + hole.repeat(1, 3, 1, 1), places], dim=1)
        if self.unshuffle > 1:
            x = torch.cat([x, hole], dim=1)
        for layer, norm in zip(self.encoder, self.encoder_norms, strict=True):
            x = F.relu(norm(layer(x), hole))
        return Completion(fill=self.leave(self.decoder(self.middle(x))))


class RNObjective(Objective):
    """L1 on the composed picture, per pixel of hole, and a plain critic on the raw output, with the authors' weights."""

    WEIGHTS: ClassVar = {"reconstruction": 1.0, "adversarial": 0.1}

    def make_critics(self, width: int) -> list[nn.Module]:
        return [PatchDiscriminator(width=width)]

    def judge(self, made: Completion, target: Target, *, adversarial: bool) -> Judgement:
        composed = self.seen(made.fill, target, own="local")
        terms = {"reconstruction": losses.reconstruction(composed, target.truth, self.area(target, own="local"))}
        pairs = ((target.truth, self.seen(made.fill, target, own="full")),) if adversarial else ()
        return self.verdict(terms, pairs)

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()  # -log sigmoid: the non-saturating GAN

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


NETWORK = RNNet
OBJECTIVE = RNObjective
