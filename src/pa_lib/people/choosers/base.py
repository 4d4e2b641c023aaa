"""Who is hidden: the interface of choosers, what they get, and what they decide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Decision, FaceNetwork, Person

if TYPE_CHECKING:
    from pa_lib.people.finders import AbstractFinder

Embeddings = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class VideoTimeline:
    """Size, times and shots of the video that people are chosen in.

    Args:
        width: Width of the upright frame in pixels.
        height: Height of the upright frame in pixels.
        n_frames: Number of frames.
        times_s: Time of each frame in seconds, shape n_frames.
        cuts: First frame of each new shot.
    """

    width: int
    height: int
    n_frames: int
    times_s: NDArray[np.float64]
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What a chooser decided.

    Args:
        decisions: Decision for each person, in the order they were given.
        summary: Summary in one line for the terminal: who is kept, who is hidden, and by what margin.
        people: The people that the decisions are about, where the chooser gathered their tracks again; None: as given.
    """

    decisions: tuple[Decision, ...]
    summary: str
    people: tuple[Person, ...] | None = None


class AbstractChooser(ABC):
    """Decides who is hidden.

    Attributes:
        needs_identity: Whether faces are compared: what `learned` returns chooses then, and gets embeddings.
    """

    needs_identity: bool = False

    def learned(self, network: FaceNetwork, finder: AbstractFinder) -> AbstractChooser:
        """A chooser that knows the faces to compare with, embedded by the networks that will see the video.

        This one is not changed: it can serve other videos and other networks. Most choosers compare no faces and
        return themselves.

        Args:
            network: Network that embeds faces.
            finder: Finder of faces with landmarks.
        """
        return self

    @abstractmethod
    def choose(self, people: Sequence[Person], timeline: VideoTimeline, embeddings: Embeddings | None = None) -> Choice:
        """A decision for every person.

        Args:
            people: All people in the video.
            timeline: The video they are in.
            embeddings: Embeddings of the best faces of each person, shape n d, by person id; people without a usable
                face are absent.

        Raises:
            SettingError: If the user asked for what the video does not hold.
        """


NO_PEOPLE = "no person was found"


def count_of(people: int) -> str:
    """``1 person`` or ``n people``."""
    return "1 person" if people == 1 else f"{people} people"
