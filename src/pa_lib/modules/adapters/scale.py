"""What every adapter asks of its settings."""

from __future__ import annotations

import math

from pa_lib.errors import PaLibError


def checked_scale(scale: float) -> float:
    """The scale as a finite float.

    Raises:
        PaLibError: It is no number, or an infinite one.

    >>> checked_scale(1)
    1.0
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise PaLibError(f"scale {scale!r} of an adapter is no finite number; 1 is full effect, 0 is off")
    return float(scale)


def checked_width(width: int, what: str) -> int:
    """A rank or a width: a whole number from 1 on.

    Raises:
        PaLibError: It is not.

    >>> checked_width(16, "rank")
    16
    """
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise PaLibError(f"{what} {width!r} of an adapter is no whole number of at least 1; 16 is usual")
    return width
