"""Heads that are lost behind another person have no place; all others keep theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from _people import person, track
from pa_lib.contracts import Track
from pa_lib.people.covering import without_covered
from pa_lib.people.poses import PoseTrack

N = 40
TIMES = np.arange(N) / 20
HIDDEN = range(10, 30)  # rows in which the face is not seen
BEHIND = (90.0, 60.0, 150.0, 260.0)  # the body of the head
BEFORE = (60.0, 20.0, 180.0, 320.0)  # a body that holds the head, nearer to the camera


def boxes(kind: str, number: int, box: tuple[float, float, float, float], seen: Sequence[int] = range(N)) -> Track:
    return track(number, kind, 0, [box] * N, list(seen))


FACE = boxes("face", 1, (112, 72, 128, 92), [row for row in range(N) if row not in HIDDEN])
HEAD = PoseTrack(np.arange(N), np.tile([120.0, 80.0, 8.0, 0.0, 0.0], (N, 1)), np.ones(N, bool), np.ones(N, bool))
ABOVE = PoseTrack(np.arange(N), np.tile([120.0, 35.0, 12.0, 0.0, 0.0], (N, 1)), np.ones(N, bool), np.ones(N, bool))


def placed(*own: Track, other: Track, its: PoseTrack = ABOVE) -> np.ndarray:
    found = without_covered({1: HEAD, 2: its}, [person(1, *own), person(2, other)], TIMES)
    assert found[2].is_placed.all()
    np.testing.assert_array_equal(found[1].numbers, HEAD.numbers)  # masks go by it
    return found[1].is_placed


def test_a_head_has_no_place_while_a_nearer_person_covers_it() -> None:
    for own in ((FACE,), (FACE, boxes("body", 3, BEHIND, [0, N - 1]))):
        got = placed(*own, other=boxes("body", 2, BEFORE))
        is_away = np.array([min(abs(row - 9), abs(row - 30)) / 20 > 0.15 for row in range(N)])
        np.testing.assert_array_equal(got, ~(is_away & np.isin(np.arange(N), HIDDEN)))


@pytest.mark.parametrize(
    ("own", "other", "its"),
    [
        # the body is seen around the head all the time
        ((FACE, boxes("body", 3, BEHIND)), boxes("body", 2, BEFORE), ABOVE),
        # the other one ends higher up: stands behind
        ((FACE, boxes("body", 3, BEHIND, [0, N - 1])), boxes("body", 2, (60, 20, 180, 240)), ABOVE),
        # the other one is too small to be nearer
        ((FACE,), boxes("body", 2, (100, 60, 140, 130)), ABOVE),
        # nothing of the other one is detected meanwhile
        ((FACE,), boxes("body", 2, BEFORE, [0, 2, N - 1]), ABOVE),
        # the other one is elsewhere
        ((FACE,), boxes("body", 2, (200, 20, 320, 320)), ABOVE),
        # the head is that of the other body, found twice
        ((FACE,), boxes("body", 2, BEFORE), HEAD),
        # a face covers nothing
        ((FACE,), boxes("face", 2, BEFORE), ABOVE),
    ],
)
def test_all_other_heads_keep_their_place(own: tuple[Track, ...], other: Track, its: PoseTrack) -> None:
    assert placed(*own, other=other, its=its).all()


def test_it_does_not_matter_in_which_order_people_come_nor_when_their_tracks_begin() -> None:
    late = track(2, "body", 15, [BEFORE] * (N - 15))
    its = PoseTrack(late.frames, ABOVE.numbers[15:], ABOVE.is_seen[15:], ABOVE.is_placed[15:])
    people = [person(1, FACE), person(2, late)]
    one, two = (without_covered({1: HEAD, 2: its}, some, TIMES)[1].is_placed for some in (people, people[::-1]))
    np.testing.assert_array_equal(one, two)
    assert one[:15].all()
    assert not one[15:27].any()
