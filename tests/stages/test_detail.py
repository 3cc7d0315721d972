"""The texture that large faces get back."""

from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vidunmask import geometry
from vidunmask.stages.detail import SkinDetail
from vidunmask.types import Fill, Frame
from vidunmask.video import pixels

SIZE = 256


def frame_of(image, index=0):
    native = av.VideoFrame.from_ndarray(image, "rgb24")
    return Frame(index, native, index, Fraction(1, 25), image.shape[:2], np.eye(2, 3))


def scene(scale, *, pores=4.0, side=900):
    """A frame of skin with pores of two pixels, and a smooth fill over a crop of it that is ``scale`` times smaller."""
    noise = cv2.GaussianBlur(np.random.default_rng(1).standard_normal((side, side)).astype(np.float32), (0, 0), 0.8)
    image = np.array([190, 150, 130]) + pores * (noise / noise.std())[..., None]
    frame = frame_of(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    frame_to_crop = np.array([[1 / scale, 0, 0], [0, 1 / scale, 0]])
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[120:220, 60:200] = 1
    crop = pixels.read_crop(frame, frame_to_crop, SIZE)
    fill = Fill(1, crop, crop, mask, frame_to_crop, 1.0, 1.0, False)
    picture = np.broadcast_to(np.float32([190, 150, 130]) / 255, (SIZE, SIZE, 3)).copy()
    return frame, fill, picture, mask


def laid(frame, result):
    """The frame with the result in it, as grey levels."""
    frame = pixels.editable(frame)
    pixels.paste_crop(frame, *result)
    return frame.native.to_ndarray(format="rgb24").astype(float).mean(axis=2)


def fine(image, scale):
    """What of a picture is finer than a crop of it could hold."""
    small = cv2.resize(image, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    return image - cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_CUBIC)


def test_a_large_face_gets_as_much_fine_texture_as_the_skin_above_has():
    frame, fill, picture, alpha = scene(3.0)
    shown = laid(frame, SkinDetail().step(frame, fill, picture, alpha))
    skin = fine(shown[100:340, 250:550], 3.0).std()
    filled = fine(shown[400:620, 220:560], 3.0).std()
    assert filled == pytest.approx(skin, rel=0.25)


def test_without_it_the_fill_would_be_smooth():
    frame, fill, picture, alpha = scene(3.0)
    shown = laid(frame, (picture, alpha, fill.frame_to_crop))
    assert fine(shown[400:620, 220:560], 3.0).std() < 0.3


def test_the_texture_is_as_coarse_as_that_of_the_skin():
    frame, fill, picture, alpha = scene(3.0)
    shown = laid(frame, SkinDetail().step(frame, fill, picture, alpha))

    def neighbours_alike(part):
        part = fine(part, 3.0)
        return float((part[:, 1:] * part[:, :-1]).mean() / (part**2).mean())

    white = np.random.default_rng(2).standard_normal((220, 340)).astype(np.float32)
    assert neighbours_alike(white) < 0.05
    assert neighbours_alike(shown[400:620, 220:560]) == pytest.approx(neighbours_alike(shown[100:340, 250:550]), abs=0.2)


def test_nothing_of_the_skin_is_repeated():
    frame, fill, picture, alpha = scene(3.0)
    shown = laid(frame, SkinDetail().step(frame, fill, picture, alpha))
    patch = fine(shown[420:484, 300:364], 3.0).astype(np.float32)
    above = fine(shown[60:340, 200:600], 3.0).astype(np.float32)
    assert cv2.matchTemplate(above, patch, cv2.TM_CCOEFF_NORMED).max() < 0.5


def test_a_face_no_larger_than_its_crop_comes_back_as_it_is():
    frame, fill, picture, alpha = scene(1.0, side=300)
    result = SkinDetail().step(frame, fill, picture, alpha)
    assert result[0] is picture
    assert result[1] is alpha
    assert np.array_equal(result[2], fill.frame_to_crop)


def test_a_smooth_picture_gets_no_texture():
    frame, fill, picture, alpha = scene(3.0, pores=0.0)
    enlarged, _, _ = SkinDetail().step(frame, fill, picture, alpha)
    assert np.abs(enlarged - picture[0, 0]).max() < 0.5 / 255


def test_smooth_skin_is_looked_at_no_more_often_than_other_skin_and_gets_its_texture_when_it_shows(monkeypatch):
    looks = []
    monkeypatch.setattr(pixels, "read_crop", lambda *args, read=pixels.read_crop: looks.append(1) or read(*args))
    frame, fill, picture, alpha = scene(3.0, pores=0.0)
    rough = scene(3.0)[0]
    looks.clear()
    detail = SkinDetail()
    for index in range(20):
        detail.step(replace(frame, index=index), fill, picture, alpha)
    assert len(looks) == 2
    enlarged, _, _ = detail.step(replace(rough, index=20), fill, picture, alpha)
    assert enlarged.std(axis=(0, 1)).min() * 255 > 1


def test_the_enlarged_part_lies_where_the_fill_lay():
    frame, fill, picture, alpha = scene(2.5, pores=0.0)
    picture[150:160, 100:140] = 0.2
    _, cover, frame_to_part = SkinDetail().step(frame, fill, picture, alpha)
    corners = np.array([[60.0, 120.0], [199.0, 219.0]])
    in_frame = geometry.apply(geometry.invert(fill.frame_to_crop), corners)
    in_part = geometry.apply(frame_to_part, in_frame)
    assert np.abs(in_part[0] - [0.75, 0.75]).max() < 0.1
    assert np.abs(in_part[1] - [cover.shape[1] - 1.75, cover.shape[0] - 1.75]).max() < 0.1
    plain, _, _, _ = scene(2.5, pores=0.0)
    fine_way = laid(frame, SkinDetail().step(frame, fill, picture, alpha))
    plain_way = laid(plain, (picture, alpha, fill.frame_to_crop))
    assert np.abs(fine_way - plain_way).mean() < 0.2


def test_the_texture_stays_on_the_face_when_the_hole_grows():
    frame, fill, picture, alpha = scene(3.0)
    detail = SkinDetail()
    first = laid(frame, detail.step(frame, fill, picture, alpha))
    again, _, _, wider = scene(3.0)
    wider[100:230, 50:210] = 1
    second = laid(again, detail.step(again, fill, picture, wider))
    inner = slice(400, 620), slice(220, 560)
    apart = np.abs(first[inner] - second[inner]).mean()
    assert apart < 0.5 * np.abs(first[inner] - first[inner].mean()).mean()


def shifted(frame, fill, shift):
    """The fill with its face moved by display pixels, and what its crop then shows."""
    frame_to_crop = fill.frame_to_crop.copy()
    frame_to_crop[:, 2] -= frame_to_crop[:, :2] @ np.array(shift, float)
    crop = pixels.read_crop(frame, frame_to_crop, SIZE)
    return replace(fill, crop=crop, image=crop, frame_to_crop=frame_to_crop)


def streaks(picture):
    """How much more a picture changes across its columns than along them; 1 for a texture without direction."""
    rows, columns = np.diff(picture, axis=0).std(), np.diff(picture, axis=1).std()
    return max(rows, columns) / min(rows, columns)


@pytest.mark.parametrize("shift", [(0, -230), (0, -150), (-400, 0)], ids=["above", "partly above", "beside"])
def test_a_forehead_beyond_the_edge_leaves_no_streaks(shift):
    frame, fill, picture, alpha = scene(3.0)
    moved = shifted(frame, fill, shift)
    enlarged, _, _ = SkinDetail().step(frame, moved, picture, alpha)
    grey = enlarged.mean(axis=2) * 255
    assert grey.std() < 0.5 or streaks(grey) < 1.3


def test_half_a_forehead_still_gives_the_texture():
    frame, fill, picture, alpha = scene(3.0)
    half = shifted(frame, fill, (0, -200))
    enlarged, _, _ = SkinDetail().step(frame, half, picture, alpha)
    assert enlarged.std(axis=(0, 1)).min() * 255 > 1


def test_a_forehead_that_comes_into_the_frame_later_is_looked_at_at_once():
    frame, fill, picture, alpha = scene(3.0)
    detail = SkinDetail()
    first, _, _ = detail.step(frame, shifted(frame, fill, (0, -400)), picture, alpha)
    second, _, _ = detail.step(replace(frame, index=1), fill, picture, alpha)
    assert first.std(axis=(0, 1)).max() * 255 < 0.5
    assert second.std(axis=(0, 1)).min() * 255 > 1


def test_a_face_that_comes_closer_keeps_its_texture_until_its_forehead_is_seen_again():
    frame, fill, picture, alpha = scene(2.0)
    detail = SkinDetail()
    detail.step(frame, fill, picture, alpha)
    nearer, close, _, _ = scene(3.0)
    enlarged, _, _ = detail.step(replace(nearer, index=1), shifted(nearer, close, (0, -400)), picture, alpha)
    assert enlarged.std(axis=(0, 1)).min() * 255 > 1
