"""Sums kept clip by clip, so that long and short videos can weigh the same whatever windows they came in."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def summed(rows: Float[Tensor, "n k"], n_keys: int = 1) -> Float[Tensor, "m k"]:
    """Rows with the same keys added up, in the order of their keys.

    Kept as a state of a metric (`AbstractMetric.add_rows`), such rows stay as many as there are clips; summing them
    again after the processes' rows were joined gives what one process would have.

    Args:
        rows: float64; first the keys (whole numbers, such as clip and person), then values.
        n_keys: How many columns are keys.

    >>> summed(torch.tensor([[1, 0.5, 2], [0, 1, 1], [1, 0.5, 1]], dtype=torch.float64)).tolist()
    [[0.0, 1.0, 1.0], [1.0, 1.0, 3.0]]
    """
    keys, places = torch.unique(rows[:, :n_keys], dim=0, return_inverse=True)
    values = rows.new_zeros(len(keys), rows.shape[1] - n_keys).index_add_(0, places, rows[:, n_keys:])
    return torch.cat([keys, values], dim=1)
