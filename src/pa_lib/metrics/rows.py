"""Sums kept clip by clip, so that long and short videos weigh the same whatever batches their frames came in."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

UNNUMBERED = 2**52  # keys of clips without an id begin here; float64 holds whole numbers up to twice as much


def summed(rows: Float[Tensor, "n k"], n_keys: int = 1) -> Float[Tensor, "m k"]:
    """Rows with the same keys added up, in the order of their keys.

    As a state of a metric (`AbstractMetric.add_rows`) there are as many such rows as clips; adding them up again after
    the processes' rows were joined gives what one process would have.

    Args:
        rows: Rows in float64: first the keys (integers, such as clip and person), then values.
        n_keys: Number of columns that are keys.

    >>> summed(torch.tensor([[1, 0.5, 2], [0, 1, 1], [1, 0.5, 1]], dtype=torch.float64)).tolist()
    [[0.0, 1.0, 1.0], [1.0, 1.0, 3.0]]
    """
    keys, places = torch.unique(rows[:, :n_keys], dim=0, return_inverse=True)
    values = rows.new_zeros(len(keys), rows.shape[1] - n_keys).index_add_(0, places, rows[:, n_keys:])
    return torch.cat([keys, values], dim=1)


def unnumbered_keys(clip_ids: Tensor | None, n_rows: int, n_before: int) -> Float[Tensor, " b"]:
    """The key of every row of an update, float64: the given ids, or numbers that no id has.

    Args:
        clip_ids: Ids of the clips, shape b, or None.
        n_rows: Number of rows of the update.
        n_before: Number of rows without an id before.

    Raises:
        ValueError: There are not as many ids as rows, or one of them is 2^52 or more.

    >>> (unnumbered_keys(None, 2, 3) - UNNUMBERED).tolist()
    [3.0, 4.0]
    """
    if clip_ids is None:
        return UNNUMBERED + n_before + torch.arange(n_rows, dtype=torch.float64)
    if tuple(clip_ids.shape) != (n_rows,):
        raise ValueError(f"clip_ids have shape {tuple(clip_ids.shape)}, expected {(n_rows,)}: one for each clip")
    if bool((clip_ids >= UNNUMBERED).any()):
        raise ValueError(f"clip_ids reach {int(clip_ids.max())}, expected less than 2^52")
    return clip_ids.to(torch.float64)


def shifted(rows: Float[Tensor, "n k"], column: int, n: int) -> Float[Tensor, "n k"]:
    """Rows whose clips without an id are numbered n further on."""
    rows = rows.clone()
    rows[:, column] += n * (rows[:, column] >= UNNUMBERED)
    return rows


def clip_number(key: float | Tensor) -> int:
    """The id of a clip, or its number among those without one.

    >>> clip_number(7.0), clip_number(UNNUMBERED + 2.0)
    (7, 2)
    """
    return int(key) - UNNUMBERED if int(key) >= UNNUMBERED else int(key)


def frame_sums(values: Float[Tensor, "b t"]) -> Float[Tensor, "b 3"]:
    """Of values frame by frame: their sum, how many there are, how many frames have none (NaN).

    >>> frame_sums(torch.tensor([[0.5, 1.0, float("nan")]])).tolist()
    [[1.5, 2.0, 1.0]]
    """
    is_nan = values.isnan()
    sums = torch.where(is_nan, 0.0, values).sum(1)
    return torch.stack([sums, (~is_nan).to(values).sum(1), is_nan.to(values).sum(1)], dim=1)
