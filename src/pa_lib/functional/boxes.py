"""Boxes around masks, overlap of boxes, non-maximum suppression. Without torch, as people/ and video/ are."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped


def bounding_box(mask: Shaped[Any, "h w"]) -> tuple[slice, slice] | None:
    """Rows and columns of the smallest box around everything above 0; None if nothing is.

    Args:
        mask: The mask, an array or tensor of booleans or numbers; what is not 0 is inside.

    >>> bounding_box(np.array([[0, 0, 0], [0, 2, 1]]))
    (slice(1, 2, None), slice(1, 3, None))
    """
    is_set = mask > 0
    spans = []
    for axis in (1, 0):
        places = is_set.any(axis)
        hits = np.flatnonzero(places if isinstance(places, np.ndarray) else places.numpy(force=True))
        if not len(hits):
            return None
        spans.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return spans[0], spans[1]


def box_overlaps(
    first: Shaped[np.ndarray, "*n 4"], second: Shaped[np.ndarray, "*m 4"], *, of_smaller: bool = False
) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every pair of boxes, or intersection over the smaller area.

    Args:
        first: Boxes ``x0 y0 x1 y1`` in pixels; a single box counts as one row.
        second: The other boxes, in the same form.
        of_smaller: Whether to divide by the smaller of the two areas, so that a box inside another has 1.

    Returns:
        float32 in [0, 1]; 0 where a box is empty.

    >>> box_overlaps(np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2]])).round(3).tolist()
    [[0.3330000042915344]]
    """
    first, second = np.asarray(first, np.float32).reshape(-1, 4), np.asarray(second, np.float32).reshape(-1, 4)
    return aligned_overlaps(first[:, None], second[None], of_smaller=of_smaller)


def aligned_overlaps(
    one: Float[np.ndarray, "*#n 4"], two: Float[np.ndarray, "*#n 4"], *, of_smaller: bool = False
) -> Float[np.ndarray, "*#n"]:
    """As `box_overlaps`, of boxes at the same position of two arrays, which broadcast; in the arrays' own precision.

    >>> aligned_overlaps(np.array([[0.0, 0, 2, 2], [0, 0, 1, 1]]), np.array([1.0, 0, 3, 2])).round(3).tolist()
    [0.333, 0.0]
    """
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    shared = np.asarray(np.prod(np.clip(sides, 0, None), axis=-1))
    area, other = (np.prod(np.clip(part[..., 2:] - part[..., :2], 0, None), axis=-1) for part in (one, two))
    whole = np.minimum(area, other) if of_smaller else area + other - shared
    shares: Float[np.ndarray, "*#n"] = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return shares


def non_maximum_suppression(
    boxes: Shaped[np.ndarray, "*n 4"], scores: Shaped[np.ndarray, " n"], max_overlap: float
) -> Int[np.ndarray, " k"]:
    """Indices of the boxes that no better box overlaps by more than `max_overlap`, best first.

    Ties go to the lower index, so the result is the same on every machine.

    Args:
        boxes: Boxes ``x0 y0 x1 y1`` in pixels, shape n 4.
        scores: Confidence of each box, shape n.
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
