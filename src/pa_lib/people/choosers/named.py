"""People who are kept, or hidden, because the user named them: what choosers by number and by place share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pa_lib.contracts import Decision, Person
from pa_lib.errors import SettingError
from pa_lib.people.choosers.base import NO_PEOPLE, Choice, count_of

Mode = Literal["keep", "hide"]


def check_mode(mode: str) -> None:
    """Refuses a mode that is neither ``keep`` nor ``hide``.

    Raises:
        SettingError: It is neither.
    """
    if mode not in ("keep", "hide"):
        raise SettingError(f"mode of a chooser: got {mode!r}, expected keep or hide")


def decided(people: Sequence[Person], kept: Iterable[int], keep_reason: str, hide_reason: str) -> Choice:
    """The choice that keeps these and hides the others."""
    ids = set(kept)
    decisions = tuple(
        Decision(p.person_id, p.person_id not in ids, keep_reason if p.person_id in ids else hide_reason)
        for p in people
    )
    if not people:
        return Choice((), NO_PEOPLE)
    return Choice(decisions, f"{count_of(len(people))} found; kept {id_list(ids)}; hidden {len(people) - len(ids)}")


def id_list(ids: Iterable[int], at_most: int = 20) -> str:
    """``1, 2, 5`` or ``none``; long lists are cut."""
    sorted_ids = sorted(ids)
    if not sorted_ids:
        return "none"
    more = f" and {len(sorted_ids) - at_most} more" if len(sorted_ids) > at_most else ""
    return ", ".join(map(str, sorted_ids[:at_most])) + more
