from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.contracts import Detection, Track
from pa_lib.errors import PaLibError
from pa_lib.people import Findings, KalmanTracker

W, H = 1000, 800


def seen(x: float, y: float, side: float = 40.0, score: float = 0.8, kind: str = "face", landmarks=None) -> Detection:
    return Detection(kind, (x, y, x + side, y + side), score, landmarks)  # type: ignore[arg-type]


def found(detections: dict[int, list[Detection]], n_frames: int, fps: float = 25.0, cuts: tuple[int, ...] = ()):
    return Findings({f: tuple(d) for f, d in detections.items()}, {}, cuts, n_frames, np.arange(n_frames) / fps)


def run(detections: dict[int, list[Detection]], n_frames: int, cuts: tuple[int, ...] = (), **options) -> list[Track]:
    return KalmanTracker(**options).track(found(detections, n_frames, cuts=cuts), W, H)


def inside(detection: Detection, track: Track) -> bool:
    row = track.row(frame_of[id(detection)])
    if row is None:
        return False
    box = track.boxes[row]
    return bool(
        (box[:2] <= np.array(detection.box[:2]) + 1e-3).all() and (box[2:] >= np.array(detection.box[2:]) - 1e-3).all()
    )


frame_of: dict[int, int] = {}


@st.composite
def walks(draw: st.DrawFn) -> tuple[dict[int, list[Detection]], int]:
    """A few faces that walk straight through the middle of the frame, missed now and then, on a stride."""
    stride = draw(st.integers(1, 4))
    n_frames = draw(st.integers(2, 40))
    people = draw(
        st.lists(
            st.tuples(
                st.integers(100, 800),
                st.integers(100, 600),
                st.integers(-4, 4),
                st.integers(-4, 4),
                st.integers(16, 60),
            ),
            min_size=1,
            max_size=4,
        )
    )
    searched = sorted({*range(0, n_frames, stride), n_frames - 1})
    detections: dict[int, list[Detection]] = {f: [] for f in searched}
    for x, y, dx, dy, side in people:
        for f in searched:
            if draw(st.integers(0, 3)):
                score = draw(st.sampled_from([0.25, 0.5, 0.75]))
                detections[f].append(seen(x + dx * f, y + dy * f, side, score))
    return detections, n_frames


@settings(max_examples=60, deadline=None)
@given(walks())
def test_tracks_have_no_gaps_and_cover_all_sure_detections(walk: tuple[dict[int, list[Detection]], int]) -> None:
    detections, n_frames = walk
    tracks = run(detections, n_frames)
    for number, track in enumerate(tracks, start=1):
        assert track.track_id == number
        assert (np.diff(track.frames) == 1).all()
        assert track.frames[0] >= 0
        assert track.frames[-1] < n_frames
        assert track.boxes.dtype == np.float32
        assert len(track.boxes) == len(track.scores) == len(track.frames)
        assert (track.boxes[:, 2:] > track.boxes[:, :2]).all()
    for frame, here in detections.items():
        for detection in here:
            if detection.score >= 0.4:
                frame_of[id(detection)] = frame
                assert any(inside(detection, track) for track in tracks)


@settings(max_examples=40, deadline=None)
@given(walks(), st.randoms(use_true_random=False))
def test_the_order_of_detections_changes_nothing(walk: tuple[dict[int, list[Detection]], int], random) -> None:
    detections, n_frames = walk
    shuffled = {f: random.sample(here, len(here)) for f, here in detections.items()}
    for one, two in zip(run(detections, n_frames), run(shuffled, n_frames), strict=True):
        np.testing.assert_array_equal(one.frames, two.frames)
        np.testing.assert_array_equal(one.boxes, two.boxes)
        np.testing.assert_array_equal(one.scores, two.scores)


@settings(max_examples=40, deadline=None)
@given(walks(), st.integers(-3, 3), st.integers(-3, 3))
def test_moving_everything_moves_the_tracks(
    walk: tuple[dict[int, list[Detection]], int], right: int, down: int
) -> None:
    detections, n_frames = walk
    shift = np.array([64 * right, 64 * down, 64 * right, 64 * down], dtype=np.float64)
    moved = {
        f: [Detection(d.kind, tuple(np.array(d.box) + shift), d.score) for d in here]  # type: ignore[arg-type]
        for f, here in detections.items()
    }
    tracker = KalmanTracker(border_px=0)
    # A frame so large that no box comes near its border, whichever way it is moved.
    offset = 2000.0
    far = {f: [Detection(d.kind, tuple(np.array(d.box) + offset), d.score) for d in h] for f, h in detections.items()}
    far_moved = {f: [Detection(d.kind, tuple(np.array(d.box) + offset), d.score) for d in h] for f, h in moved.items()}
    one = tracker.track(found(far, n_frames), 9000, 9000)  # type: ignore[arg-type]
    two = tracker.track(found(far_moved, n_frames), 9000, 9000)  # type: ignore[arg-type]
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)
        np.testing.assert_allclose(a.boxes + shift, b.boxes, atol=0.01)


def test_between_frames_10_and_14_the_box_lies_between() -> None:
    detections: dict[int, list[Detection]] = {f: [] for f in range(30)}
    detections[10], detections[14] = [seen(100, 200)], [seen(120, 204)]
    (track,) = run(detections, 30, growth_per_s=0)
    for frame in (11, 12, 13):
        row = track.row(frame)
        assert row is not None
        assert np.isnan(track.scores[row])
        x = 100 + 5 * (frame - 10)
        np.testing.assert_allclose(track.boxes[row], [x, 200 + frame - 10, x + 40, 240 + frame - 10])


def test_filled_boxes_grow_with_the_distance_from_the_nearest_detection() -> None:
    detections: dict[int, list[Detection]] = {f: [] for f in range(40)}
    detections[10], detections[20] = [seen(100, 200)], [seen(100, 200)]
    (track,) = run(detections, 40, growth_per_s=0.5)
    row = track.row(15)
    assert row is not None
    # 5 frames at 25 per second are 0.2 s: a tenth larger, half of it on each side of 40 px.
    np.testing.assert_allclose(track.boxes[row], [98, 198, 142, 242], rtol=1e-5)


def test_the_margin_reaches_the_neighbouring_searched_frames() -> None:
    detections: dict[int, list[Detection]] = {f: [] for f in range(0, 41, 10)}
    detections[20] = [seen(100, 200)]
    (track,) = run(detections, 41, margin_s=0.0, margin_frames=0)
    assert (track.frames[0], track.frames[-1]) == (11, 29)


def test_margins_in_frames_and_seconds() -> None:
    detections: dict[int, list[Detection]] = {f: [] for f in range(41)}
    detections[20] = [seen(100, 200)]
    (by_time,) = run(detections, 41, margin_s=0.2, margin_frames=0)
    assert (by_time.frames[0], by_time.frames[-1]) == (15, 25)
    (by_frames,) = run(detections, 41, margin_s=0.0, margin_frames=3)
    assert (by_frames.frames[0], by_frames.frames[-1]) == (17, 23)


def test_the_margin_covers_standing_still_and_going_on() -> None:
    detections: dict[int, list[Detection]] = {f: [] for f in range(41)}
    for frame in range(10, 21):
        detections[frame] = [seen(100 + 4 * (frame - 10), 200)]
    (track,) = run(detections, 41, growth_per_s=0)
    row = track.row(22)
    assert row is not None
    np.testing.assert_allclose(track.boxes[row], [140, 200, 188, 240], rtol=1e-5)


def test_a_single_sure_detection_is_a_track_and_a_weak_one_is_not() -> None:
    tracks = run({5: [seen(100, 100, score=0.41), seen(400, 400, score=0.39)]}, 10)
    assert len(tracks) == 1
    assert tracks[0].scores[tracks[0].row(5)] == pytest.approx(0.41)


def test_between_two_places_that_are_far_apart_a_box_covers_all_of_the_way() -> None:
    def between(step: float, gap: int) -> tuple[float, float]:
        """Left and right of the box halfway, from the left of the one before."""
        detections = {f * gap: [seen(100 + f * step, 200)] for f in range(8)}
        (track,) = run(detections, 7 * gap + 1, growth_per_s=0)
        left, right = track.boxes[3 * gap + gap // 2, [0, 2]].tolist()
        return left - (100 + 3 * step), right - (100 + 3 * step)

    assert between(24, 2) == pytest.approx((12, 52)), "0.6 of 40 px: where a straight line leads"
    assert between(32, 2) == pytest.approx((0, 72)), "0.8: may still be there, or be there already"
    assert between(32, 8) == pytest.approx((16, 56)), "0.3 s: too long to stand there"


@given(st.floats(0.361, 0.449), st.integers(1, 3), st.booleans())
def test_who_is_almost_sure_on_both_sides_of_frames_that_were_not_searched_is_covered(
    score: float, stride: int, is_alone: bool
) -> None:
    detections: dict[int, list[Detection]] = {f: [] for f in range(0, 31, stride)}
    detections[6] = [seen(300, 200, score=score)]
    if not is_alone:
        detections[6 + stride] = [seen(304, 200, score=min(score, 0.37))]
    tracks = run(detections, 31)
    assert bool(tracks) == (score >= 0.4 or (stride > 1 and not is_alone))
    if tracks and not is_alone:
        assert {6, 6 + stride // 2, 6 + stride} <= set(tracks[0].frames.tolist())


def test_weak_people_far_apart_or_far_weaker_are_not_almost_sure() -> None:
    assert not run({0: [seen(300, 200, score=0.39)], 2: [seen(320, 200, score=0.39)]}, 3)
    assert not run({0: [seen(300, 200, score=0.35)], 2: [seen(300, 200, score=0.39)]}, 3)


def test_weak_detections_extend_a_track() -> None:
    detections = {f: [seen(100, 100, score=0.8 if f < 10 else 0.25)] for f in range(20)}
    (track,) = run(detections, 20)
    assert np.isfinite(track.scores).all()


def test_nobody_is_followed_across_a_cut() -> None:
    detections = {f: [seen(100, 100)] for f in range(20)}
    tracks = run(detections, 20, cuts=(10,))
    assert [(int(t.frames[0]), int(t.frames[-1])) for t in tracks] == [(0, 9), (10, 19)]


def test_a_gap_longer_than_allowed_is_not_bridged() -> None:
    detections: dict[int, list[Detection]] = {f: [] for f in range(100)}
    detections[10], detections[70] = [seen(100, 100)], [seen(100, 100)]
    tracks = run(detections, 100, max_gap_s=2.0)
    assert len(tracks) == 2
    assert all(t.row(40) is None for t in tracks)
    assert len(run(detections, 100, max_gap_s=2.4)) == 1


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2.0, 300.0, 42.0, 340.0), (-4.0, 300.0, 42.0, 340.0)),
        ((957.0, 757.5, 998.5, 799.0), (957.0, 757.5, 1004.0, 804.0)),
        ((500.0, -30.0, 540.0, 10.0), (500.0, -30.0, 540.0, 10.0)),
    ],
)
def test_boxes_near_the_border_reach_over_it(box: tuple[float, ...], expected: tuple[float, ...]) -> None:
    (track,) = run({0: [Detection("face", box, 0.9)]}, 1)  # type: ignore[arg-type]
    np.testing.assert_allclose(track.boxes[0], expected)


def test_two_who_cross_keep_their_tracks() -> None:
    detections = {f: [seen(100 + 8 * f, 200), seen(500 - 8 * f, 230)] for f in range(50)}
    tracks = run(detections, 50)
    assert len(tracks) == 2
    right = next(t for t in tracks if t.boxes[0, 0] < 300)
    np.testing.assert_allclose(right.boxes[-1, :2], [100 + 8 * 49, 200])


def test_faces_and_bodies_are_followed_apart() -> None:
    tracks = run({f: [seen(100, 100), seen(100, 100, kind="body")] for f in range(5)}, 5)
    assert [t.kind for t in tracks] == ["face", "body"]


def test_halves_of_a_walk_behind_a_pillar_are_one_track() -> None:
    detections: dict[int, list[Detection]] = {f: [] for f in range(60)}
    for f in [*range(20), *range(45, 60)]:
        detections[f] = [seen(100 + 6 * f, 200)]
    (track,) = run(detections, 60)
    row = track.row(32)
    assert row is not None
    assert track.boxes[row, :2].mean() == pytest.approx((100 + 6 * 32 + 200) / 2, abs=8)


def test_newcomers_move_with_the_camera() -> None:
    """Small faces that shift by three of their sides from one searched frame to the next are told by the others."""
    detections: dict[int, list[Detection]] = {}
    for f in range(0, 30, 3):
        detections[f] = [seen(200 + 100 * i + 2 * f, 300, side=60) for i in range(4)]
    tracks = run(detections, 30)
    assert len(tracks) == 4


def test_landmarks_stay_where_they_were_seen() -> None:
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    (track,) = run({0: [seen(100, 100, landmarks=points)], 2: [seen(100, 100)]}, 3)
    assert track.landmarks is not None
    np.testing.assert_array_equal(track.landmarks[0], points)
    assert np.isnan(track.landmarks[1:]).all()


def test_heads_of_bodies_stay_where_they_were_seen_while_the_camera_moves() -> None:
    head = (110.0, 100.0, 130.0, 125.0)
    one = replace(seen(100, 100, kind="body"), head=head)
    other = seen(104, 102, kind="body")
    camera = np.array([[0.0, 0.0], [2.0, 1.0], [4.0, 2.0]])
    findings = Findings({0: (one,), 2: (other,)}, {}, (), 3, np.arange(3) / 25, camera)
    (track,) = KalmanTracker().track(findings, W, H)
    assert track.heads is not None
    np.testing.assert_allclose(track.heads[0], head)
    assert np.isnan(track.heads[1:]).all()
    moved = replace(other, head=(114.0, 102.0, 134.0, 127.0))
    (both,) = KalmanTracker().track(replace(findings, detections={0: (one,), 2: (moved,)}), W, H)
    assert both.heads is not None
    np.testing.assert_allclose(both.heads[2], moved.head, atol=1e-4)
    (none,) = KalmanTracker().track(replace(findings, detections={0: (other,)}), W, H)
    assert none.heads is None


def test_useless_times_are_replaced() -> None:
    findings = Findings({0: (seen(1, 1),), 4: (seen(1, 1),)}, {}, (), 5, np.zeros(5))
    (track,) = KalmanTracker().track(findings, W, H)
    assert len(track.frames) == 5


def test_nobody_found() -> None:
    assert run({0: [], 5: []}, 6) == []
    assert run({}, 0) == []


@pytest.mark.parametrize("box", [(0.0, 0.0, float("nan"), 5.0), (5.0, 0.0, 5.0, 5.0), (0.0, float("inf"), 5.0, 5.0)])
def test_impossible_boxes_are_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(PaLibError, match="frame 3: the finder gave a face box"):
        run({3: [Detection("face", box, 0.9)]}, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"max_gap_s": -1}, {"start_score": 1.5}, {"margin_s": float("nan")}])
def test_impossible_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(PaLibError, match=next(iter(options))):
        KalmanTracker(**options)  # type: ignore[arg-type]


def test_a_shared_clip_as_found_stays_linear() -> None:
    """Ten times the frames take about ten times as long, not a hundred."""
    from time import perf_counter

    def seconds(n_frames: int) -> float:
        detections = {f: [seen(100 + 100 * i + (f % 7), 300) for i in range(5)] for f in range(n_frames)}
        start = perf_counter()
        run(detections, n_frames)
        return perf_counter() - start

    seconds(50)
    assert seconds(1500) < 40 * max(seconds(150), 0.005)
