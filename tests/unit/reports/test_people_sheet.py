"""The numbered sheet: everybody on it, from their best frame, in one pass and little memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pa_lib.contracts import Decision, Person, Track
from pa_lib.errors import PaLibError
from pa_lib.reports.people_sheet import HIDDEN, KEPT, PAPER, PeopleSheet

WIDTH, HEIGHT = 160, 120


def a_person(
    number: int, boxes: list[tuple[float, ...]], first: int = 0, kind: Any = "body", score: float = 0.9
) -> Person:
    frames = np.arange(first, first + len(boxes))
    scores = np.full(len(boxes), score, np.float32)
    return Person(number, (Track(number, kind, frames, np.float32(boxes), scores),))


def a_sheet(people: list[Person], n_frames: int = 10, kept: tuple[int, ...] = (), title: str = "a.mp4") -> PeopleSheet:
    decisions = [Decision(person.person_id, person.person_id not in kept, "because") for person in people]
    return PeopleSheet(people, decisions, WIDTH, HEIGHT, np.arange(n_frames) / 10, title)


def a_frame(colour: tuple[int, int, int] = (120, 120, 120)) -> NDArray[np.uint8]:
    return np.full((HEIGHT, WIDTH, 3), colour, np.uint8)


def share_of(image: Image.Image, colour: tuple[int, int, int], tolerance: int = 12) -> float:
    pixels = np.asarray(image, dtype=int)
    return float((np.abs(pixels - colour).max(axis=-1) <= tolerance).mean())


def test_the_frame_where_a_person_is_largest_and_whole_is_wanted() -> None:
    small, large, cut = (10, 10, 20, 40), (40, 10, 80, 110), (130, 0, 230, 240)
    person = a_person(1, [small] * 10 + [large] + [small] * 10 + [cut] + [small] * 10)
    assert 10 in a_sheet([person], 32).needed_frames


def test_the_sharpest_of_the_candidates_gives_the_picture() -> None:
    person = a_person(1, [(40, 10, 80, 110)] * 30)
    sheet = a_sheet([person], 30, kept=(1,))
    needed = sorted(sheet.needed_frames)
    assert len(needed) >= 3
    checkers = np.indices((HEIGHT, WIDTH)).sum(axis=0) // 4 % 2
    sharp = np.where(checkers[..., None] == 1, np.uint8([0, 220, 0]), np.uint8([0, 160, 0])).astype(np.uint8)
    for at, index in enumerate(needed):
        sheet.offer(index, sharp if at == 1 else a_frame((220, 0, 0)))
    crop = sheet._crops[1].picture
    assert np.asarray(crop)[20:-20, 20:-20, 1].mean() > 100  # green, not red


def test_a_face_is_shown_with_its_surroundings_and_a_body_is_preferred_to_it() -> None:
    face = Track(1, "face", np.arange(5), np.tile(np.float32([60, 20, 70, 32]), (5, 1)), np.ones(5, np.float32))
    body = Track(2, "body", np.arange(5), np.tile(np.float32([50, 15, 80, 100]), (5, 1)), np.ones(5, np.float32))
    sheet = a_sheet([Person(1, (face, body))], 5)
    boxes = {candidate.box for each in sheet._candidates.values() for candidate in each}
    assert boxes == {(50.0, 15.0, 80.0, 100.0)}


@pytest.mark.parametrize(("kept", "colour", "other"), [((), HIDDEN, KEPT), ((1,), KEPT, HIDDEN)])
def test_the_decision_is_seen(kept: tuple[int, ...], colour: Any, other: Any) -> None:
    sheet = a_sheet([a_person(1, [(40, 10, 80, 110)] * 10)], kept=kept)
    for index in sheet.needed_frames:
        sheet.offer(index, a_frame())
    sheet_image = sheet.image()
    below_the_head = sheet_image.crop((0, 150, 1600, sheet_image.height))
    assert share_of(below_the_head, colour) > 0.001
    assert share_of(below_the_head, other) == 0


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 200))
def test_any_number_of_people_fits(count: int) -> None:
    rng = np.random.default_rng(count)
    people = []
    for number in range(1, count + 1):
        x, y = rng.uniform(-10, WIDTH - 10), rng.uniform(-10, HEIGHT - 10)
        people.append(a_person(number, [(x, y, x + 12, y + 30)] * 4, first=int(rng.integers(0, 6))))
    sheet = a_sheet(people)
    assert len(sheet.needed_frames) <= 10
    for index in range(10):
        sheet.offer(index, a_frame())
    image = sheet.image()
    assert image.width == 1600
    assert image.height <= 7000
    assert len(sheet._crops) <= count
    right, bottom = np.asarray(image)[:, -30:], np.asarray(image)[-20:]
    assert (right == PAPER).all()
    assert (bottom == PAPER).all()


def test_few_frames_are_wanted_of_a_long_video_with_many_people() -> None:
    people = [a_person(number, [(20, 20, 40, 80)] * 60, first=number * 90) for number in range(1, 101)]
    sheet = a_sheet(people, 10_000)
    assert len(sheet.needed_frames) <= 3 * 100 + 4
    assert len(sheet._overview_frames) <= 4


def test_people_of_whom_no_frame_could_be_decoded_are_still_on_the_sheet() -> None:
    image = a_sheet([a_person(1, [(40, 10, 80, 110)] * 10)]).image()
    assert image.height > 400
    assert share_of(image, HIDDEN) > 0


@pytest.mark.parametrize("size", [(1, 1), (40, 400), (3000, 20)])
def test_odd_sizes_are_drawn(size: tuple[int, int]) -> None:
    width, height = size
    person = a_person(1, [(-5, -5, width + 5, height + 5)] * 3)
    sheet = PeopleSheet([person], [Decision(1, True, "")], width, height, np.zeros(1), "x" * 300)
    for index in sheet.needed_frames:
        sheet.offer(index, np.zeros((height, width, 3), np.uint8))
    assert sheet.image().width == 1600


def test_boxes_wholly_outside_the_frame_give_no_picture() -> None:
    sheet = a_sheet([a_person(1, [(-50, -50, -10, -10)] * 3)], 3)
    for index in range(3):
        sheet.offer(index, a_frame())
    assert sheet._crops == {}
    sheet.image()


def test_everybody_needs_a_decision() -> None:
    with pytest.raises(PaLibError, match="person 1 has no decision"):
        PeopleSheet([a_person(1, [(0, 0, 9, 9)])], [], WIDTH, HEIGHT, np.zeros(1))


def test_the_file_is_a_png_or_an_error(tmp_path: Path) -> None:
    sheet = a_sheet([a_person(1, [(40, 10, 80, 110)] * 10)])
    sheet.save(tmp_path / "people.png")
    with Image.open(tmp_path / "people.png") as image:
        assert (image.format, image.width) == ("PNG", 1600)
    assert [path.name for path in tmp_path.iterdir()] == ["people.png"]
    with pytest.raises(PaLibError, match="absent"):
        sheet.save(tmp_path / "absent" / "people.png")


def test_real_pedestrians_get_pictures_with_the_person_in_them(shared_data: Path) -> None:
    folder = shared_data / "clips_with_masks" / "pets_vtest"
    left, top, width, height, score = json.loads((folder / "boxes.json").read_text())[0]["persons"][0]
    path = sorted((folder / "frames").iterdir())[0]
    rgb = np.asarray(Image.open(path).convert("RGB"))
    person = a_person(1, [(left, top, left + width, top + height)], score=score)
    sheet = PeopleSheet([person], [Decision(1, True, "")], rgb.shape[1], rgb.shape[0], np.zeros(1))
    sheet.offer(0, rgb)
    crop = np.asarray(sheet._crops[1].picture, dtype=int)
    # The box, where the person was annotated, fills most of the height and is centred across.
    outline = np.abs(crop - HIDDEN).max(axis=-1) <= 8
    rows, columns = np.nonzero(outline.sum(axis=1) > 20)[0], np.nonzero(outline.sum(axis=0) > 20)[0]
    assert rows[-1] - rows[0] > 0.7 * crop.shape[0]
    assert abs((columns[0] + columns[-1]) / 2 - crop.shape[1] / 2) < 0.1 * crop.shape[1]


def test_the_name_of_the_replacement_is_on_the_sheet() -> None:
    people = [a_person(1, [(40, 10, 80, 110)] * 3)]
    decisions = [Decision(1, True, "because")]
    plain, named = (
        PeopleSheet(people, decisions, WIDTH, HEIGHT, np.arange(3) / 10, "a.mp4", names).image()
        for names in (None, {1: "P004"})
    )
    assert share_of(named, HIDDEN) > share_of(plain, HIDDEN)  # the name stands beside the decision, in its colour
    assert named.size == plain.size
