"""Masks of whole heads: one a person, in every frame, whatever was seen of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from _people import standing, track
from pa_lib.contracts import ClipMasks, HeadPose, Presence
from pa_lib.errors import SettingError
from pa_lib.functional.masks import run_lengths
from pa_lib.people import EllipseMasker, HeadMasker, MaskRequest, SilhouetteMasker

HEIGHT, WIDTH = 120, 160
IMAGE = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
FACE = Presence(1, standing(1, "face", 70, 40, 20, 26), 0)
BODY = Presence(1, standing(2, "body", 50, 20, 60, 90), 0)


def covered(masker: HeadMasker, hidden: list[Presence], poses: dict[int, HeadPose] | None = None) -> ClipMasks:
    return ClipMasks(masker.mask(MaskRequest(IMAGE, hidden, poses=poses)).masks, 1, HEIGHT, WIDTH)


def test_face_and_body_of_a_person_are_one_head() -> None:
    masks = covered(HeadMasker(), [FACE, BODY, Presence(2, standing(3, "body", 0, 30, 30, 80), 0)])
    assert [(mask.person_id, mask.kind) for mask in masks.people] == [(1, "face"), (2, "face")]


def test_the_head_is_where_the_pose_says_and_tilts_with_it() -> None:
    pose = HeadPose(80, 60, 8, roll=40.0)
    alpha = covered(HeadMasker(), [BODY], {1: pose}).union(0)
    down = np.array([-np.sin(np.radians(40)), np.cos(np.radians(40))])
    for along, is_inside in ((-2.2, True), (2.3, True), (-3.2, False), (3.3, False)):  # along the tilted head
        x, y = np.array([80, 60]) + along * 8 * down
        assert (float(alpha[int(y), int(x)]) > 0) == is_inside
    assert float(alpha[60, 80]) == 1
    assert float(alpha[60, 80 + 22]) == 0  # clear of the head at the side


def test_a_wrong_pose_leaves_no_face_uncovered() -> None:
    far = HeadPose(20, 20, 5)
    alpha = covered(HeadMasker(), [FACE], {1: far}).union(0)
    assert torch.all(alpha[40:66, 72:88] == 1)
    face_alone = ClipMasks(
        EllipseMasker(dilation_px=2, feather_px=2).mask(MaskRequest(IMAGE, [FACE])).masks, 1, HEIGHT, WIDTH
    )
    assert torch.all(alpha >= face_alone.union(0))


@pytest.mark.parametrize("tall", [15, 40, 90])
def test_a_person_from_behind_has_a_head_at_the_top_of_the_body(tall: int) -> None:
    person = Presence(1, standing(1, "body", 60, 20, tall / 3, tall), 0)
    alpha = covered(HeadMasker(), [person]).union(0)
    middle = int(60 + tall / 6)
    head = max(2, round(0.13 * tall))  # of a person, from top to chin
    assert torch.all(alpha[20 : 20 + head, middle] == 1)
    assert not alpha[20 + tall // 3 :].any()  # the body below stays


def test_an_edited_silhouette_of_a_face_is_covered_too() -> None:
    drawn = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    drawn[100:110, 5:20] = True
    track = standing(1, "face", 70, 40, 20, 26)
    track.masks[0] = run_lengths(drawn)
    alpha = covered(HeadMasker(), [Presence(1, track, 0)]).union(0)
    assert torch.all(alpha[drawn] == 1)
    assert float(alpha[52, 80]) == 1


class LeftHalf:
    """A network that takes everything left of x = 80 for a person."""

    def silhouette(self, image, boxes):  # type: ignore[no-untyped-def]
        likely = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
        likely[:, :80] = 1
        return [(0, 0, likely) for _ in boxes]


def test_kept_people_in_front_are_spared_and_bodies_are_covered_when_asked() -> None:
    kept = Presence(9, standing(9, "body", 20, 10, 60, 110), 0)
    hidden = Presence(1, standing(2, "body", 60, 30, 40, 60, n=20), 0)
    hidden.track.scores[:] = np.nan  # not seen just now: something covers it
    silhouettes = SilhouetteMasker(LeftHalf(), spare_kept=True)
    request = MaskRequest(IMAGE, [hidden], [kept], poses={1: HeadPose(80, 40, 6, yaw=180, is_seen=False)})
    (head,) = HeadMasker(silhouettes).mask(request).masks
    assert head.left == 80
    both = HeadMasker(silhouettes, covers_bodies=True).mask(request)
    assert [mask.kind for mask in both.masks] == ["body", "face"]
    assert set(both.spared) == set(HeadMasker(silhouettes).mask(request).spared) == {1}
    assert HeadMasker().mask(request).spared == {}


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="growth"):
        HeadMasker(growth=0)
    with pytest.raises(SettingError, match="silhouettes="):
        HeadMasker(covers_bodies=True)


@settings(max_examples=30)
@given(st.floats(0, 60), st.floats(0, 40), st.floats(0, 1), st.floats(0, 1))
def test_between_detections_a_face_is_covered_wherever_it_may_be_and_no_more(
    wide: float, tall: float, right: float, down: float
) -> None:
    box = (40.0, 40.0, 40.0 + 14 + wide, 40.0 + 18 + tall)
    one = track(1, "face", 0, [(50, 50, 64, 68), box, (50, 50, 64, 68)], seen=[0, 2])
    alpha = covered(HeadMasker(), [Presence(1, one, 1)]).union(0)
    x, y = box[0] + wide * right, box[1] + tall * down
    assert torch.all(alpha[int(y) : int(np.ceil(y + 18)), int(x) : int(np.ceil(x + 14))] == 1)
    # Growth to both sides alike may be that of the head; the rest is one head, at several places.
    growth = min(1 + wide / 14, 1 + tall / 18)
    around = (alpha > 0).nonzero()
    rows, columns = ((around[:, axis].max() - around[:, axis].min() + 1).item() for axis in (0, 1))
    assert columns <= 14 * 2.1 * growth + (14 + wide - 14 * growth) + 8
    assert rows <= 18 * 1.9 * growth + (18 + tall - 18 * growth) + 8


def test_where_it_was_detected_a_wide_face_is_covered_as_before() -> None:
    wide = Presence(1, standing(1, "face", 50, 40, 60, 20), 0)
    one = ClipMasks(EllipseMasker(dilation_px=2, feather_px=2).mask(MaskRequest(IMAGE, [wide])).masks, 1, HEIGHT, WIDTH)
    assert torch.all(covered(HeadMasker(), [wide]).union(0) >= one.union(0))


@pytest.mark.parametrize(("row", "further"), [(1, 0), (2, 6), (4, 14), (6, 6)])
def test_a_moving_face_may_be_further_on_the_longer_it_is_lost(row: int, further: int) -> None:
    """By its own motion in that time, but for the frame between two searches; by its own size at most."""
    boxes = [(40.0 + 6 * at, 50.0, 54.0 + 6 * at, 68.0) for at in range(9)]
    moving, still = track(1, "face", 0, boxes, seen=[0, 8]), track(1, "face", 0, [boxes[row]] * 9, seen=[0, 8])
    alpha = covered(HeadMasker(), [Presence(1, moving, row)]).union(0)
    x = 40 + 6 * row
    assert torch.all(alpha[50:68, x - further : x + 14 + further] == 1)
    alone = covered(HeadMasker(), [Presence(1, still, row)]).union(0)
    assert torch.all(alpha >= alone)
    wider = [int((one > 0).any(0).sum()) for one in (alpha, alone)]
    assert abs(wider[0] - wider[1] - 2 * further) <= 3
