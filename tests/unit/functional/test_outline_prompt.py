"""What an outline network is asked with: the square around a box, and the maps of the prompt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.contracts import OutlinePrompt
from pa_lib.functional.outline_prompt import N_PLANES, Square, planes_of

SIDE = 64
BLACK = np.zeros((SIDE, SIDE, 3), np.uint8)

place = st.floats(-200, 200)
size = st.floats(1, 300)


@given(place, place, size, size, st.floats(0, 1))
def test_the_square_holds_the_box_in_its_middle(x: float, y: float, wide: float, high: float, margin: float) -> None:
    left, top, side = Square.around((x, y, x + wide, y + high), margin)
    assert side >= max(wide, high) * (1 + margin)
    assert side < max(wide, high) * (1 + margin) + 1
    assert abs(left + side / 2 - (x + wide / 2)) <= 1  # whole pixels
    assert abs(top + side / 2 - (y + high / 2)) <= 1


@given(st.integers(-50, 50), st.integers(-50, 50))
def test_the_maps_go_with_the_square(right: int, down: int) -> None:
    """The network sees the same wherever in the frame a person is."""

    def planes(x: int, y: int) -> np.ndarray:
        box = (10.0 + x, 20.0 + y, 40.0 + x, 80.0 + y)
        prompt = OutlinePrompt(box, (25.0 + x, 28.0 + y, 6.0), [(60.0 + x, 30.0 + y, 6.0)])
        return planes_of(BLACK, Square(x, y, 100), prompt)

    np.testing.assert_allclose(planes(right, down), planes(0, 0), atol=1e-6)


def test_each_map_marks_what_it_says() -> None:
    square = Square(100, 200, 2 * SIDE)  # two pixels of the frame to one
    box, head, other = (120.0, 220.0, 180.0, 300.0), (150.0, 230.0, 8.0), (200.0, 250.0, 8.0)
    believed = np.full((SIDE, SIDE), 0.25, np.float32)
    pixels = np.full((SIDE, SIDE, 3), 51, np.uint8)
    planes = planes_of(pixels, square, OutlinePrompt(box, head, [other]), believed)
    assert planes.shape == (N_PLANES, SIDE, SIDE)
    np.testing.assert_allclose(planes[:3], 0.2, atol=1e-6)
    assert (planes[3, 10:50, 10:40] == 1).all()
    assert not planes[3, :7].any()
    assert not planes[3, :, 44:].any()
    for plane, (x, y) in ((4, (25, 15)), (5, (50, 25))):
        assert np.unravel_index(planes[plane].argmax(), planes[plane].shape) in {
            (y, x),
            (y - 1, x),
            (y, x - 1),
            (y - 1, x - 1),
        }
        # the middle of that pixel is 4.5 px to the right and 0.5 px below, and a radius is 4 px here
        assert planes[plane, y, x + 4] == pytest.approx(np.exp(-(4.5**2 + 0.5**2) / (2 * 4**2)), abs=1e-4)
    assert (planes[6] == 0.25).all()
    nothing = planes_of(pixels, square, OutlinePrompt(box))
    assert not nothing[4:].any()
