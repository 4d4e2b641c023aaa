"""Squares hold their boxes, cuts copy, and resizing reaches exactly where the mask says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from pa_lib.functional.crops import Box, Interpolation, cut_and_hide, extent, resample, square_boxes
from pa_lib.functional.draws import uniform

BOX = st.tuples(st.integers(-5, 40), st.integers(-5, 40), st.integers(1, 50), st.integers(1, 50))


@given(st.lists(BOX, min_size=1, max_size=6), st.floats(1, 3), st.sampled_from([0.0, 0.7, 5.0]))
@example([(40, 0, 47, 1), (-5, 0, 43, 1), (19, 0, 2, 1)], 1.0, 0.7)  # to the last digit of float64
def test_squares_hold_their_boxes(
    sizes: list[tuple[int, int, int, int]], expansion: float, temporal_smoothing: float
) -> None:
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in sizes], dtype=torch.float64)
    squares = square_boxes(boxes, expansion, temporal_smoothing)
    sides = squares[:, 2:] - squares[:, :2]
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    assert (squares[:, :2] <= boxes[:, :2] + 1e-9).all()
    assert (squares[:, 2:] >= boxes[:, 2:] - 1e-9).all()
    if not temporal_smoothing:
        longest = (boxes[:, 2:] - boxes[:, :2]).amax(1)
        torch.testing.assert_close(sides[:, 0], longest.double() * expansion)
        torch.testing.assert_close((squares[:, 2:] + squares[:, :2]) / 2, (boxes[:, 2:] + boxes[:, :2]).double() / 2)


def test_a_frame_without_a_box_takes_the_nearest_square() -> None:
    nowhere = [float("nan")] * 4
    squares = square_boxes(torch.tensor([nowhere, [0, 0, 4, 4], nowhere, nowhere, [8, 8, 12, 12]]), 1.0)
    assert squares.tolist() == [[0, 0, 4, 4]] * 3 + [[8, 8, 12, 12]] * 2
    with pytest.raises(ValueError, match="no frame has a box"):
        square_boxes(torch.full((2, 4), float("nan")))


def test_temporal_smoothing_smooths_a_shaking_box() -> None:
    centres = 50 + 3 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).round()
    boxes = torch.cat([centres - 10, centres + 10], dim=1)
    shaking, steady = square_boxes(boxes, 1.5), square_boxes(boxes, 1.5, temporal_smoothing=3)
    jumps = [float((squares[1:, :2] - squares[:-1, :2]).abs().mean()) for squares in (shaking, steady)]
    assert jumps[1] < jumps[0] / 3


@given(st.integers(3, 30), st.floats(-2, 2), st.floats(0.95, 1.05), st.sampled_from([0.5, 2.0, 9.0]))
def test_temporal_smoothing_leaves_even_motion_and_growth_alone(
    n: int, speed: float, growth: float, sigma: float
) -> None:
    times = torch.arange(n, dtype=torch.float64)
    centres = torch.stack([20 + speed * times, 30 - 0.5 * speed * times], 1)
    halves = 8 + 2 * (growth - 1) * times[:, None]
    boxes = torch.cat([centres - halves, centres + halves], 1)
    torch.testing.assert_close(square_boxes(boxes, 1.2, sigma), square_boxes(boxes, 1.2), rtol=0, atol=1e-6)


@settings(deadline=None)
@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 16), st.integers(1, 16))
def test_parts_on_whole_pixels_are_those_of_a_padded_frame(x: int, y: int, width: int, height: int) -> None:
    frame = torch.arange(3 * 6 * 7, dtype=torch.uint8).reshape(3, 6, 7) + 1
    padded = np.pad(frame.numpy(), ((0, 0), (30, 30), (30, 30)))
    expected = padded[:, 30 + y : 30 + y + height, 30 + x : 30 + x + width]
    part = resample(frame, (x, y, x + width, y + height), height, width, has_black_bars=True)
    assert np.array_equal(part.numpy(), expected)


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(3, 20), st.integers(1, 40), st.sampled_from(["bilinear", "bicubic"]))
def test_the_whole_picture_is_resized_as_torch_does(
    seed: int, extent_px: int, side: int, interpolation: Interpolation
) -> None:
    picture = uniform((2, extent_px, extent_px), seed)
    expected = interpolate(picture[None], (side, side), mode=interpolation, align_corners=False, antialias=True)[0]
    whole: Box = (0, 0, extent_px, extent_px)
    torch.testing.assert_close(resample(picture, whole, side, side, interpolation), expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(st.floats(-6, 20), st.floats(-6, 20), st.floats(4, 20), st.sampled_from(["bilinear", "bicubic"]))
def test_a_plane_keeps_its_values_between_pixels(x: float, y: float, size: float, interpolation: Interpolation) -> None:
    # Both kernels are exact for planes: every value is that of the plane at the new pixel's centre, at any box.
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(80.0), indexing="ij")
    part = resample(
        (0.3 * rows - 0.7 * columns)[None], (x + 30, y + 30, x + 30 + size, y + 30 + size), 24, 24, interpolation
    )
    centres = (torch.arange(24.0) + 0.5) * size / 24 - 0.5 + 30
    expected = 0.3 * (centres + y)[:, None] - 0.7 * (centres + x)[None, :]
    torch.testing.assert_close(part[0], expected, rtol=0, atol=1e-4)


def test_a_part_beyond_a_picture_without_black_bars_is_refused() -> None:
    with pytest.raises(ValueError, match="reaches beyond a picture of 5 x 4"):
        resample(torch.ones(1, 4, 5), (1.0, 1.0, 4.0, 4.5), 2, 2)


def test_extent_is_of_everything_above_zero() -> None:
    assert extent(0, 0, torch.zeros(3, 3)) is None
    assert extent(0, 0, torch.zeros(0, 4)) is None
    assert extent(2, 1, torch.tensor([[0, 1e-6, 0], [0, 0, 0]])) == (2, 2, 3, 3)


def test_shrinking_is_by_the_triangle_filter() -> None:
    # By 2: a triangle of 2 source px half-width around each centre, weights 1 3 3 1 over 8.
    line = torch.tensor([0.0, 0, 0, 8, 0, 0, 0, 0]).reshape(1, 1, 8)
    assert resample(line, (0, 0, 8, 1), 1, 4, has_black_bars=True).flatten().tolist() == pytest.approx([0, 3, 1, 0])


def within_reach(
    mask: NDArray[np.bool_], start: tuple[float, float], scale: float, side: int, slack: float
) -> NDArray[np.bool_]:
    """Where a triangle as wide as the shrinking, or 1 px, around a crop pixel's centre meets the mask.

    At its very ends the weight is 0 up to rounding, hence the slack: some pixels there may be marked or not.
    """
    meets = []
    for first, n in zip(start, mask.shape, strict=True):
        centres = first + (np.arange(side)[:, None] + 0.5) * scale
        meets.append(np.abs(centres - (np.arange(n)[None, :] + 0.5)) < max(scale, 1.0) + slack)
    down, across = (near.astype(int) for near in meets)
    reached: NDArray[np.bool_] = (down @ mask.astype(int) @ across.T) > 0
    return reached


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.floats(3, 40), st.integers(2, 24), st.sampled_from([0.01, 0.2, 0.7]))
def test_every_crop_pixel_that_a_hidden_one_could_touch_is_hidden_and_no_other(
    seed: int, extent_px: float, side: int, density: float
) -> None:
    frame = uniform((3, 24, 30), seed)
    hidden = uniform((24, 30), seed, 1) < density
    own = hidden & (uniform((24, 30), seed, 2) < 0.5)
    corner = (uniform((2,), seed, 3) * 20 - 8).tolist()
    box = (corner[0], corner[1], corner[0] + extent_px, corner[1] + extent_px)
    pixels, is_hidden, is_own = cut_and_hide(frame, hidden, own, box, side)

    # whatever is put under the mask, nothing changes; and where the crop is not hidden it is the untouched source's
    for other in (0.0, 1.0, uniform((3, 24, 30), seed, 4)):
        changed = torch.where(hidden, torch.as_tensor(other), frame)
        assert torch.equal(cut_and_hide(changed, hidden, own, box, side)[0], pixels)
        untouched = resample(changed, box, side, side, has_black_bars=True)
        assert torch.equal((is_hidden == 0) & (untouched != pixels), torch.zeros_like(pixels).bool())
    for mask, marked in ((hidden, is_hidden), (own, is_own)):
        start = (corner[1], corner[0])
        least, most = (within_reach(mask.numpy(), start, extent_px / side, side, slack) for slack in (-1e-4, 1e-4))
        assert (marked[0].numpy() >= least).all()
        assert (marked[0].numpy() <= most).all()
    assert (is_own <= is_hidden).all()


def test_bytes_and_floats_are_cut_alike() -> None:
    frame = (uniform((3, 12, 12), 1) * 256).byte()
    nobody = torch.zeros(12, 12, dtype=torch.bool)
    from_bytes = cut_and_hide(frame, nobody, nobody, (-2, 0, 10, 12), 8)[0]
    torch.testing.assert_close(from_bytes, cut_and_hide(frame.float() / 255, nobody, nobody, (-2, 0, 10, 12), 8)[0])
