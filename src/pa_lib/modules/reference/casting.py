"""Casting from a bank of doubles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from pa_lib.contracts import Box, HeadPose
from pa_lib.doubles.bank import DoubleBank
from pa_lib.doubles.casting import cast
from pa_lib.doubles.rendering import render


class BankCasting:
    """Doubles of a `DoubleBank`.

    Args:
        path: Archive of doubles; None for the one that ships with pa_lib.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._bank = DoubleBank(path)

    def names_of(self, people: Sequence[int], seed: int, wishes: Mapping[int, str]) -> Mapping[int, str]:
        """Doubles for all people of a video, by `cast`.

        Raises:
            SettingError: There is no double of a wished name.
        """
        known = {person_id: self._bank[name].name for person_id, name in wishes.items()}
        return cast(people, seed, self._bank.names, known)

    def yaws(self, name: str) -> Sequence[float]:
        """Directions of the neutral views."""
        views = self._bank[name].entry.views
        return [view.yaw_degrees for view in views if view.expression == "neutral"]

    def render(self, name: str, yaw: float, pose: HeadPose, box: Box, side: int) -> Float[Tensor, "4 s s"]:
        """The picture from one direction, placed in a square box."""
        return render(self._bank[name].view(yaw), pose, box, side)
