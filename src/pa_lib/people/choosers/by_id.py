"""People are chosen by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pa_lib.contracts import Person
from pa_lib.errors import SettingError
from pa_lib.people.choosers.base import AbstractChooser, Choice, Embeddings, VideoTimeline
from pa_lib.people.choosers.named import Mode, check_mode, decided, id_list


@dataclass(frozen=True)
class ChooseByIds(AbstractChooser):
    """Keeps the people with these numbers and hides the others, or the other way round.

    Args:
        ids: Numbers of people as on the sheet of people and in the tracks file.
        mode: ``keep`` keeps these people and hides the others; ``hide`` hides these people and keeps the others.

    Raises:
        SettingError: A number is not one, or the mode is unknown.
    """

    ids: Sequence[int]
    mode: Mode = "keep"

    def __post_init__(self) -> None:
        check_mode(self.mode)
        ids = self.ids
        is_list = isinstance(ids, Sequence) and not isinstance(ids, str)
        if not is_list or not ids or any(isinstance(i, bool) or not isinstance(i, int) or i < 1 for i in ids):
            raise SettingError(
                f"{self.mode}_ids ids={ids!r}: expected numbers of people from 1, e.g. people.chooser.ids=[1,3]"
            )

    def choose(self, people: Sequence[Person], timeline: VideoTimeline, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        there = {p.person_id for p in people}
        if unknown := set(self.ids) - there:
            raise SettingError(
                f"{self.mode}_ids: no person {id_list(unknown)} in this video; there are {id_list(there, 40)}. "
                "stage=find draws them with their numbers"
            )
        if self.mode == "keep":
            return decided(people, self.ids, "kept by number", "not among the numbers to keep")
        return decided(people, there - set(self.ids), "not among the numbers to hide", "hidden by number")


KeepIds = partial(ChooseByIds, mode="keep")
HideIds = partial(ChooseByIds, mode="hide")
