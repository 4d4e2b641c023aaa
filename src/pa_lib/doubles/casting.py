"""Who gets which double: drawn from the seed, never computed from a face."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from pa_lib.doubles.bank import DoubleBank
from pa_lib.errors import SettingError, listed
from pa_lib.functional.draws import uniform

Person = TypeVar("Person", bound=Hashable)
_PURPOSE = 0xD0B1E  # keeps these numbers apart from others that are drawn from the same seed


def cast(
    people: Sequence[Person],
    seed: int,
    names: Sequence[str] | None = None,
    wished: Mapping[Person, str] | None = None,
) -> dict[Person, str]:
    """A double for every person.

    Every person ranks all doubles by numbers that depend on the seed, on that person's id and on the double's name
    alone. In the order in which people are given, each gets the highest in their ranking among the doubles that fewest
    people have so far. So two people share a double only when there are more people than doubles, and then as few as
    possible.

    A person who is added at the end changes no other person's double; one who is added in between, or left out, can
    change only those after them. Wished-for doubles are given out before all others, so a new wish can move the person
    who had that double.

    Args:
        people: Ids, such as the numbers of tracks in the order of their first appearance; repeated ones count once.
            Whole numbers and text, where 1 and "1" are the same person.
        seed: Any whole number.
        names: The doubles to draw from; None for all that ship with pa_lib.
        wished: Doubles that a user has chosen, by person. They need not be among `names`.

    Returns:
        The name of a double for every person, in the order given.

    Raises:
        SettingError: `names` is empty, or a wish is for a person who is not there.

    >>> cast([1, 2, 3], seed=0, names=["Ann", "Bo", "Cy"], wished={2: "Bo"})[2]
    'Bo'
    >>> names = ["Ann", "Bo", "Cy"]
    >>> cast([1, 2], 0, names).items() <= cast([1, 2, 3], 0, names).items()
    True
    """
    choices = sorted(set(DoubleBank().names if names is None else names))
    everyone = list(dict.fromkeys(people))
    wishes = dict(wished or {})
    if not choices:
        raise SettingError("there are no doubles to choose from, expected at least one name")
    if unknown := [person for person in wishes if person not in set(everyone)]:
        raise SettingError(f"doubles are wished for {listed(unknown)}, who are not among the {len(everyone)} people")
    taken = Counter(wishes.values())
    given: dict[Person, str] = {}
    for person in everyone:
        if person in wishes:
            given[person] = wishes[person]
            continue
        fewest = min(taken[name] for name in choices)
        free = [name for name in choices if taken[name] == fewest]
        given[person] = max(free, key=lambda name: (_rank(seed, person, name), name))
        taken[given[person]] += 1
    return given


def _rank(seed: int, person: object, name: str) -> float:
    return float(uniform((), _PURPOSE, seed, _key(f"person {person}"), _key(f"double {name}")))


def _key(text: str) -> int:
    """63 bits of a text's sha256: Python's own hash changes from run to run."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
