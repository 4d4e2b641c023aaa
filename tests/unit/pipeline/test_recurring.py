"""One name for a person in all videos of a run, and different ones for people who are seen together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from _people import person, standing
from pa_lib.contracts import Clip, ClipMasks, Decision, PersonInfo, Replacement
from pa_lib.doubles import cast
from pa_lib.errors import SettingError
from pa_lib.modules import AbstractAnonymizer
from pa_lib.people import TracksRecord
from pa_lib.pipeline.recurring import cast_run, recurring

LIMIT = 0.6
Faces = Mapping[int, float]  # person -> where the person's face lies on a line


class Named(AbstractAnonymizer):
    """Has a few names, and gives them as doubles are given."""

    is_non_interfering = True
    window_frames = 1

    def __init__(self, *names: str) -> None:
        self.names = names

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        wishes = {at: one.replacement.double for at, one in people.items() if one.replacement is not None}
        found = {at: wish for at, wish in wishes.items() if wish is not None}
        if unknown := set(found.values()) - set(self.names):
            raise SettingError(f"no {unknown}")
        return cast(list(people), seed, self.names, found)

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        return clip


SIX = Named("Ann", "Bo", "Cy", "Di", "Ed", "Fay")


def video(sha256: str, people: Sequence[int], wishes: Mapping[int, str] | None = None, kept: int = 0) -> TracksRecord:
    """People who stand there for three frames; all are hidden but `kept`."""
    found = tuple(person(number, standing(number, "face", 10.0 * number, 10, 5, 5, 3)) for number in people)
    record = TracksRecord(
        f"{sha256}.mp4",
        sha256,
        640,
        480,
        3,
        25.0,
        np.arange(3) / 25,
        found,
        tuple(Decision(number, number != kept, "test") for number in people),
    )
    return record.wished(wishes or {})


def names(
    videos: Sequence[tuple[TracksRecord, Faces]],
    module: Named = SIX,
    seed: int = 0,
    photos: Mapping[str, float] | None = None,
) -> list[dict[int, str]]:
    """Person -> name in each video; kept people have none."""
    records = [record for record, _ in videos]
    faces = [{number: np.array([[at]], np.float32) for number, at in places.items()} for _, places in videos]
    known = {name: np.array([[at]], np.float32) for name, at in (photos or {}).items()}
    cast_records = cast_run(recurring(records, faces, known, LIMIT), records, module, seed)
    assert [one.tracks for one in cast_records[0].people] == [one.tracks for one in records[0].people]
    return [
        {one.person_id: one.info.replacement.double or "" for one in record.people if one.info.replacement is not None}
        for record in cast_records
    ]


def test_a_person_has_one_name_in_all_videos_and_others_have_other_names() -> None:
    first, second = names([(video("a", [1, 2]), {1: 0.0, 2: 5.0}), (video("b", [1, 2, 3]), {1: 5.1, 2: 9.0, 3: 0.1})])
    assert first[1] == second[3]
    assert first[2] == second[1]
    assert len({first[1], first[2], second[2]}) == 3


def test_names_do_not_depend_on_the_order_of_videos() -> None:
    videos = [
        (video("c", [1, 2]), {1: 0.0, 2: 5.0}),
        (video("a", [1, 2, 3]), {1: 5.1, 2: 9.0}),
        (video("b", [4]), {4: 0.2}),
    ]
    expected = {record.name: given for (record, _), given in zip(videos, names(videos), strict=True)}
    for order in permutations(videos):
        found = {record.name: given for (record, _), given in zip(order, names(order), strict=True)}
        assert found == expected


def test_names_are_drawn_from_the_seed() -> None:
    videos = [(video("a", [1]), {1: 0.0}), (video("b", [1]), {1: 0.1})]
    drawn = [names(videos, seed=seed) for seed in range(12)]
    assert all(first == second for first, second in drawn)
    assert len({first[1] for first, _ in drawn}) > 2


def test_a_person_who_is_kept_is_not_cast() -> None:
    first, second = names([(video("a", [1, 2], kept=2), {1: 0.0, 2: 5.0}), (video("b", [1]), {1: 5.0})])
    assert 2 not in first
    assert second[1] != first[1]


def test_a_wish_holds_in_all_videos_of_the_person() -> None:
    first, second = names([(video("a", [1]), {1: 0.0}), (video("b", [1, 2], {2: "Ed"}), {1: 9.0, 2: 0.1})])
    assert first == {1: "Ed"}
    assert second[2] == "Ed"
    assert second[1] != "Ed"


def test_a_wish_for_another_person_wins_over_likeness() -> None:
    """Person 1 of b and c looks like one who is to be Ed, and there another person is to be Ed: no two people are."""
    wished = {2: "Ed"}
    first, second, third = names(
        [
            (video("a", [1], {1: "Ed"}), {1: 0.0}),
            (video("b", [1, 2], wished), {1: 0.1, 2: 7.0}),
            (video("c", [1, 2], wished), {1: 0.2, 2: 7.1}),
        ]
    )
    assert first == {1: "Ed"}
    assert second[2] == third[2] == "Ed"
    assert second[1] == third[1] != "Ed"


def test_all_wishes_stay_as_they_are() -> None:
    wishes = {1: "Ann", 2: "Ann"}
    assert names([(video("a", [1, 2], wishes), {1: 0.0, 2: 5.0}), (video("b", [1], {1: "Bo"}), {1: 0.0})]) == [
        wishes,
        {1: "Bo"},
    ]
    with pytest.raises(SettingError, match="Zoe"):
        names([(video("a", [1], {1: "Zoe"}), {1: 0.0}), (video("b", [1]), {1: 0.0})])


def test_other_wishes_for_a_replacement_are_kept() -> None:
    record = video("a", [1])
    hair = PersonInfo({}, Replacement(None, {"hair": "grey"}))
    record = replace(record, people=(replace(record.people[0], info=hair),))
    (found,) = cast_run(recurring([record], [{}], {}, LIMIT), [record], SIX, 0)
    wish = found.people[0].info.replacement
    assert wish is not None
    assert wish.attributes == {"hair": "grey"}
    assert wish.double in SIX.names


def test_more_people_than_names_still_differ_within_a_video() -> None:
    """Twelve videos of three strangers each, beside one who is in all of them: 37 people and six names."""
    places = iter(range(10, 10_000, 10))
    videos = [
        (
            video(f"{at:02}", [1, 2, 3, 4]),
            {1: 0.0, 2: float(next(places)), 3: float(next(places)), 4: float(next(places))},
        )
        for at in range(12)
    ]
    for seed in range(5):
        found = names(videos, seed=seed)
        assert all(len(set(given.values())) == 4 for given in found)
        assert len({given[1] for given in found}) == 1


def test_more_people_in_a_video_than_names() -> None:
    (found,) = names([(video("a", [1, 2, 3]), {})], Named("Ann", "Bo"))
    assert set(found.values()) == {"Ann", "Bo"}


def test_photos_give_their_replacement_to_the_person_on_them() -> None:
    first, second = names(
        [(video("a", [1, 2]), {1: 0.0, 2: 5.0}), (video("b", [1]), {1: 5.2})], photos={"Cy": 5.1, "Fay": 80.0}
    )
    assert first[2] == second[1] == "Cy"
    assert first[1] not in ("Cy", "Fay")


def test_two_copies_of_a_video_get_the_same_names() -> None:
    first, second = names([(video("a", [1, 2]), {1: 0.0}), (video("a", [1, 2]), {1: 0.0})])
    assert first == second
    assert first[1] != first[2]
