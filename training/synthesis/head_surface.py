"""A head in three dimensions behind every photo, on whose surface garments lie, and its drawing into the picture.

Lengths are in distances between the eyes, x to the right of the picture, y down, z towards the viewer, the origin at the top of
the nose bridge (dlib landmark 27). A surface is a chart of two coordinates: the angle ``phi`` about the head (0 in front,
positive to the right of the picture, pi/2 at the ear) and ``t`` down the profile (0 at the nose bridge, 0.33 at the tip of the
nose, 1 at the chin, then back under the chin and down the throat).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# The mean of FaceMesh v2's points over 585 near-frontal training photos, made symmetric; dlib order.
HEAD = (
    (-1.114, 0.092, -1.149), (-1.108, 0.318, -1.232), (-1.092, 0.553, -1.251), (-1.057, 0.801, -1.221),
    (-0.990, 1.062, -1.140), (-0.890, 1.266, -0.989), (-0.625, 1.544, -0.687), (-0.362, 1.716, -0.462),
    (0.000, 1.792, -0.357), (0.362, 1.716, -0.462), (0.625, 1.544, -0.687), (0.890, 1.266, -0.989),
    (0.990, 1.062, -1.140), (1.057, 0.801, -1.221), (1.092, 0.553, -1.251), (1.108, 0.318, -1.232),
    (1.114, 0.092, -1.149), (-0.916, -0.203, -0.359), (-0.823, -0.287, -0.225), (-0.677, -0.333, -0.117),
    (-0.477, -0.324, -0.024), (-0.241, -0.290, 0.023), (0.241, -0.290, 0.023), (0.477, -0.324, -0.024),
    (0.677, -0.333, -0.117), (0.823, -0.287, -0.225), (0.916, -0.203, -0.359), (0.000, 0.000, 0.000),
    (0.000, 0.234, 0.143), (0.000, 0.434, 0.312), (0.000, 0.560, 0.347), (-0.210, 0.690, -0.002),
    (-0.136, 0.739, 0.025), (0.000, 0.751, 0.052), (0.136, 0.739, 0.025), (0.210, 0.690, -0.002),
    (-0.693, 0.023, -0.361), (-0.600, -0.043, -0.253), (-0.445, -0.050, -0.224), (-0.274, 0.059, -0.276),
    (-0.417, 0.070, -0.245), (-0.570, 0.072, -0.274), (0.274, 0.059, -0.276), (0.445, -0.050, -0.224),
    (0.600, -0.043, -0.253), (0.693, 0.023, -0.361), (0.570, 0.072, -0.274), (0.417, 0.070, -0.245),
    (-0.430, 1.046, -0.299), (-0.245, 0.966, -0.041), (-0.128, 0.943, 0.022), (0.000, 0.966, 0.033),
    (0.128, 0.943, 0.022), (0.245, 0.966, -0.041), (0.430, 1.046, -0.299), (0.243, 1.228, -0.118),
    (0.131, 1.266, -0.073), (0.000, 1.279, -0.065), (-0.131, 1.266, -0.073), (-0.243, 1.228, -0.118),
    (-0.392, 1.048, -0.269), (-0.108, 1.044, -0.075), (0.000, 1.050, -0.061), (0.108, 1.044, -0.075),
    (0.392, 1.048, -0.269), (0.107, 1.117, -0.094), (0.000, 1.123, -0.081), (-0.107, 1.117, -0.094),
)  # fmt: skip
# Pose comes from jaw, nose and eyes, which speech moves least; the shape of the person from the 21 landmarks of §4.1.
POSE = (*range(17), *range(27, 48))
SHAPE = (*range(17), *range(27, 31))

# The tight hull of the lower head down the profile: centre y and z, and at the side half width x, y and z.
_KNOTS = (-0.35, 0.0, 0.15, 0.33, 0.60, 0.90, 1.00, 1.12, 1.30, 1.70, 2.40)
_CENTRE_Y = (-0.45, 0.00, 0.24, 0.58, 1.08, 1.62, 1.83, 1.95, 2.08, 2.70, 3.80)
_CENTRE_Z = (0.02, 0.02, 0.16, 0.37, 0.11, -0.19, -0.38, -0.64, -0.98, -1.20, -1.05)
_SIDE_X = (1.13, 1.12, 1.12, 1.11, 1.07, 0.98, 0.92, 0.86, 0.82, 0.86, 1.30)
_SIDE_Y = (-0.40, 0.06, 0.28, 0.58, 1.00, 1.42, 1.56, 1.70, 1.92, 2.60, 3.60)
_SIDE_Z = (-1.15, -1.17, -1.21, -1.25, -1.24, -1.16, -1.12, -1.14, -1.25, -1.45, -1.40)
ROWS, COLUMNS = 27, 45
MAX_ANGLE = 1.85  # radians: charts reach behind the ears


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Where the head is: a scaled orthographic camera, and how the person differs from the mean head."""

    rotation: Tensor  # (B, 3, 3) head to camera
    scale: Tensor  # (B,) pixels an eye distance
    offset: Tensor  # (B, 2) pixels, of the origin
    residual: Tensor  # (B, 21, 2) pixels, of the landmarks SHAPE

    def of(self, index: Tensor) -> Pose:
        """The poses of some of the pictures."""
        return Pose(self.rotation[index], self.scale[index], self.offset[index], self.residual[index])

    @property
    def yaw(self) -> Tensor:
        """(B,) radians, to the right of the picture where positive."""
        return torch.asin(self.rotation[:, 0, 2].clamp(-1, 1))

    @property
    def roll(self) -> Tensor:
        """(B,) radians, clockwise in the picture; by the head's vertical axis, since in profile the other one is a point."""
        return torch.atan2(-self.rotation[:, 0, 1], self.rotation[:, 1, 1])


def fit_pose(landmarks: Tensor) -> Pose:
    """The pose of the mean head that explains landmarks (B, 68, 2) in pixels, by least squares.

    The affine camera has a closed form; the nearest matrix with orthogonal rows of one length is its polar factor.
    """
    head = landmarks.new_tensor(HEAD)
    model, seen = head[list(POSE)], landmarks[:, list(POSE)]
    middle, seen_middle = model.mean(0), seen.mean(1, keepdim=True)
    affine = (torch.linalg.pinv(model - middle) @ (seen - seen_middle)).transpose(1, 2)  # (B, 2, 3)
    gram = affine @ affine.transpose(1, 2)
    det = (gram[:, 0, 0] * gram[:, 1, 1] - gram[:, 0, 1] ** 2).clamp_min(1e-8).sqrt()
    identity = torch.eye(2, device=gram.device, dtype=gram.dtype)
    trace = gram[:, 0, 0] + gram[:, 1, 1]
    root = (gram + det[:, None, None] * identity) / (trace + 2 * det).sqrt()[:, None, None]
    rows = torch.linalg.solve(root, affine)
    rotation = torch.cat([rows, torch.linalg.cross(rows[:, 0], rows[:, 1])[:, None]], 1)
    scale = 0.5 * (root[:, 0, 0] + root[:, 1, 1])
    offset = seen_middle[:, 0] - scale[:, None] * (rows @ middle)
    explained = scale[:, None, None] * (head[list(SHAPE)] @ rows.transpose(1, 2)) + offset[:, None]
    return Pose(rotation, scale, offset, landmarks[:, list(SHAPE)] - explained)


def profile(t: Tensor) -> Tensor:
    """(5, ...) the hull at profile coordinate t (...): centre y and z, side x, y and z; Catmull-Rom between the knots."""
    knots = t.new_tensor(_KNOTS)
    table = t.new_tensor((_CENTRE_Y, _CENTRE_Z, _SIDE_X, _SIDE_Y, _SIDE_Z))
    slope = torch.zeros_like(table)
    slope[:, 1:-1] = (table[:, 2:] - table[:, :-2]) / (knots[2:] - knots[:-2])
    slope[:, 0], slope[:, -1] = slope[:, 1], slope[:, -2]
    i = torch.bucketize(t.clamp(_KNOTS[0], _KNOTS[-1] - 1e-4).contiguous(), knots, right=True) - 1
    width = knots[i + 1] - knots[i]
    x = (t - knots[i]) / width
    a, b = table[:, i], table[:, i + 1]
    return (
        (1 + 2 * x) * (1 - x) ** 2 * a + x * x * (3 - 2 * x) * b
        + width * (x * (1 - x) ** 2 * slope[:, i] - x * x * (1 - x) * slope[:, i + 1])
    )  # fmt: skip


def chart(t_low: Tensor, t_high: Tensor, rows: int = ROWS, columns: int = COLUMNS) -> tuple[Tensor, Tensor]:
    """Angles (1, 1, columns) and profile coordinates (B, rows, 1) of a lattice that reaches from t_low to t_high (B,)."""
    phi = torch.linspace(-MAX_ANGLE, MAX_ANGLE, columns, device=t_low.device, dtype=t_low.dtype)
    step = torch.linspace(0, 1, rows, device=t_low.device, dtype=t_low.dtype)
    return phi[None, None], (t_low[:, None] + (t_high - t_low)[:, None] * step)[..., None]


def drape(phi: Tensor, t: Tensor, *, tent: Tensor, ridge: Tensor, flare: Tensor) -> Tensor:
    """Points (B, R, C, 3) of a cloth drawn tight about the lower head, at the lattice of `chart`.

    ``tent`` (B,) 0..1 goes from a round section to straight lines from a ridge to the ears, ``ridge`` (B,) rounds that ridge,
    ``flare`` (B,) widens the section near and under the chin.
    """
    tent, ridge, flare = (p[:, None, None] for p in (tent, ridge, flare))
    centre_y, centre_z, side_x, side_y, side_z = profile(t)  # each (B, R, 1)
    side_x = side_x * (1 + flare * torch.sigmoid((t - 0.85) * 8))
    r = phi.sin().abs()
    straight = ((r * r + ridge * ridge).sqrt() - ridge) / ((1 + ridge * ridge).sqrt() - ridge)
    depth = tent * straight + (1 - tent) * (1 - (1 - r * r).clamp_min(0).sqrt())
    behind = phi.abs() > torch.pi / 2
    z = torch.where(behind, side_z + 0.6 * phi.cos(), centre_z + (side_z - centre_z) * depth)
    x = side_x * phi.sin() + 0 * z
    y = centre_y + (side_y - centre_y) * r**1.5 + 0 * z
    return torch.stack([x, y, z], -1)


def place(points: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
    """Head points (B, R, C, 3) in the picture, and how the surface lies there.

    Returns pixels (B, R, C, 2) and unit vectors (B, 3, R, C, 3) in the camera's frame: across, down and outwards.
    """
    turned = points @ pose.rotation.transpose(1, 2)[:, None]
    xy = pose.scale[:, None, None, None] * turned[..., :2] + pose.offset[:, None, None]
    anchors = points.new_tensor(HEAD)[list(SHAPE)]
    distance = torch.cdist(points.flatten(1, 2), anchors.expand(len(points), -1, -1)).square()  # (B, R*C, 21)
    weight = torch.exp(-distance / (2 * 0.45**2)) + 1e-4
    shift = (weight @ pose.residual) / (weight.sum(-1, keepdim=True) + 0.15)
    xy = xy + shift.view_as(xy)
    du = turned[:, :, 2:] - turned[:, :, :-2]
    dv = turned[:, 2:] - turned[:, :-2]
    du = torch.cat([du[:, :, :1], du, du[:, :, -1:]], 2)
    dv = torch.cat([dv[:, :1], dv, dv[:, -1:]], 1)
    across, down = F.normalize(du, dim=-1), F.normalize(dv, dim=-1)
    return xy, torch.stack([across, down, F.normalize(torch.linalg.cross(across, down, dim=-1), dim=-1)], 1)


def unfold(xy: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
    """Folds what the surface hides outwards into a band along its outline, so that no two points share a pixel.

    xy (B, R, C, 2) pixels; upright to the head, x may only grow with the column away from the middle, and y with the row.
    Returns the pixels and which vertices are in sight (B, R, C), 1 or 0: with them the outline is cut within the band, between
    pixels.
    """
    cos, sin = pose.roll.cos()[:, None, None], pose.roll.sin()[:, None, None]
    step = 0.005 * pose.scale[:, None, None]  # a third of a pixel of a 256-pixel crop
    x, y = xy[..., 0] * cos + xy[..., 1] * sin, xy[..., 1] * cos - xy[..., 0] * sin
    middle = x.shape[2] // 2
    ramp = torch.arange(middle + 1, device=x.device, dtype=x.dtype) * step
    right, last = (x[:, :, middle:] - ramp).cummax(2)
    left, first = (-x[:, :, : middle + 1].flip(2) - ramp).cummax(2)
    flat_x = torch.cat([-(left + ramp).flip(2), (right + ramp)[:, :, 1:]], 2)
    # at the height of the outline: rows rise towards the ears, and behind a chin that recedes they would cover the cheek
    y = y.gather(2, torch.cat([middle - first.flip(2), middle + last[:, :, 1:]], 2))
    ramp = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[:, None] * step
    flat_y = (y - ramp).cummax(1).values + ramp
    seen = ((flat_x - x).abs() < 2 * step) & ((flat_y - y).abs() < 2 * step)
    return torch.stack([flat_x * cos - flat_y * sin, flat_x * sin + flat_y * cos], -1), seen.to(x.dtype)


def rasterise(xy: Tensor, size: int, stride: int) -> Tensor:
    """The chart coordinates under every pixel: (B, size, size, 2) in -1..1 for grid_sample, (-2, -2) off the surface.

    xy (B, R, C, 2) pixels of the vertices. Triangles are drawn on a raster ``stride`` times coarser, and the coordinates are
    interpolated from there: they are smooth, edges are cut from the texture.
    """
    batch, rows, columns, _ = xy.shape
    raster = size // stride
    p = (xy - (stride - 1) / 2) / stride
    a, b, c, d = p[:, :-1, :-1], p[:, :-1, 1:], p[:, 1:, :-1], p[:, 1:, 1:]
    corners = torch.stack([a, b, c, d]).flatten(2, 3)  # (4, B, Q, 2)
    low, high = corners.amin(0).ceil(), corners.amax(0).floor()
    visible = ((high >= low) & (high >= 0) & (low <= raster - 1)).all(-1)  # (B, Q)
    extent = torch.where(visible[..., None], high - low, 0.0).amax((0, 1)).clamp_max(16)
    span = [int(e) + 1 for e in extent.tolist()]  # pixels of the largest cell, x and y
    index = visible.flatten().nonzero()[:, 0]
    corners = corners.flatten(1, 2)[:, index]  # (4, N, 2)
    low = low.flatten(0, 1)[index]
    cells = torch.arange(rows * columns, device=xy.device).view(rows, columns)[:-1, :-1].flatten().repeat(batch)[index]
    image = index // ((rows - 1) * (columns - 1))
    px = low[:, None, None, 0] + torch.arange(span[0], device=xy.device)  # (N, 1, w)
    py = low[:, None, None, 1].transpose(1, 2) + torch.arange(span[1], device=xy.device)[:, None]  # (N, h, 1)
    a, b, c, d = corners[:, :, None, None].unbind(0)

    def inside(o: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        u, v = u - o, v - o
        det = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
        det = torch.where(det.abs() < 1e-5, 1e-5, det)
        x, y = px - o[..., 0], py - o[..., 1]
        return (x * v[..., 1] - y * v[..., 0]) / det, (y * u[..., 0] - x * u[..., 1]) / det

    edge = -1e-3
    s, t = inside(a, b, c)
    upper = (s >= edge) & (t >= edge) & (s + t <= 1 - edge)
    s2, t2 = inside(d, c, b)
    lower = (s2 >= edge) & (t2 >= edge) & (s2 + t2 <= 1 - edge)
    s, t = torch.where(upper, s, 1 - s2), torch.where(upper, t, 1 - t2)
    hit = (upper | lower) & (px >= 0) & (px < raster) & (py >= 0) & (py < raster)
    u = ((cells % columns)[:, None, None] + s) * (2 / (columns - 1)) - 1
    v = ((cells // columns)[:, None, None] + t) * (2 / (rows - 1)) - 1
    where = ((image[:, None, None] * raster + py) * raster + px).long()
    field = xy.new_full((2, batch * raster * raster), -2.0)
    where = where[hit]
    field[0, where], field[1, where] = u[hit], v[hit]
    return _grow(field.view(2, batch, raster, raster).transpose(0, 1), size)


def _grow(field: Tensor, size: int) -> Tensor:
    """Chart coordinates (B, 2, r, r) at full size; the mean of its neighbours fills one ring about the surface."""
    covered = (field[:, :1] > -1.5).to(field.dtype)
    total = F.avg_pool2d(torch.cat([field * covered, covered], 1), 3, 1, 1)
    filled = torch.where(covered > 0, field, total[:, :2] / total[:, 2:].clamp_min(1e-6))
    known = torch.cat([torch.where(total[:, 2:] > 0, filled, 0.0), covered], 1)
    if field.shape[-1] != size:
        known = F.interpolate(known, size=(size, size), mode="bilinear", align_corners=False)
    return torch.where(known[:, 2:] > 0.25, known[:, :2], -2.0).permute(0, 2, 3, 1)
