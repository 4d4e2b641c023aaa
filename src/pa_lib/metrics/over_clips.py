"""Numbers for clips that came without, and the interval of a mean over clips."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor, distributed


def clip_keys(clip_ids: Tensor | None, n_rows: int, known: Float[Tensor, "n k"]) -> Float[Tensor, " b"]:
    """The key of every row of an update, float64, for `summed`.

    Args:
        clip_ids: As in `contracts.Result`; None makes every row of every update a clip of its own.
        n_rows: Rows of the update.
        known: The metric's rows so far, keys in the first column.

    Raises:
        ValueError: As many numbers as rows are expected.

    >>> clip_keys(None, 2, torch.tensor([[0.0, 7.0]], dtype=torch.float64)).tolist()
    [1.0, 2.0]
    """
    if clip_ids is not None:
        if tuple(clip_ids.shape) != (n_rows,):
            raise ValueError(f"clip_ids have shape {tuple(clip_ids.shape)}, expected {(n_rows,)}: one for each clip")
        return clip_ids.to(torch.float64)
    # Each process numbers from a place of its own, or clips of two processes would be taken for one.
    rank = distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
    first = rank * 2.0**40
    mine = known[known[:, 0] >= first, 0]
    start = float(mine.max()) + 1 if len(mine) else first
    return start + torch.arange(n_rows, dtype=torch.float64)


def t_interval(values: Float[Tensor, " n"]) -> tuple[float, float] | None:
    """95 % interval of the mean by Student's t; None for fewer than two values, or where they are not finite.

    >>> [round(end, 3) for end in t_interval(torch.tensor([1.0, 2.0, 3.0]))]
    [-0.484, 4.484]
    """
    if len(values) < 2 or not bool(values.isfinite().all()):
        return None
    half = t_half_width(values)
    mean = float(values.double().mean())
    return mean - half, mean + half


def t_half_width(values: Float[Tensor, " n"]) -> float:
    """Half the width of `t_interval`, for at least two values."""
    n = len(values)
    return float(stdtrit(n - 1, 0.975)) * float(values.double().std()) / math.sqrt(n)
