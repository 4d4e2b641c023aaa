from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.pretrained import box_overlaps, non_maximum_suppression

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
