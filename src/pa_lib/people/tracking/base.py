"""What every tracker does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pa_lib.contracts import Track

if TYPE_CHECKING:
    from pa_lib.people.find import Findings


class AbstractTracker(ABC):
    """Joins the detections of a whole video into tracks without gaps."""

    @abstractmethod
    def track(self, findings: Findings, width: int, height: int) -> list[Track]:
        """The tracks of all people, in order of first appearance, numbered from 1.

        Each track holds a box for every frame from its first to its last; none crosses a shot boundary.

        Args:
            findings: Detections of the searched frames, the shot boundaries, and the time of every frame.
            width: Width of the upright frame in pixels.
            height: Height of the upright frame in pixels.

        Raises:
            PaLibError: A box is not finite or has no area.
        """
