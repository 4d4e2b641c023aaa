"""Who is the same person in several videos: groups of appearances, by the likeness of faces."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import defaultdict
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pa_lib.errors import SettingError
from pa_lib.people import Appearance, FaceRecognizer, same_people

LIMIT = 0.6


def seen(video: int, person: int, *faces: float, wish: str | None = None) -> Appearance:
    """A person whose faces lie on a line at these places; none where no face can be compared."""
    return Appearance(video, person, np.array([[face, 0.0] for face in faces], np.float32) if faces else None, wish)


def groups(*people: Appearance) -> set[frozenset[tuple[int, int]]]:
    return {frozenset(one.key for one in group) for group in same_people(people, LIMIT)}


def together(*keys: tuple[int, int]) -> frozenset[tuple[int, int]]:
    return frozenset(keys)


def test_like_faces_of_several_videos_are_one_person() -> None:
    found = groups(seen(0, 1, 0.0, 0.1), seen(0, 2, 5.0), seen(1, 1, 5.3), seen(1, 2, 0.2), seen(2, 7, 0.3, 0.4))
    assert found == {together((0, 1), (1, 2), (2, 7)), together((0, 2), (1, 1))}


def test_groups_are_the_same_in_any_order() -> None:
    people = [seen(0, 1, 0.0), seen(0, 2, 0.55), seen(1, 1, 0.3), seen(2, 1, 0.5), seen(3, 1, 1.0)]
    expected = groups(*people)
    assert all(groups(*order) == expected for order in permutations(people))


def test_two_people_of_one_video_are_never_one_person() -> None:
    """Not even by way of a third one, who looks like both and goes to the nearer of them."""
    assert groups(seen(0, 1, 0.0), seen(0, 2, 0.0)) == {together((0, 1)), together((0, 2))}
    assert groups(seen(0, 1, 0.0), seen(0, 2, 0.3), seen(1, 1, 0.2)) == {together((0, 1)), together((0, 2), (1, 1))}


def test_a_chain_of_likenesses_is_no_person() -> None:
    """0 and 0.9 are strangers, though 0.45 looks like both: a third that leans to one side goes there."""
    found = groups(seen(0, 1, 0.0), seen(1, 1, 0.44), seen(2, 1, 0.9))
    assert found == {together((0, 1), (1, 1)), together((2, 1))}


def test_one_face_that_happens_to_be_near_joins_no_one() -> None:
    assert groups(seen(0, 1, 0.0, 3.0, 3.1), seen(1, 1, 0.0)) == {together((0, 1)), together((1, 1))}
    assert groups(seen(0, 1, 0.0, 0.1, 3.1), seen(1, 1, 0.0)) == {together((0, 1), (1, 1))}


def test_without_a_face_no_one_is_recognized() -> None:
    assert groups(seen(0, 1), seen(1, 1), seen(2, 1)) == {together((0, 1)), together((1, 1)), together((2, 1))}
    assert same_people([], LIMIT) == []
    assert groups(seen(0, 1, 0.0)) == {together((0, 1))}


def test_people_with_different_wishes_stay_apart_and_draw_the_others() -> None:
    one, two = seen(0, 1, 0.0, wish="Ann"), seen(1, 1, 0.3, wish="Bo")
    assert groups(one, two) == {together((0, 1)), together((1, 1))}
    assert groups(one, two, seen(2, 1, 0.2)) == {together((0, 1)), together((1, 1), (2, 1))}
    assert groups(one, seen(1, 1, 0.3, wish="Ann")) == {together((0, 1), (1, 1))}


@pytest.mark.parametrize("distance", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(distance: float) -> None:
    with pytest.raises(SettingError, match="expected a number above 0"):
        FaceRecognizer(max_distance=distance)


def test_photos_are_one_or_several_for_each_replacement() -> None:
    photos = FaceRecognizer(photos={"P005": "anna.jpg", "M003": ["a.jpg", "b.jpg"]}).photos
    assert {name: [path.name for path in paths] for name, paths in photos.items()} == {
        "P005": ["anna.jpg"],
        "M003": ["a.jpg", "b.jpg"],
    }
    with pytest.raises(SettingError, match="photos of P005: got none"):
        FaceRecognizer(photos={"P005": []})


def test_real_people_of_two_photos_each(shared_data: Path) -> None:
    """60 people, one photo of each in either video: nearly all are recognized, and next to no strangers joined."""
    from pa_lib.pretrained import FaceIdentity

    network = FaceIdentity()
    people: list[Appearance] = []
    with zipfile.ZipFile(shared_data / "faces" / "faces_permissive_128.zip") as archive:
        photos = defaultdict(list)
        for row in csv.DictReader(io.StringIO(archive.read("index.tsv").decode()), delimiter="\t"):
            photos[row["group"]].append(row)
        pairs = [rows[:2] for rows in photos.values() if len(rows) >= 2][:60]
        for number, pair in enumerate(pairs):
            for video, row in enumerate(pair):
                points = [
                    [row[f"{name}_{axis}"] for axis in "xy"] for name in ("eye1", "eye2", "nose", "mouth1", "mouth2")
                ]
                picture = np.asarray(Image.open(io.BytesIO(archive.read(row["file"]))).convert("RGB"))
                faces = network.embed(picture, np.array([points], np.float32))
                people.append(Appearance(video, number, faces))
    found = [group for group in same_people(people, network.same_person_distance) if len(group) == 2]
    right = sum(one.person_id == two.person_id for one, two in found)
    assert right >= 0.95 * len(pairs)
    assert len(found) - right <= 2
