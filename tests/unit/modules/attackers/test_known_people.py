from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.errors import PaLibError
from pa_lib.modules.attackers.known_people import divide_people, divide_photos, hits

PEOPLE = st.lists(st.integers(0, 12), min_size=12, max_size=60)


class TestDividePhotos:
    @given(PEOPLE, st.floats(0.05, 0.95), st.integers(0, 99))
    def test_no_photo_is_used_twice_and_everybody_tested_is_known(
        self, people: list[int], share: float, seed: int
    ) -> None:
        several = {person for person in people if people.count(person) > 1}
        if len(several) < 3:
            return
        split = divide_photos(torch.tensor(people), share, seed)
        parts = [split.known.tolist(), split.tuning.tolist(), split.tested.tolist()]
        assert sorted(itertools.chain(*parts)) == list(range(len(people)))
        who = [{people[photo] for photo in part} for part in parts]
        assert who[1] | who[2] == several
        assert not who[1] & who[2]
        assert several <= who[0]
        assert [people[photo] for photo in parts[2]] == split.tested_people.tolist()
        assert [people[photo] for photo in parts[1]] == split.tuned_people.tolist()
        assert len(who[1]) >= 1
        assert len(who[2]) >= 2

    def test_same_seed_same_split(self) -> None:
        people = torch.arange(20).repeat(2)
        one, same, other = (divide_photos(people, 0.2, seed) for seed in (1, 1, 2))
        assert torch.equal(one.tested, same.tested)
        assert not torch.equal(one.tested, other.tested)

    def test_refuses_people_with_one_photo(self) -> None:
        with pytest.raises(PaLibError, match="2 of 5 people have two photos or more: expected at least 3"):
            divide_photos(torch.tensor([0, 0, 1, 1, 2, 3, 4]), 0.2, 0)


class TestDividePeople:
    @given(PEOPLE, st.floats(0.05, 0.95), st.integers(0, 99))
    def test_people_are_disjoint_and_galleries_are_other_photos(
        self, people: list[int], share: float, seed: int
    ) -> None:
        if len(set(people)) < 4:
            return
        split = divide_people(torch.tensor(people), share, seed)
        learned, tested, gallery = (
            [people[photo] for photo in part.tolist()] for part in (split.learned, split.tested, split.gallery)
        )
        assert not set(learned) & set(tested)
        assert tested == gallery
        assert len(set(tested)) == len(tested) >= 2
        assert len(set(learned)) >= 2
        assert split.is_same_photo == (sum(people.count(person) > 1 for person in set(people)) < 2)
        assert all((a == b) == split.is_same_photo for a, b in zip(split.tested, split.gallery, strict=True))
        order = [learned[0], *(b for a, b in itertools.pairwise(learned) if a != b)]
        assert len(order) == len(set(order))

    def test_refuses_three_people(self) -> None:
        with pytest.raises(PaLibError, match="3 people: expected at least 4"):
            divide_people(torch.tensor([0, 0, 1, 1, 2]), 0.5, 0)


class TestHits:
    @given(
        st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=4),
        st.integers(0, 4),
        st.integers(1, 7),
    )
    def test_is_the_share_of_orders_of_equals_that_hit(self, rows: list[list[int]], right: int, first: int) -> None:
        told = hits(torch.tensor(rows), torch.full((len(rows),), right), first)
        for row, value in zip(rows, told.tolist(), strict=True):
            better, equal = sum(score > row[right] for score in row), row.count(row[right])
            # The right one is at each of the places better .. better + equal - 1 equally often.
            places = [better + at < first for at in range(equal)]
            assert value == pytest.approx(sum(places) / len(places))

    def test_of_equal_scores_is_chance(self) -> None:
        assert hits(torch.zeros(7, 20), torch.arange(7), 1).tolist() == [0.05] * 7
        assert hits(torch.zeros(7, 20), torch.arange(7), 5).tolist() == [0.25] * 7
