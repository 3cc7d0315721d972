"""Pictures of masks and of cloth from a folder, brought into the coordinates of a mask, and worn."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask.errors import InputError
from vidunmask.training.synthesis import mask_fabrics as fabric
from vidunmask.training.synthesis.dice import Dice, per_sample
from vidunmask.training.synthesis.garments import Garment, Sources, noted, sheet, worn, wrinkles
from vidunmask.training.synthesis.head_surface import chart
from vidunmask.training.synthesis.mask_shapes import lay, random_cut, relief

REACH = (1.25, 0.7)  # a template's texture covers a in ±REACH[0], v in 0.5 ± REACH[1]: room for what hangs over the corners
SIZE = (144, 224)  # rows and columns
CLOTH_SIZE = 192


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """The pictures of a folder."""

    masks: Tensor  # (K, 4, *SIZE) colour and alpha in mask coordinates
    sides: Tensor  # (K,) -1: of a head turned to the left of the picture, 1: to the right, 0: from the front
    fabrics: Tensor | None  # (L, 3, CLOTH_SIZE, CLOTH_SIZE)

    def to(self, device: torch.device) -> Templates:
        """The same on another device."""
        return Templates(
            self.masks.to(device), self.sides.to(device), None if self.fabrics is None else self.fabrics.to(device)
        )


def load_templates(folder: Path) -> Templates:
    """Reads every picture below ``folder``: those with alpha as masks, those without, or named a texture, as cloth.

    Six points of a mask (``mask_a`` to ``mask_f``: its edges left, middle and right, above and below) are taken from any
    ``*.cfg`` in MaskTheFace's format, and otherwise from the outline of the alpha. Raises InputError where the folder holds no
    mask.
    """
    from PIL import Image

    points = key_points(folder)
    masks, sides, fabrics = [], [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"}):
        with Image.open(path) as picture:
            rgba = np.asarray(picture.convert("RGBA"), np.float32) / 255
        solid = rgba[..., 3].mean()
        if "texture" in path.name.lower() or solid > 0.98:
            if rgba[..., :3].std() < 0.02:
                continue  # a picture whose alpha was lost
            flat = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
            fabrics.append(_resize(torch.from_numpy(flat).permute(2, 0, 1), (CLOTH_SIZE, CLOTH_SIZE)))
            continue
        six = points.get(path.name, points.get(path.stem))
        masks.append(_unwrap(rgba, outline_points(rgba[..., 3]) if six is None else six))
        name = path.stem.lower()
        sides.append(-1.0 if name.endswith("_left") else 1.0 if name.endswith("_right") else 0.0)
    if not masks:
        raise InputError(f"{folder}: no mask picture with alpha found; give a folder of PNG files")
    return Templates(torch.stack(masks), torch.tensor(sides), torch.stack(fabrics) if fabrics else None)


def _resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(picture[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]


def key_points(folder: Path) -> dict[str, np.ndarray]:
    """Six points (6, 2) in pixels, by file stem."""
    found = {}
    for path in folder.rglob("*.cfg"):
        config = configparser.ConfigParser()
        try:
            config.read(path)
        except configparser.Error as error:
            raise InputError(f"{path}: not a list of mask key points ({error})") from error
        for section in config.values():
            keys = [f"mask_{letter}" for letter in "abcdef"]
            if all(key in section for key in keys):
                name = Path(section.get("template", section.name)).stem
                found[name] = np.array([[float(n) for n in section[key].split(",")] for key in keys])
    return found


def outline_points(alpha: np.ndarray) -> np.ndarray:
    """Six points (6, 2) from where alpha (H, W) is solid: ends of the columns near both edges and in the middle.

    Thin loops do not count: a column belongs to the mask from a third of the tallest one's height on.
    """
    solid = alpha > 0.5
    tall = solid.sum(0)
    columns = np.flatnonzero(tall >= tall.max() / 3)
    first, last = columns[0], columns[-1]
    inset = round(0.03 * (last - first))
    points = []
    for x in (first + inset, (first + last) // 2, last - inset):
        rows = np.flatnonzero(solid[:, x])
        points.append((x, rows[0], rows[-1]))
    return np.array([(x, top) for x, top, _ in points] + [(x, bottom) for x, _, bottom in points], float)


def _unwrap(rgba: np.ndarray, six: np.ndarray) -> Tensor:
    """The picture as texture (4, *SIZE) in mask coordinates: linear between the points, carried on beyond them."""
    a = torch.linspace(-REACH[0], REACH[0], SIZE[1])
    v = torch.linspace(0.5 - REACH[1], 0.5 + REACH[1], SIZE[0])[:, None]
    p = torch.from_numpy(six).float()

    def edge(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:  # (W, 2)
        return torch.where((a < 0)[:, None], middle + (middle - left) * a[:, None], middle + (right - middle) * a[:, None])

    top, bottom = edge(*p[:3]), edge(*p[3:])
    xy = top[None] + (bottom - top)[None] * v[..., None]
    height, width = rgba.shape[:2]
    grid = (xy + 0.5) / torch.tensor([width, height]) * 2 - 1
    picture = torch.from_numpy(rgba).permute(2, 0, 1)
    picture = torch.cat([picture[:3] * picture[3:], picture[3:]])  # transparent pixels may hold any colour
    shrink = max(1, round(min(height / SIZE[0], width / SIZE[1])))
    if shrink > 1:
        picture = F.avg_pool2d(picture[None], shrink, ceil_mode=True, count_include_pad=False)[0]
    out = F.grid_sample(picture[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    return torch.cat([out[:3] / out[3:].clamp_min(1e-3), out[3:]])


def template(dice: Dice, sources: Sources, turned: Tensor) -> Garment:
    """A picture of a mask, recoloured or covered with cloth; ``turned`` (B,) is the sine of the head's yaw to the right."""
    assert sources.templates is not None
    masks, sides = sources.templates.masks, sources.templates.sides
    on = sheet(dice, sources, -0.3, 1.35)
    cut = worn(
        random_cut(
            dice,
            side=(0.95, 1.25),
            top=(0.06, 0.26),
            top_side=(0.26, 0.44),
            top_power=(1.2, 2.0),
            bottom=(1.0, 1.14),
            bottom_side=(0.68, 0.9),
            bottom_power=(1.6, 2.8),
            tilt=(-0.05, 0.05),
            shift=(-0.05, 0.05),
        ),
        dice,
    )
    laid = lay(cut, on.phi, on.t)
    side = torch.where(turned > 0.35, 1, torch.where(turned < -0.35, -1, 0))[:, None]
    score = dice.rand(len(masks)) + (sides == side).float() - 2.0 * (sides * side < 0) - 2.0 * ((side == 0) & (sides != 0))
    grid = torch.stack(torch.broadcast_tensors(laid.a / REACH[0], (laid.v - 0.5) / REACH[1]), -1)
    texture = F.grid_sample(masks[score.argmax(1)], grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    colour, alpha = texture[:, :3], texture[:, 3]
    bulge, low = dice.uniform(0.0, 0.25), dice.uniform(-0.4, 0.5)
    tent, ridge, flare = dice.uniform(0.3, 0.9), dice.uniform(0.05, 0.4), dice.uniform(-0.1, 0.1)
    lift = relief(lay(cut, *chart(on.t_low, on.t_high)), bulge=bulge, low=low, tent=tent)
    form = (tent, ridge, flare, lift, noted(cut, bulge=bulge, low=low, tent=tent, ridge=ridge, flare=flare))
    if sources.plain:
        middle = (colour * alpha[:, None]).sum((2, 3), keepdim=True) / alpha.sum((1, 2))[:, None, None, None].clamp_min(1)
        return Garment(middle, torch.ones_like(alpha), alpha, torch.zeros_like(alpha), on.t_low, on.t_high, *form)
    grey = colour.mean(1)
    level = (grey * alpha).sum((1, 2)) / alpha.sum((1, 2)).clamp_min(1)
    base = dice.colour(fabric.CLOTH + fabric.SURGICAL, wild=0.3)
    dyed = fabric.dye(base, laid, dice, prints=0.5, photos=sources.photos, fabrics=sources.fabrics)
    redone = dice.chance(0.55)
    tone = torch.where(per_sample(redone), (grey / per_sample(level.clamp_min(0.05))).clamp(0, 1.6), 1.0)
    colour = torch.where(redone[:, None, None, None], dyed, colour)
    return Garment(colour, tone, alpha, wrinkles(laid, dice, amount=(0.0, 0.02)) * alpha, on.t_low, on.t_high, *form)
