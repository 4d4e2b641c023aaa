"""Two people at one place have one head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.people.coincidence import without_coinciding
from pa_lib.people.poses import PoseTrack

N = 30
TIMES = np.arange(N) / 10


def head(x: float, scale: float = 10.0, *, first: int = 0, n: int = N, is_seen: bool = False) -> PoseTrack:
    numbers = np.tile([x, 50.0, scale, 0.0, 0.0 if is_seen else 180.0], (n, 1))
    return PoseTrack(np.arange(first, first + n), numbers, np.full(n, is_seen), np.ones(n, dtype=bool))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_face_that_is_seen_stays_then_the_larger_head(order: tuple[int, int]) -> None:
    face, piece, larger = head(100, 8, is_seen=True), head(105, 9), head(104, 12)
    for stays, goes in ((face, piece), (face, larger), (larger, piece)):
        got = without_coinciding({order[0]: stays, order[1]: goes}, TIMES)
        assert got[order[0]].is_placed.all()
        assert not got[order[1]].is_placed.any()


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_who_is_there_for_longer_stays_though_a_box_around_two_people_is_larger(order: tuple[int, int]) -> None:
    person, both = head(100, 8), head(104, 14, first=10, n=9)
    got = without_coinciding({order[0]: person, order[1]: both}, TIMES)
    assert got[order[0]].is_placed.all()
    assert not got[order[1]].is_placed.any()


def test_heads_beside_each_other_and_at_other_times_all_stay() -> None:
    people = {
        1: head(100),
        2: head(111),
        3: head(100, first=N, n=5),
        4: replace(head(300), is_placed=np.zeros(N, bool)),
    }
    got = without_coinciding(people, np.arange(60) / 10)
    assert all(got[person].is_placed.all() for person in (1, 2, 3))
    assert not got[4].is_placed.any()


def test_who_passes_behind_is_gone_for_as_long_as_that_lasts() -> None:
    passing = head(100, 8)
    passing.numbers[:, 0] = 60 + np.arange(N) * 2.75
    got = without_coinciding({1: head(100, 12, is_seen=True), 2: passing}, TIMES)[2].is_placed
    assert got[[0, N - 1]].all()
    assert not got[12:17].any()  # nearer than 12 px
    assert np.abs(np.diff(got.astype(int))).sum() == 2


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 60), st.floats(5, 15), st.booleans()), min_size=1, max_size=6))
def test_somebody_stays_at_every_place(people: list[tuple[float, float, bool]]) -> None:
    """One is left in any case, and while nothing moves none comes and goes."""
    poses = {at: head(x, scale, is_seen=is_seen) for at, (x, scale, is_seen) in enumerate(people, start=1)}
    got = without_coinciding(poses, TIMES)
    assert any(track.is_placed.all() for track in got.values())
    for track in got.values():
        assert track.is_placed.all() or not track.is_placed.any()
