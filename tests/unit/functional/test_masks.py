"""Rasters against brute force; growing, feathering, the chroma grid and run lengths against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pa_lib.errors import PaLibError
from pa_lib.functional import (
    Patch,
    box_raster,
    dilate,
    ellipse_raster,
    feather_inward,
    from_run_lengths,
    pad,
    run_lengths,
    snap_to_grid,
    trim,
    union,
)
from pa_lib.functional.masks import hull_raster, swept_ellipse_raster, tilted_ellipse_raster

HEIGHT, WIDTH = 11, 13
coordinate = st.floats(-6, 20, allow_nan=False).map(lambda value: round(value, 3))
quick = settings(deadline=None, max_examples=60)


def random_mask(seed: int, height: int, width: int, share: float = 0.6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((height, width)) < share)


def whole(patch: Patch | None, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """The frame-sized mask of a patch; fails where the patch leaves the frame."""
    frame = torch.zeros(height, width, dtype=torch.float32 if patch is None else patch.mask.dtype)
    if patch is not None:
        rows, columns = patch.mask.shape
        frame[patch.top : patch.top + rows, patch.left : patch.left + columns] = patch.mask
        assert patch.top >= 0
        assert patch.left >= 0
        assert patch.top + rows <= height
        assert patch.left + columns <= width
    return frame


@quick
@given(coordinate, coordinate, coordinate, coordinate)
def test_a_box_covers_exactly_the_pixels_it_reaches_into(x: float, y: float, x_other: float, y_other: float) -> None:
    x0, x1, y0, y1 = min(x, x_other), max(x, x_other), min(y, y_other), max(y, y_other)
    assume(x1 > x0 and y1 > y0)
    covered = whole(box_raster((x0, y0, x1, y1), HEIGHT, WIDTH)).bool()
    for row, column in itertools.product(range(HEIGHT), range(WIDTH)):
        overlap = (min(x1, column + 1) - max(x0, column), min(y1, row + 1) - max(y0, row))
        assert bool(covered[row, column]) == (overlap[0] > 0 and overlap[1] > 0)


@quick
@given(coordinate, coordinate, st.floats(0.2, 15), st.floats(0.2, 15))
def test_an_ellipse_covers_every_pixel_with_a_point_in_it(x0: float, y0: float, w: float, h: float) -> None:
    covered = whole(ellipse_raster((x0, y0, x0 + w, y0 + h), HEIGHT, WIDTH)).bool()
    angles, radii = np.meshgrid(np.linspace(0, 2 * np.pi, 721), np.linspace(0, 0.999, 40))
    x = np.floor(x0 + w / 2 + radii * w / 2 * np.cos(angles)).astype(int).ravel()
    y = np.floor(y0 + h / 2 + radii * h / 2 * np.sin(angles)).astype(int).ravel()
    inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    assert bool(covered[y[inside], x[inside]].all())


def test_an_ellipse_is_no_box() -> None:
    covered = whole(ellipse_raster((0, 0, 10, 10), 10, 10), 10, 10)
    assert 25 * math.pi <= int(covered.sum()) <= 25 * math.pi + 4 * 10  # its area, plus at most the pixels of its edge
    assert not bool(covered[0, 0])


@pytest.mark.parametrize("raster", [box_raster, ellipse_raster])
def test_boxes_outside_are_empty_and_senseless_ones_refused(raster: object) -> None:
    assert raster((-5.0, 0.0, 0.0, 5.0), HEIGHT, WIDTH) is None  # type: ignore[operator]
    assert raster((13.0, 0.0, 20.0, 5.0), HEIGHT, WIDTH) is None  # type: ignore[operator]
    for box in [(math.nan, 0.0, 1.0, 1.0), (0.0, 0.0, math.inf, 1.0), (3.0, 0.0, 1.0, 1.0)]:
        with pytest.raises(ValueError, match="finite"):
            raster(box, HEIGHT, WIDTH)  # type: ignore[operator]


@quick
@given(st.integers(0, 999), st.floats(0, 5), st.integers(1, 12), st.integers(1, 12))
def test_dilate_against_brute_force(seed: int, radius: float, height: int, width: int) -> None:
    mask = random_mask(seed, height, width, 0.15)
    rows, columns = np.nonzero(mask.numpy())
    expected = np.zeros((height, width), dtype=bool)
    for row, column in itertools.product(range(height), range(width)):
        distance = np.hypot(rows - row, columns - column)
        assume(abs(distance - radius).min(initial=9) > 1e-3)
        expected[row, column] = bool((distance <= radius).any())
    assert torch.equal(dilate(mask, radius), torch.from_numpy(expected))


@quick
@given(st.integers(0, 999), st.floats(0, 5), st.integers(1, 12), st.integers(1, 12))
def test_feather_against_brute_force(seed: int, width_px: float, height: int, width: int) -> None:
    mask = random_mask(seed, height, width, 0.9)
    alpha = feather_inward(mask, width_px)
    rows, columns = np.nonzero(~mask.numpy())
    for row, column in itertools.product(range(height), range(width)):
        depth = np.hypot(rows - row, columns - column).min(initial=np.inf)
        expected = 0.0 if depth == 0 else min(1.0, depth / max(width_px, 1))
        assert abs(float(alpha[row, column]) - expected) < 1e-3
    assert torch.equal(alpha > 0, mask)
    assert float(alpha.max()) <= 1


@quick
@given(st.integers(0, 999), st.floats(0, 6), st.floats(0, 1))
def test_what_was_there_before_the_dilation_is_never_feathered(seed: int, dilation_px: float, share: float) -> None:
    patch = pad(Patch(3, 3, random_mask(seed, 6, 6, 0.3)), 8, 30, 30)
    alpha = feather_inward(dilate(patch.mask, dilation_px), dilation_px * share)
    assert bool((alpha[patch.mask] == 1).all())


def test_a_person_cut_by_the_frame_is_not_feathered_there() -> None:
    assert bool((feather_inward(torch.ones(4, 4).bool(), 3.0) == 1).all())
    half = feather_inward(torch.tensor([[0, 1, 1, 1]]).bool(), 2.0)
    assert half.tolist() == [[0.0, 0.5, 1.0, 1.0]]


@quick
@given(
    st.integers(0, 999),
    st.sampled_from([(1, 1), (2, 2), (1, 2), (2, 1), (4, 4)]),
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    st.tuples(st.integers(0, 13), st.integers(0, 13)),
)
def test_every_chroma_cell_takes_its_largest_value(
    seed: int, grid: tuple[int, int], frame: tuple[int, int], corner: tuple[int, int]
) -> None:
    height, width = frame
    top, left = min(corner[0], height - 1), min(corner[1], width - 1)
    draw = np.random.default_rng(seed)
    shape = (int(draw.integers(1, height - top + 1)), int(draw.integers(1, width - left + 1)))
    alpha = (draw.random(shape) * (draw.random(shape) < 0.3)).astype(np.float32)
    patch = Patch(top, left, torch.from_numpy(alpha))

    before, after = whole(patch, height, width), whole(snap_to_grid(patch, grid, height, width), height, width)

    for row, column in itertools.product(range(0, height, grid[0]), range(0, width, grid[1])):
        cell = slice(row, row + grid[0]), slice(column, column + grid[1])
        assert bool((after[cell] == before[cell].max()).all())


def test_snapping_keeps_bool_masks_bool() -> None:
    assert snap_to_grid(Patch(1, 1, torch.ones(1, 1).bool()), (2, 2), 9, 9).mask.tolist() == [[True, True]] * 2


@quick
@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_run_lengths_come_back(seed: int, height: int, width: int, share: float) -> None:
    mask = random_mask(seed, height, width, share)
    counts = run_lengths(mask)
    assert torch.equal(from_run_lengths(counts, height, width), mask)
    assert sum(counts) == height * width
    assert all(count > 0 for count in counts[1:])


def test_run_lengths_go_down_the_columns_and_start_with_zeros() -> None:
    mask = torch.tensor([[0, 0, 1], [0, 1, 1]]).bool()  # columns: 00, 01, 11
    assert run_lengths(mask) == [3, 3]
    assert run_lengths(~mask) == [0, 3, 3]
    assert run_lengths(torch.zeros(2, 2).bool()) == [4]
    assert run_lengths(torch.ones(2, 2).bool()) == [0, 4]


@pytest.mark.parametrize(
    "counts", [[3], [5, 5], [-1, 5], pytest.param([2.0, 2.0], marks=pytest.mark.wrong_types), [True, 3], []]
)
def test_wrong_run_lengths_are_refused(counts: list[int]) -> None:
    with pytest.raises(PaLibError, match="run lengths"):
        from_run_lengths(counts, 2, 2)


def test_pad_union_and_trim_move_nothing() -> None:
    one, other = Patch(2, 3, torch.ones(2, 2).bool()), Patch(3, 4, torch.ones(3, 5).bool())
    both = union([one, other])
    assert torch.equal(whole(both), whole(one) | whole(other))
    padded = pad(both, 4, HEIGHT, WIDTH)
    assert torch.equal(whole(padded), whole(both))
    assert padded.mask.shape == (min(HEIGHT, 6 + 4), WIDTH)
    trimmed = trim(padded)
    assert trimmed is not None
    assert (trimmed.top, trimmed.left, tuple(trimmed.mask.shape)) == (2, 3, (4, 6))
    assert trim(Patch(0, 0, torch.zeros(2, 2))) is None


@quick
@given(
    st.lists(st.tuples(st.floats(-10, 50), st.floats(-10, 40)), min_size=1, max_size=4),
    st.floats(1, 12),
    st.floats(1, 12),
    st.floats(-180, 180),
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
)
def test_a_swept_ellipse_covers_it_at_all_places_and_between(
    centres: list[tuple[float, float]], a: float, b: float, tilt: float, shares: list[float]
) -> None:
    """Against points in the ellipse, at a place that is a mean of the centres."""
    places = np.array(centres)
    swept = swept_ellipse_raster(places, (a, b), tilt, 30, 40)
    covered = whole(swept, 30, 40).numpy()
    weights = np.array(shares[: len(places)])
    x, y = weights @ places / weights.sum()
    turns = np.linspace(0, 2 * np.pi, 200)
    angle = np.radians(tilt)
    for radius in (0.3, 0.7, 1.0):
        across, along = radius * a * np.cos(turns), radius * b * np.sin(turns)
        columns = np.floor(x + across * np.cos(angle) - along * np.sin(angle)).astype(int)
        rows = np.floor(y + across * np.sin(angle) + along * np.cos(angle)).astype(int)
        inside = (rows >= 0) & (rows < 30) & (columns >= 0) & (columns < 40)
        assert covered[rows[inside], columns[inside]].all()
    if len(centres) == 1 and swept is not None:  # and hardly more than the ellipse itself
        alone = tilted_ellipse_raster((x, y), (a + 1.0, b + 1.0), tilt, 30, 40)
        assert alone is not None
        assert int(swept.mask.sum()) <= int(alone.mask.sum()) + 4


def test_a_hull_of_points_that_are_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        hull_raster(np.array([[0.0, np.nan]]), 8, 8)
