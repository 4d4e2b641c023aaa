"""Overlap of boxes and non-maximum suppression, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def box_overlaps(first: Boxes, second: Boxes, *, of_smaller: bool = False) -> NDArray[np.float32]:
    """Intersection over union of every pair, or intersection over the smaller area.

    Args:
        first: Shape n 4, ``x0 y0 x1 y1`` px.
        second: Shape m 4.
        of_smaller: Divide by the smaller of the two areas, so that a box inside another has 1.

    Returns:
        Shape n m, in [0, 1]; 0 where a box is empty.

    >>> box_overlaps(np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2]])).round(3).tolist()
    [[0.3330000042915344]]
    """
    first, second = np.asarray(first, np.float32).reshape(-1, 4), np.asarray(second, np.float32).reshape(-1, 4)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    first_area = np.prod(np.clip(first[:, 2:] - first[:, :2], 0, None), axis=-1)[:, None]
    second_area = np.prod(np.clip(second[:, 2:] - second[:, :2], 0, None), axis=-1)[None]
    whole = np.minimum(first_area, second_area) if of_smaller else first_area + second_area - shared
    shares: NDArray[np.float32] = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return shares


def non_maximum_suppression(boxes: Boxes, scores: NDArray[np.float32], max_overlap: float) -> NDArray[np.int64]:
    """Indices of the boxes that no better box overlaps by more than `max_overlap`, best first.

    Ties go to the lower index, so the result is the same on every machine.

    Args:
        boxes: Shape n 4, px.
        scores: Shape n.
        max_overlap: Largest intersection over union that two kept boxes may have.

    >>> boxes = np.float32([[0, 0, 9, 9], [0, 0, 9, 8], [20, 0, 29, 9]])
    >>> non_maximum_suppression(boxes, np.float32([0.5, 0.9, 0.7]), 0.5)
    array([1, 2])
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[box_overlaps(boxes[best], boxes[order])[0] <= max_overlap]
    return np.array(kept, np.int64)
