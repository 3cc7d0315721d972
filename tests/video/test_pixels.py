"""Native regions as RGB and back: colours are right, and what is not blended keeps its bits."""

import av
import cv2
import numpy as np
import pytest

from tests.video.clips import as_frame, feathered_disc, native, picture, planes_of
from vidunmask.video import pixels
from vidunmask.video.formats import layout_of, nearest_supported
from vidunmask.video.orientation import matrix_of_exif

FORMATS = [
    "yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuvj420p", "yuvj444p", "yuv420p10le", "yuv422p10le",
    "yuv444p10le", "yuv444p12le", "yuv420p16le", "yuva420p", "yuva444p10le", "nv12", "nv21", "nv16", "nv24", "p010le", "p016le",
    "p210le", "gray", "gray10le", "gbrp", "gbrp10le", "gbrap", "rgb24", "bgr24", "rgba", "bgra", "argb", "abgr", "bgr0",
    "rgb48le",
]  # fmt: skip
FULL_CHROMA = ["yuv444p", "yuvj444p", "yuv444p10le", "yuv444p12le", "nv24", "gbrp", "gbrp10le", "rgb24", "argb", "rgb48le"]


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, -x], [0, 1.0, -y]])


@pytest.mark.parametrize("pix_fmt", FULL_CHROMA)
def test_a_crop_at_scale_one_equals_the_picture(pix_fmt: str) -> None:
    image = picture(90, 120)
    crop = pixels.read_crop(as_frame(native(image, pix_fmt)), _shift(20, 10), 64)
    assert np.abs(crop.astype(int) - image[10:74, 20:84]).max() <= 2


@pytest.mark.parametrize(("space", "full"), [(1, False), (1, True), (6, False), (6, True), (9, False), (9, True)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "p010le"])
def test_every_matrix_and_range_gives_the_colour_back(pix_fmt: str, space: int, full: bool) -> None:
    for colour in ([200, 60, 90], [20, 130, 240], [128, 128, 128]):
        flat = np.full((64, 64, 3), colour, np.uint8)
        crop = pixels.read_crop(as_frame(native(flat, pix_fmt, space=space, full=full)), _shift(10, 10), 32)
        assert np.abs(crop.astype(int) - colour).max() <= 2


def test_untagged_video_is_read_as_players_do() -> None:
    for size, space in (((64, 1280), 1), ((64, 64), 6), ((720, 64), 1)):
        flat = np.full((*size, 3), [200, 60, 90], np.uint8)
        raw = native(flat, "yuv420p", space=space)
        raw.colorspace = 2
        crop = pixels.read_crop(as_frame(raw), _shift(10, 10), 16)
        assert np.abs(crop.astype(int) - [200, 60, 90]).max() <= 2


def test_hdr_looks_like_sdr_to_a_network_and_comes_back() -> None:
    """In PQ at 10 bits, limited: 0 and 203 cd/m2 (58 % of the signal, BT.2408) and skin at about 60 (45 %)."""
    raw = av.VideoFrame(96, 32, "yuv420p10le")
    raw.colorspace, raw.color_range, raw.color_trc = 9, 1, 16
    for plane, value in zip(raw.planes, (None, 512, 512), strict=True):
        codes = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
        codes[:] = value if value is not None else np.repeat([64, 64 + 0.58 * 876, 64 + 0.45 * 876], 32)
    frame = as_frame(raw)
    before = planes_of(raw)
    seen = [int(pixels.read_crop(frame, _shift(32 * index, 0), 32)[16, 16, 1]) for index in range(3)]
    assert seen[0] == 0
    assert 180 <= seen[1] <= 195
    assert 115 <= seen[2] <= 150
    crop = pixels.read_crop(frame, _shift(32, 0), 32)
    pixels.paste_crop(frame, crop, np.ones((32, 32), np.float32), _shift(32, 0))
    for plane, kept in zip(planes_of(raw), before, strict=True):
        assert np.abs(plane.view(np.uint16).astype(int) - kept.view(np.uint16)).max() <= 3


def test_wide_colours_look_like_those_of_bt709_to_a_network_and_come_back() -> None:
    """Skin and lips in BT.2020: converted as light, which a matrix of signals comes near to."""
    for colour in ([200, 150, 130], [170, 100, 95]):
        light = (np.array(colour) / 255) ** 2.2
        wide = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]] @ light
        raw = native(np.full((32, 32, 3), np.rint(wide ** (1 / 2.2) * 255), np.uint8), "yuv420p10le", space=9)
        raw.color_primaries = 9
        frame, before = as_frame(raw), planes_of(raw)
        crop = pixels.read_crop(frame, _shift(0, 0), 32)
        assert np.abs(crop[16, 16].astype(int) - colour).max() <= 6
        pixels.paste_crop(frame, crop, np.ones((32, 32), np.float32), _shift(0, 0))
        for plane, kept in zip(planes_of(raw), before, strict=True):
            assert np.abs(plane.view(np.uint16).astype(int) - kept.view(np.uint16)).max() <= 4


def test_chroma_is_taken_from_where_it_is_sited() -> None:
    """A chroma ramp sited on the left columns of 4:2:0 reads as a ramp without a shift."""
    raw = av.VideoFrame(64, 32, "yuv420p")
    raw.colorspace, raw.color_range = 1, 2
    y, u, v = (np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in raw.planes)
    y[:], u[:], v[:] = 128, 128, 128
    v[:, :32] = 90 + 2 * np.arange(32)  # at luma column 2i
    crop = pixels.read_crop(as_frame(raw), _shift(16, 8), 16).astype(float)
    red = 128 + 1.5748 * (90 + np.arange(16, 32) - 128)
    np.testing.assert_allclose(crop[8, :, 0], red, atol=1.6)


@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_samples_outside_the_blend_keep_their_bits_and_inside_hold_the_fill(pix_fmt: str) -> None:
    raw = native(picture(81, 113), pix_fmt)
    frame = pixels.editable(as_frame(raw))
    before = planes_of(raw)
    fill = np.full((48, 48, 3), [190, 120, 90], np.uint8)
    frame_to_crop = np.array([[0.8, 0.2, -20.0], [-0.2, 0.8, -8.0]])
    pixels.paste_crop(frame, fill, feathered_disc(48, 15), frame_to_crop)

    to_frame = cv2.invertAffineTransform(frame_to_crop)
    outside = cv2.warpAffine((feathered_disc(48, 15) > 0).astype(np.uint8), to_frame, (113, 81)) == 0
    outside = cv2.erode(outside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    touched = False
    for plane, kept in zip(planes_of(raw), before, strict=True):
        mask = cv2.resize(outside.astype(np.uint8), plane.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        np.testing.assert_array_equal(plane[mask], kept[mask])
        touched = touched or bool((plane != kept).any())
    assert touched
    read = pixels.read_crop(frame, frame_to_crop, 48)[18:30, 18:30].reshape(-1, 3).mean(axis=0)
    layout = layout_of(raw.format.name)
    assert layout is not None
    gray = len(layout.components) == 1
    expected = np.full(3, 0.2126 * 190 + 0.7152 * 120 + 0.0722 * 90) if gray else np.array([190, 120, 90])
    np.testing.assert_allclose(read, expected, atol=2)


@pytest.mark.parametrize("pix_fmt", ["yuva420p", "yuva444p10le", "rgba", "gbrap"])
def test_alpha_is_never_touched(pix_fmt: str) -> None:
    raw = native(picture(64, 64), pix_fmt)
    frame = pixels.editable(as_frame(raw))
    index = [component.is_alpha for component in raw.format.components].index(True)
    plane = raw.format.components[index].plane
    before = planes_of(raw)[plane]
    pixels.paste_crop(frame, np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), np.float32), _shift(0, 0))
    after = planes_of(raw)[plane]
    np.testing.assert_array_equal(*((after[:, 3::4], before[:, 3::4]) if pix_fmt == "rgba" else (after, before)))


def test_a_chroma_sample_changes_only_with_luma_above_it() -> None:
    raw = native(picture(40, 40), "yuv420p")
    frame = pixels.editable(as_frame(raw))
    before = planes_of(raw)
    alpha = np.zeros((9, 9), np.float32)
    alpha[3:6, 3:6] = 1
    pixels.paste_crop(frame, np.full((9, 9, 3), 255, np.uint8), alpha, _shift(11, 13))
    y, u, v = (plane != kept for plane, kept in zip(planes_of(raw), before, strict=True))
    luma = np.zeros((40, 40), bool)
    luma[16:19, 14:17] = True
    np.testing.assert_array_equal(y, luma & y)
    assert y[luma].all()
    allowed = luma.reshape(20, 2, 20, 2).any(axis=(1, 3))
    assert not (u & ~allowed).any()
    assert not (v & ~allowed).any()
    assert (u | v).any()


def test_an_alpha_of_zero_changes_nothing_at_all() -> None:
    raw = native(picture(40, 40), "yuv422p10le")
    before = planes_of(raw)
    pixels.paste_crop(as_frame(raw), np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.float32), _shift(4, 4))
    pixels.paste_crop(as_frame(raw), np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.float32), _shift(400, 4))
    for plane, kept in zip(planes_of(raw), before, strict=True):
        np.testing.assert_array_equal(plane, kept)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le", "nv12"])
def test_pasting_the_crop_itself_back_moves_no_sample_by_more_than_rounding(pix_fmt: str) -> None:
    raw = native(picture(80, 80), pix_fmt)
    frame = pixels.editable(as_frame(raw))
    before = planes_of(raw)
    crop = pixels.read_crop(frame, _shift(8, 8), 64)
    pixels.paste_crop(frame, crop, np.ones((64, 64), np.float32), _shift(8, 8))
    luma, kept = planes_of(raw)[0], before[0]
    if pix_fmt == "yuv444p10le":
        luma, kept = luma.view(np.uint16) // 4, kept.view(np.uint16) // 4
    assert np.abs(luma.astype(int) - kept).max() <= 2


def test_float_and_byte_fills_agree() -> None:
    fill = picture(32, 32, seed=3)
    results = []
    for image in (fill, fill.astype(np.float32) / 255):
        raw = native(picture(64, 64), "yuv420p")
        frame = pixels.editable(as_frame(raw))
        pixels.paste_crop(frame, image, feathered_disc(32, 10), _shift(10, 10))
        results.append(planes_of(raw))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("tag", range(1, 9))
def test_a_turned_video_is_cropped_and_pasted_upright(tag: int) -> None:
    stored = picture(60, 90)
    frame = pixels.editable(as_frame(native(stored, "yuv444p"), matrix=matrix_of_exif(tag)))
    height, width = frame.display_size
    upright, frame_to_small = pixels.small_rgb(frame, 1000)
    assert upright.shape == (height, width, 3)
    np.testing.assert_allclose(frame_to_small, np.eye(3)[:2])
    crop = pixels.read_crop(frame, _shift(13, 7), 32)
    assert np.abs(crop.astype(int) - upright[7:39, 13:45]).max() <= 1
    pixels.paste_crop(frame, np.full((32, 32, 3), 10, np.uint8), np.ones((32, 32), np.float32), _shift(13, 7))
    after, _ = pixels.small_rgb(frame, 1000)
    assert after[9:37, 15:43].max() <= 12
    np.testing.assert_array_equal(after[:, 47:], upright[:, 47:])


def test_a_small_picture_matches_its_transform() -> None:
    image = np.zeros((400, 600, 3), np.uint8)
    cv2.circle(image, (450, 100), 24, (255, 255, 255), -1)
    small, frame_to_small = pixels.small_rgb(as_frame(native(image, "yuv420p")), 150)
    assert small.shape == (100, 150, 3)
    weight = small[..., 1].astype(float)
    centre = [(weight.sum(axis=0) @ np.arange(150)) / weight.sum(), (weight.sum(axis=1) @ np.arange(100)) / weight.sum()]
    np.testing.assert_allclose(centre, frame_to_small @ [450, 100, 1], atol=0.3)


def test_a_shrunk_crop_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = pixels.read_crop(as_frame(native(stripes, "gray")), np.array([[0.25, 0, 0], [0, 0.25, 0]]), 128)
    assert crop[8:-8, 8:-8].std() < 3
    assert abs(crop[8:-8, 8:-8].mean() - 127.5) < 4


def test_the_edge_is_repeated_beyond_the_picture() -> None:
    image = picture(50, 50)
    image[:, 0] = [250, 10, 10]
    image[:, 1] = [250, 10, 10]
    frame = as_frame(native(image, "yuv444p"))
    beside = pixels.read_crop(frame, _shift(-200, 0), 32)
    assert np.abs(beside.astype(int) - [250, 10, 10]).max() <= 3
    partly = pixels.read_crop(frame, _shift(-16, 0), 32)
    assert np.abs(partly[:, :16].astype(int) - [250, 10, 10]).max() <= 3


@pytest.mark.parametrize("size", [(17, 35), (1, 1), (2, 3), (3, 200)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv410p", "nv12", "gray", "rgb24"])
def test_tiny_and_odd_pictures_are_read_and_blended(size: tuple[int, int], pix_fmt: str) -> None:
    raw = native(picture(*size), pix_fmt)
    frame = pixels.editable(as_frame(raw))
    larger = np.array([[4.0, 0, 1], [0, 4.0, 1]])
    assert pixels.read_crop(frame, larger, 64).shape == (64, 64, 3)
    pixels.paste_crop(frame, np.full((64, 64, 3), 200, np.uint8), np.ones((64, 64), np.float32), larger)
    assert np.abs(pixels.read_crop(frame, larger, 4)[2, 2].astype(int) - 200).max() <= 40
    assert max(pixels.small_rgb(frame, 16)[0].shape[:2]) <= 16


def test_every_format_of_ffmpeg_leads_to_a_layout() -> None:
    for name in sorted(av.video.format.names):
        described = av.VideoFormat(name, 16, 16)
        if not described.components or "vaapi" in name or described.bits_per_pixel == 0:
            continue  # formats of hardware surfaces
        assert layout_of(nearest_supported(name)) is not None, name
