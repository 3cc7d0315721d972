import numpy as np
import pytest

from vidunmask import geometry


def transform(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, x], [s, c, y]])


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def test_inverse_undoes_a_transform(random) -> None:
    a_to_b = transform(2.5, 33, 10, -4)
    points = random.normal(0, 50, (9, 2))
    assert np.allclose(geometry.apply(geometry.invert(a_to_b), geometry.apply(a_to_b, points)), points)


def test_compose_applies_the_first_transform_first(random) -> None:
    a_to_b, b_to_c = transform(2, 30, 5, 6), transform(0.5, -70, -3, 8)
    points = random.normal(0, 50, (9, 2))
    expected = geometry.apply(b_to_c, geometry.apply(a_to_b, points))
    assert np.allclose(geometry.apply(geometry.compose(a_to_b, b_to_c), points), expected)


def test_similarity_recovers_the_transform_that_made_the_points(random) -> None:
    expected = transform(1.7, -50, 12, 34)
    source = random.normal(0, 40, (20, 2))
    assert np.allclose(geometry.similarity(source, geometry.apply(expected, source)), expected)


def test_points_of_no_weight_do_not_move_the_similarity(random) -> None:
    expected = transform(0.8, 15, -5, 2)
    source = random.normal(0, 40, (20, 2))
    target = geometry.apply(expected, source)
    target[:5] += 100
    weights = np.r_[np.zeros(5), np.ones(15)]
    assert np.allclose(geometry.similarity(source, target, weights), expected)


def test_similarity_never_mirrors(random) -> None:
    source = random.normal(0, 40, (20, 2))
    fitted = geometry.similarity(source, source * [-1, 1])
    assert np.linalg.det(fitted[:, :2]) > 0


def test_coinciding_points_are_an_error() -> None:
    with pytest.raises(ValueError, match="coincide"):
        geometry.align(np.full((68, 2), 40.0))


def test_aligning_the_template_changes_nothing() -> None:
    assert np.allclose(geometry.align(geometry.TEMPLATE68), [[1, 0, 0], [0, 1, 0]])


def test_the_template_is_symmetric_and_stands_where_it_is_said_to() -> None:
    eyes = geometry.TEMPLATE68[36:42].mean(axis=0), geometry.TEMPLATE68[42:48].mean(axis=0)
    assert np.hypot(*(eyes[1] - eyes[0])) == pytest.approx(64, abs=1.0)
    assert np.allclose((eyes[0] + eyes[1]) / 2, [127.5, 104], atol=1.0)
    jaw = geometry.TEMPLATE68[:17]
    assert np.allclose(jaw[:, 0] + jaw[::-1, 0], 255, atol=0.2)


@pytest.mark.parametrize("size", [64, 128, 512])
def test_a_face_laid_anywhere_in_a_frame_comes_out_canonical(size) -> None:
    crop_to_frame = transform(3.1, 25, 400, 200)
    face = geometry.apply(crop_to_frame, geometry.TEMPLATE68)
    aligned = geometry.apply(geometry.align(face, size=size), face)
    scaled = (geometry.TEMPLATE68 + 0.5) * size / 256 - 0.5  # the corner of the picture stays the corner
    assert np.allclose(aligned, scaled)


def test_the_jaw_moves_an_alignment_less_than_the_eyes_do() -> None:
    def shift_of(part: slice) -> float:
        face = geometry.TEMPLATE68.copy()
        face[part] += [0, 8]
        moved = geometry.apply(geometry.align(face), np.array([127.5, 104.0]))
        return float(np.hypot(*(moved - [127.5, 104])))

    assert shift_of(slice(0, 17)) < 0.5 * shift_of(slice(36, 48))


def test_parameters_and_matrix_say_the_same() -> None:
    matrix = transform(0.37, 142, 55, -20)
    parameters = geometry.similarity_parameters(matrix)
    assert np.allclose(geometry.similarity_from_parameters(parameters), matrix)
    assert np.allclose(geometry.apply(matrix, parameters[:2]), [127.5, 127.5])
    assert 2 ** parameters[2] == pytest.approx(geometry.scale_of(matrix))
