"""Which detection continues which track: the pairings of the tracker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pa_lib.people.tracking.motion import Array, Motion, buffered_iou

# Least buffered overlap that links a detection with a prediction, and the largest buffer: first the sure links, then
# those a sudden move explains. On the shared clips 0.3 keeps neighbours in a crowd apart.
SURE = (0.3, 0.3)
BOLD = (0.15, 0.8)
# How far a person may move from one detection to the next, in widths and heights of the smaller box, to count as
# followed: the box between them is then wrong by half of it at most, which masks of 1.6 times a face and their dilation
# hold.
FOLLOWED = 0.7


def ways(boxes: Array, others: Array) -> Array:
    """How far the centers of boxes are apart, in widths and heights of the smaller box, the larger of both.

    Args:
        boxes: Boxes ``x0 y0 x1 y1`` in pixels, shape ... 4.
        others: Boxes in the same form, broadcast against `boxes`.

    >>> ways(np.array([0.0, 0, 10, 40]), np.array([[5.0, 0, 15, 40], [0, 0, 40, 40], [0, 30, 20, 50]])).tolist()
    [0.5, 1.5, 1.0]
    """
    sizes = np.minimum(boxes[..., 2:] - boxes[..., :2], others[..., 2:] - others[..., :2])
    apart = np.abs(boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2
    found: Array = (apart / sizes).max(axis=-1)
    return found


def jumps_between(predicted: Array, boxes: Array) -> Array:
    """How far each detection lies from each prediction.

    Args:
        predicted: Predicted boxes ``x0 y0 x1 y1`` in pixels, shape n 4.
        boxes: Detected boxes ``x0 y0 x1 y1`` in pixels, shape m 4.

    Returns:
        Shape n m: the largest of the centre's way, in sides of the prediction, and the logarithms of the growth.
    """
    size = predicted[:, 2:] - predicted[:, :2]
    side = np.sqrt(size.prod(axis=1))[:, None, None]
    centres = (predicted[:, None, :2] + predicted[:, None, 2:] - boxes[None, :, :2] - boxes[None, :, 2:]) / 2
    growth = np.log(np.maximum(boxes[None, :, 2:] - boxes[None, :, :2], 1e-3) / size[:, None])
    jumps: Array = np.concatenate([np.abs(centres) / side, np.abs(growth)], axis=2).max(axis=2)
    return jumps


def associate(
    motion: Motion, boxes: Array, is_high: NDArray[np.bool_], is_allowed: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Pairs predictions with detections in three rounds: high scores, low scores, high scores over larger distances.

    Args:
        motion: Predicted motion of n boxes.
        boxes: Detected boxes ``x0 y0 x1 y1`` in pixels, shape m 4.
        is_high: Whether each detection has a high score, shape m.
        is_allowed: Whether each pair may be made at all, shape n m.

    Returns:
        Pairs of positions in `motion` and `boxes`, one to one.
    """
    pairs: list[tuple[int, int]] = []
    free = np.arange(len(motion.place))
    open_ = np.arange(len(boxes))
    doubt = motion.doubt()
    for allowed, (least, most) in ((is_high, SURE), (~is_high, SURE), (is_high, BOLD)):
        some = open_[allowed[open_]]
        if not len(free) or not len(some):
            continue
        buffer = np.clip(2 * doubt[free], 0.05, most)
        similar = buffered_iou(motion.boxes()[free], boxes[some], buffer) * is_allowed[np.ix_(free, some)]
        for t, d in _assigned(similar, least):
            pairs.append((int(free[t]), int(some[d])))
        free = np.setdiff1d(free, [t for t, _ in pairs])
        open_ = np.setdiff1d(open_, [d for _, d in pairs])
    return sorted(pairs)


def _assigned(similar: Array, least: float) -> list[tuple[int, int]]:
    """The one-to-one pairs with the largest total similarity among those that reach `least`."""
    # Pairs below the threshold count nothing, so that they cannot displace a good pair to make room for themselves.
    value = np.where(similar >= least, similar, 0.0)
    rows, columns = linear_sum_assignment(-value)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if value[r, c] > 0]


def best_pairs(rows: Sequence[int], columns: Sequence[int], scores: Sequence[float]) -> dict[int, int]:
    """One-to-one pairs from a sparse list of candidates, best score first.

    Greedy, as an assignment over all fragments of a long clip would cost their number cubed; candidates are few.

    Args:
        rows: Row of each candidate.
        columns: Column of each candidate.
        scores: Score of each candidate.

    Returns:
        Row -> column.
    """
    chosen: dict[int, int] = {}
    taken: set[int] = set()
    for _, row, column in sorted(zip(scores, rows, columns, strict=True), key=lambda c: (-c[0], c[1], c[2])):
        if row not in chosen and column not in taken:
            chosen[row] = column
            taken.add(column)
    return chosen
