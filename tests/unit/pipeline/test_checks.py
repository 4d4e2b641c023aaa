"""What parts give back, checked: no shipped part is suspected, whoever stands where; what is bare is found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pa_lib.contracts import Box, Detection, Person, PersonMask, Presence, Track
from pa_lib.people import (
    AbstractMasker,
    BoxMasker,
    EllipseMasker,
    FrameMasks,
    HeadMasker,
    KalmanTracker,
    MaskRequest,
    SilhouetteMasker,
    link_people,
)
from pa_lib.people.find import Findings
from pa_lib.pipeline.checks import unchanged, unmasked, untracked

HEIGHT, WIDTH = 90, 120


class Middles:
    """Outlines: the middle third of every box, which is not plausible, or all of it."""

    def __init__(self, share: float) -> None:
        self.share = share

    def silhouette(self, image: NDArray[np.uint8], boxes: Sequence[Box]) -> list[tuple[int, int, NDArray[np.float32]]]:
        found = []
        for x0, y0, x1, y1 in boxes:
            left, right = (int(np.clip(round(x), 0, WIDTH)) for x in (x0, x0 + self.share * (x1 - x0)))
            top, bottom = (int(np.clip(round(y), 0, HEIGHT)) for y in (y0, y1))
            found.append((top, left, np.ones((max(bottom - top, 0), max(right - left, 0)), np.float32)))
        return found


MASKERS: list[AbstractMasker] = [
    BoxMasker(),
    BoxMasker(1.0, 1.0, 0, 0),
    EllipseMasker(),
    EllipseMasker(1.0, 1.0, 0, 0),
    SilhouetteMasker(Middles(1.0), spare_kept=True),
    SilhouetteMasker(Middles(0.3), face_scale=1.0, spare_kept=True),
    HeadMasker(),
    HeadMasker(growth=0.5, face_scale=1.0),
    HeadMasker(SilhouetteMasker(Middles(1.0), spare_kept=True)),
    HeadMasker(SilhouetteMasker(Middles(0.5)), covers_bodies=True),
]


def presence(person_id: int, kind: str, box: Sequence[float], *, is_seen: bool = True) -> Presence:
    scores = np.full(9, 0.9 if is_seen else np.nan, np.float32)
    boxes = np.tile(np.array([box], np.float32), (9, 1))
    return Presence(person_id, Track(person_id, kind, np.arange(9), boxes, scores), 4)  # type: ignore[arg-type]


sides = st.tuples(st.floats(-40, 130), st.floats(-40, 100), st.floats(3, 60), st.floats(3, 60))
people = st.lists(st.tuples(st.sampled_from(["face", "body"]), sides, st.booleans(), st.booleans()), max_size=5)


@settings(max_examples=60, deadline=None)
@given(people=people, number=st.integers(0, len(MASKERS) - 1))
def test_shipped_maskers_pass(people: list[tuple[str, tuple[float, ...], bool, bool]], number: int) -> None:
    both: tuple[list[Presence], list[Presence]] = ([], [])
    for person_id, (kind, (x, y, wide, tall), is_seen, is_kept) in enumerate(people, 1):
        both[is_kept].append(presence(person_id, kind, (x, y, x + wide, y + tall), is_seen=is_seen))
    request = MaskRequest(np.zeros((HEIGHT, WIDTH, 3), np.uint8), *both, grid=(2, 2))
    assert unmasked(MASKERS[number].mask(request), request) is None


def bare(kind: str, box: Sequence[float], masks: Sequence[PersonMask] = (), kept: Sequence[Presence] = ()) -> bool:
    request = MaskRequest(np.zeros((HEIGHT, WIDTH, 3), np.uint8), [presence(1, kind, box)], kept)
    return unmasked(FrameMasks(tuple(masks), ()), request) is not None


@pytest.mark.parametrize("kind", ["face", "body"])
def test_people_without_masks_are_found_where_they_can_be_seen(kind: str) -> None:
    assert bare(kind, (40, 30, 60, 60))
    assert not bare(kind, (-50, 30, -10, 60))  # out of the frame
    assert bare("face", (-15, 30, 15, 60))  # the middle of the face at the frame's border
    assert bare("face", (-20, 30, 10, 60))  # and a little beyond it
    assert bare("face", (-1, -1, 2, 2))  # small
    behind = [presence(2, "body", (30, 20, 80, 80))]
    assert bare("face", (40, 30, 60, 60), kept=behind)  # a face that a detector sees is covered in any case


def test_the_mask_of_another_hidden_person_hides_a_face_too() -> None:
    other = PersonMask(2, 0, 20, 30, torch.ones(60, 60))
    assert not bare("face", (40, 30, 60, 60), [other])
    assert bare("body", (40, 30, 60, 60), [other])  # a body is not only its head


def findings(boxes: dict[int, list[Box]], n_frames: int, cuts: tuple[int, ...] = (), kind: str = "face") -> Findings:
    seen = {at: tuple(Detection(kind, box, 0.9) for box in found) for at, found in boxes.items()}  # type: ignore[arg-type]
    return Findings(seen, {}, cuts, n_frames, np.arange(n_frames) / 10)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), stride=st.integers(1, 4), cut=st.integers(1, 18), margin_s=st.sampled_from([0.0, 0.25]))
def test_the_shipped_tracker_and_linker_pass(data: st.DataObject, stride: int, cut: int, margin_s: float) -> None:
    places = st.lists(st.tuples(st.floats(0, 90), st.floats(0, 60), st.floats(5, 30)), max_size=3)
    searched = sorted({*range(0, 20, stride), cut - 1, cut, 19})
    found: dict[int, list[Box]] = {
        at: [(x, y, x + side, y + side) for x, y, side in data.draw(places)] for at in searched
    }
    given_ = findings(found, 20, (cut,))
    tracker = KalmanTracker(margin_s=margin_s, margin_frames=0)
    made = tracker.track(given_, WIDTH, HEIGHT)
    assert untracked(given_, link_people(made, given_.times_s, given_.cuts), tracker.start_score) == {}


LOST = "a face that was detected in this frame, or in the searched one beside it, is in no track"


def test_frames_around_a_lost_detection_are_named_up_to_the_searched_ones() -> None:
    found = findings({0: [], 3: [(10.0, 10.0, 30.0, 30.0)], 6: [], 9: []}, 12, cuts=(5,))
    lost = untracked(found, [], 0.5)
    assert sorted(lost) == [1, 2, 3, 4]  # not over the cut
    assert set(lost.values()) == {LOST}
    assert untracked(found, [], 0.95) == {}  # less sure than what has to be in a track
    own = Track(
        1, "face", np.arange(1, 5), np.tile([[9.0, 9, 31, 31]], (4, 1)).astype(np.float32), np.ones(4, np.float32)
    )
    assert untracked(found, [Person(1, (own,))], 0.5) == {}
    short = Track(1, "face", np.arange(3, 5), own.boxes[:2], own.scores[:2])
    assert sorted(untracked(found, [Person(1, (short,))], 0.5)) == [1, 2, 3, 4]


NOISE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8))
MASKS = [PersonMask(1, 0, 10, 10, torch.ones(30, 20), "face"), PersonMask(1, 0, 40, 10, torch.ones(40, 20), "body")]


def test_the_source_is_recognized_where_it_shows_something() -> None:
    assert unchanged(NOISE, NOISE, MASKS) == "person 1 is as in the source"
    assert unchanged(NOISE, 255 - NOISE, MASKS) is None
    flat = torch.full_like(NOISE, 90)
    assert unchanged(flat, flat, MASKS) is None


def test_what_a_system_leaves_by_a_setting_is_no_fault() -> None:
    heads = NOISE.clone()
    heads[:, 10:40, 10:30] = 7
    assert unchanged(NOISE, heads, MASKS, {"body"}) is None
    assert unchanged(NOISE, NOISE, MASKS, {"body"}) is not None
    assert unchanged(NOISE, NOISE, MASKS[1:], {"body"}) is None


def test_every_person_counts_by_themselves() -> None:
    one, two = (PersonMask(at, 0, 10, 40 * at, torch.ones(30, 20), "face") for at in (1, 2))
    made = NOISE.clone()
    made[:, :, 30:70] = 7
    assert unchanged(NOISE, made, [one, two]) == "person 2 is as in the source"
