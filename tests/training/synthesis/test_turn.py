"""Heads turned by warping photos."""

import pytest
import torch

from tests.training.test_masked_faces import head_landmarks
from vidunmask import geometry
from vidunmask.training.pack import STILL, Jitter
from vidunmask.training.synthesis.head_surface import fit_pose
from vidunmask.training.synthesis.turn import MOST, ground, turn, turn_some

SIZE = 128


@pytest.fixture
def faces():
    """Two pictures whose colours tell where they come from, with the canonical face in them."""
    ramp = torch.linspace(0, 1, SIZE)
    image = torch.stack([ramp.expand(SIZE, SIZE), ramp[:, None].expand(SIZE, SIZE), torch.zeros(SIZE, SIZE)])
    landmarks = torch.from_numpy(geometry.TEMPLATE68).float() * (SIZE / geometry.CROP_SIZE)
    return image.repeat(2, 1, 1, 1), landmarks.repeat(2, 1, 1), torch.ones(2, 1, SIZE, SIZE)


def yaw(landmarks):
    return torch.rad2deg(torch.asin(fit_pose(landmarks).rotation[:, 0, 2]))


def turned(faces, degrees, swapped=False):
    images, landmarks, valid = faces
    same, blue = torch.eye(3)[:2].expand(2, 2, 3), torch.tensor([0.0, 0, 1])[:, None, None].expand_as(images)
    angle = torch.deg2rad(torch.tensor(degrees))
    return turn(images, landmarks, valid, fit_pose(landmarks), angle, same, blue, torch.full((2,), swapped))


def test_a_turn_by_nothing_changes_nothing_but_the_alignment(faces):
    picture, landmarks, _ = turned(faces, [0.0, 0.0])
    moved = (landmarks - faces[1]).norm(dim=-1)
    assert moved.max() < 2.0
    inner = slice(24, -24)
    assert (picture - faces[0])[:, :, inner, inner].abs().max() < 0.05


def test_the_pose_of_the_turned_landmarks_is_the_turn(faces):
    _, landmarks, _ = turned(faces, [30.0, -30.0])
    assert yaw(landmarks)[0] == pytest.approx(30, abs=6)
    assert yaw(landmarks)[1] == pytest.approx(-30, abs=6)


def test_a_head_that_looks_aside_already_turns_as_far_and_keeps_its_shape(faces):
    landmarks = head_landmarks(yaw=20.0, size=SIZE).expand(2, -1, -1)
    _, points, _ = turned((faces[0], landmarks, faces[2]), [40.0, 55.0])
    assert yaw(points).tolist() == pytest.approx([60, 75], abs=2)
    pose = fit_pose(points)
    assert (pose.residual.norm(dim=2) / pose.scale[:, None]).max() < 0.05  # eye distances: nose and jaw as deep as they are


def test_nothing_of_the_cheek_that_turns_away_is_left_along_the_outline(faces):
    landmarks = head_landmarks(size=SIZE).expand(2, -1, -1)
    image, (x, across) = torch.zeros_like(faces[0]), (landmarks[0, 30, 0], torch.arange(SIZE))
    image[:, 0, :, across <= x] = 1  # red is the side that is seen, green the one that is not, blue the ground
    image[:, 1, :, (across > x + 6) & (across < landmarks[0, 16, 0])] = 1
    image[:, 2, :, across >= landmarks[0, 16, 0]] = 1
    picture, points, _ = turned((image, landmarks, faces[2]), [80.0, 80.0])
    face = picture[:, :, int(points[0, 28, 1]) : int(points[0, 57, 1])]
    assert face[:, 0].mean() > 0.3
    assert face[:, 2].mean() > 0.1
    assert face[:, 1].mean() < 0.0005  # a sixteenth of a pixel a row


@pytest.mark.parametrize(("degrees", "points"), [(25.0, (30, 48, 54, 8, 36)), (60.0, (31, 48, 49, 36, 39))])
def test_picture_and_landmarks_turn_alike(faces, degrees, points):
    picture, landmarks, _ = turned(faces, [degrees, -degrees])
    for point in points:  # of nose, mouth, chin and eye: the colours there are still those of their places
        x, y = landmarks[0, point].round().long()
        was = faces[1][0, point] / (SIZE - 1)
        assert picture[0, 0, y, x] == pytest.approx(float(was[0]), abs=0.06)
        assert picture[0, 1, y, x] == pytest.approx(float(was[1]), abs=0.06)


def test_what_lies_beyond_the_photo_is_not_valid(faces):
    _, _, valid = turned(faces, [45.0, 45.0])
    assert 0.5 < valid.mean() < 1
    assert set(valid.unique().tolist()) <= {0.0, 1.0}


def test_turned_faces_are_aligned_as_the_pipeline_does(faces):
    _, landmarks, _ = turned(faces, [35.0, -20.0])
    for face in landmarks.double().numpy():
        again = geometry.align(face, size=SIZE)
        assert abs(again - [[1, 0, 0], [0, 1, 0]]).max() < 0.01 * SIZE


def test_a_profile_is_laid_by_its_height_and_has_its_features_in_the_middle(faces):
    _, landmarks, _ = turned(faces, [85.0, -85.0])
    template = geometry.TEMPLATE68 * (SIZE / geometry.CROP_SIZE)
    for face in landmarks.double().numpy():
        five = [face[[37, 38, 40, 41]].mean(0), face[[43, 44, 46, 47]].mean(0), face[30], face[48], face[54]]
        assert sum(five)[0] / 5 == pytest.approx(SIZE / 2, abs=3)
        height = (five[3][1] + five[4][1]) / 2 - (five[0][1] + five[1][1]) / 2
        canonical = template[[48, 54], 1].mean() - template[36:48, 1].mean()
        assert height == pytest.approx(geometry.PROFILE_SCALE * canonical, rel=0.05)


@pytest.mark.parametrize("degrees", [50.0, 80.0])
def test_other_ground_lies_before_the_face_and_nowhere_else(faces, degrees):
    images, landmarks, valid = faces
    images = images.clone()
    images[:, 2] = 0
    valid = torch.zeros_like(valid)
    faces = images, landmarks, valid
    (before, points, _), (after, same_points, known) = (
        turned(faces, [degrees, -degrees]),
        turned(faces, [degrees, -degrees], True),
    )
    assert torch.equal(points, same_points)
    column = torch.arange(SIZE)
    for index, (face, ahead) in enumerate(zip(points, (1, -1), strict=True)):
        nose = int(face[30, 1])
        beyond = (column - face[30, 0]) * ahead
        assert after[index, 2, nose, beyond > 8].min() > 0.99
        assert known[index, 0, nose, beyond > 8].min() == 1  # known, though the photo was not
        inner = beyond < -3  # of the tip of the nose: the face and what lies behind the head
        assert torch.equal(after[index][:, nose, inner], before[index][:, nose, inner])
        assert known[index, 0, nose, inner].max() == 0
        for point in (36, 48, 4) if ahead > 0 else (45, 54, 12):  # of the side that is seen
            x, y = face[point].round().long()
            assert after[index, 2, y, x] < 0.6


def test_a_ground_is_a_corner_of_a_photo_mirrored_on_and_on():
    photo = torch.rand(1, 3, 100, 100, generator=torch.Generator().manual_seed(1))
    once = ground(photo, torch.tensor([1]), torch.ones(1), torch.ones(1))
    corner = photo[:, :, :30, 70:]
    assert (once[:, :, :30, :30] - corner).abs().max() < 1e-4
    assert (once[:, :, :30, 30:60] - corner.flip(3)).abs().max() < 1e-4
    grey = ground(torch.full((1, 3, 100, 100), 0.4), torch.tensor([2]), torch.tensor([3.0]), torch.tensor([0.5]))
    assert grey.shape == (1, 3, 100, 100)
    assert (grey - 0.2).abs().max() < 1e-5
    bright = ground(torch.full((1, 3, 100, 100), 0.8), torch.tensor([3]), torch.tensor([2.0]), torch.tensor([2.0]))
    assert bright.max() == 1


def test_a_share_of_the_batch_is_turned_and_one_seed_gives_one_result(faces):
    images, landmarks, valid = (part[:1].repeat(32, *[1] * (part.ndim - 1)) for part in faces)
    first = turn_some(images, landmarks, valid, torch.Generator().manual_seed(5), share=0.5, jitter=Jitter())
    again = turn_some(images, landmarks, valid, torch.Generator().manual_seed(5), share=0.5, jitter=Jitter())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    changed = (first[1] != landmarks).flatten(1).any(1)
    assert 8 <= int(changed.sum()) <= 24
    assert torch.equal(first[0][~changed], images[~changed])
    assert yaw(first[1][changed]).abs().min() > 8


def test_a_head_may_look_past_the_profile(faces):
    images, landmarks, valid = (part[:1].repeat(64, *[1] * (part.ndim - 1)) for part in faces)
    _, points, _ = turn_some(images, landmarks, valid, torch.Generator().manual_seed(6), share=1.0, jitter=STILL)
    facing = fit_pose(points).rotation[:, 2, 2]  # below nothing once the face is turned from the camera
    past = facing < 0
    assert 1 <= int(past.sum()) <= 16
    assert facing.acos().rad2deg().max() < MOST + 4
    assert (points[past, 36:42].mean(1) > points[past, 42:48].mean(1))[:, 0].all()  # the eyes have changed sides
    assert (points[~past, 36:42].mean(1) < points[~past, 42:48].mean(1))[:, 0].all()


def test_without_a_share_nothing_is_drawn_from_the_generator(faces):
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    result = turn_some(*faces, generator, share=0.0, jitter=STILL)
    assert all(a is b for a, b in zip(result, faces, strict=True))
    assert torch.equal(before, generator.get_state())
