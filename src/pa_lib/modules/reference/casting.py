"""Casting from a bank of doubles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from pa_lib.contracts import Box, HeadPose
from pa_lib.doubles.bank import DoubleBank
from pa_lib.doubles.casting import cast
from pa_lib.doubles.rendering import ResizedViews, render

# In a picture as small as a filmed face, the detector sees the eyes of a double higher above its mouth than in the
# large picture whose landmarks are in the bank: doubles that were placed by those were larger than filmed heads by this
# ratio, and their eyes higher by this share of the scale. Means over 60 held-out portraits: 1.047 and 0.054; over the
# views of all doubles with a face, at scales of 12 to 35 px: 1.052 and 0.063.
_LARGER, _HIGHER = 1.05, 0.055


class BankCasting:
    """Doubles of a `DoubleBank`.

    Args:
        path: Archive of doubles; None for the one that ships with pa_lib.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._bank = DoubleBank(path)
        self._resized = ResizedViews()

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
        """The picture from one direction, placed in a square box such that a detector sees the pose."""
        tilt, away = math.radians(pose.roll), _HIGHER * pose.scale
        x, y = pose.x - away * math.sin(tilt), pose.y + away * math.cos(tilt)
        placed = replace(pose, x=x, y=y, scale=pose.scale / _LARGER)
        return render(self._bank[name].view(yaw), placed, box, side, self._resized)
