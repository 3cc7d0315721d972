"""The head behind the photo: pose from landmarks, folding of hidden parts, drawing of the chart."""

from __future__ import annotations

import pytest
import torch

from tests.training.test_masked_faces import head_landmarks
from vidunmask.training.synthesis.head_surface import ROWS, Pose, chart, drape, fit_pose, place, rasterise, unfold


@pytest.mark.parametrize(("yaw", "roll"), [(0, 0), (30, 0), (-50, 10), (0, -25)])
def test_the_pose_of_the_mean_head_is_found_exactly(yaw: float, roll: float) -> None:
    pose = fit_pose(head_landmarks(yaw=yaw, roll=roll)[None])
    assert pose.scale.item() == pytest.approx(64, abs=0.01)
    forward = pose.rotation[0, :, 2]
    assert torch.rad2deg(torch.atan2(forward[:2].norm(), forward[2])).item() == pytest.approx(abs(yaw), abs=0.1)
    assert torch.rad2deg(pose.roll).item() == pytest.approx(roll, abs=0.1)
    assert pose.residual.abs().max() < 0.01


@pytest.mark.parametrize("yaw", [-88, -75, 75, 88])
def test_a_head_in_profile_that_looks_down_is_still_upright(yaw: float) -> None:
    """Its horizontal axis is seen from the end, so that only the vertical one tells how it leans."""
    pose = fit_pose(head_landmarks(yaw=yaw, roll=7)[None])
    pitch = torch.deg2rad(torch.tensor(15.0))
    cos, sin = pitch.cos(), pitch.sin()
    nod = torch.tensor([[1.0, 0, 0], [0, cos, -sin], [0, sin, cos]])
    roll = torch.deg2rad(torch.tensor(7.0))
    lean = torch.tensor([[roll.cos(), -roll.sin(), 0], [roll.sin(), roll.cos(), 0], [0, 0, 1]])
    nodding = Pose(lean @ nod @ lean.T @ pose.rotation, pose.scale, pose.offset, pose.residual)
    assert torch.rad2deg(nodding.roll).item() == pytest.approx(7, abs=0.5)


def _surface(yaw: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pose = fit_pose(head_landmarks(yaw=yaw)[None])
    one = torch.ones(1)
    points = drape(*chart(-0.3 * one, 1.35 * one), tent=0.5 * one, ridge=0.2 * one, flare=0 * one)
    xy, frame = place(points, pose)
    flat, seen = unfold(xy, pose)
    return flat, seen, frame


def test_the_surface_faces_the_viewer_in_front_and_aside_at_the_ears() -> None:
    _, _, frame = _surface(0)
    outwards = frame[0, 2, ROWS // 3]
    assert outwards[outwards.shape[0] // 2, 2] > 0.6
    assert outwards[4, 0] < -0.7
    assert outwards[-5, 0] > 0.7


def test_what_the_head_hides_is_folded_to_its_outline() -> None:
    frontal, turned = _surface(0)[1], _surface(45)[1]
    assert frontal[0, ROWS // 3, 8:-8].min() == 1
    far = turned[0, ROWS // 3]
    assert far[-6:].max() == 0  # the far ear
    assert far[8:25].min() == 1
    xy = _surface(45)[0]
    assert (xy[0, :, 1:, 0] - xy[0, :, :-1, 0]).min() > 0.2


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_chart_drawn_into_the_picture_is_the_inverse_of_its_placing(stride: int) -> None:
    rows, columns, size = 9, 13, 64
    y, x = torch.meshgrid(torch.linspace(8, 56, rows), torch.linspace(4, 60, columns), indexing="ij")
    grid = rasterise(torch.stack([x, y], -1)[None], size, stride)[0]
    inside = grid[12:52, 8:56]
    pixels_y, pixels_x = torch.meshgrid(torch.arange(12.0, 52), torch.arange(8.0, 56), indexing="ij")
    torch.testing.assert_close(inside[..., 0], (pixels_x - 32) / 28, atol=1e-3, rtol=0)
    torch.testing.assert_close(inside[..., 1], (pixels_y - 32) / 24, atol=1e-3, rtol=0)
    assert (grid[:2] == -2).all()
