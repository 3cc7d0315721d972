"""Masks that were drawn when the dataset was built, in the place of a synthesizer that draws them during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vidunmask.training.masked_faces import MaskSynthesizer, SynthesizedBatch
from vidunmask.training.pack import Pack
from vidunmask.training.synthesis.dice import Dice
from vidunmask.training.synthesis.garments import PARAMETERS


class StoredMasks(MaskSynthesizer):
    """Takes the batches that `pack.draw_batch` draws from a built dataset apart; shapes and cloth are used as they are stored.

    ``camera`` 0..1 is what else happens to the picture, as for the synthesizer.
    """

    def __init__(self, layers: Sequence[str], *, camera: float = 1.0) -> None:
        super().__init__(camera=camera, occlusion=0.0)
        self.layers = tuple(layers)

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        landmarks: Tensor,
        generator: torch.Generator,
        *,
        kinds: Sequence[str] | None = None,
        shapes_only: bool = False,
        with_truth: bool = True,
    ) -> SynthesizedBatch:
        """images (B, C, S, S) with the channels of ``layers`` and the kind. ``kinds`` is not heeded: they are what they are.

        A layer that was not read is made of the others: the truth with a grey mask for ``masked``, and that for ``truth``.
        ``parameters`` are 0; the manifest has them.
        """
        channels = [1 if layer == "mask" else 3 for layer in self.layers]
        if images.shape[1] != sum(channels) + 1:
            raise ValueError(f"images have {images.shape[1]} channels, expected those of {', '.join(self.layers)} and the kind")
        *pictures, code = images.split([*channels, 1], dim=1)
        found = dict(zip(self.layers, pictures, strict=True))
        mask = found["mask"]
        truth = found["truth"] if "truth" in found else found["masked"]
        masked = found["masked"] if "masked" in found else torch.lerp(truth, torch.full_like(truth, 0.5), mask)
        kind = (code[:, 0, 0, 0] * 255).round().long()
        if not shapes_only:
            pair = torch.stack([masked, truth], 1) if with_truth else masked[:, None].clone()
            pair = self.camera(pair, Dice(generator, images.device, len(images)))
            masked, truth = pair[:, 0], pair[:, 1] if with_truth else truth
        return SynthesizedBatch(masked, mask, truth, kind, mask.new_zeros(len(mask), len(PARAMETERS)))


def masks_for(pack: Pack, *, templates: Path | None = None, camera: float = 1.0) -> MaskSynthesizer:
    """What gives the faces of a pack their masks: those stored with them, or a synthesizer that draws them."""
    if "mask" in pack.layers:
        # what was photographed badly when it was built is not photographed again
        return StoredMasks(pack.layers, camera=0.0 if pack.camera else camera)
    return MaskSynthesizer(templates_folder=templates, camera=camera)
