"""Checks of settings that adapters share."""

from __future__ import annotations

import math

from pa_lib.errors import SettingError


def checked_scale(scale: float) -> float:
    """The scale as a finite float.

    Raises:
        SettingError: It is no number, or an infinite one.

    >>> checked_scale(1)
    1.0
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise SettingError(f"scale {scale!r} of an adapter is no finite number; 1 is full effect, 0 is off")
    return float(scale)


def checked_width(width: int, what: str) -> int:
    """A rank or a width: a whole number from 1 on.

    Raises:
        SettingError: It is not.

    >>> checked_width(16, "rank")
    16
    """
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise SettingError(f"{what} {width!r} of an adapter is no whole number of at least 1; 16 is usual")
    return width


def checked_alpha(alpha: float) -> float:
    """The alpha of a LoRA as a finite float above 0.

    Raises:
        SettingError: It is not.

    >>> checked_alpha(8)
    8.0
    """
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha <= 0:
        raise SettingError(f"alpha {alpha!r} of a LoRA is no finite number above 0; leave it out for the rank")
    return float(alpha)


def checked_share(share: float, what: str) -> float:
    """A share in [0, 1) as a float.

    Raises:
        SettingError: It is not.

    >>> checked_share(0.1, "dropout")
    0.1
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise SettingError(f"{what} {share!r} of an adapter is no share in [0, 1); 0 is none")
    return float(share)
