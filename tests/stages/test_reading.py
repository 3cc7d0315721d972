"""Faces that lie on their side or stand on their head, and small ones in large pictures."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from tests.stages.drawn_faces import DiscDetector
from vidunmask import geometry
from vidunmask.detectors import create
from vidunmask.stages.detect import FaceFinder, detect
from vidunmask.stages.regions import angle_of, turned
from vidunmask.stages.tiles import in_tiles, side_of_copy
from vidunmask.types import Frame

SAMPLE = Path(__file__).parents[2] / "samples" / "astronaut_masked.jpg"


@pytest.fixture(scope="module")
def yunet():
    return create("yunet")


@pytest.fixture(scope="module")
def portrait():
    return np.asarray(Image.open(SAMPLE).convert("RGB"))


def frame_of(image, index=0):
    native = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return Frame(index, native, index, Fraction(1, 25), image.shape[:2], np.eye(2, 3))


def seen_in(image, detector, **options):
    (item,) = detect([frame_of(image)], detector, every=1, **options)
    return item.faces


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_face_that_is_not_upright_is_read_the_right_way_up(turns, portrait, yunet):
    (upright,) = seen_in(portrait, yunet)
    (face,) = [face for face in seen_in(np.rot90(portrait, turns), yunet) if face.score >= 0.6]
    middle = np.full(2, (len(portrait) - 1) / 2)
    cos, sin = round(np.cos(turns * np.pi / 2)), round(np.sin(turns * np.pi / 2))
    expected = (upright.landmarks - middle) @ np.array([[cos, -sin], [sin, cos]]) + middle
    eyes = np.linalg.norm(upright.landmarks[36] - upright.landmarks[45])
    assert np.abs(face.landmarks - expected).max() < 0.25 * eyes


def test_a_face_on_its_side_stays_so_while_it_is_followed_and_detected_again(portrait, yunet):
    turned_left = np.rot90(portrait)
    frames = [frame_of(np.roll(turned_left, (5 * i, 9 * i), axis=(0, 1)), i) for i in range(10)]
    finder = FaceFinder(yunet, every=3, look_back=0)
    for frame in frames:
        (item,) = finder.step(frame)
        (face,) = [face for face in item.faces if face.score >= 0.6]
        assert abs(angle_of(geometry.align(face.landmarks)) - np.pi / 2) < 0.3
    # a detection elsewhere, as if it had been lost on the way: it is read anew the same way up
    old = finder._followed[0]
    away = replace(old, seen=replace(old.seen, landmarks=old.seen.landmarks + np.array([70.0, 0])))
    picture = frames[-1].native.to_ndarray(format="rgb24")
    found = max(yunet.detect(picture), key=lambda face: face.score)  # upright, as the detector thinks
    assert abs(angle_of(yunet.region(found)) - angle_of(yunet.region(old.seen.landmarks))) > np.pi / 4
    again = finder._check(frames[-1], away, found)
    assert np.abs(again.seen.landmarks - old.seen.landmarks).max() < 60
    assert abs(angle_of(geometry.align(again.seen.landmarks)) - np.pi / 2) < 0.3


def test_turning_a_region_by_quarters_turns_its_picture():
    image = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    for turns in range(4):
        picture = cv2.warpAffine(image, turned(np.eye(2, 3), 64, turns), (64, 64))
        np.testing.assert_array_equal(picture, np.rot90(image, turns))


def test_small_faces_of_a_large_picture_are_found_in_its_tiles_each_once(portrait, yunet):
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)  # a face of 45 pixels
    places = [(40, 60), (1180, 150), (2600, 900), (40, 1650)]
    picture = np.full((2000, 3000, 3), 150, np.uint8)
    for x, y in places:
        picture[y : y + 256, x : x + 256] = small
    assert len(seen_in(picture, yunet)) < len(places)
    faces = [face for face in seen_in(picture, yunet, tiles=True) if face.score >= 0.6]
    assert sorted(tuple((face.box[:2] // 256 * 256).tolist()) for face in faces) == sorted(
        tuple((np.array([x + 90, y + 40]) // 256 * 256).tolist()) for x, y in places
    )


def test_a_face_that_a_tile_cuts_comes_from_the_tile_that_holds_it_whole():
    image = np.zeros((1000, 2200, 3), np.uint8)
    places = [(60, 500), (930, 100), (1270, 500), (2130, 900)]  # the tiles are 0 to 1280 and 920 to 2200
    for x, y in places:
        cv2.circle(image, (x, y), 40, (250, 10, 10), -1)
    found = in_tiles(image, DiscDetector())
    centres = sorted(tuple(np.round((face.box[:2] + face.box[2:]) / 2).astype(int).tolist()) for face in found)
    assert np.abs(np.array(centres) - np.array(sorted(places))).max() <= 1


def test_the_copy_that_is_searched_in_tiles_is_of_eleven_megapixels_at_most():
    assert side_of_copy((1080, 1920)) == 1920
    assert side_of_copy((512, 20000)) == 20000
    height, width = 4000, 6000
    side = side_of_copy((height, width))
    assert 0.98 < side * (side * height / width) / 11_000_000 <= 1
