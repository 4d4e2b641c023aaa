"""Everybody is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pa_lib.contracts import Decision, Person
from pa_lib.people.choosers.base import NO_PEOPLE, AbstractChooser, Choice, Embeddings, VideoTimeline, count_of


@dataclass(frozen=True)
class HideAll(AbstractChooser):
    """Hides everybody."""

    def choose(self, people: Sequence[Person], timeline: VideoTimeline, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        decisions = tuple(Decision(p.person_id, True, "everybody is hidden") for p in people)
        return Choice(decisions, f"{count_of(len(people))} found, everybody is hidden" if people else NO_PEOPLE)
