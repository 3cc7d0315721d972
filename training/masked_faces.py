"""Face masks drawn on photos in batched torch, on the fly (paper §4.1: five kinds, placed by 21 landmarks).

The steps, whose parts are in `synthesis`: the head's pose is fitted to the landmarks (`head_surface`); a mask is cut, coloured
and formed on a chart of the head (`garments`); the light that falls on the face is fitted and falls on the mask (`lighting`);
the chart is drawn into the picture with a shadow under it and sometimes something in front of it (`occluders`); the same camera
takes the picture with and without the mask (`degrade`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.training.synthesis import occluders
from vidunmask.training.synthesis.degrade import Camera
from vidunmask.training.synthesis.dice import Alike, Dice
from vidunmask.training.synthesis.garments import PLAIN_TEXTURE, TEXTURE, Garment, Sources, gather
from vidunmask.training.synthesis.head_surface import MAX_ANGLE, Pose, chart, drape, fit_pose, place, rasterise, unfold
from vidunmask.training.synthesis.lighting import Light, fit_light, shade, sun_and_shade
from vidunmask.training.synthesis.mask_kinds import DRAWN, scarf
from vidunmask.training.synthesis.templates import load_templates, template

KINDS = ("none", "surgical", "cloth", "n95", "kn95", "scarf", "template")  # `SynthesizedBatch.kind` indexes this
SHARES = (0.12, 0.27, 0.23, 0.14, 0.13, 0.09, 0.12)  # of the mixture; without templates the others divide their share


@dataclass(frozen=True, slots=True, eq=False)
class SynthesizedBatch:
    """Photos with masks drawn on them and what is under the masks.

    ``masked`` and ``truth`` agree outside the mask, but for the narrow shadow that the mask throws on the face, and where the
    camera's blur and block compression spread the mask's colour over a few pixels. What else is drawn (hands, glasses, a loose
    scarf) is in both.
    """

    masked: Tensor  # (B, 3, H, W) float 0..1
    mask: Tensor  # (B, 1, H, W) float 0..1, 1 = face mask to remove, straps too; soft over about a pixel at its boundary
    truth: Tensor  # (B, 3, H, W) float 0..1, the photo through the same camera without a mask
    kind: Tensor  # (B,) int64, index into KINDS; 0 = the picture holds no mask
    parameters: Tensor  # (B, len(PARAMETERS)) how the garment was drawn, see `garments.PARAMETERS`


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A garment's surface in the picture."""

    grid: Tensor  # (B, S, S, 2) chart coordinates under every pixel, for grid_sample
    xy: Tensor  # (B, R, C, 2) pixels of the vertices
    frame: Tensor  # (B, 3, R, C, 3) directions across, down, outwards
    seen: Tensor  # (B, R, C)

    def sample(self, texture: Tensor) -> Tensor:
        """A texture (B, C, H, W) as seen in the picture (B, C, S, S); 0 off the surface."""
        return F.grid_sample(texture, self.grid, mode="bilinear", padding_mode="zeros", align_corners=True)

    def in_sight(self, alpha: Tensor) -> Tensor:
        """A texture's alpha (B, H, W) without what the head itself hides."""
        return alpha * F.interpolate(self.seen[:, None], size=alpha.shape[1:], mode="bilinear", align_corners=True)[:, 0]


class MaskSynthesizer:
    """Draws masks on aligned photos; every random choice comes from the generator that the call is given.

    ``templates_folder`` adds pictures of masks and of cloth (see `templates`). ``camera`` 0..1 is how bad the camera may be: 1
    for segmentation, about 0.3 for inpainting, 0 leaves the photo as it is. ``occlusion`` scales how often something is in
    front.
    """

    def __init__(self, *, templates_folder: str | Path | None = None, camera: float = 1.0, occlusion: float = 1.0) -> None:
        self.camera = Camera(camera)
        self.occlusion = occlusion
        self._templates = load_templates(Path(templates_folder)) if templates_folder else None

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
        alike: bool = False,
        prints: Tensor | None = None,
    ) -> SynthesizedBatch:
        """Draws masks on images (B, 3, S, S) float 0..1 whose landmarks (B, 68, 2), dlib order, are in pixels of the image.

        ``kinds`` restricts the draw to some of KINDS, in equal shares; by default it is the mixture of SHARES. ``shapes_only``
        fills masks of the same shapes with one colour and leaves out bare faces, light, cloth, occluders and camera: for
        inpainting, which never sees the mask's pixels. Without ``with_truth`` the camera takes only the masked picture, which
        saves a quarter of the time, and ``truth`` is what it would have seen. The batch is the same for the same state of the
        generator, on one kind of device. ``alike`` makes the same choices for every picture of the batch: one mask, which
        frames of a clip wear if the generator starts each batch in the same state and ``prints`` (K, 3, T, T), the pictures
        that prints are cut from, stays the same; by default they are the batch itself. Raises ValueError for a wrong shape or
        an unknown kind.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ValueError(f"images are {tuple(images.shape)}, expected (B, 3, S, S)")
        dice = (Alike if alike else Dice)(generator, images.device, len(images))
        landmarks = landmarks.to(images.device, images.dtype)
        pose = fit_pose(landmarks)
        kind = self._kinds(dice, kinds, bare=not shapes_only)
        garment = self._dress(dice, kind, images if prints is None else prints, pose, plain=shapes_only)
        layer = _lay_on(garment, pose, images.shape[-1], stride=4 if shapes_only else 2)
        if shapes_only:
            mask = layer.sample(layer.in_sight(garment.alpha)[:, None]) * (kind > 0)[:, None, None, None]
            return SynthesizedBatch(torch.lerp(images, garment.colour, mask), mask, images, kind, garment.parameters)
        light = fit_light(images, layer.xy, layer.frame, layer.seen, garment, dice)
        painted, alpha = _paint(garment, layer, light, images.shape[-1], dice)
        worn = (kind > 0).to(images.dtype)[:, None, None, None]
        hangs = dice.chance(0.25)[:, None, None, None] & (kind == 0)[:, None, None, None]  # a scarf about the neck is no mask
        truth = torch.lerp(images, painted, alpha * hangs)
        mask = occluders.behind_hair(alpha * worn, images, light.skin.mean(1), _angle(layer), dice, share=0.7 * self.occlusion)
        masked = torch.lerp(_shaded(truth, mask, layer, light, dice), painted, mask)
        patches = sun_and_shade(images.shape[-1], dice, share=0.15 * self.camera.strength)
        truth, masked = truth * patches, masked * patches
        truth, masked, mask = self._occlude(truth, masked, mask, landmarks, pose, light, dice)
        pair = torch.stack([masked, truth], 1) if with_truth else masked[:, None]
        pair = self.camera(pair, dice)
        return SynthesizedBatch(pair[:, 0], mask, pair[:, 1] if with_truth else truth, kind, garment.parameters)

    def photograph(self, scenes: Tensor, generator: torch.Generator) -> Tensor:
        """Scenes (B, N, 3, S, S) as the synthesizer's camera takes them; the N of a sample share every random choice."""
        return self.camera(scenes.clone(), Dice(generator, scenes.device, len(scenes)))

    def _kinds(self, dice: Dice, kinds: Sequence[str] | None, *, bare: bool) -> Tensor:
        if kinds is None:
            shares = list(SHARES)
            if self._templates is None:
                shares[KINDS.index("template")] = 0.0
            if not bare:
                shares[0] = 0.0
            return dice.choose(shares)
        unknown = set(kinds) - set(KINDS)
        if unknown:
            raise ValueError(f"kinds {sorted(unknown)} are unknown, expected some of {', '.join(KINDS)}")
        if "template" in kinds and self._templates is None:
            raise ValueError("kind template needs a templates_folder")
        return dice.choose([float(name in kinds) for name in KINDS])

    def _dress(self, dice: Dice, kind: Tensor, photos: Tensor, pose: Pose, *, plain: bool) -> Garment:
        """One garment for each picture, drawn kind by kind; some prints are pieces of ``photos``."""
        templates = self._templates.to(photos.device) if self._templates else None
        sources = Sources(PLAIN_TEXTURE if plain else TEXTURE, plain, photos, templates)
        garments, order = [], []
        for number in kind.unique().tolist():
            chosen = (kind == number).nonzero()[:, 0]
            some = dice.of(len(chosen))
            if KINDS[number] == "none":
                garments.append(scarf(some, sources, loose=True))
            elif KINDS[number] == "template":
                garments.append(template(some, sources, turned=pose.rotation[chosen, 0, 2]))
            else:
                garments.append(DRAWN[KINDS[number]](some, sources))
            order.append(chosen)
        return gather(garments, torch.cat(order).argsort())

    def _occlude(
        self, truth: Tensor, masked: Tensor, mask: Tensor, landmarks: Tensor, pose: Pose, light: Light, dice: Dice
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Hands, things and glasses in front of some of the pictures, with and without the mask alike."""
        what = dice.choose((1 - 0.24 * self.occlusion, 0.1 * self.occlusion, 0.04 * self.occlusion, 0.1 * self.occlusion))
        size = truth.shape[-1]
        truth, masked, mask = truth.clone(), masked.clone(), mask.clone()
        for number in (1, 2, 3):
            chosen = (what == number).nonzero()[:, 0]
            if not len(chosen):
                continue
            some, posed = dice.of(len(chosen)), pose.of(chosen)
            if number == 1:
                colour, alpha = occluders.hand(posed, light.skin[chosen], light.direction[chosen], size, some)
            elif number == 2:
                colour, alpha = occluders.thing(posed, size, some)
            else:
                colour, alpha = occluders.glasses(landmarks[chosen], posed, size, some)
            if number < 3:
                colour = colour * (light.white[chosen][:, :, None, None].clamp_max(1) if number == 2 else 1.0)
            if number < 3:
                shadow = 1 - some.uniform(0.0, 0.5)[:, None, None, None] * _cast(alpha, light.direction[chosen], some)
                truth[chosen], masked[chosen] = truth[chosen] * shadow, masked[chosen] * shadow
            truth[chosen] = truth[chosen] + (colour - truth[chosen]) * alpha
            masked[chosen] = masked[chosen] + (colour - masked[chosen]) * alpha
            mask[chosen] = mask[chosen] * (1 - alpha)
        return truth, masked, mask


def _lay_on(garment: Garment, pose: Pose, size: int, *, stride: int) -> _Layer:
    points = drape(*chart(garment.t_low, garment.t_high), tent=garment.tent, ridge=garment.ridge, flare=garment.flare)
    points = torch.cat([points[..., :2], points[..., 2:] + garment.lift[..., None]], -1)
    xy, frame = place(points, pose)
    xy, seen = unfold(xy, pose)
    return _Layer(rasterise(xy, size, stride), xy, frame, seen)


def _angle(layer: _Layer) -> Tensor:
    """(B, S, S) radians about the head; far beyond the ears off the surface."""
    return layer.grid[..., 0] * MAX_ANGLE


def _paint(garment: Garment, layer: _Layer, light: Light, size: int, dice: Dice) -> tuple[Tensor, Tensor]:
    """The lit garment in the picture: colour (B, 3, S, S) and alpha (B, 1, S, S)."""
    lit = shade(garment, layer.frame, light, dice).mul_(garment.tone)
    seen = layer.sample(torch.cat([garment.colour * lit[:, None], layer.in_sight(garment.alpha)[:, None]], 1))
    patches = F.interpolate(light.patches, size=(size, size), mode="bilinear", align_corners=False)
    even = dice.uniform(0.3, 1.0)[:, None, None, None]
    patches = patches.mul_(1 - even).add_(even)
    haze = dice.uniform(0.0, 0.05)[:, None]  # no cloth is as black as a black pixel
    colour = torch.addcmul(
        (haze * light.white)[:, :, None, None], seen[:, :3] * patches, ((1 - haze) * light.white)[:, :, None, None]
    )
    return colour.clamp_(0, 1), seen[:, 3:]


def _cast(alpha: Tensor, light: Tensor, dice: Dice) -> Tensor:
    """The soft shadow (B, 1, S, S) in 0..1 of what has an alpha (B, 1, S, S), a few pixels away from the light (B, 3)."""
    size = alpha.shape[-1]
    small = F.avg_pool2d(alpha, 4)
    raster = small.shape[-1]
    away = -light[:, :2] * dice.uniform(0.0, 16.0)[:, None] / size  # -1..1 coordinates
    theta = torch.zeros(len(alpha), 2, 3, device=alpha.device, dtype=alpha.dtype)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    theta[:, :, 2] = -away
    moved = F.grid_sample(
        small, F.affine_grid(theta, [len(alpha), 1, raster, raster], align_corners=False), align_corners=False
    )
    soft = F.avg_pool2d(F.avg_pool2d(moved, 3, 1, 1), 3, 1, 1)
    return F.interpolate(soft, size=(size, size), mode="bilinear", align_corners=False)


def _shaded(photo: Tensor, mask: Tensor, layer: _Layer, light: Light, dice: Dice) -> Tensor:
    """The photo (B, 3, S, S) with the shadow that a mask (B, 1, S, S) throws on the skin about it."""
    shadow = _cast(mask, light.direction, dice)
    face = ((_angle(layer).abs() < 1.35) & (layer.grid[..., 1] > -1))[:, None]
    return photo * (1 - dice.uniform(0.0, 0.55)[:, None, None, None] * shadow * face)
