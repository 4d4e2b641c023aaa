"""Smoothing over time in both directions, by straight lines that are fitted around every moment."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_REACH = 3  # of a Gaussian's sigmas, beyond which its weights do not matter
_BLOCK = 512  # moments that are fitted at a time, so that memory does not grow with the square of a video's length
# Widths that `smoothed` tries, in steps between neighbours. The narrowest leaves a nodding head its nods, the widest
# averages about 15 detections.
_WIDTHS = (0.75, 1.5, 3.0, 5.0)
_AS_GOOD = 1.05  # of the least error: what chance makes of 50 values that jitter


def local_lines(
    times: Float[Tensor, " t"], sigma: float, weights: Float[Tensor, " t"] | None = None
) -> Float[Tensor, "t t"]:
    """The matrix that fits a straight line around every time and takes its value there; rows add up to 1.

    Args:
        times: Times of the values, in any unit.
        sigma: Standard deviation of the Gaussian that weighs the neighbours, in the same unit, > 0.
        weights: Trust in each value, >= 0; None trusts all alike.

    Returns:
        A row of zeros where every value in reach has the weight 0.

    Source: local linear regression, Fan & Gijbels, Local Polynomial Modelling and Its Applications (1996), ch. 2.

    >>> (local_lines(torch.tensor([0.0, 1.0, 2.0]), 1.0) @ torch.tensor([1.0, 3.0, 5.0])).round(decimals=4)
    tensor([1., 3., 5.])
    """
    ahead = times[None, :] - times[:, None]
    near = torch.where(ahead.abs() <= _REACH * sigma, torch.exp(-((ahead / sigma) ** 2) / 2), 0.0)
    if weights is not None:
        near = near * weights[None, :]
    mass, moment, spread = (torch.sum(near * ahead**k, 1, keepdim=True) for k in range(3))
    fitted = near * (spread - moment * ahead)
    total = fitted.sum(1, keepdim=True)  # 0 where no other value is near: the mean of what there is
    lone = near if weights is None else near / mass.clamp_min(1e-300)
    return torch.where(total > 1e-9 * mass, fitted / total.clamp_min(1e-300), lone)


def smoothed(times: Float[Tensor, " t"], values: Float[Tensor, "t c"]) -> Float[Tensor, "t c"]:
    r"""Values smoothed over time as much as they jitter: the width that predicts each value best from the others.

    The width is the one of a few (0.75 to 5 steps between neighbours) with the least mean error when every value is
    left out and predicted by the line through its neighbours, for all columns together; of those that do about as well
    as the best it is the widest. So fast but even motion is followed, and jitter is averaged out. Straight lines stay
    as they are.

    Args:
        times: Times of the values, increasing.
        values: The values; columns in units in which their errors compare.

    Source: leave-one-out choice of the bandwidth, Fan & Gijbels (1996), section 4.2; for linear smoothers
    :math:`y_i - \hat y_{-i} = (y_i - \hat y_i) / (1 - H_{ii})`.

    >>> smoothed(torch.arange(5.0), torch.arange(1.0, 6.0)[:, None] * 2).T
    tensor([[ 2.,  4.,  6.,  8., 10.]])
    """
    if len(times) < 3:
        return values
    step = float(times.diff().median())
    tried = []
    for width in _WIDTHS:
        fitted, left_out = _fitted(times.double(), values.double(), width * step)
        tried.append((float(left_out.abs().mean()), fitted.to(values.dtype)))
    least = min(error for error, _ in tried)
    return next(fitted for error, fitted in reversed(tried) if error <= _AS_GOOD * least + 1e-9)


def steadied(times: Float[Tensor, " t"], values: Float[Tensor, " t"], sigma: float) -> Float[Tensor, " t"]:
    r"""Values smoothed over a given time by straight lines, in which values that lie far off count little.

    Lines are fitted three times; after the first, a value that is :math:`r` off its line counts
    :math:`1 / (1 + (r / 2m)^2)` with m the median distance.

    Args:
        times: Times of the values, increasing.
        values: The values.
        sigma: Standard deviation of the Gaussian that weighs the neighbours, in the unit of `times`, > 0.

    Source: robust locally weighted regression, Cleveland (1979). Differs: these weights, and a fixed reach in time.

    >>> values = torch.tensor([0.0, 1.0, 2.0, 9.0, 4.0, 5.0, 6.0])
    >>> steadied(torch.arange(7.0), values, 2.0).round(decimals=1) + 0.0
    tensor([0., 1., 2., 3., 4., 5., 6.])
    """
    if len(times) < 3:
        return values
    weights = torch.ones(len(times), dtype=torch.float64)
    at, known = times.double(), values.double()[:, None]
    fitted = known
    for _ in range(3):
        fitted = _fitted(at, known, sigma, weights)[0]
        off = (known - fitted).abs()[:, 0]
        weights = 1 / (1 + (off / (2 * off.median() + 1e-9)) ** 2)
    return fitted[:, 0].to(values.dtype)


def outliers(
    times: Float[Tensor, " t"], values: Float[Tensor, "t c"], least: Float[Tensor, " c"], factor: float = 4.0
) -> Bool[Tensor, " t"]:
    """Single values that lie far off the line between their neighbours, while those around them do not.

    A value is one if, in any column, its distance from that line is above `least`, above `factor` times the median
    distance of the ten values around it, and above those of both neighbours, which it pulls away from their lines by
    half. At the ends the line is that through the next two values, and the limit three times as high.

    Args:
        times: Times of the values, increasing.
        values: The values.
        least: Largest distance in each column that is never an outlier, > 0.
        factor: Ratio to the usual distance, > 1.

    >>> outliers(torch.arange(5.0), torch.tensor([[0.0], [1.0], [9.0], [3.0], [4.0]]), torch.tensor([0.5]))
    tensor([False, False,  True, False, False])
    """
    n = len(times)
    found = torch.zeros(n, dtype=torch.bool)
    if n < 4:
        return found
    at, v = times.double(), values.double()
    before, after = torch.arange(n) - 1, torch.arange(n) + 1
    before[0], after[0], before[-1], after[-1] = 1, 2, n - 3, n - 2
    share = ((at - at[before]) / (at[after] - at[before]))[:, None]
    off = (v - torch.lerp(v[before], v[after], share)).abs() / least
    off[[0, -1]] /= 3
    for at_end, inner in ((1, (2, 3)), (n - 2, (n - 3, n - 4))):  # a wild end is not its neighbour's fault
        off[at_end] = torch.minimum(off[at_end], (v[at_end] - _line(at, v, *inner, at_end)).abs() / least)
    padded = torch.full((n + 10, off.shape[1]), float("nan"), dtype=torch.float64)
    padded[6:-6] = off[1:-1]  # without the ends: one next to a wild value is pulled further than any other
    around = padded.unfold(0, 11, 1)[..., [0, 1, 2, 3, 7, 8, 9, 10]]  # not itself, nor the neighbours that it pulls
    usual = around.nanmedian(-1).values.nan_to_num(0.0)
    none = off.new_zeros(1, off.shape[1])
    peak = off > torch.maximum(torch.cat([none, off[:-1]]), torch.cat([off[1:], none]))
    return ((off > 1) & (off > factor * usual) & peak).any(1)


def _line(times: Tensor, values: Tensor, one: int, two: int, place: int) -> Tensor:
    """The line through two values, at the time of a third."""
    return torch.lerp(values[one], values[two], (times[place] - times[one]) / (times[two] - times[one]))


def _fitted(times: Tensor, values: Tensor, sigma: float, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The smoothed values, and how far each value is from its prediction by the others; block after block."""
    fitted, left_out = torch.empty_like(values), torch.empty_like(values)
    for start in range(0, len(times), _BLOCK):
        stop = min(start + _BLOCK, len(times))
        reach = _REACH * sigma
        first = int(torch.searchsorted(times, times[start] - reach))
        last = int(torch.searchsorted(times, times[stop - 1] + reach, right=True))
        # Only the rows of the block are right: those before and after lack neighbours.
        trust = None if weights is None else weights[first:last]
        lines = local_lines(times[first:last], sigma, trust)[start - first : stop - first]
        fitted[start:stop] = lines @ values[first:last]
        own = lines[torch.arange(stop - start), torch.arange(start - first, stop - first)][:, None]
        left_out[start:stop] = (values[start:stop] - fitted[start:stop]) / (1 - own).clamp_min(1e-9)
    return fitted, left_out
