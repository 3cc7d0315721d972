"""Where the crops of turned heads are laid."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from vidunmask import geometry
from vidunmask.stages.aim import Aimer, aim, is_turned
from vidunmask.stages.crop import crop, placement
from vidunmask.stages.wearing import lower_face
from vidunmask.types import Frame, FrameFaces, TrackedFace

HEIGHT, WIDTH = 480, 760
BLUE = (30, 60, 220)


class Blue:
    """Takes every blue pixel for a mask, and counts how many pictures it was shown."""

    def __init__(self):
        self.looks = 0

    def glance(self, images):
        self.looks += len(images)
        return np.stack([(image[..., 2] > 150).astype(np.float32) for image in images])


def frame(*boxes, index=0):
    """A grey frame with a blue box for each xyxy."""
    picture = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    for left, top, right, bottom in boxes:
        picture[top:bottom, left:right] = BLUE
    native = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return Frame(index, native, index, Fraction(1, 25), (HEIGHT, WIDTH), np.eye(2, 3))


def face(x=200, y=100, *, trust=0.0, track=1, reset=False, score=0.9):
    """A face whose canonical crop has its corner at (x, y) of the frame and is as large there, but for the profile's smaller
    scale."""
    landmarks = geometry.TEMPLATE68 + np.array([x, y])
    box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
    return TrackedFace(track, box, landmarks, score, True, reset, trust)


def laid_by(face):
    """The landmarks by which a face's crop is laid."""
    return face.landmarks if face.aimed is None else face.aimed


def blue_in_crop(item, which=0):
    """The box xyxy of what is blue in a face's crop, and how much of the frame's blue that is."""
    (cut,) = crop([item], look_ahead=0)
    picture = cut.faces[which].image
    rows, columns = np.nonzero(picture[..., 2] > 150)
    there = int((item.frame.native.to_ndarray(format="rgb24")[..., 2] > 150).sum())
    share = len(rows) / (there * geometry.scale_of(cut.faces[which].frame_to_crop) ** 2)
    return (columns.min(), rows.min(), columns.max(), rows.max()), share


def test_a_face_from_the_front_is_not_looked_at():
    looker = Blue()
    item = FrameFaces(frame((420, 300, 500, 360)), (face(trust=1.0),))
    assert list(aim([item], looker)) == [item]
    assert looker.looks == 0


def test_a_nose_at_the_end_of_the_jaw_makes_a_head_turned_however_sure_its_landmarks_are():
    straight = face(trust=1.0)
    landmarks = straight.landmarks.copy()
    landmarks[30, 0] = landmarks[:17, 0].max() - 2
    assert not is_turned(straight)
    assert is_turned(replace(straight, landmarks=landmarks))


def test_a_mask_within_the_crop_moves_nothing():
    item = FrameFaces(frame((280, 240, 380, 310)), (face(),))
    (aimed,) = aim([item], Blue())
    assert aimed.faces[0] is item.faces[0]


@pytest.mark.parametrize("trust", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("away", [(100, 0), (-100, 10), (20, 52)])
def test_a_mask_beyond_the_edge_of_the_crop_comes_to_lie_in_it(away, trust):
    scale = geometry.profile_scale(trust)
    middle = np.array([327.5, 227.5]) + (np.array([0, 51]) + away) / scale  # of a patch 90 x 70 pixels of the crop large
    half = np.array([45, 35]) / scale
    corners = np.concatenate([middle - half, middle + half])
    item = FrameFaces(frame(corners.round().astype(int)), (face(trust=trust),))
    _, share = blue_in_crop(item)
    assert share < 0.95
    (aimed,) = aim([item], Blue())
    (left, top, right, bottom), share = blue_in_crop(aimed)
    assert share == pytest.approx(1, abs=0.06)
    free = min(left, top, 255 - right, 255 - bottom)
    assert free > 17 if trust == 0 else free == pytest.approx(14, abs=2)  # and not more than needed
    assert geometry.scale_of(geometry.align(laid_by(aimed.faces[0]))) == pytest.approx(1)


def test_a_profile_whose_mask_is_larger_than_the_crop_is_laid_in_smaller():
    item = FrameFaces(frame((180, 180, 480, 330)), (face(),))
    before = placement(item.faces[0])
    (aimed,) = aim([item], Blue())
    (left, _, right, _), share = blue_in_crop(aimed)
    assert share == pytest.approx(1, abs=0.06)
    assert left >= 10
    assert right <= 245
    assert 0.7 <= 2 ** (placement(aimed.faces[0])[2] - before[2]) < 0.99


def test_a_profile_is_given_more_room_about_its_mask():
    freed = []
    for trust in (0.3, 0.2, 0.1, 0.0):
        scale = geometry.profile_scale(trust)
        right = int(327.5 + 106 / scale)  # 22 pixels of the crop from its edge
        item = FrameFaces(frame((right - 80, 270, right, 310)), (face(trust=trust),))
        (aimed,) = aim([item], Blue())
        (_, _, edge, _), _ = blue_in_crop(aimed)
        freed.append(255 - edge)
    assert freed == pytest.approx([22, 26, 38, 38], abs=2)


@pytest.mark.parametrize("trust", [0.0, 1.0])
def test_a_scarf_that_goes_on_below_the_face_does_not_draw_the_crop_down(trust):
    seen = face(trust=trust)
    landmarks = seen.landmarks.copy()
    landmarks[30, 0] = landmarks[:17, 0].max() - 2  # turned, whatever its landmarks are worth
    item = FrameFaces(frame((290, 240, 360, 440)), (replace(seen, landmarks=landmarks),))
    before = geometry.similarity_from_parameters(placement(item.faces[0]))
    (aimed,) = aim([item], Blue())
    after = geometry.similarity_from_parameters(placement(aimed.faces[0]))
    chin = geometry.apply(geometry.invert(before), geometry.TEMPLATE68[8])
    assert geometry.apply(after, chin)[1] == pytest.approx(190, abs=0.01)


def test_a_mask_that_runs_into_what_lies_beside_moves_the_face_only_a_little():
    item = FrameFaces(frame((340, 250, 520, 290)), (face(),))
    before = placement(item.faces[0])
    (aimed,) = aim([item], Blue())
    moved = placement(aimed.faces[0])[0] - before[0]
    assert 30 < moved * 2 ** before[2] <= 48.01


def test_the_crop_of_a_profile_goes_to_its_mask_and_the_face_stays_where_it_was_seen():
    item = FrameFaces(frame((400, 230, 500, 310)), (face(),))
    (aimed,) = aim([item], Blue())
    old, new = item.faces[0], aimed.faces[0]
    moved = new.aimed - old.landmarks
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-6)
    assert np.abs(moved).max() > 5
    assert new.landmarks is old.landmarks
    assert new.box is old.box
    assert (new.track_id, new.score, new.trust, new.reset) == (old.track_id, old.score, old.trust, old.reset)


def test_landmarks_that_are_trusted_by_half_are_moved_with_their_box():
    item = FrameFaces(frame((400, 230, 500, 310)), (face(trust=0.6),))
    (aimed,) = aim([item], Blue())
    old, new = item.faces[0], aimed.faces[0]
    assert new.aimed is None
    moved = new.landmarks - old.landmarks
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-6)
    np.testing.assert_allclose(new.box - old.box, np.tile(moved[0], 2), atol=1e-6)


def test_what_a_profiles_crop_went_to_does_not_vouch_for_itself():
    """A patch beside the chin, where a collar is, that the crop is moved to hold."""
    item = FrameFaces(frame((400, 310, 500, 400)), (face(),))
    (aimed,) = aim([item], Blue())
    assert aimed.faces[0].aimed is not None
    shares = []
    for landmarks in (aimed.faces[0].landmarks, aimed.faces[0].aimed):
        (cut,) = crop([replace(aimed, faces=(replace(aimed.faces[0], landmarks=landmarks),))], look_ahead=0)
        probability = (cut.faces[0].image[..., 2] > 150).astype(np.float32)
        shares.append(lower_face(cut.faces[0].landmarks, len(probability), trust=0.0).covered(probability))
    assert shares[0] < 0.1 < 0.4 < shares[1]


@pytest.mark.parametrize("box", [(480, 100, 530, 150), (400, 300, 415, 315)], ids=["far from the face", "too small"])
def test_what_can_be_no_mask_of_this_face_moves_nothing(box):
    item = FrameFaces(frame(box), (face(),))
    (aimed,) = aim([item], Blue())
    assert aimed.faces[0] is item.faces[0]


def test_a_face_does_not_go_after_its_neighbours_mask():
    neighbour = face(330, trust=1.0, track=2)
    mask = (400, 250, 500, 310)  # about the neighbour's mouth, at the edge of the crop of the one in profile
    alone = next(aim([FrameFaces(frame(mask), (face(),))], Blue()))
    beside = next(aim([FrameFaces(frame(mask), (face(), neighbour))], Blue()))
    assert np.abs(laid_by(alone.faces[0]) - face().landmarks).max() > 5
    assert (
        np.abs(laid_by(beside.faces[0]) - face().landmarks).max()
        < 0.5 * np.abs(laid_by(alone.faces[0]) - face().landmarks).max()
    )
    assert beside.faces[1] is neighbour


def test_between_looks_the_last_move_is_made_again_and_a_reset_looks_anew():
    looker = Blue()
    aimer = Aimer(looker, every=3)
    boxes = [(390, 230, 490, 310)] + [(410, 230, 510, 310)] * 6
    shifts, looks = [], []
    for index, box in enumerate(boxes):
        before = face(reset=index in (0, 5))
        made = aimer.step(FrameFaces(frame(box, index=index), (before,)))
        shifts.append((laid_by(made.faces[0]) - before.landmarks)[0, 0])
        looks.append(looker.looks)
    assert looks == [1, 1, 1, 2, 2, 3, 3]
    assert shifts[0] == shifts[1] == shifts[2] < shifts[3] == shifts[4]
    assert shifts[5] == pytest.approx(shifts[3])


def test_small_faces_are_looked_at_in_every_third_frame():
    looker = Blue()
    aimer = Aimer(looker)
    for index in range(7):
        near, far = face(track=1), face(400, 200, track=2)
        middle = far.landmarks.mean(axis=0)
        far = replace(far, landmarks=middle + (far.landmarks - middle) / 3)  # a third as large: its crop enlarges it
        aimer.step(FrameFaces(frame(index=index), (near, far)))
    assert looker.looks == 7 + 3


def test_a_network_that_gives_no_number_moves_nothing():
    class Nothing:
        def glance(self, images):
            return np.full((len(images), 256, 256), np.nan, np.float32)

    item = FrameFaces(frame((400, 230, 500, 310)), (face(),))
    assert next(aim([item], Nothing())).faces[0] is item.faces[0]


def test_frames_without_faces_pass():
    item = FrameFaces(frame(), ())
    assert list(aim([item], Blue())) == [item]


def test_a_pace_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Aimer(Blue(), every=0)
