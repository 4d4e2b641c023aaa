"""How doubles are cut, warped, blended and chosen: against cases whose answer is known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from doubles import faces
from doubles.mattes import matte
from doubles.search import as_text, chosen, from_json
from doubles.sheets import cut_frames
from doubles.turns import turned
from doubles.warps import blended, hull, thin_plate, warped


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


def test_a_matte_keeps_the_head_and_leaves_wall_and_shirt() -> None:
    picture = np.full((240, 240, 3), 128, np.uint8)
    y, x = np.mgrid[:240, :240]
    picture[(y > 190) & (abs(x - 120) < 100)] = 235
    head = ((x - 120) / 50) ** 2 + ((y - 110) / 70) ** 2 < 1
    picture[head] = (190, 130, 100)
    picture[head & (y < 80)] = (25, 20, 18)
    colour, alpha = matte(picture, (120.0, 120.0))
    inner = ((x - 120) / 45) ** 2 + ((y - 110) / 65) ** 2 < 1
    outer = ((x - 120) / 56) ** 2 + ((y - 110) / 76) ** 2 > 1
    assert alpha[inner].min() == 1
    assert alpha[outer].max() == 0
    assert np.abs(colour[inner & (y > 85)].astype(int) - [190, 130, 100]).max() <= 1


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
