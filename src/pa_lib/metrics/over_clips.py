"""Numbers for clips that came without, means over clips and their intervals."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from pa_lib.functional.intervals import t_interval, within
from pa_lib.metrics.base import MetricValue


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


def frame_rows(keys: Float[Tensor, " b"], values: Float[Tensor, "b t"]) -> Float[Tensor, "b 4"]:
    """Rows for `summed` of values frame by frame: clip, their sum, how many there are, how many frames have none (NaN).

    >>> values = torch.tensor([[0.5, 1.0, float("nan")]], dtype=torch.float64)
    >>> frame_rows(torch.tensor([7.0], dtype=torch.float64), values).tolist()
    [[7.0, 1.5, 2.0, 1.0]]
    """
    values = values.to(keys)
    is_nan = values.isnan()
    sums = torch.where(is_nan, 0.0, values).sum(1)
    return torch.stack([keys, sums, (~is_nan).to(keys).sum(1), is_nan.to(keys).sum(1)], dim=1)


def mean_over_clips(
    rows: Float[Tensor, "n 4"], name: str, what: str, is_higher_better: bool, missing: str, ends: tuple[float, float]
) -> MetricValue:
    """The mean over clips of the mean of their frames, with Student's t interval.

    Args:
        rows: As `frame_rows` makes them, summed.
        name: Of the figure.
        what: For people.
        is_higher_better: Of the value.
        missing: What frames without a value lack, e.g. ``frames without kept pixels``.
        ends: Least and greatest value there can be; the interval stays within.
    """
    some = rows[rows[:, 2] > 0]
    means = some[:, 1] / some[:, 2]
    interval = within(t_interval(means), *ends)
    counted = {missing: int(rows[:, 3].sum()), "clips left out": len(rows) - len(some)}
    return MetricValue(name, float(means.mean()), len(some), "clips", what, is_higher_better, interval, counted)
