"""Heads in outlines of people who were drawn: where they are is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pa_lib.contracts import Box
from pa_lib.functional.head_outline import HEAD_DOWN, HEAD_HALF, HEAD_UP, ExpectedHead, head_in_outline

HEIGHT, WIDTH = 320, 240


def drawn(x: float, y: float, scale: float, *, arm: bool = False, legs: bool = True) -> NDArray[np.float32]:
    """Somebody who stands upright with the eyes at x, y: measures of a tailor, not those of the template."""
    down, across = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    u, v = (across - x) / scale, (down - y) / scale
    parts = [
        (u / 1.15) ** 2 + (v / 1.75) ** 2 <= 1,  # head
        (abs(u) < 0.7) & (v > 0) & (v < 3),
        ((u / 3.2) ** 2 + ((v - 4.4) / 1.7) ** 2 <= 1) | ((abs(u) < 2.8) & (v > 4.4) & (v < 13)),
    ]
    if legs:
        parts.append((abs(u) < 2.2) & (v >= 13) & (v < 24))
    if arm:  # beside the head, and above it
        parts.append((u > 2.4) & (u < 3.4) & (v > -4.5) & (v < 6))
    outline: NDArray[np.float32] = np.any(parts, axis=0).astype(np.float32)
    return outline


def box_of(outline: NDArray[np.float32]) -> Box:
    rows, columns = np.nonzero(outline)
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def expected(box: Box) -> ExpectedHead:
    scale = 0.038 * (box[3] - box[1])
    return ExpectedHead((box[0] + box[2]) / 2, box[1] + HEAD_UP * scale, scale)


def eyes(head: Box) -> tuple[float, float, float]:
    scale = (head[3] - head[1]) / (HEAD_UP + HEAD_DOWN)
    return (head[0] + head[2]) / 2, head[1] + HEAD_UP * scale, scale


@settings(max_examples=40, deadline=None)
@given(st.floats(80, 140), st.floats(40, 70), st.floats(3, 9), st.booleans())
def test_the_head_of_somebody_who_stands_is_found(x: float, y: float, scale: float, arm: bool) -> None:
    outline = drawn(x, y, scale, arm=arm)
    box = box_of(outline)
    head = head_in_outline(outline, 0, 0, box, expected(box))
    assert head is not None
    got = eyes(head)
    assert abs(got[0] - x) < 0.35 * scale
    assert abs(got[1] - y) < 0.5 * scale
    assert got[2] == pytest.approx(scale, rel=0.2)


def test_a_raised_arm_draws_the_box_aside_and_not_the_head() -> None:
    outline = drawn(110, 70, 8, arm=True)
    box = box_of(outline)
    guess = expected(box)
    assert guess.y < 70 - 8  # by its box the head would be up at the hand
    head = head_in_outline(outline, 0, 0, box, guess)
    assert head is not None
    assert abs(eyes(head)[1] - 70) < 4


@pytest.mark.parametrize("shift", [(0, 0), (7, 3)])
def test_an_outline_of_a_part_of_the_frame_is_placed_by_its_corner(shift: tuple[int, int]) -> None:
    top, left = shift
    outline = drawn(110.0 - left, 60.0 - top, 8)
    box = box_of(drawn(110, 60, 8))
    head = head_in_outline(outline, top, left, box, expected(box))
    assert head == pytest.approx(head_in_outline(drawn(110, 60, 8), 0, 0, box, expected(box)), abs=0.5)


def test_a_body_that_the_frame_cuts_off_says_little_of_the_size() -> None:
    outline = drawn(110, 60, 14, legs=False)
    outline[200:] = 0
    box = box_of(outline)
    guess = ExpectedHead((box[0] + box[2]) / 2, box[1] + 20, 10.0, is_cut=True)
    head = head_in_outline(outline, 0, 0, box, guess)
    assert head is not None
    assert eyes(head)[2] == pytest.approx(14, rel=0.25)


@pytest.mark.parametrize("what", ["nothing", "everything", "a limb", "a trunk that goes on above"])
def test_where_no_head_shows_there_is_none(what: str) -> None:
    outline = np.full((HEIGHT, WIDTH), float(what == "everything"), dtype=np.float32)
    box: Box = (90.0, 40.0, 150.0, 240.0)
    if what == "a limb":
        outline[40:240, 90:150] = 1
    if what == "a trunk that goes on above":
        outline[:240, 90:150] = 1
    assert head_in_outline(outline, 0, 0, box, expected(box)) is None


def vase(x: float, top: float, size: float) -> NDArray[np.float32]:
    """A bunch of flowers in a vase: what is round and wide is above, what is narrow below it."""
    down, across = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    u, v = (across - x) / size, (down - top) / size
    parts = [(u / 0.32) ** 2 + ((v - 0.2) / 0.2) ** 2 <= 1, (abs(u) < 0.16) & (v > 0.3) & (v < 1)]
    outline: NDArray[np.float32] = np.any(parts, axis=0).astype(np.float32)
    return outline


@settings(max_examples=20, deadline=None)
@given(st.floats(80, 140), st.floats(30, 60), st.floats(90, 200))
def test_flowers_in_a_vase_are_no_head_over_shoulders(x: float, top: float, size: float) -> None:
    outline = vase(x, top, size)
    box = box_of(outline)
    for scale in (0.05, 0.08, 0.12):
        guess = ExpectedHead(x, top + HEAD_UP * scale * size, scale * size)
        assert head_in_outline(outline, 0, 0, box, guess) is None


@settings(max_examples=20, deadline=None)
@given(st.floats(80, 140), st.floats(5, 9), st.floats(1.4, 2.0))
def test_hair_makes_a_head_wide_and_not_large(x: float, scale: float, hair: float) -> None:
    """A ball of curls down to the shoulders around a head of known size: its width is known, and so is the head's."""
    outline = drawn(x, 60, scale)
    down, across = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    half = hair * HEAD_HALF * scale
    outline[((across - x) / half) ** 2 + ((down - 60 - 0.3 * scale) / (2.2 * scale)) ** 2 <= 1] = 1
    box = box_of(outline)
    head = head_in_outline(outline, 0, 0, box, expected(box))
    assert head is not None
    assert eyes(head)[2] == pytest.approx(scale, rel=0.2)
    assert (head[2] - head[0]) / 2 == pytest.approx(half, rel=0.2)


def test_a_neighbor_on_one_side_makes_no_head_wide() -> None:
    outline = drawn(100, 60, 8)
    outline[30:300, 108:] = 1
    box: Box = (74.0, 46.0, 126.0, 252.0)
    head = head_in_outline(outline, 0, 0, box, expected(box))
    assert head is not None
    assert head[2] - head[0] == pytest.approx(2 * HEAD_HALF * eyes(head)[2], rel=0.15)


def test_an_outline_without_pixels_has_no_head() -> None:
    box: Box = (-90.0, 40.0, -30.0, 240.0)
    assert head_in_outline(np.zeros((0, 0), np.float32), 40, 0, box, expected(box)) is None


def test_between_two_people_in_one_box_there_is_no_head() -> None:
    """The box implies one in the gap; one of theirs is found."""
    outline = np.maximum(drawn(75, 70, 7), drawn(150, 72, 7))
    box = box_of(outline)
    guess = expected(box)
    assert 95 < guess.x < 130
    head = head_in_outline(outline, 0, 0, box, guess)
    assert head is not None
    assert min(abs(eyes(head)[0] - x) for x in (75, 150)) < 5
