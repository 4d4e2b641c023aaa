from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _people import person, scene, standing
from pa_lib.contracts import Person
from pa_lib.errors import PaLibError, SettingError
from pa_lib.people import (
    CenterFaceFinder,
    Choice,
    HideAll,
    HideAt,
    HideIds,
    KeepAt,
    KeepEmbedded,
    KeepIds,
    KeepMatching,
)


def three() -> list[Person]:
    """Two with bodies, one behind the first of whom only the face shows."""
    return [
        person(1, standing(1, "body", 100, 100, 100, 250), standing(2, "face", 130, 110, 30, 36)),
        person(2, standing(3, "body", 400, 100, 90, 240, n=10)),
        person(3, standing(4, "face", 160, 200, 20, 24)),
    ]


def hidden(choice: Choice) -> set[int]:
    return {d.person_id for d in choice.decisions if d.is_hidden}


def test_all_are_hidden() -> None:
    choice = HideAll().choose(three(), scene())
    assert hidden(choice) == {1, 2, 3}
    assert "3 people found" in choice.summary


@pytest.mark.parametrize("chooser", [HideAll(), KeepIds, HideIds])
def test_nobody_found(chooser: object) -> None:
    if isinstance(chooser, HideAll):
        assert HideAll().choose([], scene()) == Choice((), "no person was found")
    else:
        with pytest.raises(PaLibError, match="no person 1 in this video; there are none"):
            chooser([1]).choose([], scene())  # type: ignore[operator]


def test_by_number() -> None:
    assert hidden(KeepIds([2, 3]).choose(three(), scene())) == {1}
    assert hidden(HideIds([2]).choose(three(), scene())) == {2}
    assert KeepIds([2, 3]).choose(three(), scene()).summary == "3 people found; kept 2, 3; hidden 1"


@pytest.mark.parametrize("chooser", [KeepIds, HideIds])
def test_unknown_numbers_are_refused_with_those_there_are(chooser: type[KeepIds]) -> None:
    with pytest.raises(PaLibError, match=r"no person 7, 9 in this video; there are 1, 2, 3"):
        chooser([2, 9, 7]).choose(three(), scene())


@pytest.mark.parametrize(
    "ids", [[], [True], [0], *(pytest.param(ids, marks=pytest.mark.wrong_types) for ids in ("12", [1.5], None, 3))]
)
def test_numbers_must_be_numbers(ids: object) -> None:
    with pytest.raises(PaLibError, match="expected numbers of people from 1"):
        KeepIds(ids)  # type: ignore[arg-type]


def test_a_click_takes_the_smallest_box_that_holds_the_point() -> None:
    # In the face of person 3, which lies inside the body of person 1.
    assert hidden(HideAt([[0.2, 170, 210]]).choose(three(), scene())) == {3}
    assert hidden(KeepAt([[0.2, 110, 340]]).choose(three(), scene())) == {2, 3}
    assert hidden(KeepAt([(0.2, 110, 340), (0.2, 420, 200)]).choose(three(), scene())) == {3}


def test_a_click_takes_the_nearest_time() -> None:
    people = [
        person(1, standing(1, "body", 100, 100, 60, 60, n=8)),
        person(2, standing(2, "body", 90, 90, 200, 200, n=8, first=12)),
    ]
    assert hidden(HideAt([[0.36, 110, 110]]).choose(people, scene())) == {1}
    assert hidden(HideAt([[0.44, 110, 110]]).choose(people, scene())) == {2}


def test_a_click_beside_everybody_names_who_is_near() -> None:
    with pytest.raises(PaLibError, match=r"at 0.2 s, x 250, y 200: no person there; near are person 1 50 px away"):
        KeepAt([[0.2, 250, 200]]).choose(three(), scene())


def test_a_click_outside_of_the_frame_or_time_is_refused() -> None:
    with pytest.raises(PaLibError, match="outside of the frame, which is 640 x 480 px"):
        HideAt([[0.2, 640, 200]]).choose(three(), scene())
    with pytest.raises(PaLibError, match=r"no such time, the video runs from 0.00 to 0.76 s"):
        HideAt([[9, 100, 200]]).choose(three(), scene())
    with pytest.raises(PaLibError, match="no person is in the video at that time"):
        HideAt([[0.2, 100, 200]]).choose([], scene())


@pytest.mark.parametrize(
    "points",
    [
        [],
        [[1, 2]],
        [[1, 2, float("nan")]],
        *(pytest.param(points, marks=pytest.mark.wrong_types) for points in ("1,2,3", [3], [["a", 1, 2]], None)),
    ],
)
def test_points_must_be_points(points: object) -> None:
    with pytest.raises(PaLibError, match="hide_at"):
        HideAt(points)  # type: ignore[arg-type]


class _Network:
    n_dimensions = 2
    same_person_distance = 0.6

    def embed(self, image: Any, landmarks: Any) -> Any:
        raise AssertionError("no picture is embedded here")


def matching(references: list[list[float]], max_distance: float = _Network.same_person_distance) -> KeepEmbedded:
    names = [f"photo{i}.jpg" for i in range(len(references))]
    return KeepEmbedded(names, np.array(references, dtype=np.float32), max_distance)


def test_the_people_on_the_photos_are_kept() -> None:
    embeddings = {
        1: np.array([[0.1, 0.0], [0.3, 0.0], [5.0, 0.0]], dtype=np.float32),  # median 0.3 from the photo
        2: np.array([[0.7, 0.0]], dtype=np.float32),
    }
    choice = matching([[0.0, 0.0]]).choose(three(), scene(), embeddings)
    assert hidden(choice) == {2, 3}
    one, two, three_ = choice.decisions
    assert one.score == pytest.approx(0.3)
    assert "matches photo0.jpg at 0.30, limit 0.60" in one.reason
    assert "nearest is photo0.jpg at 0.70" in two.reason
    assert three_.reason == "no face to compare"


def test_one_near_face_among_far_ones_keeps_nobody() -> None:
    embeddings = {1: np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0]], dtype=np.float32)}
    choice = matching([[0.0, 0.0]]).choose(three(), scene(), embeddings)
    assert hidden(choice) == {1, 2, 3}
    assert "no person matches the photos" in choice.summary


def test_any_of_several_photos_will_do_and_the_limit_is_a_setting() -> None:
    embeddings = {1: np.array([[1.0, 0.0]], dtype=np.float32)}
    assert hidden(matching([[0.0, 0.0], [1.1, 0.0]]).choose(three(), scene(), embeddings)) == {2, 3}
    assert hidden(matching([[0.0, 0.0], [1.1, 0.0]], 0.05).choose(three(), scene(), embeddings)) == {1, 2, 3}


def test_matching_needs_photos_and_a_sane_limit() -> None:
    with pytest.raises(PaLibError, match="got no photos"):
        KeepMatching([])
    with pytest.raises(PaLibError, match="max_distance"):
        KeepMatching(["a.jpg"], -1)
    assert KeepMatching("a.jpg").photos == (Path("a.jpg"),)
    with pytest.raises(SettingError, match="choose with what `learned` returns"):
        KeepMatching(["a.jpg"]).choose(three(), scene(), {})
    with pytest.raises(SettingError, match="no embeddings"):
        matching([[0.0, 0.0]]).choose(three(), scene())


def test_learning_the_photos_leaves_the_chooser_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def embedded(photos: Any, network: Any, finder: Any) -> Any:
        asked.append((network, finder))
        return np.array([[0.0, 0.0]], dtype=np.float32)

    monkeypatch.setattr("pa_lib.people.identify.embed_photos", embedded)
    chooser = KeepMatching(["a.jpg"])
    before = dict(vars(chooser))
    near, far, finder = _Network(), _Network(), CenterFaceFinder()
    far.same_person_distance = 2.0
    faces = {1: np.array([[1.0, 0.0]], dtype=np.float32)}
    # A limit taken from the first network does not stay for the second.
    assert hidden(chooser.learned(near, finder).choose(three(), scene(), faces)) == {1, 2, 3}
    assert hidden(chooser.learned(far, finder).choose(three(), scene(), faces)) == {2, 3}
    assert vars(chooser) == before
    assert [network for network, _ in asked] == [near, far]
