"""Where the head is in the outline of a person: the narrow part at the top, over shoulders, with nothing beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Box

HEAD_UP, HEAD_DOWN, HEAD_HALF = 1.66, 1.72, 1.18
"""From the eyes up to the top of the hair and down to the chin, and half the width of a head, in scales, see
`HeadPose`: such that heads in the outlines of the shared clips are as large as their faces."""

# The template: rectangles around the eyes, x0 y0 x1 y1 in scales. A head, a neck and the middle of the shoulders belong
# to the person, what is above and beside the head does not. Between the two, and where arms and shoulders differ from
# person to person and from side to side, it says nothing. An arm or a neighbor may be on one side of the head: the side
# that is freer counts more.
_INSIDE = (
    (-0.6, -1.45, 0.6, -0.95),
    (-0.98, -0.95, 0.98, 1.0),
    (-0.65, 1.0, 0.65, 1.5),
    (-0.6, 1.5, 0.6, 2.9),
    (-1.4, 2.9, 1.4, 4.4),
)
_OVER = ((-3.2, -2.9, 3.2, -2.0),)
_RIGHT = ((1.1, -2.0, 3.2, -1.3), (1.5, -1.3, 3.2, 1.1))
_LEFT = tuple((-x1, y0, -x0, y1) for x0, y0, x1, y1 in _RIGHT)
_DOWN = 4.4  # lowest of all
_AROUND = 3.0  # what is looked at beyond the box, in scales
_ABOVE, _FREER = 0.3, 0.6  # shares: of what is above in the outside, and of the freer side in what is beside
_PX = 4.0  # of the grid, for a scale of the expected size
_SIZES = tuple(2.0 ** (step / 4) for step in range(-4, 5))  # that are tried, over the expected size
# A match is as good as the share of the inside that is the person's, less the share of the outside that is: 1 at best.
_LEAST = 0.6
_EMPTY, _LEAST_IF_EMPTY = 0.4, 0.75  # share of a head at the expected place up to which it is elsewhere, if anywhere
# What distinguishes a head from a limb, a bunch of flowers or a bag: rows around the eyes and of the shoulders, in
# scales; the outline's width there, in scales, and how many times as wide shoulders are. Of the heads on the shared
# clips that lie where their faces are, 99 of 100 have as much.
_EYE_ROWS, _SHOULDER_ROWS = (-1.0, 0.9), (2.9, 5.5)
_NARROWEST, _SHOULDERS = 1.8, 1.1
# Hair, in times the width of a usual head: so much is seen on both sides; beyond the second number a neighbor or a
# wall is taken for a part of the person; no head is wider than the third one.
_CURLS, _WITH_NEIGHBOR, _WIDEST = 1.4, 3.0, 1.6
# Share of what hair adds beside a head that it adds above it: with it the eyes of heads in outlines lie 0.38 scales
# from those of the faces on the shared clips, in the median, without it 0.42.
_HAIR_ABOVE = 0.5
# What it loses as a head lies elsewhere than expected: squares over these distances, in scales, and in logarithms of
# sizes where the body is seen whole and where it is not.
_FAR, _FAR_BELOW, _OTHER, _OTHER_IF_CUT = 4.0, 7.0, 0.7, 1.5


class ExpectedHead(NamedTuple):
    """Where the box of a body lets a head be expected.

    Args:
        x, y: Middle between the eyes in pixels.
        scale: Scale of the head in pixels, see `HeadPose`.
        is_cut: Whether the frame cuts the body off, so that its size says little of the head's.
    """

    x: float
    y: float
    scale: float
    is_cut: bool = False


def head_in_outline(likely: NDArray[np.float32], top: int, left: int, box: Box, expected: ExpectedHead) -> Box | None:
    r"""The head in the outline of a person, by comparison with a template of head and shoulders.

    The place with the best match is taken, and the size halfway between that of the match and the expected one, where

    .. math:: m = \overline{a}_{inside} - 0.3\, \overline{a}_{above} - 0.7\, \overline{a}_{beside}
              - (d / s)^2 - (\ln(s / s_0) / \sigma)^2

    with a the outline, s and s_0 the scale and the expected one, d the distance from the expected place over 4, or over
    7 below it, and :math:`\sigma` 0.7 for a body that is seen whole, else 1.5. Of the two sides the one with less of
    the outline counts 0.7, so that an arm or a neighbor may be on the other. What is hardly as wide as a head, or has
    nothing below it that is wider, like a limb, or a vase with flowers, is none.

    Args:
        likely: Likelihood that each pixel belongs to the person, in [0, 1], shape h w.
        top: Row of ``likely[0, 0]`` in the frame, in pixels.
        left: Column of ``likely[0, 0]`` in the frame, in pixels.
        box: Box of the body in pixels; a head's middle lies within its sides.
        expected: Place where a head is expected.

    Returns:
        Box of the head from the top of the skull to the chin, in pixels, and as wide as it is with its hair: that the
        outline is wide says little of the size of the head in it. None where nothing looks like one.
    """
    x0, y0, x1, _ = box
    step = expected.scale / _PX  # pixels of the frame in one of the grid
    left_of, top_of = min(x0, expected.x) - _AROUND * expected.scale, min(y0, expected.y) - _AROUND * expected.scale
    columns = math.ceil((max(x1, expected.x) + _AROUND * expected.scale - left_of) / step)
    rows = math.ceil((expected.y + (_DOWN + _FAR_BELOW) * expected.scale - top_of) / step)
    grid = _on_grid(likely, (left - left_of) / step, (top - top_of) / step, step, rows, columns)
    across = left_of + (np.arange(columns) + 0.5) * step
    along = top_of + (np.arange(rows) + 0.5) * step
    # Below what the box implies there are the heads of people who raise an arm, or bow.
    aside, down = across[None, :] - expected.x, (along[:, None] - expected.y) * (_FAR / _FAR_BELOW)
    far = (aside**2 + np.where(down > 0, down, down * (_FAR_BELOW / _FAR)) ** 2) / expected.scale**2
    is_beside = (across < x0) | (across > x1)
    spread = _OTHER_IF_CUT if expected.is_cut else _OTHER
    # Sums over rectangles, by differences of running sums; nothing lies around the grid.
    pad = math.ceil(_DOWN * _SIZES[-1] * _PX) + 1
    sums = cv2.integral(cv2.copyMakeBorder(grid, pad, pad, pad, pad, cv2.BORDER_CONSTANT))
    # Where nothing of the person is at the expected place, between two people in one box, say, no other is worse.
    there = _mean(sums, _INSIDE, _PX, pad, grid.shape)[
        int((expected.y - top_of) / step), int((expected.x - left_of) / step)
    ]
    trust, least = (1.0, _LEAST) if there > _EMPTY else (0.0, _LEAST_IF_EMPTY)
    matches = []
    for size in _SIZES:
        inside, above, one, other = (
            _mean(sums, part, size * _PX, pad, grid.shape) for part in (_INSIDE, _OVER, _LEFT, _RIGHT)
        )
        beside = _FREER * np.minimum(one, other) + (1 - _FREER) * np.maximum(one, other)
        match = inside - _ABOVE * above - (1 - _ABOVE) * beside
        match -= trust * far / (_FAR * size) ** 2 + (math.log(size) / spread) ** 2
        match[:, is_beside] = -1.0
        matches.append(match)
    peaks = [float(match.max()) for match in matches]
    at = int(np.argmax(peaks))
    if peaks[at] < least:
        return None
    row, column = (int(place) for place in np.unravel_index(int(matches[at].argmax()), grid.shape))
    x = left_of + (column + 0.5 + _between(matches[at][row], column)) * step
    y = top_of + (row + 0.5 + _between(matches[at][:, column], row)) * step
    # Hair makes heads look larger, and what hides a part of the body makes them seem smaller by its box: halfway.
    scale = expected.scale * math.sqrt(_SIZES[at] * (_SIZES[-1] / _SIZES[-2]) ** _between(np.array(peaks), at))
    size = scale / step  # samples in a scale
    column, row_of_eyes = int((x - left_of) / step), (y - top_of) / step
    n_known = min(rows, int((top + likely.shape[0] - top_of) / step))  # below it, the picture ends
    around, below = (
        grid[max(int(row_of_eyes + first * size), 0) : min(int(row_of_eyes + last * size) + 1, n_known)]
        for first, last in (_EYE_ROWS, _SHOULDER_ROWS)
    )
    eyes = _extents(around, column) if len(around) else np.zeros(2)
    if eyes.sum() < _NARROWEST * size or (len(below) and _extents(below, column).sum() < _SHOULDERS * eyes.sum()):
        return None
    hair = eyes / (HEAD_HALF * size)
    if hair.min() > _CURLS and hair.mean() <= _WITH_NEIGHBOR:
        x += (eyes[1] - eyes[0]) / 2 * step  # the middle of much hair is that of the head
        wide = float(hair.mean())
    else:
        wide = float(hair.min())  # on the other side there may be a neighbor
    half = HEAD_HALF * scale * min(max(wide if wide <= _WITH_NEIGHBOR else 1.0, 1.0), _WIDEST)
    y += _HAIR_ABOVE * (half - HEAD_HALF * scale)
    return x - half, y - HEAD_UP * scale, x + half, y + HEAD_DOWN * scale


def _extents(rows: NDArray[np.float32], column: int) -> NDArray[np.float64]:
    """How far the outline reaches from a column to the left and to the right without a gap, in samples; medians."""
    padded = np.pad(rows, ((0, 0), (1, 1)))
    reaches = []
    for side in (padded[:, column + 1 :: -1], padded[:, column + 1 :]):
        end = (side <= 0.5).argmax(1)
        reaches.append(np.median(end + side[np.arange(len(side)), end] - 0.5))  # the last sample belongs to it in part
    return np.maximum(reaches, 0.0)


def _between(values: NDArray[np.floating], at: int) -> float:
    """How far the top of the parabola through a largest value and its neighbours lies from it, in steps."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[at - 1 : at + 2])
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _on_grid(
    likely: NDArray[np.float32], left: float, top: float, step: float, rows: int, columns: int
) -> NDArray[np.float32]:
    """The outline at one sample every `step` pixels, nothing around it."""
    if not likely.size:
        return np.zeros((rows, columns), np.float32)
    size = max(1, round(likely.shape[1] / step)), max(1, round(likely.shape[0] / step))
    small = cv2.resize(likely, size, interpolation=cv2.INTER_AREA if step > 1 else cv2.INTER_LINEAR)
    wide, tall = likely.shape[1] / (size[0] * step), likely.shape[0] / (size[1] * step)
    # Whole numbers are the middles of pixels here, not their corners.
    path = np.array([[wide, 0.0, left + (wide - 1) / 2], [0.0, tall, top + (tall - 1) / 2]])
    moved: NDArray[np.float32] = cv2.warpAffine(small, path, (columns, rows), flags=cv2.INTER_LINEAR)
    return moved


def _mean(
    sums: NDArray[np.float64], part: Sequence[Box], scale: float, pad: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Mean over rectangles around every sample of the grid.

    Args:
        sums: Sums of the padded grid above and left of each corner.
        part: Rectangles ``x0 y0 x1 y1`` in scales.
        scale: Samples in a scale.
        pad: Samples around the grid.
        shape: Rows and columns of the grid.
    """
    rows, columns = shape
    total, area = np.zeros((rows, columns)), 0
    for x0, y0, x1, y1 in part:
        left, top = round(x0 * scale + 0.5), round(y0 * scale + 0.5)
        right, bottom = max(round(x1 * scale + 0.5), left + 1), max(round(y1 * scale + 0.5), top + 1)
        for row, column, sign in ((bottom, right, 1), (top, left, 1), (bottom, left, -1), (top, right, -1)):
            total += sign * sums[pad + row : pad + row + rows, pad + column : pad + column + columns]
        area += (right - left) * (bottom - top)
    return total / area
