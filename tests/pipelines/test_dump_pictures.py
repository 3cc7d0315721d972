import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vidunmask.errors import InputError
from vidunmask.pipelines.dump import pictures, store
from vidunmask.types import Frame, SeenFace
from vidunmask.video.orientation import orient


def frame(format="yuv420p", turned=False):
    """A frame of noise with odd sizes, tags of BT.2020 and, where turned, a display matrix of a quarter turn."""
    rng = np.random.default_rng(0)
    native = av.VideoFrame(70, 47, "rgb24")
    for plane in native.planes:
        memory = np.frombuffer(plane, np.uint8)
        memory[:] = rng.integers(0, 255, memory.size)
    native = native if format == "rgb24" else native.reformat(70, 47, format)
    native.colorspace, native.color_range, native.color_primaries, native.color_trc = 9, 2, 9, 16
    matrix = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30) if turned else None
    shown = orient((47, 70), matrix=matrix)
    return Frame(7, native, 1234, Fraction(1, 90000), shown.display_size, shown.native_to_display)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "format", ["yuv420p", "yuvj422p", "yuv444p10le", "p010le", "nv12", "gray", "gbrp12le", "rgb24", "yuva420p"]
)
def test_a_native_frame_comes_back_with_every_sample_tag_and_turn(format, turned, tmp_path):
    before = frame(format, turned)
    pictures.write_native(tmp_path / "frame.npz", before)
    line = json.loads(store.dumps({"index": 7, "pts": 1234, "time_base": "1/90000", "native": pictures.describe(before)}))
    after = pictures.read_native(tmp_path / "frame.npz", line)
    assert pictures.fingerprint(after) == pictures.fingerprint(before)
    assert np.array_equal(pictures.whole(after), pictures.whole(before))
    assert (after.display_size, after.time, after.index) == (before.display_size, before.time, before.index)


def test_one_sample_more_or_less_is_another_fingerprint():
    a, b = frame(), frame()
    assert pictures.fingerprint(a) == pictures.fingerprint(b)
    np.frombuffer(b.native.planes[1], np.uint8)[3] ^= 1
    assert pictures.fingerprint(a) != pictures.fingerprint(b)


def test_logits_are_blue_without_a_mask_amber_with_one_and_dark_between():
    shown = pictures.logits(np.array([[0.0, 1e-3, 0.5, 0.999, 1.0]], np.float32))[0].astype(int)
    assert shown[0][2] > shown[1][2] > shown[2].max()
    assert shown[4][0] > shown[3][0] > shown[2].max()


def test_faces_are_drawn_where_they_are_in_pictures_of_any_size():
    large = av.VideoFrame.from_ndarray(np.zeros((1600, 2560, 3), np.uint8), "rgb24")
    item = Frame(0, large, 0, Fraction(1, 25), (1600, 2560), np.eye(2, 3))
    seen = SeenFace(np.array([1000.0, 600, 1400, 1100]), np.full((68, 2), 1200.0), 0.9, detected=True)
    drawn = pictures.detections(item, [seen])
    assert max(drawn.shape) == pictures.OVERVIEW
    x, y, w, h = cv2.boundingRect((drawn[..., 1] > 100).astype(np.uint8))
    assert abs(x - 500) < 4
    assert abs(x + w - 700) < 4
    assert abs(y + h - 601) < 4
    assert drawn[600, 600, 1] > 100  # a landmark


def test_names_with_other_letters_can_be_written_and_what_is_no_picture_is_named(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    pictures.write_png(tmp_path / "лицо 面.png", image)
    assert np.array_equal(pictures.read_png(tmp_path / "лицо 面.png"), image)
    (tmp_path / "no.png").write_bytes(b"no")
    for name in ("no.png", "none.png"):
        with pytest.raises(InputError, match=name):
            pictures.read_png(tmp_path / name)


def test_what_json_has_no_word_for_becomes_null():
    assert store.dumps({"a": [np.float32("nan"), float("inf"), np.arange(2), (1.5,)]}) == '{"a":[null,null,[0,1],[1.5]]}'
