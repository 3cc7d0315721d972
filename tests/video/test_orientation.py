from fractions import Fraction

import numpy as np
import pytest

from vidunmask import geometry
from vidunmask.video.orientation import matrix_of_exif, orient

HEIGHT, WIDTH = 40, 60
ALL = [1, 2, 3, 4, 5, 6, 7, 8]
# Where the stored top left and top right corner are seen, by EXIF 2.32, 4.6.4 A.
SEEN = {
    1: ("top left", "top right"),
    2: ("top right", "top left"),
    3: ("bottom right", "bottom left"),
    4: ("bottom left", "bottom right"),
    5: ("top left", "bottom left"),
    6: ("top right", "bottom right"),
    7: ("bottom right", "top right"),
    8: ("bottom left", "top left"),
}


@pytest.mark.parametrize("tag", ALL)
def test_corners_are_seen_where_exif_says(tag: int) -> None:
    shown = orient((HEIGHT, WIDTH), matrix=matrix_of_exif(tag))
    height, width = shown.display_size
    assert (height, width) == ((HEIGHT, WIDTH) if tag < 5 else (WIDTH, HEIGHT))
    corners = geometry.apply(shown.native_to_display, np.array([[0.0, 0], [WIDTH - 1, 0]]))
    for corner, name in zip(corners, SEEN[tag], strict=True):
        expected = [0 if "left" in name else width - 1, 0 if "top" in name else height - 1]
        np.testing.assert_allclose(corner, expected, atol=1e-9)


@pytest.mark.parametrize("tag", ALL)
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(3, 4)])
def test_non_square_pixels_are_stretched_never_squeezed(tag: int, aspect: Fraction) -> None:
    shown = orient((HEIGHT, WIDTH), matrix=matrix_of_exif(tag), aspect=aspect)
    square = (HEIGHT, WIDTH * 4 / 3) if aspect > 1 else (HEIGHT * 4 / 3, WIDTH)
    assert np.prod(shown.display_size) == pytest.approx(np.prod(square), rel=0.02)
    edges = geometry.apply(shown.native_to_display, np.array([[-0.5, -0.5], [WIDTH - 0.5, HEIGHT - 0.5]]))
    height, width = shown.display_size
    np.testing.assert_allclose(np.sort(edges, axis=0), [[-0.5, -0.5], [width - 0.5, height - 0.5]], atol=1e-9)


def test_a_slanted_matrix_is_reported_and_left_out() -> None:
    slanted = orient((HEIGHT, WIDTH), matrix=(46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30))
    assert not slanted.exact
    np.testing.assert_array_equal(slanted.native_to_display, np.eye(3)[:2])


def test_an_absurd_aspect_is_ignored() -> None:
    assert orient((HEIGHT, WIDTH), aspect=Fraction(1000)).display_size == (HEIGHT, WIDTH)
