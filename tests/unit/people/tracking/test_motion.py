import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.people.tracking.motion import (
    FIRST_SPEED,
    POSITION_AGILITY,
    POSITION_NOISE,
    Motion,
    buffered_iou,
    to_centre_size,
    to_corners,
)


def box(x: float, y: float, w: float = 40.0, h: float = 40.0) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def kalman_by_matrices(observations: list[tuple[float, float]], side: float) -> tuple[np.ndarray, np.ndarray]:
    """The textbook filter for one coordinate with 2 x 2 matrices: (time, place) pairs to state and covariance."""
    noise = (POSITION_NOISE * side) ** 2
    density = (POSITION_AGILITY * side) ** 2
    state = np.array([observations[0][1], 0.0])
    covariance = np.diag([noise, (FIRST_SPEED * side) ** 2])
    look = np.array([[1.0, 0.0]])
    for (before, _), (now, place) in itertools.pairwise(observations):
        dt = now - before
        move = np.array([[1.0, dt], [0.0, 1.0]])
        state = move @ state
        covariance = move @ covariance @ move.T + density * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        gain = covariance @ look.T @ np.linalg.inv(look @ covariance @ look.T + noise)
        state = state + gain @ (np.array([place]) - look @ state)
        covariance = (np.eye(2) - gain @ look) @ covariance
    return state, covariance


@given(
    st.lists(st.tuples(st.floats(0.02, 1.0), st.floats(-300, 300)), min_size=1, max_size=8),
)
def test_equals_the_filter_written_with_matrices(steps: list[tuple[float, float]]) -> None:
    times = np.concatenate([[0.0], np.cumsum([dt for dt, _ in steps])])
    places = [100.0, *(place for _, place in steps)]
    motion = Motion.start(np.array([box(places[0], 50)]))
    for i, place in enumerate(places[1:], start=1):
        motion = motion.predicted(times[i] - times[i - 1]).corrected(np.array([box(place, 50)]))
    state, covariance = kalman_by_matrices(list(zip(times, places, strict=True)), side=40.0)
    # The size is 40 px all along, so the coordinate behaves as one filter of fixed noise.
    assert motion.place[0, 0] == pytest.approx(state[0], abs=1e-6)
    assert motion.speed[0, 0] == pytest.approx(state[1], abs=1e-5)
    assert motion.variance[0, 0] == pytest.approx(covariance[0, 0], rel=1e-6)
    assert motion.covariance[0, 0] == pytest.approx(covariance[0, 1], rel=1e-6, abs=1e-9)
    assert motion.speed_variance[0, 0] == pytest.approx(covariance[1, 1], rel=1e-6)


@given(st.floats(0.01, 2.0), st.floats(0.05, 0.95))
def test_a_second_at_once_is_a_second_in_two_parts(dt: float, share: float) -> None:
    start = Motion.start(np.array([box(10, 20)]), np.array([30.0, -5.0]))
    whole, parts = start.predicted(dt), start.predicted(dt * share).predicted(dt * (1 - share))
    for name in ("place", "speed", "variance", "covariance", "speed_variance"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), rtol=1e-9)


def test_learns_a_steady_speed() -> None:
    motion = Motion.start(np.array([box(0, 0)]))
    for step in range(1, 40):
        motion = motion.predicted(0.04).corrected(np.array([box(4.0 * step, -2.0 * step)]))
    np.testing.assert_allclose(motion.speed[0, :2], [100, -50], rtol=0.02)
    np.testing.assert_allclose(motion.predicted(0.4).place[0, :2], [4.0 * 49, -2.0 * 49], rtol=0.02)


def test_doubt_grows_while_nobody_looks() -> None:
    motion = Motion.start(np.array([box(0, 0)]))
    doubts = [motion.predicted(dt).doubt()[0] for dt in (0.0, 0.1, 0.5)]
    assert doubts[0] == pytest.approx(POSITION_NOISE)
    assert doubts[0] < doubts[1] < doubts[2]


def test_corners_and_centres_are_inverse() -> None:
    boxes = np.array([[1.0, 2.0, 31.0, 12.0], [-5.0, -7.0, 5.0, 70.0]])
    np.testing.assert_allclose(to_corners(to_centre_size(boxes)), boxes)


def test_overlap_without_buffer_is_the_usual_one() -> None:
    one, two = np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    np.testing.assert_allclose(buffered_iou(one, two, np.zeros(1)), [[1 / 3, 0]])


def test_buffer_lets_near_boxes_meet() -> None:
    one, two = np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[3.0, 0.0, 5.0, 2.0]])
    # Grown by half their side all around: x from -1 to 3 and 2 to 6, 4 px tall: 4 shared of 28.
    np.testing.assert_allclose(buffered_iou(one, two, np.array([0.5])), [[4 / 28]])
