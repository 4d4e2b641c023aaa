"""95 % intervals: of means, of shares, by resampling and by the jackknife."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int, Num
from scipy.special import stdtrit
from torch import Tensor

Interval = tuple[float, float]

SEED = 0  # of `resampled_interval`'s draws


def t_interval(values: Num[Tensor, " n"]) -> Interval | None:
    """Student's t interval of the mean; None for fewer than two values, or if they are not finite.

    >>> [round(end, 3) for end in t_interval(torch.tensor([1.0, 2.0, 3.0]))]
    [-0.484, 4.484]
    """
    if len(values) < 2 or not bool(values.isfinite().all()):
        return None
    half = t_half_width(values)
    mean = float(values.double().mean())
    return mean - half, mean + half


def t_half_width(values: Num[Tensor, " n"]) -> float:
    """Half the width of `t_interval`, for at least two values."""
    n = len(values)
    return t_quantile(n) * float(values.double().std()) / math.sqrt(n)


def t_quantile(n: int) -> float:
    """97.5 % quantile of Student's t for n values.

    >>> round(t_quantile(11), 3)
    2.228
    """
    return float(stdtrit(n - 1, 0.975))


def within(interval: Interval | None, least: float, most: float) -> Interval | None:
    """An interval cut to the values that there can be.

    >>> within((-0.2, 0.5), 0, 1)
    (0, 0.5)
    """
    return None if interval is None else (max(least, interval[0]), min(most, interval[1]))


def wilson_interval(hits: float, n: float, z: float = 1.959963984540054) -> Interval:
    r"""Interval of a share, which stays in [0, 1] and is not empty at 0 % or 100 %.

    .. math:: \frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}}{1 + z^2 / n}, \quad p = hits / n

    Args:
        hits: Number of successes, in 0..n; need not be whole.
        n: Number of independent trials.
        z: Quantile of the normal distribution; 1.96 for 95 %.

    Returns:
        Low and high end; NaN without trials.

    Raises:
        ValueError: More hits than trials, or fewer than none.

    >>> [round(end, 4) for end in wilson_interval(10, 20)]
    [0.2993, 0.7007]

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if n == 0:
        return math.nan, math.nan
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n}, expected 0 to {n}")
    share = hits / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((centre + side * spread) / (1 + z * z / n) for side in (-1, 1))
    # At the ends exactly, where rounding would leave 1e-17 of an interval.
    return max(0.0, low) if hits else 0.0, min(1.0, high) if hits < n else 1.0


def wilson_of_mean(rates: Num[Tensor, " n"]) -> Interval | None:
    """`wilson_interval` of a mean of rates in [0, 1], each of them one trial; None without any.

    Student's t would have no width where all rates are 0 or all are 1.

    >>> wilson_of_mean(torch.tensor([1.0, 0.0])) == wilson_interval(1, 2)
    True
    """
    n = len(rates)
    # Rounding of the sum may lie beyond n.
    return wilson_interval(min(max(float(rates.sum()), 0.0), float(n)), n) if n else None


def resampled_interval(
    statistic: Callable[[Int[Tensor, " k"]], float], groups: Num[Tensor, " n"], value: float, resamples: int
) -> Interval | None:
    """Interval of a statistic by draws of groups of its rows, with replacement and a fixed seed.

    Args:
        statistic: Function from indices of rows to the value of the statistic for them.
        groups: Group of each row; groups are drawn whole, because their rows are alike.
        value: Value of the statistic for all rows.
        resamples: Number of draws.

    Returns:
        Value -+ Student's t times the standard deviation of the draws; None for fewer than 2 groups or no draws.

    >>> x = torch.tensor([1.0, 2.0, 3.0])
    >>> low, high = resampled_interval(lambda rows: float(x[rows].mean()), torch.arange(3), 2.0, 50)
    >>> -0.5 < low < 1 and 3 < high < 4.5
    True
    """
    rows = [torch.nonzero(groups == group).flatten() for group in torch.unique(groups)]
    if len(rows) < 2 or not resamples:
        return None
    generator = np.random.Generator(np.random.PCG64(SEED))
    draws = []
    for _ in range(resamples):
        drawn = torch.cat([rows[at] for at in generator.integers(0, len(rows), len(rows))])
        if len(drawn) >= 2:
            draws.append(statistic(drawn))
    # Draws with replacement hold fewer different rows, so a distance's mean is too large: only their spread counts.
    spread = float(np.std(draws, ddof=1)) * t_quantile(len(rows))
    return value - spread, value + spread


def jackknife_interval(without: Num[Tensor, " n"], value: float) -> Interval | None:
    r"""Interval of a statistic from its values with each group left out in turn; None for fewer than two groups.

    .. math:: \mathrm{value} \mp t_{n-1} \sqrt{\tfrac{n-1}{n} \sum_i (\theta_i - \bar\theta)^2}

    For a mean it is `t_interval`:

    >>> x = torch.tensor([1.0, 2.0, 3.0])
    >>> [round(end, 3) for end in jackknife_interval(torch.tensor([2.5, 2.0, 1.5]), 2.0)]
    [-0.484, 4.484]
    """
    n = len(without)
    if n < 2:
        return None
    error = float(((n - 1) / n * (without - without.mean()).square().sum()).sqrt())
    spread = error * t_quantile(n)
    return value - spread, value + spread
