"""Poses from landmarks, against a head in three dimensions that is turned, tilted and seen through a camera."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.contracts import HeadPose
from pa_lib.functional.head_pose import head_ellipse, pose_of_landmarks, poses_of_landmarks

# Eyes, tip of the nose, corners of the mouth in mm: x to the right of the picture, y down, z away from the camera. Not
# the mean head that the closed form goes by: narrower eyes, corners of the mouth that lie a little behind them.
HEAD_MM = np.array([[-30.5, 0, 0], [30.5, 0, 0], [0, 39, -26], [-26, 67, 3], [26, 67, 3]], dtype=np.float64)
SCALE_MM = 67.0


def rotation(yaw: float, pitch: float, roll: float, *, is_pitched_first: bool = False) -> np.ndarray:
    """By the textbook: about y so that the nose goes right, about x so that it goes down, about z clockwise."""
    a, b, c = np.radians([yaw, pitch, roll])
    turn = np.array([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])
    nod = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    tilt = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return tilt @ turn @ nod if is_pitched_first else tilt @ nod @ turn


def seen(turn: np.ndarray, distance_mm: float = 900.0, focal_px: float = 1200.0) -> np.ndarray:
    """The five points in a pinhole camera's picture, in px."""
    points = HEAD_MM @ turn.T + [0, 0, distance_mm]
    return points[:, :2] / points[:, 2:] * focal_px + 500


def test_a_nose_that_points_right_and_a_head_that_tilts_clockwise_are_positive() -> None:
    right = seen(rotation(30, 0, 0))
    assert right[2, 0] > right[[0, 1], 0].mean()
    assert pose_of_landmarks(right).yaw > 20
    tilted = seen(rotation(0, 0, 20))
    assert tilted[1, 1] > tilted[0, 1]  # clockwise: the eye on the right sinks
    assert pose_of_landmarks(tilted).roll == pytest.approx(20, abs=0.5)


@given(
    st.floats(-50, 50),
    st.floats(-15, 15),
    st.floats(-35, 35),
    st.booleans(),
)
def test_the_pose_of_a_rendered_head_is_found(yaw: float, pitch: float, roll: float, is_pitched_first: bool) -> None:
    pose = pose_of_landmarks(seen(rotation(yaw, pitch, roll, is_pitched_first=is_pitched_first)))
    scale = SCALE_MM / 900 * 1200
    assert pose.yaw == pytest.approx(yaw, abs=6.5)
    # A head that is turned and nods has eyes and a nose line that are not at right angles: either is its roll.
    skew = math.degrees(abs(math.sin(math.radians(yaw)) * math.sin(math.radians(pitch))))
    assert pose.roll == pytest.approx(roll, abs=3.5 + skew)
    assert pose.scale == pytest.approx(scale, rel=0.1)
    middle = seen(rotation(yaw, pitch, roll, is_pitched_first=is_pitched_first))[:2].mean(0)
    assert math.dist((pose.x, pose.y), middle) < 0.1 * scale


@pytest.mark.parametrize("yaw", [-50.0, -25.0, 0.0, 25.0, 50.0])
def test_turning_does_not_shrink_a_head(yaw: float) -> None:
    front = pose_of_landmarks(seen(rotation(0, 0, 0)))
    # The eyes of this head are 5 % nearer to each other than those of the mean one, and turned away they count less.
    assert pose_of_landmarks(seen(rotation(yaw, 0, 0))).scale == pytest.approx(front.scale, rel=0.08)


@pytest.mark.parametrize("yaw", [0.0, 12.0, 25.0])
@pytest.mark.parametrize("opened_mm", [10.0, 20.0])
def test_a_mouth_that_opens_moves_neither_head_nor_size(yaw: float, opened_mm: float) -> None:
    """Corners of the mouth sink by up to a third of the scale: a quarter of that at most is left where it is turned."""
    turn = rotation(yaw, 0, 0)
    closed, opened = seen(turn), seen(turn)
    opened[3:, 1] += opened_mm / 900 * 1200
    before, after = pose_of_landmarks(closed), pose_of_landmarks(opened)
    assert after.scale == pytest.approx(before.scale, rel=0.25 * opened_mm / SCALE_MM * (yaw > 0) + 1e-9)
    assert (after.x, after.y) == pytest.approx((before.x, before.y))


def test_nodding_does_not_turn_a_head() -> None:
    yaws = [pose_of_landmarks(seen(rotation(20, pitch, 0))).yaw for pitch in (-20, 0, 20)]
    assert np.ptp(yaws) < 2.5


@given(st.floats(-200, 200), st.floats(0.05, 20), st.floats(-90, 90))
def test_the_pose_moves_grows_and_tilts_with_the_picture(shift: float, growth: float, tilt: float) -> None:
    points = seen(rotation(25, 5, 0))
    before = pose_of_landmarks(points)
    a = math.radians(tilt)
    around = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    after = pose_of_landmarks(growth * points @ around.T + shift)
    np.testing.assert_allclose([after.x, after.y], growth * around @ [before.x, before.y] + shift, rtol=1e-4, atol=1e-3)
    assert after.scale == pytest.approx(growth * before.scale, rel=1e-4)
    assert after.yaw == pytest.approx(before.yaw, abs=1e-3)
    assert math.remainder(after.roll - before.roll - tilt, 360) == pytest.approx(0, abs=1e-3)


def test_unknown_landmarks_have_no_pose() -> None:
    faces = np.stack([seen(rotation(0, 0, 0)), np.full((5, 2), np.nan)])
    assert np.isfinite(poses_of_landmarks(faces)).all(1).tolist() == [True, False]


@pytest.mark.parametrize("yaw", [-90.0, -60.0, -30.0, 0.0, 30.0, 60.0, 90.0, 180.0])
def test_the_ellipse_holds_a_skull(yaw: float) -> None:
    """Points of a head in mm around the middle of the eyes: top, back, ears, chin, nape, forehead."""
    skull = np.array(
        [[0, -115, 80], [0, 0, 175], [-78, 10, 95], [78, 10, 95], [0, 112, 5], [0, 120, 130], [0, -60, 0], [0, 39, -26]]
    )
    placed = skull @ rotation(yaw, 0, 0).T
    # Seen from behind the pose's place is in the middle of the head.
    eyes = np.zeros(2)
    x, y, across, along, _ = head_ellipse(HeadPose(*eyes, SCALE_MM, 0.0, yaw))
    offset = (placed[:, 0] - x) / across, (placed[:, 1] - y) / along
    assert (np.hypot(*offset) < 1).all()


def test_the_ellipse_tilts_about_the_eyes() -> None:
    x, y, *_, tilt = head_ellipse(HeadPose(10, 20, 30, 90.0, 0.0))
    assert (x, y, tilt) == (pytest.approx(10 - 30 * 0.05), pytest.approx(20), 90.0)
