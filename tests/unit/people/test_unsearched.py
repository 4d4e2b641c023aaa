"""Frames between searched ones: whoever a detector would see there is searched for there, or covered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pa_lib.contracts import Detection, Presence
from pa_lib.functional.boxes import bounding_box
from pa_lib.people import AbstractFinder, BoxMasker, Findings, KalmanTracker, MaskRequest, find_people
from pa_lib.people.unsearched import Glance, Searched, next_search, shows_more
from pa_lib.video.frame import Frame, Picture, PixelFormat

WIDTH, HEIGHT, SIDE = 160, 96, 20
MAGENTA = (230, 20, 230)
PANORAMA = np.random.default_rng(5).integers(60, 200, (HEIGHT // 8, WIDTH // 2, 3)).repeat(8, 0).repeat(8, 1)
Place = tuple[int, int] | None  # left and top of the person, px; None: out of sight


class MagentaFinder(AbstractFinder):
    """Sees a magenta person exactly where they are, as a face; counts its pictures."""

    def __init__(self) -> None:
        self.n_images = 0

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        self.n_images += len(images)
        found = []
        for image in images:
            box = bounding_box((image == MAGENTA).all(axis=2))
            where = None if box is None else (box[1].start, box[0].start, box[1].stop, box[0].stop)
            found.append([] if where is None else [Detection("face", tuple(map(float, where)), 0.9)])
        return found

    def release(self) -> None:
        pass


def picture(place: Place, pan: int = 0) -> Picture:
    rgb = PANORAMA[:, pan : pan + WIDTH].astype(np.uint8)
    if place is not None:
        left, top = place
        rgb[top : top + SIDE, left : left + SIDE] = MAGENTA
    return Picture((rgb,), PixelFormat("rgb24", WIDTH, HEIGHT, is_full_range=True))


def film(places: Sequence[Place], fps: float, pan: int = 0) -> Iterator[Frame]:
    """A person in front of rough walls, the camera turning by `pan` px a frame."""
    for index, place in enumerate(places):
        yield Frame(index, index, 1, index / fps, picture(place, index * pan))


def search(places: Sequence[Place], fps: float, pan: int = 0, **changed: float) -> Findings:
    return find_people(film(places, fps, pan), MagentaFinder(), **changed)  # type: ignore[arg-type]


def bare(places: Sequence[Place], fps: float, pan: int = 0, **changed: float) -> list[int]:
    """The frames in which some of the person is not covered by the masks of tracks."""
    tracks = KalmanTracker().track(search(places, fps, pan, **changed), WIDTH, HEIGHT)
    found = []
    for index, place in enumerate(places):
        if place is None:
            continue
        hidden = [Presence(one.track_id, one, row) for one in tracks if (row := one.row(index)) is not None]
        is_hidden = np.zeros((HEIGHT, WIDTH), dtype=bool)
        for mask in BoxMasker().mask(MaskRequest(picture(place).rgb(), hidden, [])).masks:
            rows, columns = mask.alpha.shape
            is_hidden[mask.top : mask.top + rows, mask.left : mask.left + columns] |= mask.alpha.numpy() >= 0.99
        left, top = place
        if not is_hidden[top : top + SIDE, left : left + SIDE].all():
            found.append(index)
    return found


def test_who_is_there_for_one_frame_is_found_whatever_the_rate() -> None:
    places: list[Place] = [None] * 15
    places[7] = (70, 40)
    for fps in (1, 12, 25, 240):
        findings = search(places, fps)
        assert 7 in findings.detections, "every other frame would not be the seventh"
        assert bare(places, fps) == []


def test_below_eight_frames_a_second_every_frame_is_searched() -> None:
    still: list[Place] = [(70, 40)] * 11
    for fps, n_searched in ((1, 11), (5, 11), (7.9, 11), (8, 6), (10, 6), (25, 6)):
        assert len(search(still, fps).detections) == n_searched
    assert len(search(still, 10, interval_s=0.1).detections) == 11
    assert len(search(still, 100, stride=10, interval_s=1.0).detections) == 2


def test_a_long_stride_is_bounded_by_time() -> None:
    findings = search([None] * 101, 25, stride=1000)
    assert np.diff(sorted(findings.detections)).max() <= 0.25 * 25


def test_irregular_times_count_not_the_number_of_frames() -> None:
    times = [0.0, 0.04, 0.08, 3.0, 3.04, 3.08, 3.12, 9.0, 9.04]
    frames = [Frame(index, index, 1, time, picture((70, 40))) for index, time in enumerate(times)]
    findings = find_people(frames, MagentaFinder(), stride=2)
    for first, second in zip(*[sorted(findings.detections)[at:] for at in (0, 1)], strict=False):
        assert second == first + 1 or times[second] - times[first] <= 0.25


def test_a_flash_is_searched_and_the_fade_of_a_light_is_not() -> None:
    def lit(levels: Sequence[int]) -> set[int]:
        format = PixelFormat("rgb24", WIDTH, HEIGHT, is_full_range=True)
        pictures = [Picture(((PANORAMA[:, :WIDTH] // 2 + level).astype(np.uint8),), format) for level in levels]
        frames = [Frame(index, index, 1, index / 25, one) for index, one in enumerate(pictures)]
        return set(find_people(frames, MagentaFinder()).detections)

    assert lit([0, 0, 0, 25, 0, 0, 0, 0, 0]) == {0, 2, 3, 4, 6, 8}  # 25 / 255 is no cut
    assert lit(range(0, 90, 10)) == {0, 2, 4, 6, 8}


def test_a_person_who_walks_is_followed_without_more_searches() -> None:
    walking: list[Place] = [(20 + 5 * index, 40) for index in range(21)]  # half of their width between searches
    assert len(search(walking, 25).detections) == 11
    assert bare(walking, 25) == []


def test_a_person_who_stands_and_then_jumps_is_searched_between() -> None:
    jumping: list[Place] = [(20, 40), (20, 40), (52, 40), (52, 40), (52, 40)]
    assert 1 in search(jumping, 25).detections
    assert bare(jumping, 25) == []


@pytest.mark.parametrize("pan", [1, 4])
def test_a_camera_that_turns_over_a_rough_wall_is_no_reason(pan: int) -> None:
    assert len(search([None] * 41, 25, pan).detections) == 21
    places: list[Place] = [None] * 41
    places[21] = (70, 40)
    assert bare(places, 25, pan) == []


@st.composite
def ways(draw: st.DrawFn) -> list[Place]:
    """Somebody who stands, walks, jumps, and is out of sight, each for some frames."""
    places: list[Place] = []
    x, y = draw(st.integers(0, WIDTH - SIDE)), draw(st.integers(0, HEIGHT - SIDE))
    for _ in range(draw(st.integers(1, 6))):
        kind, n_frames = draw(st.sampled_from(["stand", "walk", "jump", "gone"])), draw(st.integers(1, 5))
        if kind == "gone":
            places += [None] * n_frames
            continue
        if kind == "jump":
            x, y = draw(st.integers(0, WIDTH - SIDE)), draw(st.integers(0, HEIGHT - SIDE))
        right, down = (draw(st.integers(-8, 8)) for _ in range(2)) if kind == "walk" else (0, 0)
        for _ in range(n_frames):
            x, y = int(np.clip(x + right, 0, WIDTH - SIDE)), int(np.clip(y + down, 0, HEIGHT - SIDE))
            places.append((x, y))
    return places


@settings(max_examples=60)
@given(ways(), st.sampled_from([1, 5, 10, 15, 25, 60]), st.integers(1, 4), st.integers(1, 3))
@example([(0, 0), (0, 0), (60, 60), (60, 60), (0, 0)], 25, 2, 1)
def test_whoever_a_detector_would_see_is_covered(places: list[Place], fps: int, stride: int, batch: int) -> None:
    assert bare(places, fps, stride=stride, batch=batch) == []


@settings(max_examples=12)
@given(ways(), st.sampled_from([5, 10, 25]), st.integers(2, 4))
def test_the_size_of_a_batch_changes_nothing(places: list[Place], fps: int, batch: int) -> None:
    one, many = search(places, fps), search(places, fps, batch=batch)
    assert list(one.detections) == list(many.detections)
    assert one.cuts == many.cuts


FACE = (24, 20)  # height and width of a face in a view of one pixel to a pixel


def crowd(faces: dict[float, NDArray[np.uint8]], seed: int, time_s: float, pan: int = 0) -> Glance:
    """A rough wall, seen by a camera that turns, with faces at these places, px to the right on the wall."""
    view = np.random.default_rng(seed).integers(0, 256, (80, 260), np.uint8)[:, pan : pan + 200].copy()
    for x, face in faces.items():
        view[30 : 30 + FACE[0], round(x) - pan : round(x) - pan + FACE[1]] = face
    return Glance(0, time_s, view, 1.0, np.array([-pan, 0.0]))


def at(x: float, score: float = 0.7) -> Detection:
    return Detection("face", (x, 30.0, x + FACE[1], 30.0 + FACE[0]), score)


@given(st.floats(1.1, 2.9), st.integers(0, 2**16), st.integers(0, 12), st.sampled_from(["first", "second", "none"]))
def test_who_jumps_is_covered_only_where_a_frame_shows_them_at_an_end(
    way: float, seed: int, pan: int, place: str
) -> None:
    face = np.random.default_rng(seed + 1).integers(0, 256, FACE, np.uint8)
    x = {"first": 50.0, "second": round(50 + way * FACE[1]), "none": None}
    shown = [x["first"], x[place], x["second"]]
    views = [
        crowd({} if left is None else {left: face}, seed, index / 25, index * pan // 2)
        for index, left in enumerate(shown)
    ]
    before, after = (
        Searched(view, [replace_box(at(float(left or 0)), view)])
        for view, left in zip(views[::2], shown[::2], strict=True)
    )
    asked = next_search(before, views[1:2], after, 0.25)
    assert asked == (0 if place == "none" else None)


def replace_box(seen: Detection, view: Glance) -> Detection:
    """A detection on the wall as the camera shows it."""
    return replace(seen, box=tuple((np.array(seen.box) + np.tile(view.scene, 2)).tolist()))


@given(st.floats(0.75, 0.95), st.integers(1, 20), st.booleans())
def test_boxes_that_touch_are_no_jump_within_a_moment(way: float, gap: int, is_flat: bool) -> None:
    view = (
        np.full((80, 200), 90, np.uint8) if is_flat else np.random.default_rng(gap).integers(0, 9, (80, 200), np.uint8)
    )
    before, between, after = (Glance(index, index * gap / 100, view, 1.0, np.zeros(2)) for index in range(3))
    asked = next_search(Searched(before, [at(50)]), [between], Searched(after, [at(50 + way * FACE[1])]), 10.0)
    assert asked == (None if 2 * gap / 100 <= 0.1 else 0)


def test_a_face_without_contrast_is_not_looked_for() -> None:
    view = np.full((80, 200), 90, np.uint8)
    before, between, after = (glance(view, index) for index in range(3))
    assert next_search(Searched(before, [at(50)]), [between], Searched(after, [at(80)]), 0.25) == 0


def test_in_a_crowd_a_face_that_is_seen_in_turns_is_no_jump() -> None:
    first, second = (np.random.default_rng(seed).integers(0, 256, FACE, np.uint8) for seed in (1, 2))
    before, between, after = (crowd({50: first, 80: second}, 3, index / 25) for index in range(3))
    assert next_search(Searched(before, [at(50)]), [between], Searched(after, [at(80)]), 0.25) is None
    gone = crowd({}, 3, 1 / 25)
    assert next_search(Searched(before, [at(50)]), [gone], Searched(after, [at(80)]), 0.25) == 0


def glance(view: NDArray[np.uint8], index: int = 0, scene: tuple[float, float] = (0, 0), scale: float = 1) -> Glance:
    return Glance(index, index / 25, view, scale, np.array(scene, np.float64))


def test_frames_of_another_size_are_searched() -> None:
    small, large = glance(np.zeros((40, 40), np.uint8)), glance(np.zeros((50, 40), np.uint8), 1)
    assert shows_more(large, small, small)
    assert next_search(Searched(small, ()), [large], Searched(small, ()), 1.0) == 0


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_what_lies_between_two_frames_is_explained(before: int, here: int, after: int) -> None:
    before_, here_, after_ = (glance(np.full((30, 30), grey, np.uint8)) for grey in (before, here, after))
    beyond = max(min(before, after) - here, here - max(before, after), 0)
    assert shows_more(here_, before_, after_) == (beyond - abs(before - after) > 12)


def test_a_followed_person_is_not_looked_at_where_they_are_on_the_scene() -> None:
    still, scene = np.full((60, 90), 90, np.uint8), (12.0, -4.0)
    changed = still.copy()
    changed[20:36, 40:56] = 200
    here, other = glance(changed, 1, scene, 0.5), glance(still, 0, scene, 0.5)
    assert shows_more(here, other, other)
    around = np.array([80, 40, 112, 72]) - np.tile(scene, 2)  # px of the frame, two to a pixel of the view
    assert not shows_more(here, other, other, [around])
    assert shows_more(here, other, other, [around + np.array([16, 0, 16, 0])])


def test_a_face_in_one_frame_of_a_real_clip(shared_data: Path) -> None:
    from pa_lib.people import CenterFaceFinder
    from pa_lib.video import probe, read_frames

    clip = shared_data / "field" / "oneframe_face_only_in_frame_7.mp4"
    findings = find_people(read_frames(probe(clip)), CenterFaceFinder())
    assert [index for index, seen in findings.detections.items() if seen] == [7]
