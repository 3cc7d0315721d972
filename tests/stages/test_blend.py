from itertools import pairwise

import cv2
import numpy as np
import pytest

from vidunmask.stages.blend import TemporalBlender
from vidunmask.types import Fill

SIZE = 256


def hole():
    mask = np.zeros((SIZE, SIZE), np.float32)
    cv2.ellipse(mask, (128, 175), (62, 55), 0, 0, 360, 1, -1)
    return mask


def skin(*, offset=0.0, noise=0.0, seed=0):
    """A softly shaded face colour (S, S, 3) float32."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    shade = 30 * np.sin(x / 60) + 20 * np.cos(y / 50)
    image = np.stack([190 + shade, 150 + shade, 130 + shade], axis=2) + offset
    if noise:
        image = image + np.random.default_rng(seed).normal(0, noise, (SIZE, SIZE, 1))
    return image


def to_bytes(image):
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def fill_of(truth, guess, *, opacity=1.0, reset=False, track=1, mask=None):
    """A fill of ``guess`` over a crop that shows ``truth`` around a blue mask; the hole's rim shows skin, as in a real crop."""
    mask = hole() if mask is None else mask
    crop = to_bytes(truth)
    core = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (19, 19)))
    crop[core > 0] = (40, 80, 220)
    image = np.where(mask[..., None] > 0, to_bytes(guess), crop)
    return Fill(track, crop, image, mask, np.eye(2, 3), opacity, 1.0, reset)


def over(crop, result):
    """The crop with the blender's picture laid over it, 0..255."""
    picture, alpha = result
    return crop + (255 * picture - crop) * alpha[..., None]


def picture_of(blender, fill, index=0):
    """The blender's picture, 0..255."""
    return 255 * blender.step(fill, index)[0]


def test_a_tinted_fill_takes_on_the_colour_of_the_skin_around_it():
    truth = skin()
    fill = fill_of(truth, truth + np.array([12, -8, -10]))
    result = over(fill.crop, TemporalBlender(grain=False).step(fill, 0))
    inside = hole() > 0
    before = np.abs(fill.image[inside].astype(float) - truth[inside]).mean()
    after = np.abs(result[inside] - truth[inside]).mean()
    assert before > 9
    assert after < 1.5


def test_a_rim_that_shows_an_edge_does_not_stain_the_fill():
    truth = skin()
    fill = fill_of(truth, truth)
    fill.crop[200:, :] = 10  # a dark collar below, which the fill does not know of
    result = over(fill.crop, TemporalBlender(grain=False).step(fill, 0))
    assert np.abs(result[120:180, 100:156] - truth[120:180, 100:156]).mean() < 4


def test_a_rim_that_still_shows_the_mask_does_not_colour_the_fill():
    truth = skin()
    fill = fill_of(truth, truth)
    fill.crop[:, :150][fill.mask[:, :150] > 0] = (40, 80, 220)  # the segmentation was too tight on one side
    result = over(fill.crop, TemporalBlender(grain=False).step(fill, 0))
    assert np.abs(result[150:200, 110:146] - truth[150:200, 110:146]).mean() < 4


def test_no_seam_is_left_at_the_edge_of_the_hole():
    truth = skin()
    fill = fill_of(truth, truth + 10)
    result = over(fill.crop, TemporalBlender(grain=False).step(fill, 0))
    steps = np.abs(np.diff(result[:, 128], axis=0)).max()
    assert steps < 3


def test_pixels_outside_the_hole_and_on_the_border_have_no_alpha():
    mask = hole()
    mask[150:, :] = 1  # a scarf that leaves the crop below
    picture, alpha = TemporalBlender().step(fill_of(skin(), skin(), mask=mask), 0)
    assert (alpha[mask == 0] == 0).all()
    assert (alpha[-1] == 0).all()
    assert alpha[200, 128] == pytest.approx(1)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1
    assert alpha.dtype == np.float32


def test_opacity_scales_the_alpha_and_zero_touches_nothing():
    blender = TemporalBlender()
    half = blender.step(fill_of(skin(), skin(), opacity=0.5), 0)
    assert half[1].max() == pytest.approx(0.5)
    assert blender.step(fill_of(skin(), skin(), opacity=0.0), 1) is None


def test_a_flickering_fill_on_a_still_face_is_calmed():
    rng = np.random.default_rng(1)
    flicker = [cv2.GaussianBlur(rng.normal(0, 60, (SIZE, SIZE)).astype(np.float32), (0, 0), 4) for _ in range(12)]
    guesses = [skin() + change[..., None] for change in flicker]
    blender = TemporalBlender(grain=False)
    pictures = [picture_of(blender, fill_of(skin(), guess), index) for index, guess in enumerate(guesses)]
    core = np.s_[150:200, 100:156]
    raw = np.mean([np.abs(a[core] - b[core]).mean() for a, b in pairwise(guesses[4:])])
    calm = np.mean([np.abs(a[core] - b[core]).mean() for a, b in pairwise(pictures[4:])])
    assert calm < 0.4 * raw


def test_a_fill_of_another_pose_does_not_show_through():
    truth, mouth = skin(), np.zeros((SIZE, SIZE, 1))
    cv2.ellipse(mouth, (108, 190), (20, 9), 0, 0, 360, -70, -1)
    turned = np.roll(mouth, 36, axis=1)
    blender = TemporalBlender(grain=False)
    for index in range(4):
        blender.step(fill_of(truth, truth + mouth), index)
    after = picture_of(blender, fill_of(truth, truth + turned), 4)
    alone = picture_of(TemporalBlender(grain=False), fill_of(truth, truth + turned))
    ghost = (alone - after)[190, 100:116].mean()  # of the old mouth
    assert ghost < 5
    assert abs(alone - after)[190, 136:152].mean() < 5


def test_nothing_is_blended_across_a_change_of_scene():
    dark, light = skin(offset=-60), skin(offset=40)
    blender = TemporalBlender(grain=False)
    blender.step(fill_of(dark, dark), 0)
    picture = picture_of(blender, fill_of(light, light), 1)
    assert np.abs(picture[150:200, 100:156] - light[150:200, 100:156]).mean() < 1


@pytest.mark.parametrize(("kwargs", "blended"), [({}, True), ({"reset": True}, False), ({"track": 2}, False)])
def test_what_looks_alike_is_blended_but_not_across_a_reset_or_with_another_track(kwargs, blended):
    core = np.s_[150:200, 100:156]
    guess = skin()
    guess[core] += 12.0
    blender = TemporalBlender(grain=False)
    blender.step(fill_of(skin(), guess), 0)
    second = fill_of(skin(), skin(), **kwargs)
    apart = np.abs(picture_of(blender, second, 1)[core] - picture_of(TemporalBlender(grain=False), second)[core]).mean()
    assert apart > 3 if blended else apart < 0.5


def test_a_fill_that_moves_with_the_face_is_not_smeared():
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.normal(0, 120, (SIZE, SIZE + 64, 1)).astype(np.float32), (0, 0), 3)[..., None]
    blender = TemporalBlender(grain=False)
    for index in range(8):
        moved = skin() + texture[:, 2 * index : 2 * index + SIZE]
        mask = np.roll(hole(), -2 * index, axis=1)
        picture = picture_of(blender, fill_of(moved, moved, mask=mask), index)
    core = np.s_[150:200, 90:130]
    assert np.abs(picture[core] - moved[core]).mean() < 4


def test_a_smooth_fill_in_a_noisy_picture_gets_grain_of_that_strength():
    truth = skin(noise=4)
    fill = fill_of(truth, skin())
    core = np.s_[150:200, 100:156]

    def detail(image):
        grey = image.astype(np.float32).mean(axis=2)
        return float((grey - cv2.GaussianBlur(grey, (0, 0), 1.5))[core].std())

    plain = picture_of(TemporalBlender(grain=False), fill)
    grainy = picture_of(TemporalBlender(), fill)
    noise = to_bytes(truth)
    assert detail(plain) < 0.5 * detail(noise)
    assert 0.6 * detail(noise) < detail(grainy) < 1.4 * detail(noise)


def test_a_clean_picture_gets_no_grain():
    fill = fill_of(skin(), skin())
    plain = picture_of(TemporalBlender(grain=False), fill)
    grainy = picture_of(TemporalBlender(), fill)
    assert np.abs(plain - grainy).max() <= 1


def test_the_grain_of_a_track_is_the_same_in_every_run():
    fill = fill_of(skin(noise=4), skin())
    first, _ = TemporalBlender().step(fill, 0)
    second, _ = TemporalBlender().step(fill, 0)
    assert np.array_equal(first, second)


def test_a_long_gap_forgets_the_track():
    blender = TemporalBlender(grain=False)
    blender.step(fill_of(skin(), skin(offset=30)), 0)
    for index in range(1, 200):
        blender.prune(index)
    picture = picture_of(blender, fill_of(skin(), skin()), 200)
    assert np.abs(picture[150:200, 100:156] - skin()[150:200, 100:156]).mean() < 1
