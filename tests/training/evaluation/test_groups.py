import numpy as np
import pytest

from tests.training.test_masked_faces import head_landmarks
from vidunmask.training.evaluation.groups import Person, people, typology_angle
from vidunmask.training.pack import open_pack


def portrait(skin):
    return np.full((256, 256, 3), skin, np.uint8)


def test_lighter_skin_has_the_larger_angle():
    points = head_landmarks().numpy()
    angles = [typology_angle(portrait(skin), points) for skin in ((236, 206, 190), (200, 150, 120), (90, 60, 45))]
    assert angles[0] > 41 > angles[1] > angles[2]
    assert angles[2] < -30


def test_a_colourless_photo_has_no_tone():
    assert typology_angle(portrait((120, 120, 120)), head_landmarks().numpy()) is None


def test_hair_over_the_forehead_does_not_make_skin_dark():
    points = head_landmarks().numpy()
    picture = portrait((225, 185, 160))
    bare = typology_angle(picture, points)
    picture[: int(points[19, 1]) - 2] = (25, 20, 18)
    assert typology_angle(picture, points) == pytest.approx(bare, abs=3)


def test_limits_of_the_groups():
    groups = [Person("", "A", "s", yaw, ita).groups for yaw, ita in ((-14, 56), (16, 30), (-40, -31), (75, None))]
    assert [group["yaw"] for group in groups] == ["under 15°", "15° to 30°", "30° to 60°", "over 60°"]
    assert [group["tone"] for group in groups] == ["very light", "intermediate", "dark", "no colour"]


def test_a_packs_faces_are_known_by_row(faces_pack):
    pack = open_pack(faces_pack, "val")
    known = people(faces_pack, pack, pack.rows[3:6])
    assert set(known) == {3, 4, 5}
    assert abs(known[4].yaw) == pytest.approx(35, abs=4)
    assert (known[5].tier, known[5].source, known[5].photo) == ("B", "made", "05.png")
