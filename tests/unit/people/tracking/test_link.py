import numpy as np
import pytest

from _people import standing, track
from pa_lib.contracts import Person, Track
from pa_lib.people import link_people
from pa_lib.people.tracking.heads import head_fits, moves_along


def who(people: list[Person]) -> list[set[int]]:
    return [{t.track_id for t in p.tracks} for p in people]


def walk(number: int, kind: str, dx: float, w: float, h: float, x: float = 100, y: float = 100, n: int = 20) -> Track:
    return track(number, kind, 0, [(x + dx * i, y, x + dx * i + w, y + h) for i in range(n)])


def test_a_face_goes_with_the_body_it_sits_on() -> None:
    face, body = standing(1, "face", 130, 110, 20, 25), standing(2, "body", 100, 100, 80, 200)
    other = standing(3, "body", 400, 100, 80, 200)
    assert who(link_people([face, body, other])) == [{1, 2}, {3}]


@pytest.mark.parametrize(
    "box",
    [
        (130, 250, 20, 25),  # at the feet
        (300, 110, 20, 25),  # beside the body
        (135, 110, 5, 6),  # a fortieth of the body: somebody far behind
        (100, 100, 80, 190),  # as large as the body
    ],
)
def test_a_face_elsewhere_is_somebody_else(box: tuple[float, float, float, float]) -> None:
    assert who(link_people([standing(1, "face", *box), standing(2, "body", 100, 100, 80, 200)])) == [{1}, {2}]


def test_most_of_the_shared_frames_decide() -> None:
    body = standing(2, "body", 100, 100, 80, 200)
    on, off = (130.0, 110.0, 150.0, 135.0), (330.0, 110.0, 350.0, 135.0)
    assert who(link_people([track(1, "face", 0, [on] * 11 + [off] * 9), body])) == [{1, 2}]
    assert who(link_people([track(1, "face", 0, [on] * 9 + [off] * 11), body])) == [{1}, {2}]


def test_two_bodies_never_share_a_face_and_the_better_seat_wins() -> None:
    face = standing(1, "face", 130, 110, 20, 25)
    near, far = standing(2, "body", 100, 100, 80, 200), standing(3, "body", 60, 40, 160, 330)
    assert who(link_people([face, near, far])) == [{1, 2}, {3}]


def test_everybody_together_gets_the_best_assignment() -> None:
    """Face 1 would sit well on both bodies, face 2 only on the left one."""
    faces = [standing(1, "face", 138, 112, 20, 25), standing(2, "face", 110, 112, 20, 25)]
    bodies = [standing(3, "body", 90, 100, 80, 200), standing(4, "body", 115, 100, 80, 200)]
    assert {frozenset(s) for s in who(link_people([*faces, *bodies]))} == {frozenset({1, 4}), frozenset({2, 3})}


def test_a_body_takes_faces_one_after_another_but_not_at_once() -> None:
    body = standing(9, "body", 100, 100, 80, 200, n=40)
    early, late = standing(1, "face", 130, 110, 20, 25, n=15), standing(2, "face", 132, 110, 20, 25, n=15, first=25)
    meanwhile = standing(3, "face", 110, 120, 20, 25, n=15, first=5)
    assert who(link_people([early, late, body])) == [{1, 2, 9}]
    assert {1, 9} in who(link_people([early, meanwhile, body]))


def test_a_second_face_of_another_size_is_not_taken() -> None:
    body = standing(9, "body", 100, 100, 80, 200, n=40)
    early, late = standing(1, "face", 125, 105, 32, 40, n=15), standing(2, "face", 132, 110, 12, 15, n=15, first=25)
    assert who(link_people([early, late, body])) == [{1, 9}, {2}]


def test_a_spectator_behind_a_dancer_is_not_the_dancer() -> None:
    """The face stands still in the head region of a body that moves to and fro."""
    sway = [60 * np.sin(i / 3) for i in range(40)]
    dancer = track(2, "body", 0, [(100 + s, 100, 300 + s, 350) for s in sway])
    spectator = standing(1, "face", 190, 120, 20, 24, n=40)
    assert not moves_along(spectator, dancer)
    assert who(link_people([spectator, dancer])) == [{1}, {2}]
    own = track(1, "face", 0, [(190 + s, 120, 210 + s, 144) for s in sway])
    assert moves_along(own, dancer)
    assert who(link_people([own, dancer])) == [{1, 2}]


def test_a_body_that_goes_on_is_one_person() -> None:
    times = np.arange(200) / 25
    first = standing(1, "body", 100, 100, 80, 200, n=20)
    second = standing(2, "body", 110, 100, 80, 205, n=20, first=40)
    assert who(link_people([first, second], times)) == [{1, 2}]
    assert who(link_people([first, second], times, cuts=(30,))) == [{1}, {2}]


@pytest.mark.parametrize(
    ("x", "h", "start"), [(200.0, 200.0, 40), (110.0, 400.0, 40), (110.0, 200.0, 60)], ids=["far", "larger", "later"]
)
def test_a_body_elsewhere_larger_or_much_later_is_another(x: float, h: float, start: int) -> None:
    tracks = [standing(1, "body", 100, 100, 80, 200), standing(2, "body", x, 100, 80, h, first=start)]
    assert len(link_people(tracks, np.arange(200) / 25)) == 2


def test_bodies_seen_at_once_are_two() -> None:
    tracks = [standing(1, "body", 100, 100, 80, 200), standing(2, "body", 110, 100, 80, 200)]
    assert len(link_people(tracks)) == 2


def test_bodies_that_take_turns_at_one_place_are_one() -> None:
    box = (100.0, 100.0, 180.0, 300.0)
    one = track(1, "body", 0, [box] * 20, seen=list(range(0, 20, 2)))
    two = track(2, "body", 0, [box] * 20, seen=list(range(1, 20, 2)))
    assert who(link_people([one, two])) == [{1, 2}]


def test_ids_follow_the_first_appearance_and_every_track_is_used_once() -> None:
    tracks = [
        standing(1, "face", 130, 110, 20, 25, first=10),
        standing(2, "body", 400, 100, 80, 200, first=5),
        standing(3, "body", 100, 100, 80, 200, first=8),
    ]
    people = link_people(tracks)
    assert [p.person_id for p in people] == [1, 2]
    assert who(people) == [{2}, {1, 3}]


def test_nobody() -> None:
    assert link_people([]) == []


def test_a_head_sits_best_in_the_middle_near_the_top() -> None:
    body = np.array([0.0, 0.0, 80.0, 200.0])
    faces = np.array([[30.0, 10, 50, 35], [60.0, 10, 80, 35], [30.0, 60, 50, 85], [30.0, 170, 50, 195]])
    fits, ratios = head_fits(faces, body)
    assert fits[0] > 0.9
    assert fits[0] > fits[1] > 0
    assert fits[0] > fits[2] > 0
    assert fits[3] == 0
    np.testing.assert_allclose(ratios, 0.125)


def test_moving_along_needs_something_to_see() -> None:
    assert moves_along(standing(1, "face", 130, 110, 20, 25, n=3), walk(2, "body", 30, 80, 200))
    assert moves_along(walk(1, "face", 0, 20, 25, x=130), walk(2, "body", 0.5, 80, 200))
    assert not moves_along(walk(1, "face", 0, 20, 25, x=130), walk(2, "body", 8, 80, 200))
