"""Who the faces are, as far as the data and the pictures say: source and rights tier, how far turned, how dark the skin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from vidunmask import geometry
from vidunmask.training.pack import Pack
from vidunmask.training.synthesis.head_surface import fit_pose
from vidunmask.types import ByteArray, FloatArray

GROUPINGS = ("type", "yaw", "tone", "tier", "source")
_YAWS = ((15.0, "under 15°"), (30.0, "15° to 30°"), (60.0, "30° to 60°"), (180.0, "over 60°"))
# Individual typology angle, limits after Chardon et al., Int. J. Cosmetic Science 13(4), 1991, and Del Bino et al., 2006.
_TONES = (
    (-30.0, "dark"),
    (10.0, "brown"),
    (28.0, "tan"),
    (41.0, "intermediate"),
    (55.0, "light"),
    (91.0, "very light"),
)
_HAIR = 25.0  # L*: a spot this much darker than the lightest is hair or hard shadow
_COLOURLESS = 4.0  # chroma of a photo in black and white
ORDER = tuple(name for _, name in (*_YAWS, *reversed(_TONES)))  # in which groups are shown; others by name


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of one face of a pack."""

    photo: str
    tier: str
    source: str
    yaw: float  # degrees, positive to the right of the picture
    ita: float | None  # degrees, None for a photo without colour

    @property
    def groups(self) -> dict[str, str]:
        """The group in each of GROUPINGS but the type of mask."""
        turned = next(name for limit, name in _YAWS if abs(self.yaw) <= limit)
        tone = "no colour" if self.ita is None else next(name for limit, name in _TONES if self.ita <= limit)
        return {"yaw": turned, "tone": tone, "tier": self.tier, "source": self.source}


def as_turned(person: Person, yaws: tuple[float, ...] | None, index: int) -> Person:
    """A person whose head may have been turned for the measurement, with the others of a `Chunk`."""
    return person if yaws is None else replace(person, yaw=yaws[index])


def people(folder: Path, pack: Pack, rows: np.ndarray) -> dict[int, Person]:
    """Who stands in some rows of a pack."""
    table = np.load(folder / "faces.npz")
    photo, tier, source = (table[name] for name in ("photo", "tier", "source"))
    yaws = fit_pose(torch.from_numpy(pack.landmarks[rows]).float()).yaw.rad2deg().tolist()
    margin = (pack.side - geometry.CROP_SIZE) // 2
    found = {}
    for row, yaw in zip(rows.tolist(), yaws, strict=True):
        picture = pack.images[np.array([row])][0, ..., :3]  # of a built dataset the photo's channels come first
        image = np.ascontiguousarray(picture[margin : pack.side - margin, margin : pack.side - margin])
        tone = typology_angle(image, pack.landmarks[row] - margin)
        found[row] = Person(str(photo[row]), str(tier[row]), str(source[row]), round(yaw, 1), tone)
    return found


def typology_angle(image: ByteArray, landmarks: FloatArray) -> float | None:
    """The individual typology angle of the skin, arctan((L* - 50) / b*) in degrees: about 55 and more for the lightest skin,
    below -30 for the darkest. None for a picture without colour.

    image (S, S, 3) RGB without a mask, landmarks (68, 2). Measured on the forehead and on the cheeks under the eyes, which a
    mask leaves free. From a photo it says as much of the light as of the skin: good for grouping, not for a person.
    """
    right, left = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    apart = float(np.linalg.norm(left - right))
    down = np.array([-(left - right)[1], (left - right)[0]]) / max(apart, 1e-6)
    spots = [(right, 0.4), (left, 0.4), (landmarks[[21, 22]].mean(axis=0), -0.35), (landmarks[19], -0.3), (landmarks[24], -0.3)]
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    seen = []
    for centre, offset in spots:
        disc = np.zeros(image.shape[:2], np.uint8)
        x, y = np.round(centre + offset * apart * down).astype(int).tolist()
        cv2.circle(disc, (x, y), max(2, round(0.1 * apart)), 1, -1)
        skin = lab[disc > 0]
        if len(skin) < 9:
            continue
        # Hair and shine: the darkest third and the brightest tenth of a spot do not count.
        low, high = np.percentile(skin[:, 0], (33, 90))
        seen.append(np.median(skin[(skin[:, 0] >= low) & (skin[:, 0] <= high)], axis=0))
    if not seen:
        return None
    colours = np.array(seen)  # (N, 3) L*, a*, b*
    colours = colours[colours[:, 0] > colours[:, 0].max() - _HAIR]
    if float(np.median(np.hypot(colours[:, 1], colours[:, 2]))) < _COLOURLESS:
        return None
    angles = np.degrees(np.arctan2(colours[:, 0] - 50, np.maximum(colours[:, 2], 0.1)))
    return round(float(np.median(angles)), 1)
