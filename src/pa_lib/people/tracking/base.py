"""What every tracker does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pa_lib.contracts import Track

if TYPE_CHECKING:
    from pa_lib.people.find import Findings


class AbstractTracker(ABC):
    """Joins the detections of a whole video into tracks without gaps.

    Attributes:
        start_score: Score from which on every detection lies in a track, in [0, 1]. The pipeline redacts frames where
            one does not; what is less sure may be left out.
    """

    start_score: float = 0.5

    @abstractmethod
    def track(self, findings: Findings, width: int, height: int) -> list[Track]:
        """The tracks of all people, in order of first appearance, numbered from 1.

        Each track holds a box for every frame from its first to its last, and from its first and last detection on to
        the neighbouring searched frame; none crosses a shot boundary.

        Args:
            findings: Detections of the searched frames, the shot boundaries, and the time of every frame.
            width: Width of the upright frame in pixels.
            height: Height of the upright frame in pixels.

        Raises:
            PaLibError: A box is not finite or has no area.
        """
