from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.pretrained import align_faces
from pa_lib.pretrained.identity.face_chips import similarity

TEMPLATE = np.array([(30, 30), (70, 30), (50, 50), (35, 70), (65, 70)], np.float32)


@given(st.floats(-3.1, 3.1), st.floats(0.05, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_similarity_undoes_a_known_one(angle: float, scale: float, x: float, y: float) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity(TEMPLATE, TEMPLATE @ turn.T + [x, y])
    np.testing.assert_allclose(matrix, np.column_stack([turn, [x, y]]), atol=1e-6 * max(scale, 1) * 500)


def dotted(points: np.ndarray, size: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    near = np.min([(x - px) ** 2 + (y - py) ** 2 for px, py in points], axis=0) <= radius**2
    return np.repeat((near * 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("scale", [0.7, 1.0, 2.6, 6.0])
def test_landmarks_land_on_the_template(scale: float) -> None:
    turn = scale * np.array([[0.9, -0.4], [0.4, 0.9]])
    points = (TEMPLATE - 50) @ turn.T + [400, 400]
    image = dotted(points, 800, 4 * scale)
    chip = align_faces(image, points[None], TEMPLATE, 100)[0, ..., 0].astype(float)
    for x, y in TEMPLATE.astype(int):
        window = chip[y - 7 : y + 8, x - 7 : x + 8]
        rows, columns = np.mgrid[-7:8, -7:8]
        centre = (window * columns).sum() / window.sum(), (window * rows).sum() / window.sum()
        assert centre == pytest.approx((0, 0), abs=0.3)


def test_large_faces_are_averaged_not_sampled() -> None:
    """A checkerboard of single pixels, shrunk eight times, is grey everywhere."""
    board = (np.indices((800, 800)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    chip = align_faces(board, TEMPLATE[None] * 8, TEMPLATE, 100)[0]
    assert np.abs(chip[1:-1, 1:-1].astype(int) - 127).max() <= 2  # at the border, repeated rows weigh more


def test_stretch_widens_about_the_middle() -> None:
    image = dotted(TEMPLATE, 100, 3)
    chip = align_faces(image, TEMPLATE[None], TEMPLATE, 100, stretch=1.5)[0, ..., 0]
    for x, y in TEMPLATE:
        assert chip[int(y), round(49.5 + (x - 49.5) * 1.5)] == 255


def test_nobody_and_bad_landmarks() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    assert align_faces(image, np.zeros((0, 5, 2), np.float32), TEMPLATE, 100).shape == (0, 100, 100, 3)
    for wrong in (np.zeros((5, 2)), np.full((1, 5, 2), np.nan), np.zeros((1, 4, 2))):
        with pytest.raises(ValueError, match="expected n 5 2, all finite"):
            align_faces(image, wrong, TEMPLATE, 100)
    with pytest.raises(ValueError, match="all landmarks lie on one point"):
        align_faces(image, np.ones((1, 5, 2)), TEMPLATE, 100)
