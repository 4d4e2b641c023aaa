"""Values as people read them, on the terminal and on pages."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

NOTHING = "–"  # noqa: RUF001 (a dash, as in print)
"""Where there was nothing to measure."""
_MOST_DIGITS = 6  # after the point: smaller deviations are written as powers of ten
_ZERO = 1e-12  # an end of an interval that is zero but for rounding


def number(value: float) -> str:
    """Four digits; a dash where there was nothing to measure.

    >>> [number(value) for value in (0.123456, 12345.6, 0.000123456, math.inf)]
    ['0.1235', '12,346', '1.235e-04', '∞']
    """
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) < _ZERO:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.3e}"


@runtime_checkable
class HasInterval(Protocol):
    """Something with a 95 % interval, e.g. a `MetricValue`."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Low and high end; None where there is none."""


def interval(value: HasInterval) -> str:
    """``0.12 … 0.34``, or nothing."""
    return "" if value.interval is None else " … ".join(number(end) for end in value.interval)


def mean_and_sd(mean: float, sd: float) -> str:
    """A mean and its standard deviation, both to two digits of the latter.

    >>> [mean_and_sd(31.4159, 0.0271), mean_and_sd(1234.5, 85.2), mean_and_sd(2.0, 0.0)]
    ['31.416 ± 0.027', '1234 ± 85', '2 ± 0']
    """
    digits = 1 - math.floor(math.log10(sd)) if math.isfinite(sd) and sd > 0 else 99
    if digits > _MOST_DIGITS or not math.isfinite(mean):
        return f"{number(mean)} ± {number(sd)}"
    return f"{mean:.{max(digits, 0)}f} ± {sd:.{max(digits, 0)}f}"


def quantity(count: int, things: str) -> str:
    """A number of things in words, in the singular for one.

    Args:
        count: Number of things, >= 0.
        things: Name of the things in the plural, which stands in the first word.

    >>> [quantity(1, "pairs of frames"), quantity(1, "queries"), quantity(1200, "clips")]
    ['1 pair of frames', '1 query', '1,200 clips']
    """
    if count == 1:
        first, *rest = things.split(" ")
        if first.endswith("ies"):
            first = f"{first[:-3]}y"
        elif first.endswith("s") and not first.endswith("ss"):
            first = first[:-1]
        things = " ".join([first, *rest])
    return f"{count:,} {things}"
