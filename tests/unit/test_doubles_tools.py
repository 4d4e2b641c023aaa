"""How doubles are cut, warped, blended and chosen: against cases whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from doubles import faces
from doubles.heads import Side, crowned
from doubles.mattes import Guide, matte
from doubles.registration import agreed, crown_row, fitted, found_landmarks
from doubles.search import as_text, chosen, from_json
from doubles.sheets import cut_frames
from doubles.turns import turned
from doubles.warps import blended, hull, thin_plate, warped

from pa_lib.contracts import Detection, HeadPose
from pa_lib.functional.head_pose import pose_of_landmarks

SKIN, HAIR, WALL, SHIRT = (190, 130, 100), (25, 20, 18), (128, 128, 128), (235, 235, 235)


def test_frames_are_cut_within_their_white_lines() -> None:
    sheet = np.full((400, 600, 3), 120, np.uint8)
    for row in range(2):
        for column in range(3):
            y, x = 20 + 190 * row, 15 + 195 * column
            sheet[y : y + 150, x : x + 180] = 255
            sheet[y + 4 : y + 146, x + 4 : x + 176] = 10 * (1 + 3 * row + column)
    frames = cut_frames(sheet, rows=2, columns=3, share=0.02)
    assert [int(frame.mean()) for frame in frames] == [10, 20, 30, 40, 50, 60]
    assert all(frame.std() == 0 for frame in frames)
    assert frames[0].shape == (136, 166, 3)
    with pytest.raises(SystemExit, match="6 frames found on a sheet, expected 9"):
        cut_frames(sheet, rows=3, columns=3, share=0.02)


def studio(size: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A wall with a shirt below, and the coordinates x and y."""
    y, x = np.mgrid[:size, :size]
    picture = np.full((size, size, 3), WALL, np.uint8)
    picture[(y > 0.8 * size) & (abs(x - size / 2) < 0.42 * size)] = SHIRT
    return picture, x, y


def guide(picture: np.ndarray, chin_y: float, has_long_hair: bool = False) -> Guide:
    is_hair = np.linalg.norm(picture - np.array(HAIR, np.float32), axis=2) < 60
    return Guide((120.0, 110.0), chin_y, 1 - is_hair.astype(np.float32), has_long_hair)


def test_a_matte_keeps_the_head_and_leaves_wall_and_shirt() -> None:
    picture, x, y = studio()
    head = ((x - 120) / 50) ** 2 + ((y - 110) / 70) ** 2 < 1
    picture[head] = SKIN
    picture[head & (y < 80)] = HAIR
    colour, alpha = matte(picture, guide(picture, 180.0))
    inner = ((x - 120) / 45) ** 2 + ((y - 110) / 65) ** 2 < 1
    outer = ((x - 120) / 56) ** 2 + ((y - 110) / 76) ** 2 > 1
    assert alpha[inner].min() > 0.99
    assert alpha[outer].max() == 0
    assert np.abs(colour[inner & (y > 85)].astype(int) - SKIN).max() <= 1


def test_a_matte_leaves_shaded_cloth_beside_the_neck() -> None:
    picture, x, y = studio()
    neck = (abs(x - 120) < 30) & (y > 100) & (y < 215)
    picture[(y > 185) & (abs(x - 120) < 60)] = (150, 152, 155)  # a collar in the shade, nearly as grey as the wall
    picture[(y > 200) & (abs(x - 120) < 55)] = (96, 97, 99)  # and darker folds of it
    picture[neck | (((x - 120) / 50) ** 2 + ((y - 100) / 70) ** 2 < 1)] = SKIN
    colour, alpha = matte(picture, guide(picture, 170.0))
    beside = (y > 180) & (abs(x - 120) > 34)
    assert alpha[beside].max() < 0.02
    assert alpha[(y > 180) & (y < 210) & (abs(x - 120) < 24)].min() > 0.98
    # What is left of the edge has the colour of skin.
    edge = (alpha > 0.1) & (y > 180)
    assert np.abs(colour[edge].astype(int) - SKIN).max() < 40


def test_wall_seen_through_hair_is_not_part_of_it() -> None:
    picture, x, y = studio()
    head = ((x - 120) / 60) ** 2 + ((y - 105) / 75) ** 2
    # Black hair that lets more and more of the wall through towards its outline.
    hair = np.clip((1 - np.sqrt(head)) * 75 / 5, 0, 1) ** 0.5
    picture = (picture * (1 - hair[..., None]) + np.array(HAIR) * hair[..., None]).astype(np.uint8)
    picture[((x - 120) / 36) ** 2 + ((y - 115) / 55) ** 2 < 1] = SKIN
    colour, alpha = matte(picture, guide(picture, 170.0))
    upper = (y < 100) & (hair > 0) & (hair < 1)
    assert np.abs(alpha - hair)[upper].mean() < 0.13
    assert colour[upper & (alpha > 0.1)].max() < 70  # the wall is at 128


@pytest.mark.parametrize("has_long_hair", [True, False])
def test_long_hair_ends_softly_where_a_shoulder_cuts_it(has_long_hair: bool) -> None:
    picture, x, y = studio(480)
    picture[(abs(x - 240) < 120) & (y > 60) & (y < 385)] = HAIR
    picture[((x - 240) / 70) ** 2 + ((y - 210) / 110) ** 2 < 1] = SKIN
    is_hair = np.linalg.norm(picture - np.array(HAIR, np.float32), axis=2) < 60
    _, alpha = matte(picture, Guide((240.0, 200.0), 310.0, 1 - is_hair.astype(np.float32), has_long_hair))
    middle = alpha[:, 150]
    rows = np.nonzero((middle > 0.05) & (middle < 0.95) & (np.arange(480) > 310))[0]
    assert (len(rows) > 8) == has_long_hair
    assert middle[340] > 0.9
    assert middle[386:].max() < 0.05


def test_a_crown_that_the_frame_cuts_is_completed() -> None:
    y, x = np.mgrid[:200, :200].astype(np.float32)
    whole = (np.hypot(x - 100, y - 90) < 70).astype(np.float32)
    cut = whole[32:]  # the uppermost twelve rows of the head are missing
    colour = np.full((*cut.shape, 3), 40, np.uint8)
    grown, alpha, skin, added = crowned(colour, cut, 1 - cut, 40)
    assert added == 40
    assert len(grown) == len(alpha) == len(skin) == len(cut) + added
    assert (alpha[added:] == cut).all()
    missing = 32 - np.nonzero(whole.any(axis=1))[0][0]
    height = added - np.nonzero((alpha > 0.5).any(axis=1))[0][0]
    assert missing <= height <= 1.5 * missing
    assert (alpha[added - height] > 0.5).sum() < 30  # as round as a crown: the cut is 78 wide
    # A head that the frame does not cut stays as it is.
    free = whole.copy()
    _, alpha, _, added = crowned(np.zeros((*free.shape, 3), np.uint8), free, free, 40)
    assert alpha[:added].max() == 0


def test_landmarks_get_the_pose_of_the_front() -> None:
    pose = HeadPose(300.0, 331.0, 64.0, 1.5, 0.0)
    seen = np.array([[280, 320], [300, 325], [330, 350], [290, 380], [301, 384]], np.float32)
    found = pose_of_landmarks(agreed(seen, pose))
    before = pose_of_landmarks(seen)
    assert (found.y, found.scale, found.roll) == pytest.approx((331.0, 64.0, 1.5), abs=1e-3)
    assert (found.x, found.yaw) == pytest.approx((before.x, before.yaw), abs=1e-3)


class Finder:
    """Finds the same points, off by the same step to the right, in every picture."""

    def __init__(self, points: np.ndarray) -> None:
        self.answers = [points, (points * [-1, 1] + [99, 0]).astype(np.float32)]
        self.answers[1] = self.answers[1][[1, 0, 2, 4, 3]]

    def detect(self, pictures: list[np.ndarray]) -> list[list[Detection]]:
        found = (points + np.float32([2, 0]) for points in self.answers[: len(pictures)])
        return [[Detection("face", (0.0, 0.0, 1.0, 1.0), 1.0, points)] for points in found]


def test_a_bias_to_one_side_cancels_with_the_mirror_image() -> None:
    points = np.array([[40, 50], [60, 50], [52, 62], [41, 72], [59, 72]], np.float32)
    found = found_landmarks(Finder(points), np.zeros((80, 100, 3), np.float32), np.zeros((80, 100), np.float32))
    assert np.allclose(found, points)


@pytest.mark.parametrize("yaw", [85.0, 180.0])
def test_heads_from_the_side_are_as_high_as_from_the_front(yaw: float) -> None:
    y = np.mgrid[: faces.CANVAS[1], : faces.CANVAS[0]][0].astype(np.float32)
    crown, chin_px, eyes = 180, 120.0, faces.EYES[0][1]
    alpha = np.zeros(y.shape, np.float32)
    alpha[crown:600, 200:440] = 1
    height = np.dstack([y / 1000] * 3)
    side = fitted(Side(height, alpha, y / 1000, yaw, chin_px), crown_y=176.0, chin_y=470.0)
    assert abs(crown_row(side.alpha) - 176) <= 1
    chin = eyes + chin_px
    # Row 470 shows what was the chin, and in a profile the eyes stay where they were.
    assert side.colour[470, 320, 0] * 1000 == pytest.approx(chin, abs=0.6)
    if yaw != 180:
        assert side.colour[330, 320, 0] * 1000 == pytest.approx(eyes, abs=0.6)
        assert side.colour[400, 320, 0] * 1000 == pytest.approx(eyes + 70 * chin_px / 140, abs=0.6)
    assert side.chin_px == pytest.approx(140)


def test_a_spline_through_moved_points_is_exact_where_the_motion_is_affine() -> None:
    points = np.random.default_rng(0).uniform(5, 95, (12, 2))
    matrix, shift = np.array([[1.1, 0.1], [-0.05, 0.9]]), np.array([3.0, -2.0])
    places = thin_plate(points, points @ matrix.T + shift, (100, 80), step_px=8)
    y, x = np.mgrid[:80, :100]
    assert np.allclose(places, np.stack([x, y], axis=2) @ matrix.T + shift, atol=1e-3)


def test_warped_by_where_it_is_changes_nothing() -> None:
    picture = np.random.default_rng(0).random((30, 40, 3)).astype(np.float32)
    y, x = np.mgrid[:30, :40].astype(np.float32)
    assert np.allclose(warped(picture, np.stack([x, y], axis=2)), picture, atol=1e-6)


def test_blending_keeps_both_pictures_away_from_the_border() -> None:
    below, above = np.zeros((128, 128, 3), np.float32), np.ones((128, 128, 3), np.float32)
    mask = np.zeros((128, 128), np.float32)
    mask[:, 64:] = 1
    mixed = blended(below, above, mask, levels=3)
    assert np.allclose(mixed[:, :30], 0, atol=1e-5)
    assert np.allclose(mixed[:, 98:], 1, atol=1e-5)
    assert (np.diff(mixed[64, :, 0]) > -1e-5).all()


def test_rows_that_are_chosen_lie_apart_and_as_many_as_there_are() -> None:
    # Thirteen points on a line, 0.4 apart: every second one is farther than 0.7 from its neighbour, seven in all.
    line = np.zeros((13, 128), np.float32)
    line[:, 0] = 0.4 * np.random.default_rng(1).permutation(13)
    rows = chosen(line, 0.7, np.zeros(13), steps=50)
    assert len(rows) == 7
    assert np.diff(np.sort(line[rows, 0])).min() > 0.7


def test_all_rows_are_chosen_where_none_is_near_another() -> None:
    assert chosen(np.eye(4, 128, dtype=np.float32), 0.7, np.zeros(4)) == [0, 1, 2, 3]
    assert chosen(np.zeros((0, 128), np.float32), 0.7, np.zeros(0)) == []


def test_recipes_are_read_as_they_were_written() -> None:
    stored = Path(__file__).parents[2] / "tools" / "doubles" / "recipes.json"
    content = json.loads(stored.read_text(encoding="utf-8"))
    morphs = {name: from_json(entry) for name, entry in content["morphs"].items()}
    assert as_text(content["photographs"], morphs) == stored.read_text(encoding="utf-8")


def test_mirror_partners_are_found_across_the_middle() -> None:
    random = np.random.default_rng(0)
    middle = [10, 152, 168, 1]  # these are their own partners
    right, left = np.split(random.permutation(np.setdiff1d(np.arange(478), middle)), 2)
    mean, expected = np.zeros((478, 2), np.float32), np.arange(478)
    mean[middle] = [(320, y) for y in (100, 230, 360, 490)]
    mean[right] = random.uniform([340, 100], [470, 600], (237, 2))
    mean[left] = mean[right] * [-1, 1] + [640, 0]
    expected[right], expected[left] = left, right
    assert (faces.mirror_partners(mean) == expected).all()


def test_a_turned_head_turns_its_nose() -> None:
    y, x = np.mgrid[: faces.CANVAS[1], : faces.CANVAS[0]].astype(np.float32)
    alpha = hull(np.array([[180, 180], [460, 180], [440, 520], [200, 520]]), faces.CANVAS, 0, 2)
    mesh = np.zeros((478, 3), np.float32)
    angles = np.linspace(0, 2 * np.pi, 478)
    radius = np.sqrt(np.linspace(0, 1, 478))
    mesh[:, 0], mesh[:, 1] = 320 + 110 * radius * np.cos(40 * angles), 380 + 130 * radius * np.sin(40 * angles)
    mesh[:, 2] = -60 * (1 - radius**2)
    for number, index in enumerate(faces.OVAL):
        angle = 2 * np.pi * number / len(faces.OVAL) - np.pi / 2
        mesh[index] = 320 + 110 * np.cos(angle), 380 + 130 * np.sin(angle), 0
    mesh[list(faces.LEFT_EYE)], mesh[list(faces.RIGHT_EYE)] = (265, 330, -40), (375, 330, -40)
    mesh[1] = 320, 390, -60
    colour = np.stack([x / 640, y / 720, x * 0], axis=2).astype(np.float32)
    head = faces.Face(colour, alpha, mesh)
    right, left = turned(head, 25.0), turned(head, -25.0)
    assert right.mesh[1, 0] > 330 > 310 > left.mesh[1, 0]
    # What lies at the nose has moved with it: its colour is that of column 320.
    for face in (right, left):
        row, column = 390, round(float(face.mesh[1, 0]))
        assert abs(face.colour[row, column, 0] - 0.5) < 0.02
        assert face.alpha[row, column] > 0.95
