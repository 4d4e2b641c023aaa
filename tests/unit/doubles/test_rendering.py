"""Heads under poses: a made-up head whose place, size and turn can be read off again, to fractions of a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.contracts import HeadPose
from pa_lib.doubles.rendering import ResizedViews, footprint, pose_of_view, render, render_head
from pa_lib.errors import SettingError

SIDE, EYES, SCALE = 256, (120.0, 110.0), 50.0
FACE = np.array([[-0.48, 0], [0.48, 0], [0, 0.565], [-0.408, 1], [0.408, 1]]) * SCALE + EYES


@dataclass(eq=False)
class Picture:
    """A round, soft spot around the eyes, with one mark to its right; `red` tells views apart."""

    red: float = 0.5
    yaw: float = 0.0
    name: str = "front"
    landmarks: Any = field(default_factory=lambda: FACE.astype(np.float32))

    @property
    def alpha(self) -> np.ndarray:
        y, x = np.mgrid[:SIDE, :SIDE] + 0.5
        spots = [((x - EYES[0] - dx) ** 2 + (y - EYES[1]) ** 2) / (2 * s**2) for dx, s in ((0.0, 13.0), (70.0, 9.0))]
        return np.exp(-np.minimum(*spots)).astype(np.float32)

    @property
    def image(self) -> np.ndarray:
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        image[..., 0] = round(255 * self.red)
        image[:, 162:, 1] = 255  # the mark
        return image

    @property
    def entry(self) -> Any:
        return SimpleNamespace(yaw_degrees=self.yaw, view=self.name, eye_line=EYES, chin=(120.0, 110.0 + 1.82 * SCALE))


class Opaque(Picture):
    """A square as large as its picture, or with room around it."""

    def __init__(self, room: int = 0) -> None:
        super().__init__(landmarks=(FACE + room).astype(np.float32))
        self.room = room

    @property
    def alpha(self) -> np.ndarray:
        return np.pad(np.ones((SIDE, SIDE), np.float32), self.room)

    @property
    def image(self) -> np.ndarray:
        return np.full((SIDE + 2 * self.room, SIDE + 2 * self.room, 3), 255, np.uint8)


class Head:
    def __init__(self, *pictures: Picture) -> None:
        self.pictures = pictures
        self.entry = SimpleNamespace(views=[picture.entry for picture in pictures])

    def view(self, yaw: float = 0.0, expression: str = "neutral") -> Picture:
        return min(self.pictures, key=lambda picture: abs(picture.yaw - yaw))


def middle(plane: torch.Tensor, box: tuple[float, ...]) -> np.ndarray:
    """Centre of mass in px of the frame."""
    side = len(plane)
    at = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    x = box[0] + float((plane.double().sum(0) * at).sum() / plane.double().sum()) * (box[2] - box[0])
    y = box[1] + float((plane.double().sum(1) * at).sum() / plane.double().sum()) * (box[3] - box[1])
    return np.array([x, y])


def test_the_picture_itself_comes_back_where_nothing_changes() -> None:
    view = Picture()
    got = render(view, pose_of_view(view), (0.0, 0.0, SIDE, SIDE), SIDE)
    np.testing.assert_allclose(got[3].numpy(), view.alpha, atol=4e-3)
    np.testing.assert_allclose(got[0].numpy(), view.alpha * 128 / 255, atol=4e-3)


@settings(max_examples=20)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(4, 30), st.floats(-60, 60), st.sampled_from([48, 64, 97]))
def test_place_size_and_tilt_are_those_of_the_pose(
    right: float, down: float, scale: float, roll: float, side: int
) -> None:
    pose = HeadPose(300 + right, 200 + down, scale, roll)
    reach = 4.0 * scale
    box = (300 - reach, 200 - reach, 300 + reach, 200 + reach)
    got = render(Picture(), pose, box, side)
    px = 2 * reach / side  # of the frame in one of the result
    green = got[1]
    spot = got[3] - green
    np.testing.assert_allclose(middle(spot, box), [pose.x, pose.y], atol=0.15 * px)
    mark = middle(green, box) - [pose.x, pose.y]
    expected = middle(torch.from_numpy(Picture().alpha * (Picture().image[..., 1] > 0)), (0, 0, SIDE, SIDE)) - EYES
    assert math.hypot(*mark) == pytest.approx(math.hypot(*expected) * scale / SCALE, abs=0.3 * px)
    assert math.degrees(math.atan2(mark[1], mark[0])) == pytest.approx(roll, abs=1.5)
    area = float(got[3].double().sum()) * px**2
    assert area == pytest.approx(float(Picture().alpha.sum()) * (scale / SCALE) ** 2, rel=0.02)


def test_a_fraction_of_a_pixel_moves_the_head_by_it() -> None:
    box, places = (0.0, 0.0, 64.0, 64.0), []
    for step in range(9):
        pose = HeadPose(30 + step / 8, 30, 8)
        got = render(Picture(), pose, box, 64)
        places.append(middle(got[3] - got[1], box)[0] - pose.x)
    assert np.ptp(places) < 0.01


def test_fine_patterns_do_not_alias() -> None:
    view = Picture()
    board = (np.indices((SIDE, SIDE)).sum(0) % 2 * 255).astype(np.uint8)

    class Board(Picture):
        image = np.repeat(board[..., None], 3, 2)  # type: ignore[assignment]
        alpha = np.ones((SIDE, SIDE), np.float32)  # type: ignore[assignment]

    pose = HeadPose(30.3, 29.6, SCALE / 7.3, 20)
    got = render(Board(), pose, (22.0, 22.0, 38.0, 38.0), 16)
    inside = got[:3, 4:-4, 4:-4]
    assert float((inside - 0.5).abs().max()) < 0.03
    assert view.alpha.shape == (SIDE, SIDE)


def test_colours_stay_below_alpha_and_the_outside_is_empty() -> None:
    got = render(Picture(), HeadPose(30, 30, 20), (-100.0, -100.0, 200.0, 200.0), 80)
    assert torch.all(got[:3] <= got[3:] + 1e-6)
    assert torch.all(got[:, :2] == 0)


def test_a_head_shows_the_view_of_its_yaw_and_mixes_near_an_edge() -> None:
    head = Head(Picture(0.2), Picture(0.8, 40.0, "three_quarter_right"))
    box = (80.0, 80.0, 120.0, 120.0)

    def red(yaw: float) -> float:
        got = render_head(head, HeadPose(100, 100, 10, 0, yaw), box, 40)
        return float(got[0, 20, 20] / got[3, 20, 20])

    assert red(0) == pytest.approx(0.2, abs=0.01)
    assert red(40) == pytest.approx(0.8, abs=0.01)
    assert red(15) == pytest.approx(0.5, abs=0.01)
    assert red(100) == pytest.approx(0.8, abs=0.01)  # it has no profile: the nearest


def test_a_head_from_behind_is_as_large_as_from_the_front() -> None:
    back = Picture(yaw=180.0, name="back", landmarks=None)
    pose = pose_of_view(back)
    assert (pose.x, pose.y, pose.scale) == (*EYES, pytest.approx(SCALE))


def test_the_footprint_holds_the_head() -> None:
    head = Head(Picture())
    pose = HeadPose(100, 100, 10, 30)
    x0, y0, x1, y1 = footprint(head, pose)
    side = max(x1 - x0, y1 - y0)
    whole = render_head(head, pose, (100 - 2 * side, 100 - 2 * side, 100 + 2 * side, 100 + 2 * side), 256)[3]
    inside = render_head(head, pose, (x0, y0, x0 + side, y0 + side), 64)[3]
    assert float(inside.sum()) * (side / 64) ** 2 == pytest.approx(float(whole.sum()) * (side / 64) ** 2, rel=0.02)


def test_nothing_cannot_be_rendered() -> None:
    with pytest.raises(SettingError, match="above 0"):
        render(Picture(), HeadPose(0, 0, 0), (0.0, 0.0, 1.0, 1.0), 8)


def test_kept_sizes_change_nothing_and_take_no_more_than_allowed() -> None:
    views, poses = [Picture(), Picture(red=0.9)], [HeadPose(20.0, 20.0, size) for size in (8.0, 8.001, 9.0, 30.0)]
    box, n_asked = (0.0, 0.0, 40.0, 40.0), 0
    for most_bytes in (0, 100_000, 2**30):
        kept = ResizedViews(most_bytes)
        for _ in range(2):
            for view in views:
                for pose in poses:
                    assert torch.equal(render(view, pose, box, 40, kept), render(view, pose, box, 40))
                    held = sum(planes.nbytes for planes in kept._kept.values())
                    assert held == kept._bytes <= most_bytes
        n_asked = len(kept._kept)
    assert n_asked == 2 * 3  # with room for all; a head that grows by a ten-thousandth needs the same size


@settings(deadline=None, max_examples=40)
@given(st.floats(-30, 70), st.floats(-30, 70), st.floats(1.5, 25), st.floats(-180, 180), st.sampled_from([7, 32, 33]))
def test_nothing_of_a_head_is_cut_off(x: float, y: float, scale: float, roll: float, side: int) -> None:
    """One that is as large as its picture is rendered as one with room around it."""
    pose, box = HeadPose(x, y, scale, roll), (0.0, 0.0, 40.0, 40.0)
    tight, roomy = (render(view, pose, box, side)[3] for view in (Opaque(), Opaque(room=64)))
    # They differ by how soft the edge is: half of it at most, on a line no wider than that.
    assert float((tight - roomy).abs().max()) < 0.75
    assert float((tight - roomy).abs().sum(0).max()) < 3
    assert float((tight - roomy).abs().sum(1).max()) < 3
