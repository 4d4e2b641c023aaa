from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.functional import aligned_overlaps, bounding_box, box_overlaps, non_maximum_suppression

coordinate = st.integers(-20, 60)
box = st.tuples(coordinate, coordinate, st.integers(0, 40), st.integers(0, 40)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@pytest.mark.parametrize(
    ("first", "second", "union", "smaller"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1, 1),
        ((0, 0, 10, 10), (5, 0, 15, 10), 50 / 150, 0.5),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04, 1),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0, 0),
        ((0, 0, 10, 10), (5, 5, 5, 9), 0, 0),
        ((0, 0, 10, 10), (9, 9, 3, 3), 0, 0),
    ],
)
def test_overlap(first: tuple[int, ...], second: tuple[int, ...], union: float, smaller: float) -> None:
    a, b = np.array([first], np.float32), np.array([second], np.float32)
    assert box_overlaps(a, b)[0, 0] == pytest.approx(union)
    assert box_overlaps(a, b, of_smaller=True)[0, 0] == pytest.approx(smaller)


def _pixels(one: tuple[int, ...]) -> set[tuple[int, int]]:
    return {(x, y) for x in range(one[0], one[2]) for y in range(one[1], one[3])}


@given(box, box)
def test_overlap_is_a_count_of_pixels(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    a, b = _pixels(first), _pixels(second)
    expected = len(a & b) / len(a | b) if a and b else 0
    assert box_overlaps(np.array([first]), np.array([second]))[0, 0] == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.tuples(box, st.integers(0, 10)), max_size=12), st.sampled_from([0.0, 0.3, 0.7]))
def test_suppression_keeps_the_best_and_explains_the_rest(
    items: list[tuple[tuple[int, ...], int]], limit: float
) -> None:
    boxes = np.array([item[0] for item in items], np.float32).reshape(-1, 4)
    scores = np.array([item[1] for item in items], np.float32) / 10
    kept = non_maximum_suppression(boxes, scores, limit)
    overlap = box_overlaps(boxes, boxes)
    assert list(scores[kept]) == sorted(scores[kept], reverse=True)
    for position, at in enumerate(kept):
        assert (overlap[at, kept[:position]] <= limit).all()
    for lost in set(range(len(items))) - set(kept.tolist()):
        assert any(overlap[lost, at] > limit and scores[at] >= scores[lost] for at in kept)


def test_nothing_is_fine() -> None:
    assert non_maximum_suppression(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []
    assert box_overlaps(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


@given(st.lists(st.tuples(box, box), min_size=1, max_size=5))
def test_aligned_overlaps_are_the_diagonal_of_all_pairs(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    one, two = (np.array(part, np.float64) for part in zip(*pairs, strict=True))
    for of_smaller in (False, True):
        told = aligned_overlaps(one, two, of_smaller=of_smaller)
        assert told.dtype == np.float64
        np.testing.assert_allclose(told, np.diag(box_overlaps(one, two, of_smaller=of_smaller)), atol=1e-6)


class TestBoundingBox:
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=6))
    def test_holds_all_that_is_set_and_no_empty_edge(self, places: list[tuple[int, int]]) -> None:
        mask = np.zeros((6, 8), np.float32)
        for row, column in places:
            mask[row, column] = 0.25
        expected = None
        if places:
            rows, columns = zip(*places, strict=True)
            expected = slice(min(rows), max(rows) + 1), slice(min(columns), max(columns) + 1)
        assert bounding_box(mask) == bounding_box(mask > 0) == bounding_box(torch.from_numpy(mask)) == expected

    def test_of_a_mask_without_pixels_there_is_none(self) -> None:
        assert bounding_box(np.zeros((0, 4))) is None
        assert bounding_box(torch.zeros(4, 0)) is None
