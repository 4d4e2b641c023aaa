"""Who gets which double: properties that hold for every cast."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.doubles import DoubleBank, cast
from pa_lib.errors import SettingError

NAMES = [f"D{letter}" for letter in "ABCDEFG"]
people = st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True)
seeds = st.integers(-(2**40), 2**40)
calm = settings(max_examples=60, deadline=None)


@calm
@given(people, seeds)
def test_everyone_gets_one_and_shares_only_when_there_are_too_few(ids: list[int], seed: int) -> None:
    given_out = cast(ids, seed, NAMES)
    assert list(given_out) == ids
    counts = Counter(given_out.values())
    assert set(counts) <= set(NAMES)
    most, least = max(counts.values()), min(counts.get(name, 0) for name in NAMES)
    assert most - least <= 1
    assert most == -(-len(ids) // len(NAMES))


@calm
@given(people, seeds, st.integers(0, 19))
def test_those_who_come_later_change_nothing(ids: list[int], seed: int, n: int) -> None:
    some = ids[: 1 + n % len(ids)]
    whole = cast(ids, seed, NAMES)
    assert cast(some, seed, NAMES) == {person: whole[person] for person in some}


@calm
@given(people, seeds, st.permutations(NAMES))
def test_the_order_of_names_does_not_matter(ids: list[int], seed: int, names: list[str]) -> None:
    assert cast(ids, seed, names) == cast(ids, seed, NAMES)


@calm
@given(people, seeds, st.data())
def test_wishes_are_honoured_and_no_other_person_gets_that_double_while_there_are_others(
    ids: list[int], seed: int, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(ids) - 1))
    wisher = ids[place]
    wish = data.draw(st.sampled_from(NAMES))
    given_out = cast(ids, seed, NAMES, wished={wisher: wish})
    assert given_out[wisher] == wish
    if len(ids) <= len(NAMES):
        assert len(set(given_out.values())) == len(ids)
        # Those before the wisher keep theirs, unless one of them had the wished-for double.
        before = [cast(ids, seed, NAMES)[person] for person in ids[:place]]
        if wish not in before:
            assert [given_out[person] for person in ids[:place]] == before


def test_alone_a_person_gets_the_first_of_their_own_ranking() -> None:
    # The double of the first in line never depends on who else is there.
    for person in range(20):
        alone = cast([person], 5, NAMES)[person]
        assert cast([person, *range(100, 130)], 5, NAMES)[person] == alone


def test_seeds_and_people_draw_differently_and_evenly() -> None:
    firsts = Counter(cast([person], seed, NAMES)[person] for person in range(40) for seed in range(25))
    # 1000 draws of 7: mean 143, standard deviation 11; five of them are 55.
    assert all(abs(firsts[name] - 1000 / 7) < 55 for name in NAMES)


def test_numbers_and_their_text_are_the_same_person() -> None:
    assert cast([7], 3, NAMES)[7] == cast(["7"], 3, NAMES)["7"]


def test_repeated_people_count_once() -> None:
    assert cast([1, 2, 1, 2], 0, NAMES) == cast([1, 2], 0, NAMES)


def test_without_names_the_shipped_doubles_are_cast() -> None:
    assert cast(["someone"], 0)["someone"] in DoubleBank().names


def test_a_wished_double_need_not_be_among_the_names() -> None:
    assert cast([1], 0, NAMES, wished={1: "P001"}) == {1: "P001"}


def test_refusals() -> None:
    with pytest.raises(SettingError, match="no doubles to choose from"):
        cast([1], 0, [])
    with pytest.raises(SettingError, match="wished for 9, who are not among the 1 people"):
        cast([1], 0, NAMES, wished={9: "DA"})
