"""Head poses of people: they follow landmarks without jitter, and carry on where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _people import standing, track
from pa_lib.contracts import Person, Track
from pa_lib.functional.head_outline import HEAD_DOWN, HEAD_HALF, HEAD_UP
from pa_lib.functional.head_pose import VIEW_EDGES
from pa_lib.people.poses import PoseTrack, head_poses

N, HEIGHT = 40, 480
TIMES = np.arange(400) / 25
FRONT = np.array([[-9.6, 0], [9.6, 0], [0, 11.3], [-8.2, 20], [8.2, 20]])  # eyes, nose, mouth around a scale of 20 px


def face(
    places: np.ndarray, scales: Sequence[float] | np.ndarray, *, number: int = 1, first: int = 0, step: int = 1
) -> Track:
    """A face whose eyes are at `places`, seen in every `step`-th frame; the box as the detector frames it."""
    scales = np.asarray(scales, dtype=np.float64)
    points = places[:, None] + FRONT * (scales / 20)[:, None, None]
    half = np.stack([scales / 1.0, scales / 0.734], axis=1)
    centre = places + np.stack([0 * scales, 0.39 * scales], axis=1)
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    points[np.arange(len(points)) % step != 0] = np.nan
    seen = list(range(0, len(places), step))
    return track(number, "face", first, [tuple(box) for box in boxes], seen, points.astype(np.float32))


def body(places: np.ndarray, scales: Sequence[float] | np.ndarray, *, number: int = 2, first: int = 0) -> Track:
    """The box of a body with a head there, of a build of its own: a little taller than usual."""
    scales = np.asarray(scales, dtype=np.float64)
    tall, top = scales / 0.035, places[:, 1] - 2.0 * scales
    left = places[:, 0] - 4 * scales + 0.5 * scales
    boxes = np.stack([left, top, left + 8 * scales, top + tall], axis=1)
    return track(number, "body", first, [tuple(box) for box in boxes])


def line(n: int = N, speed: tuple[float, float] = (2.5, 0.5)) -> np.ndarray:
    return np.array([60.0, 80.0]) + np.arange(n)[:, None] * np.array(speed)


def poses(*tracks: Track, height: int = 10_000) -> PoseTrack:
    return head_poses(Person(1, tracks), TIMES, height)


@settings(max_examples=25)
@given(st.floats(-6, 6), st.floats(-3, 3), st.sampled_from([1, 2, 3]))
def test_linear_motion_stays_itself_also_between_detections(right: float, down: float, step: int) -> None:
    places = line(37, (right, down))
    got = poses(face(places, np.full(37, 20.0), step=step))
    np.testing.assert_allclose(got.numbers[:, :2], places, atol=0.02)
    np.testing.assert_allclose(got.numbers[:, 2], 20, atol=0.05)
    np.testing.assert_allclose(got.numbers[:, 3:], 0, atol=0.1)
    assert got.is_seen.all()


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_jitter_of_landmarks_shrinks(seed: int) -> None:
    places = line()
    one = face(places, np.full(N, 20.0))
    assert one.landmarks is not None
    noise = np.random.default_rng(seed).normal(0, 0.6, one.landmarks.shape).astype(np.float32)
    got = poses(Track(1, "face", one.frames, one.boxes, one.scores, one.landmarks + noise))
    each = np.stack(
        [
            poses(
                Track(1, "face", one.frames[:1], one.boxes[:1], one.scores[:1], (one.landmarks + noise)[at][None])
            ).numbers[0, :3]
            for at in range(N)
        ]
    )
    truth = np.concatenate([places, np.full((N, 1), 20.0)], axis=1)
    assert np.square(got.numbers[:, :3] - truth).sum() < 0.6 * np.square(each - truth).sum()
    jumps = np.abs(np.diff(got.numbers[:, :3], 2, axis=0)).mean()
    assert jumps < 0.4 * np.abs(np.diff(each, 2, axis=0)).mean()


@pytest.mark.parametrize("at", [0, 1, 7, 20, N - 2, N - 1])
@pytest.mark.parametrize("point", [None, 2])
def test_a_single_wild_detection_moves_nothing(at: int, point: int | None) -> None:
    """All landmarks of a frame at a wrong place, or the nose alone: by less than a twentieth of the scale."""
    places = line()
    one = face(places, np.full(N, 20.0))
    assert one.landmarks is not None
    wild = one.landmarks.copy()
    wild[at, slice(None) if point is None else point] += [45, -30]
    got = poses(Track(1, "face", one.frames, one.boxes, one.scores, wild))
    np.testing.assert_allclose(got.numbers[:, :2], places, atol=1.0)
    np.testing.assert_allclose(got.numbers[:, 2], 20, atol=1.0)
    np.testing.assert_allclose(got.numbers[:, 3:], 0, atol=3)


def test_a_face_without_landmarks_is_placed_by_its_box() -> None:
    places = line()
    one = face(places, np.full(N, 20.0))
    got = poses(Track(1, "face", one.frames, one.boxes, one.scores))
    np.testing.assert_allclose(got.numbers[:, :2], places, atol=0.5)
    np.testing.assert_allclose(got.numbers[:, 2], 20, rtol=0.03)
    np.testing.assert_allclose(got.numbers[:, 4], 0)


def test_before_and_after_the_landmarks_the_box_carries_the_pose_along() -> None:
    places = line(60)
    one = face(places, np.full(60, 20.0))
    assert one.landmarks is not None
    some = one.landmarks.copy()
    some[:20] = some[45:] = np.nan
    got = poses(Track(1, "face", one.frames, one.boxes, one.scores, some))
    np.testing.assert_allclose(got.numbers[:, :2], places, atol=0.3)


def test_a_body_without_a_face_has_a_head_seen_from_behind() -> None:
    got = poses(standing(1, "body", 100, 50, 60, 180))
    x, y, scale, roll, yaw = got.numbers[5]
    assert x == pytest.approx(130)
    assert 50 + 8 < y < 50 + 18  # 180 px stand for 1.75 m: the eyes are some 11 cm below the top
    assert 6 < scale < 8
    assert (roll, yaw) == (0, 180)
    assert not got.is_seen.any()
    assert got.at(99) is None


def test_a_body_cut_by_the_frame_has_a_head_as_large_as_its_shoulders_say() -> None:
    whole = poses(standing(1, "body", 100, 50, 150, 430), height=10_000).numbers[0, 2]
    cut = poses(standing(1, "body", 100, 330, 150, 150), height=480).numbers[0, 2]
    assert cut == pytest.approx(whole, rel=0.35)


def test_head_and_size_stay_the_same_where_a_persons_face_is_lost() -> None:
    """A face, then the body alone, then a face: nothing jumps, while the person walks and comes nearer."""
    n = 120
    places, scales = line(n, (1.5, 0.2)), np.linspace(14, 22, n)
    first, last = face(places[:40], scales[:40]), face(places[90:], scales[90:], number=3, first=90)
    got = poses(first, body(places, scales), last)
    np.testing.assert_allclose(got.numbers[:, :2], places, atol=0.8)
    np.testing.assert_allclose(got.numbers[:, 2], scales, rtol=0.03)
    assert got.is_seen.tolist() == [True] * 40 + [False] * 50 + [True] * 30
    assert set(got.numbers[54:77, 4]) == {180.0}
    assert np.abs(got.numbers[:40, 4]).max() < 1


def test_a_short_time_without_a_face_is_bridged() -> None:
    places = line(60)
    first, last = face(places[:25], np.full(25, 20.0)), face(places[40:], np.full(20, 20.0), number=3, first=40)
    got = poses(first, body(places, np.full(60, 20.0)), last)
    np.testing.assert_allclose(got.numbers[:, 4], 0, atol=0.5)
    assert not got.is_seen[25:40].any()


def turning(yaws: np.ndarray) -> Track:
    """A face that turns: its eyes and mouth come together, its nose leaves the middle."""
    a = np.radians(yaws)[:, None]
    x = np.array([-9.6, 9.6, 0, -8.16, 8.16]) * np.cos(a) + np.array([0, 0, 7.6, 0, 0]) * np.sin(a)
    points = np.stack([x, np.tile([0, 0, 11.3, 20, 20], (len(yaws), 1))], axis=2) + 100
    boxes = [(80.0, 80.0, 120.0, 135.0)] * len(yaws)
    return track(1, "face", 0, boxes, landmarks=points.astype(np.float32))


def test_a_turning_head_is_followed() -> None:
    yaws = 45 * np.sin(np.arange(100) / 100 * 2 * np.pi)
    got = poses(turning(yaws)).numbers[:, 4]
    apart = np.abs(np.abs(yaws) - VIEW_EDGES[0]) > 8  # near an edge a view is held
    assert np.abs(got - yaws)[apart].max() < 6


@pytest.mark.parametrize("edge", VIEW_EDGES[:1])
def test_a_head_that_hesitates_at_the_edge_of_a_view_keeps_it(edge: float) -> None:
    yaws = edge + 3 * np.sin(np.arange(100) * 0.4)
    got = poses(turning(yaws)).numbers[:, 4]
    assert (got < edge).all() or (got > edge).all()


def test_no_head_rests_between_two_views() -> None:
    yaws = np.interp(np.arange(200), [0, 80, 120, 200], [0, VIEW_EDGES[0], VIEW_EDGES[0] + 1, 40])
    got = poses(turning(yaws)).numbers[:, 4]
    assert (np.abs(got - VIEW_EDGES[0]) < 4).sum() <= 3
    assert got[-20:].mean() == pytest.approx(38, abs=3)


def test_broken_times_do_no_harm() -> None:
    one = face(line(), np.full(N, 20.0))
    got = head_poses(Person(1, (one,)), np.zeros(400), HEIGHT)
    np.testing.assert_allclose(got.numbers[:, :2], line(), atol=0.05)


def outlined(track: Track, places: np.ndarray, scales: np.ndarray, rows: Sequence[int]) -> Track:
    """The body with the heads that its outline shows in some rows."""
    heads = np.full((len(track.frames), 4), np.nan, dtype=np.float32)
    up, down, half = HEAD_UP * scales, HEAD_DOWN * scales, scales
    x, y = places.T
    heads[list(rows)] = np.stack([x - half, y - up, x + half, y + down], axis=1)[list(rows)]
    return replace(track, heads=heads)


@settings(max_examples=20)
@given(st.floats(-8, 8), st.floats(-1, 3), st.floats(0.7, 1.4), st.sampled_from([1, 2, 3]))
def test_the_head_in_the_outline_of_a_body_is_followed(right: float, down: float, size: float, step: int) -> None:
    """Wherever it is in the box, and between the frames in which it was seen; with a wild one in the middle."""
    places = line()
    upright = body(places, np.full(N, 20.0))
    there, scales = places + np.array([right, down]), np.full(N, 20.0 * size)
    one = outlined(upright, there, scales, range(0, N, step))
    assert one.heads is not None
    one.scores[np.arange(N) % step != 0] = np.nan
    one.heads[18] = one.heads[18] + 60 if step < 3 else one.heads[18]
    got = poses(one)
    np.testing.assert_allclose(got.numbers[:, :2], there, atol=0.6)
    np.testing.assert_allclose(got.numbers[:, 2], scales, rtol=0.02)
    assert got.is_placed.all()
    assert not got.is_seen.any()


def test_jitter_of_sizes_shrinks_more_than_that_of_places() -> None:
    """A mouth that opens and closes moves the box of a face, and no head grows with it."""
    places = line(100)
    noise = np.exp(0.08 * np.random.default_rng(3).normal(size=100))
    got = poses(face(places, 20 * noise)).numbers[:, 2]
    assert np.log(got).std() < 0.3 * np.log(noise).std()


def test_a_single_face_on_a_person_seen_from_behind_turns_no_head() -> None:
    places = line(60)
    behind = body(places, np.full(60, 20.0))
    lone = face(places[28:33], np.full(5, 14.0), first=28, step=4)
    lone.scores[:] = np.nan
    lone.scores[2] = 0.45
    got = poses(lone, behind)
    assert set(got.numbers[:, 4]) == {180.0}
    assert not got.is_seen.any()
    np.testing.assert_allclose(got.numbers, poses(behind).numbers)


def test_faces_of_other_tools_come_without_scores_and_are_believed() -> None:
    places = line()
    one, behind = face(places, np.full(N, 20.0)), body(places, np.full(N, 20.0))
    for each in (one, behind):
        each.scores[:] = np.nan
    for tracks in ((one,), (one, behind)):
        got = poses(*tracks)
        assert got.is_seen.all()
        np.testing.assert_allclose(got.numbers[:, 4], 0, atol=1)


def test_a_body_that_the_frame_cuts_off_above_has_no_head_in_it() -> None:
    boxes = [(100.0, -4.0, 190.0, 300.0)] * N
    cut = track(1, "body", 0, boxes)
    got = poses(cut)
    assert not got.is_placed.any()
    assert got.placed_at(5) is None
    assert got.at(5) is not None  # for masks
    # Unless its outline shows one, or a face was seen there.
    places, scales = np.full((N, 2), [140.0, 24.0]), np.full(N, 12.0)
    assert poses(outlined(cut, places, scales, range(N))).is_placed.all()
    assert poses(cut, face(places, scales, number=3)).is_placed.all()


@pytest.mark.parametrize(
    ("wide", "tall", "is_placed"),
    [(60, 180, True), (50, 56, True), (90, 50, False), (150, 170, False), (200, 120, False)],
)
def test_a_body_that_lies_has_no_head_at_its_top(wide: float, tall: float, is_placed: bool) -> None:
    """Nor a large one that does not stand and shows none: its outline would."""
    got = poses(standing(1, "body", 100, 50, wide, tall))
    assert got.is_placed.all() == got.is_placed.any() == is_placed


@pytest.mark.parametrize(
    ("box", "n_shown"),
    [((1, 1126, 825, 784), 0), ((967, 665, 116, 168), 1), ((1107, 1648, 494, 275), 6)],
    ids=["an arm that the frame cuts off", "a vase with flowers", "a napkin"],
)
def test_what_shows_no_head_over_shoulders_gets_none(box: tuple[float, float, float, float], n_shown: int) -> None:
    x, y, wide, tall = box
    thing = standing(1, "body", x, y, wide, tall, n=6)
    places, scales = np.full((6, 2), [x + wide / 2, y + 0.2 * tall]), np.full(6, 0.1 * tall)
    got = poses(outlined(thing, places, scales, range(n_shown)), height=1920)
    assert not got.is_placed.any()
    assert got.at(5) is not None  # its mask stays
    seen = poses(thing, face(places, scales, number=2), height=1920)
    assert seen.is_placed.all()


def test_somebody_upside_down_gets_no_head_at_the_feet() -> None:
    """What the outline shows is now a foot, now a knee: nowhere twice. One of them would do, were it always there."""
    n = 60
    places, scales = line(n), np.full(n, 20.0)
    wandering = places + np.random.default_rng(4).uniform(-60, 60, (n, 2)) + [0, 60]
    upside_down = body(places, scales)
    assert not poses(outlined(upside_down, wandering, scales, range(0, n, 2))).is_placed.any()
    assert poses(outlined(upside_down, places, scales, range(0, n, 2))).is_placed.all()


def test_hair_makes_the_mask_larger_and_not_the_head() -> None:
    places, scales = line(), np.full(N, 20.0)
    one = outlined(body(places, scales), places, scales, range(N))
    assert one.heads is not None
    plain, usual = poses(one), HEAD_HALF * 20
    one.heads[:, 0], one.heads[:, 2] = places[:, 0] - 1.4 * usual, places[:, 0] + 1.4 * usual
    got = poses(one)
    np.testing.assert_allclose(got.numbers, plain.numbers)
    mask, head = got.at(7), got.placed_at(7)
    assert mask is not None
    assert head is not None
    assert mask.scale == pytest.approx(1.4 * head.scale, rel=1e-3)
    seen = poses(one, face(places, scales, number=3))  # a face says how large the head is
    assert seen.at(7) == seen.placed_at(7)


def test_where_the_outline_usually_shows_a_head_a_long_time_without_one_counts() -> None:
    """Somebody who stands on a hand: the box is that of a body that stands, and at its top are the feet."""
    n = 100
    places, scales = line(n), np.full(n, 20.0)
    got = poses(outlined(body(places, scales), places, scales, range(60)))
    assert got.is_placed[:72].all()
    assert not got.is_placed[73:].any()
    assert not poses(outlined(body(places, scales), places, scales, range(10))).is_placed.any()
    small = scales / 8  # a box has to do
    assert poses(outlined(body(places, small), places, small, range(10))).is_placed.all()


@pytest.mark.parametrize(
    ("usual", "best", "is_placed"),
    [(0.3, 0.45, False), (0.45, 0.6, False), (0.55, 0.6, True), (np.nan, np.nan, True)],
)
def test_what_is_hardly_a_body_gets_no_head(usual: float, best: float, is_placed: bool) -> None:
    """Unless a face is seen there; tracks of other tools come without scores."""
    one = standing(1, "body", 100, 50, 60, 180)
    one.scores[:] = np.nan
    one.scores[::2] = usual
    one.scores[4] = best
    assert poses(one).is_placed.all() == poses(one).is_placed.any() == is_placed
    places = np.full((20, 2), [130.0, 62.0])
    assert poses(one, face(places, np.full(20, 7.0), number=2)).is_placed.all()


@pytest.mark.parametrize(("growth", "is_placed"), [(0.7, True), (-0.7, True), (1.6, False), (-1.6, False)])
def test_what_grows_faster_than_anybody_comes_near_gets_no_head(growth: float, is_placed: bool) -> None:
    scales = 12 * np.exp(growth * np.arange(N) / 25)
    assert (poses(body(line(), scales)).is_placed == is_placed).all()


def seen_in(one: Track, rows: Sequence[int]) -> Track:
    """The same track, detected in some rows only; in the others its box covers 60 px more to either side."""
    is_seen = np.isin(np.arange(len(one.frames)), rows)
    boxes = one.boxes + np.where(is_seen[:, None], 0, [-60, 0, 60, 0]).astype(np.float32)
    landmarks = None if one.landmarks is None else np.where(is_seen[:, None, None], one.landmarks, np.nan)
    return replace(one, boxes=boxes, scores=np.where(is_seen, 0.8, np.nan).astype(np.float32), landmarks=landmarks)


@pytest.mark.parametrize("rows", [range(0, N, 2), range(6, N - 6, 4), [4, 20, 21, 22]])
@pytest.mark.parametrize("has_body", [False, True])
def test_a_head_is_as_large_as_it_was_seen_however_wide_a_box_covers_its_places(
    rows: Sequence[int], has_body: bool
) -> None:
    """As the boxes of a track are where the camera turns: of the width of the turn."""
    places, scales = line(), np.full(N, 10.0)
    alone, always = (poses(seen_in(body(places, scales), some)) for some in (rows, range(N)))
    np.testing.assert_allclose(alone.numbers[:, 2], always.numbers[:, 2], rtol=0.02)
    bodies = (seen_in(body(places, scales), rows),) if has_body else ()
    got = poses(seen_in(face(places, scales), rows), *bodies)
    np.testing.assert_allclose(got.numbers[:, 2], 10, rtol=0.05)
    np.testing.assert_allclose(got.numbers[:, :2], places, atol=1.0)  # also before the first and after the last one


@settings(max_examples=20)
@given(st.floats(0.3, 3.0), st.integers(20, 35))
def test_a_head_that_was_seen_grows_no_faster_than_a_person_comes_near(ratio: float, n_seen: int) -> None:
    """Legs come into view, or another person into the box: the box of the body changes, the head does not."""
    places, scales = line(80), np.full(80, 20.0)
    whole = body(places, scales)
    boxes = whole.boxes.copy()
    boxes[40:] = body(places, scales * ratio).boxes[40:]
    one = face(places[:n_seen], scales[:n_seen])
    sizes = poses(replace(whole, boxes=boxes), one).numbers[:, 2]
    away = np.maximum(np.arange(80) - (n_seen - 1), 0) / 25
    assert (np.abs(np.log(sizes / 20)) <= 0.5 * away + 0.25).all()  # smoothing begins before the change


@settings(max_examples=20)
@given(st.floats(-400, 400).filter(lambda away: abs(away) > 120))
def test_the_face_of_another_person_takes_no_head_out_of_its_body(away: float) -> None:
    """One face was linked to the wrong body: the other frames have the head of the body."""
    own = body(np.full((N, 2), [500.0, 80.0]), np.full(N, 14.0))
    other = face(np.full((20, 2), [500.0 + away, 80.0]), np.full(20, 14.0))
    without, got = poses(own), poses(own, other)
    np.testing.assert_allclose(got.numbers[21:, :2], without.numbers[21:, :2], atol=1)


def test_no_double_stands_beside_the_body_of_a_track_that_was_carried_back() -> None:
    """The person moved fast when first seen, at frame 10, and the boxes before stand still: where the head is carried
    to is beside them."""
    places = line(N, (12.0, 0.0))
    moving = body(places, np.full(N, 12.0))
    boxes, is_seen = moving.boxes.copy(), np.arange(N) >= 10
    boxes[:10] = boxes[10]
    got = poses(replace(moving, boxes=boxes, scores=np.where(is_seen, 0.8, np.nan).astype(np.float32)))
    x0, x1 = boxes[:, 0], boxes[:, 2]
    is_beside = (got.numbers[:, 0] < x0 - 12) | (got.numbers[:, 0] > x1 + 12)
    assert is_beside.any()
    assert not got.is_placed[is_beside].any()
    assert got.is_placed[12:].all()
