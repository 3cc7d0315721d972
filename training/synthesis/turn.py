"""Photos of heads turned further than people turn them for a photographer, made by warping the photo over a head's depth.

Of 8,282 training photos none shows a face turned by more than 40 degrees, while people in videos look aside all the time. The
photo is lifted onto the mean head of `head_surface`, turned about its vertical axis and drawn again; the side that comes into
view is the stretched cheek, and what the nose hides is left out. Good enough to show a network where a mask, a nose and a
jaw go when a head turns, not to look at. What the photo shows beyond the far cheek, often hair, would lie stretched before the
face: ground from another photo takes its place more often than not.

Near profile a crop aligned by the eyes means nothing, since they draw together. The pipeline then lays its crop by the height
of the detector's box about eyes, nose and mouth, which sways; here it is laid by the height from the eyes to the mouth, and
sways too.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidunmask import geometry
from vidunmask.training.pack import Jitter
from vidunmask.training.synthesis.head_surface import HEAD, Pose, fit_pose, profile, rasterise, unfold
from vidunmask.types import FloatArray

LATTICE = 49  # vertices a side over twice the picture's
PIVOT = (0.0, 0.5, -1.2)  # eye distances, on the axis through the neck
ANGLES = (12.0, 92.0)  # degrees to turn by
MOST = 100.0  # degrees of the turned head: people look past the camera, and further eyes vanish
PROFILE = (55.0, 75.0)  # degrees of the head over which alignment as a profile takes over
_SWAY = 2.0  # times as much jitter in profile, in shift and scale
_LEAN = 4.0  # times as much in angle: neither flow nor landmarks hold a profile's way up, and crops lean by up to 28 degrees
_TEAR = 0.1  # of half the photo's side: what lies side by side and came from further apart lies on an outline
_SIGMA = 0.22  # eye distances over which the depth of a point reaches
_GROUND_FROM = 40.0  # degrees of the head from which the ground before the face may be another
_GROUND = 0.7  # of these heads
_CORNER = 0.3  # of a photo's side: such a corner of it makes a ground
_NECK = (1.9, 2.3)  # eye distances below the eyes over which the ground gives way to what a photo shows beside a neck
_EASE = 0.1  # how far the surface may pass beside a point, for the sake of its neighbours
# Points of FaceMesh v2 between those of `HEAD`, where without them the surface was wrong most: wings of the nose, cheeks.
# The mean of 400 near-frontal training photos, made symmetric; the half to the right of the picture.
_BETWEEN = (
    (0.079, 0.655, 0.301), (0.145, 0.636, 0.254), (0.205, 0.348, -0.029), (0.382, 0.358, -0.167), (0.487, 0.548, -0.156),
    (0.779, 0.530, -0.280), (0.869, 0.995, -0.559), (0.789, 1.286, -0.641), (0.907, 1.151, -0.751), (1.001, 0.963, -0.867),
    (1.048, 0.751, -0.897), (1.077, 0.525, -0.900), (1.088, 0.312, -0.870),
)  # fmt: skip


def turn_some(
    images: Tensor,
    landmarks: Tensor,
    valid: Tensor,
    generator: torch.Generator,
    *,
    share: float,
    jitter: Jitter,
) -> tuple[Tensor, Tensor, Tensor]:
    """Turns a ``share`` 0..1 of the faces of a batch and aligns them again as the pipeline would, with ``jitter``.

    images (B, 3, S, S) in 0..1, landmarks (B, 68, 2) dlib order in pixels and valid (B, 1, S, S) as `pack.draw_batch` gives
    them; the same are returned. The draws are made on the CPU, as in `draw_batch`.
    """
    if share <= 0:
        return images, landmarks, valid
    count = len(images)
    chosen = torch.rand(count, generator=generator) < share
    angle = torch.deg2rad(ANGLES[0] + (ANGLES[1] - ANGLES[0]) * torch.rand(count, generator=generator))
    side = torch.where(torch.rand(count, generator=generator) < 0.5, 1.0, -1.0)
    errors = jitter.draw(count, generator)
    other, size, gain = torch.rand(3, count, generator=generator)
    corner = torch.randint(4, (count,), generator=generator)
    index = chosen.nonzero()[:, 0]
    if not len(index):
        return images, landmarks, valid
    device = images.device
    pose = fit_pose(landmarks[index])
    yaw = pose.yaw
    side = torch.where(yaw.abs() > 0.1, yaw.sign(), side[index].to(device))
    by = side * torch.minimum(angle[index].to(device), (math.radians(MOST) - yaw.abs()).clamp_min(0))
    in_profile = _in_profile(yaw + by).cpu()
    sway, lean = 1 + (_SWAY - 1) * in_profile, 1 + (_LEAN - 1) * in_profile
    scale, tilt, shift = (error[index] for error in errors)
    noise = similarities(images.shape[-1], scale**sway, tilt * lean, shift * sway[:, None])
    far = (yaw + by).abs() > math.radians(_GROUND_FROM)
    swapped = far & (other[index] < _GROUND).to(device)
    grounds = ground(images[(index + 1) % count], corner[index], 2 ** (2.5 * size[index]), 2 ** (2.5 * gain[index] - 1.25))
    turned = turn(images[index], landmarks[index], valid[index], pose, by, noise, grounds, swapped)
    results = []
    for whole, part in zip((images, landmarks, valid), turned, strict=True):
        whole = whole.clone()
        whole[index.to(device)] = part
        results.append(whole)
    return results[0], results[1], results[2]


def turn(
    images: Tensor,
    landmarks: Tensor,
    valid: Tensor,
    pose: Pose,
    angle: Tensor,
    jitter: Tensor,
    grounds: Tensor,
    swapped: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The faces turned by ``angle`` (B,) radians, to the right of the picture where positive; see `turn_some`.

    jitter (B, 2, 3): a similarity in pixels about the crop's centre that follows the exact alignment. grounds (B, 3, S, S):
    what is seen before the face, above the neck, where ``swapped`` (B,).
    """
    size = images.shape[-1]
    span = torch.linspace(-2, 2, LATTICE, device=images.device, dtype=images.dtype)
    y, x = torch.meshgrid(span, span, indexing="ij")
    lattice = (torch.stack([x, y], -1) * 0.5 + 0.5) * (size - 1)  # (R, R, 2) pixels
    xy = _lifted(lattice.expand(len(images), -1, -1, -1), torch.zeros_like(x), pose)[..., :2]
    z, belongs = _depth(xy)
    head = torch.cat([xy, z[..., None]], -1)
    source = _seen(head, pose, torch.zeros_like(angle))
    moved = torch.lerp(source, _seen(head, pose, angle), belongs[..., None])  # far from the head pixels stay
    points = _seen(_lifted(landmarks[:, None], images.new_tensor(HEAD)[:, 2], pose), pose, angle)[:, 0]
    profile_share = _in_profile(pose.yaw + angle).tolist()
    exact = np.stack(
        [
            _aligned(face, size, roll, share)
            for face, roll, share in zip(points.double().cpu().numpy(), pose.roll.tolist(), profile_share, strict=True)
        ]
    )
    to_crop = torch.from_numpy(
        np.stack([geometry.compose(a, b) for a, b in zip(exact, jitter.double().numpy(), strict=True)])
    ).to(images)
    moved = moved @ to_crop[:, None, :, :2].transpose(2, 3) + to_crop[:, None, None, :, 2]
    points = points @ to_crop[:, :, :2].transpose(1, 2) + to_crop[:, None, :, 2]
    upright = torch.eye(3, device=moved.device, dtype=moved.dtype).expand(len(moved), 3, 3)
    flat, _ = unfold(moved, Pose(upright, pose.scale, pose.offset, pose.residual))
    grid, drawn = _whole(rasterise(flat, size, 2))
    seen = (flat - moved)[..., 0].abs() < 0.01 * pose.scale[:, None, None]
    before = _before(xy, belongs, angle) * swapped[:, None, None]
    grid, before = _behind(grid, seen, source * (2 / (size - 1)) - 1, before)
    inside = (grid.abs() <= 1).all(-1)[:, None] & drawn
    picture = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
    reach = F.max_pool2d(torch.cat([grid, -grid], 3).permute(0, 3, 1, 2), 3, 1, 1)
    outline = (reach[:, :2] + reach[:, 2:]).amax(1, keepdim=True) > _TEAR
    picture = torch.where(outline, F.avg_pool2d(picture, 3, 1, 1, count_include_pad=False), picture)
    known = F.grid_sample(valid, grid, mode="nearest", padding_mode="zeros", align_corners=True) * inside
    before = F.avg_pool2d(before, 3, 1, 1, count_include_pad=False)
    return torch.lerp(picture, grounds, before), points, torch.maximum(known, (before > 0.5).to(known))


def ground(photos: Tensor, corner: Tensor, times: Tensor, gain: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) of what may lie behind a head: a ``corner`` (B,) 0..3 of photos (B, 3, S, S), where there is
    seldom a face, ``times`` (B,) as large, mirrored on and on, and ``gain`` (B,) as bright.
    """
    size = photos.shape[-1]
    part = max(2, round(_CORNER * size))
    first = [((size - part) * (c >> 1), (size - part) * (c & 1)) for c in corner.tolist()]
    corners = [photo[:, row : row + part, column : column + part] for photo, (row, column) in zip(photos, first, strict=True)]
    span = (torch.arange(size, device=photos.device, dtype=photos.dtype) * 2 + 1) / part - 1
    place = (span / times.to(photos)[:, None])[:, None].expand(-1, size, -1)
    grid = torch.stack([place, place.transpose(1, 2)], -1)
    tiled = F.grid_sample(torch.stack(corners), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return (tiled * gain.to(photos)[:, None, None, None]).clamp(0, 1)


def _before(xy: Tensor, belongs: Tensor, angle: Tensor) -> Tensor:
    """Which points xy (B, R, C, 2) of the photo lie before a face that turns by ``angle`` (B,), 0..1 (B, R, C): what is not of
    the head on the side that it turns to, above the neck."""
    x, y = xy.unbind(-1)
    low, high = _NECK
    aside = (x * angle.sign()[:, None, None] / 0.3).clamp(0, 1)
    return (belongs < 1) * aside * ((high - y) / (high - low)).clamp(0, 1)


def _in_profile(yaw: Tensor) -> Tensor:
    """How far (B,) 0..1 heads at yaw (B,) radians are aligned as profiles."""
    return ((yaw.abs().rad2deg() - PROFILE[0]) / (PROFILE[1] - PROFILE[0])).clamp(0, 1)


def _aligned(points: FloatArray, size: int, roll: float, profile_share: float) -> FloatArray:
    """The (2, 3) to_crop of turned landmarks (68, 2): by `geometry.align`, or as a profile, or between the two.

    A profile is upright by the head's own ``roll``, by its height from the eyes to the mouth `geometry.PROFILE_SCALE` times as
    large as the canonical face, and has its eyes, nose and mouth about where that has them.
    """
    by_landmarks = geometry.similarity_parameters(geometry.align(points))
    if profile_share == 0:
        return geometry.resize(geometry.similarity_from_parameters(by_landmarks), size)
    here, there = _five(points), _five(geometry.TEMPLATE68)
    down = np.array([-math.sin(roll), math.cos(roll)])
    height = max(float((here[3:].mean(axis=0) - here[:2].mean(axis=0)) @ down), 1e-3)
    scale = geometry.PROFILE_SCALE * (there[3:, 1].mean() - there[:2, 1].mean()) / height
    cos, sin = scale * math.cos(roll), scale * math.sin(roll)
    linear = np.array([[cos, sin], [-sin, cos]])
    upright = np.concatenate([linear, (there.mean(axis=0) - linear @ here.mean(axis=0))[:, None]], axis=1)
    as_profile = geometry.similarity_parameters(upright)
    as_profile[3] -= 2 * math.pi * round((as_profile[3] - by_landmarks[3]) / (2 * math.pi))
    mixed = by_landmarks + profile_share * (as_profile - by_landmarks)
    return geometry.resize(geometry.similarity_from_parameters(mixed), size)


def _five(points: FloatArray) -> FloatArray:
    """Eyes, tip of the nose and corners of the mouth (5, 2) among landmarks (68, 2)."""
    return np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])


def _whole(grid: Tensor) -> tuple[Tensor, Tensor]:
    """Lattice coordinates (B, S, S, 2) with the holes closed that very stretched cells leave, and where there were none.

    Every pixel without a cell gets the mean of those within a dozen pixels, or else the place it has in the unturned picture.
    """
    place = grid.permute(0, 3, 1, 2)
    drawn = place[:, :1] > -1.5  # (B, 1, S, S)
    known = drawn.to(grid.dtype)
    small = F.avg_pool2d(F.avg_pool2d(torch.cat([place * known, known], 1), 4), 7, 1, 3)
    sums = F.interpolate(small, size=grid.shape[1:3], mode="bilinear", align_corners=False)
    span = torch.linspace(-0.5, 0.5, grid.shape[1], device=grid.device, dtype=grid.dtype)
    y, x = torch.meshgrid(span, span, indexing="ij")
    nearby = torch.where(sums[:, 2:] > 1e-3, sums[:, :2] / sums[:, 2:].clamp_min(1e-3), torch.stack([x, y]))
    return torch.where(drawn, place, nearby).permute(0, 2, 3, 1), drawn


def _behind(grid: Tensor, seen: Tensor, source: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Where in the photo every pixel comes from, (B, S, S, 2), by its lattice coordinates ``grid`` (B, S, S, 2), and how far it
    lies before the face, (B, 1, S, S).

    source (B, R, C, 2): where the vertices come from; before (B, R, C): as `_before` has it. In the place of one that is not
    ``seen`` (B, R, C) stands what comes next outwards: the ground behind the face goes on up to its outline, and nothing is
    seen of what is folded away there.
    """
    count = seen.shape[-1]
    column = torch.arange(count, device=seen.device)
    right = torch.where(seen, column, count - 1).flip(2).cummin(2).values.flip(2)
    outer = torch.where(column < count // 2, torch.where(seen, column, 0).cummax(2).values, right)
    source = torch.cat([source, before[..., None]], 3)
    place = torch.cat([source.gather(2, outer[..., None].expand_as(source)), (outer != column)[..., None].to(source)], 3)
    between, near = (
        F.grid_sample(place.permute(0, 3, 1, 2), grid, mode=mode, padding_mode="border", align_corners=True)
        for mode in ("bilinear", "nearest")
    )
    torn = (between[:, 3:] > 0) & ((between - near)[:, :2].abs().amax(1, keepdim=True) > _TEAR)
    place = torch.where(torn, near, between)  # on one side of the outline or the other
    return place[:, :2].permute(0, 2, 3, 1), place[:, 2:3]


def _lifted(pixels: Tensor, z: Tensor, pose: Pose) -> Tensor:
    """Points of the head (B, R, C, 3) at the depths z (R, C) that are seen at pixels (B, R, C, 2) of the photo."""
    plane = (pixels - pose.offset[:, None, None]) / pose.scale[:, None, None, None]
    across = torch.linalg.inv(pose.rotation[:, :2, :2])[:, None]
    xy = (plane - pose.rotation[:, None, None, :2, 2] * z[..., None]) @ across.transpose(2, 3)
    return torch.cat([xy, z.expand(xy.shape[:-1])[..., None]], -1)


def _seen(head: Tensor, pose: Pose, angle: Tensor) -> Tensor:
    """Pixels (B, R, C, 2) at which points of the head (B, R, C, 3) are seen once it is turned by ``angle`` (B,)."""
    x, y, z = (head - head.new_tensor(PIVOT)).unbind(-1)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turned = torch.stack([x * cos + z * sin, y, z * cos - x * sin], -1) + head.new_tensor(PIVOT)
    return (
        pose.scale[:, None, None, None] * (turned @ pose.rotation.transpose(1, 2)[:, None])[..., :2]
        + pose.offset[:, None, None]
    )


def _depth(xy: Tensor) -> tuple[Tensor, Tensor]:
    """Depth (B, R, C) of a head at xy (B, R, C, 2), eye distances, and how far a point belongs to it, 1 on the head to 0."""
    z, belongs = _hull(xy)
    features = _features().to(xy)
    weight = torch.exp(-torch.cdist(xy.flatten(0, 2), features[:, :2]).square() / (2 * _SIGMA**2))
    return z + (weight @ features[:, 2]).view_as(z), belongs


@functools.cache
def _features() -> Tensor:
    """Places and heights (N, 3) of the bumps that make a face with nose, lips and cheeks of the smooth hull."""
    half = torch.tensor(_BETWEEN)
    points = torch.cat([torch.tensor(HEAD), half, half[half[:, 0] > 0] * torch.tensor([-1.0, 1.0, 1.0])])
    xy = points[:, :2]
    reach = torch.exp(-torch.cdist(xy, xy).square() / (2 * _SIGMA**2)) + _EASE * torch.eye(len(xy))
    return torch.cat([xy, torch.linalg.solve(reach, points[:, 2] - _hull(xy)[0])[:, None]], 1)


def _hull(xy: Tensor) -> tuple[Tensor, Tensor]:
    """`_depth` of a round head without features, at xy (..., 2); above the brows it is an ellipsoid, below the chin a neck."""
    x, y = xy.unbind(-1)
    centre_y, centre_z, side_x, side_y, side_z = profile(torch.linspace(-0.35, 2.4, 56, device=xy.device, dtype=xy.dtype))
    middle, half, edge = _at(y, centre_y, centre_z), _at(y, side_y, side_x), _at(y, side_y, side_z)
    above = ((-0.45 - y) / 1.65).clamp(0, 1)  # of the way from the brows to the crown
    round_off = (1 - above * above).clamp_min(0.02).sqrt()
    middle = middle - 0.9 * (1 - round_off)
    half = half * (0.15 + 0.85 * round_off)
    r = (x.abs() / half).clamp_max(1)
    z = middle + (edge - middle) * (1 - (1 - r * r).clamp_min(0).sqrt())
    outside = ((x.abs() - half).clamp_min(0) + (-2.1 - y).clamp_min(0)) / 0.9
    return z, torch.exp(-2 * outside * outside)


def _at(y: Tensor, known_y: Tensor, values: Tensor) -> Tensor:
    """Values (N,) at rising known_y (N,), read at y of any shape by linear interpolation; constant beyond the ends."""
    i = torch.bucketize(y.contiguous(), known_y).clamp(1, len(known_y) - 1)
    share = ((y - known_y[i - 1]) / (known_y[i] - known_y[i - 1])).clamp(0, 1)
    return values[i - 1] + share * (values[i] - values[i - 1])


def similarities(size: int, scale: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """Similarities (B, 2, 3) in pixels that turn and scale about a crop's centre and then shift."""
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    linear = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    centre = torch.full((2,), (size - 1) / 2)
    return torch.cat([linear, (centre + shift - linear @ centre)[:, :, None]], 2)
