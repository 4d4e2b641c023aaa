"""Completion of a picture by pieces of itself: what is unknown gets the texture and the edges of what is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.functional.filling import filled

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]
Places = NDArray[np.intp]

_REACH = 3  # of a piece, from its middle, in samples: 7 x 7
_MOST_SAMPLES = 6000  # of what is unknown, on the finest grid that is searched: larger holes are searched more coarsely
_LEAST_PIECES = 64  # that are wholly known
_MOST_COMPARED = 3000  # pieces that the coarsest grid compares all with all
_COMPARED_AT_ONCE = 512  # of what is to be found with them: 12 MB of costs
_AROUND, _AROUND_PX = 0.75, 16  # of the hole's longer side, and pixels, that pieces are taken from
_STEP = math.sqrt(2)  # between two grids
_KNOWN, _UNKNOWN = 0.6, 0.4  # share of a sample that must be known, and share from which it is unknown
_ROUNDS = (2, 2, 4)  # of search and vote, from the finest grid on; as many as the last on all coarser ones
_NEARER = 2.5  # times a random search is narrower than the one before
_DOUBT = 1.3  # times a sample counts less, by distance from what is known
_GUESS = 0.7  # weight of what is itself completed, in a comparison
_FAR = 1.0  # cost of a piece as far away as the picture is long: what looks nearly alike is taken from nearby
_UNLIKE = 2.0  # cost of a color other than the one that is carried inward, per squared difference
_LIGHT = 24  # grey values by which a copy differs from a known pixel at most where light does it, and not a bad match
_SEED = 0  # of the random search: the same picture is completed in the same way


def completed(
    picture: UInt8[Tensor, "3 h w"], known: Bool[Tensor, "h w"], wanted: Bool[Tensor, "h w"]
) -> tuple[UInt8[Tensor, "3 h w"], Bool[Tensor, "h w"]]:
    """A picture whose wanted pixels are copied from known places, such that every piece of it looks like a known one.

    On grids from coarse to fine, each piece of 7 x 7 samples that holds something unknown looks for the known piece
    that is most like it, not far away, and of the color around the hole; all pieces that hold a sample vote for what it
    becomes; and again. The copies themselves are made at full size, so they are as sharp and grainy as the picture.
    What they differ by from known pixels around the hole, if it is little, is carried inward and taken off, so that no
    edge is seen.

    Args:
        picture: The picture in 0..255. Unknown pixels are not looked at.
        known: Mask of the pixels that are known.
        wanted: Mask of those that are to be completed; known ones stay.

    Returns:
        The picture, and what is known of it now. As they were where hardly any piece is wholly known.

    Source: Wexler, Shechtman and Irani 2007, Space-time completion of video, for pictures; the search is that of
    Barnes et al. 2009, PatchMatch. Differs: copies at full size, and the differences at the edge that are taken off.

    >>> stripes = (torch.arange(48) % 4 < 2).byte().mul(200).expand(3, 48, 48)
    >>> known = torch.ones(48, 48, dtype=torch.bool)
    >>> known[18:30, 18:30] = False
    >>> found, _ = completed(torch.where(known, stripes, 0), known, ~known)
    >>> bool((found == stripes).all())
    True
    """
    hole = (wanted & ~known).numpy()
    if not hole.any():
        return picture, known
    part = _around(hole)
    own, is_known, hole = picture[:, *part].movedim(0, -1).numpy(), known[part].numpy(), hole[part]
    finest = max(1.0, math.sqrt(hole.sum() / _MOST_SAMPLES))
    visible: Picture = np.where(is_known[..., None], own, 0).astype(np.float32) / np.float32(255)
    grids = _grids(visible, is_known, hole, finest)
    if not grids:
        return picture, known
    rng, source = np.random.default_rng(_SEED), None
    for at in reversed(range(len(grids))):
        source = grids[at].solved(source, _ROUNDS[min(at, len(_ROUNDS) - 1)], rng)
    assert source is not None
    made, is_made = _copied(own, is_known, hole, source)
    result, is_known_now = picture.clone(), known.clone()
    result[:, *part] = torch.where(is_made, made, result[:, *part])
    is_known_now[part] |= is_made
    return result, is_known_now


@dataclass(frozen=True)
class _Source:
    """Where each sample of a grid is copied from: rows and columns from it, 0 where it is known."""

    down: Places
    across: Places


class _Grid:
    """A picture with a hole at one resolution, and the known pieces in it."""

    def __init__(self, picture: Picture, known: Mask, hole: Mask) -> None:
        self.picture, self.known, self.hole = picture, known, hole
        self.is_piece = _eroded(known)
        self._windows = _windows(picture)
        side = 2 * _REACH + 1
        self._rows, self._columns = np.nonzero(cv2.dilate(hole.view(np.uint8), np.ones((side, side), np.uint8)))
        self._far = _FAR / max(hole.shape) ** 2
        self._around = _smoothly_filled(picture, known)
        self._number = np.full(hole.shape, -1)  # of the piece around each sample that is to be found
        self._number[self._rows, self._columns] = np.arange(len(self._rows))
        depth = cv2.distanceTransform(np.pad(hole, 1).view(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        self._trust = (_DOUBT**-depth)[self._rows, self._columns].astype(np.float32)

    @property
    def depth(self) -> float:
        """The farthest that a sample lies from what is known, in samples."""
        return float(cv2.distanceTransform(np.pad(self.hole, 1).view(np.uint8), cv2.DIST_L2, 3).max())

    def solved(self, coarser: _Source | None, n_rounds: int, rng: np.random.Generator) -> _Source:
        """Where each sample is copied from, beginning with what a coarser grid has found."""
        if coarser is None:
            found, now = self._peeled(rng)
        else:
            found = self._from(coarser)
            now = self._vote(found, self._trust)
        for _ in range(n_rounds):
            found, cost = self._search(found, now, rng)
            spread = float(np.percentile(cost, 75)) + 1e-6
            now = self._vote(found, self._trust * np.exp(-cost / (2 * spread)))
        down, across = np.zeros((2, *self.hole.shape), np.intp)
        down[self._rows, self._columns] = found // self.hole.shape[1] - self._rows
        across[self._rows, self._columns] = found % self.hole.shape[1] - self._columns
        return _Source(down, across)

    def _pieces(self, places: Places) -> Picture:
        """Copies of the pieces at some places, one a row: all of them would take 588 bytes a sample."""
        rows, columns = np.divmod(places, self.hole.shape[1])
        pieces: Picture = self._windows[rows, columns].reshape(len(places), 3 * (2 * _REACH + 1) ** 2)
        return pieces

    def _distance(self, rows: Places, places: Places) -> Picture:
        """The cost of how far pieces lie from those that are to be found, and of a color that is not around those."""
        row, column = np.divmod(places, self.hole.shape[1])
        at = (slice(None), *(None,) * (places.ndim - 1))
        far = (row - self._rows[rows][at]) ** 2 + (column - self._columns[rows][at]) ** 2
        apart = self.picture.reshape(-1, 3)[places] - self._around[self._rows[rows], self._columns[rows]][at]
        cost: Picture = (self._far * far + _UNLIKE * (apart**2).sum(-1)).astype(np.float32)
        return cost

    def _wanted(self, now: Picture, has: Mask, rows: Places) -> tuple[Picture, Picture]:
        """The pieces that are to be found, as they look now, and how much each of their numbers counts."""
        at = self._rows[rows], self._columns[rows]
        weight = np.where(self.known, 1, _GUESS * has).astype(np.float32)
        return _windows(now)[at].reshape(len(at[0]), -1), np.repeat(_windows(weight)[at].reshape(len(at[0]), -1), 3, 1)

    def _peeled(self, rng: np.random.Generator) -> tuple[Places, Picture]:
        """The hole filled ring by ring, from its edge inward, with the best of all pieces."""
        choice = np.flatnonzero(self.is_piece)
        if len(choice) > _MOST_COMPARED:
            choice = np.sort(rng.choice(choice, _MOST_COMPARED, replace=False))
        own = self._pieces(choice).T.copy()
        square, colors = own**2, self.picture.reshape(-1, 3)
        now, has, cross = self.picture.copy(), self.known.copy(), np.ones((3, 3), np.uint8)

        def best(rows: Places) -> Places:
            nearest = np.empty(len(rows), np.intp)
            for first in range(0, len(rows), _COMPARED_AT_ONCE):
                part = rows[first : first + _COMPARED_AT_ONCE]
                wanted, weight = self._wanted(now, has, part)
                cost = weight @ square - 2 * (weight * wanted) @ own
                cost += self._distance(part, choice[None])
                nearest[first : first + _COMPARED_AT_ONCE] = choice[cost.argmin(1)]
            return nearest

        while (ring := self.hole & ~has & (cv2.dilate(has.view(np.uint8), cross) > 0)).any():
            now[ring] = colors[best(self._number[ring])]
            has |= ring
        return best(np.arange(len(self._rows))), now

    def _from(self, coarser: _Source) -> Places:
        """Where samples are copied from, by a coarser grid: the nearest pieces that are wholly known."""
        height, width = self.hole.shape
        rows, columns = coarser.down.shape
        tall, wide = height / rows, width / columns
        near = (
            np.clip(((self._rows + 0.5) / tall).astype(np.intp), 0, rows - 1),
            np.clip(((self._columns + 0.5) / wide).astype(np.intp), 0, columns - 1),
        )
        row = np.rint(self._rows + coarser.down[near] * tall).astype(np.intp).clip(0, height - 1)
        column = np.rint(self._columns + coarser.across[near] * wide).astype(np.intp).clip(0, width - 1)
        _, label = cv2.distanceTransformWithLabels(
            (~self.is_piece).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        place = np.zeros(int(label.max()) + 1, np.intp)
        place[label[self.is_piece]] = np.flatnonzero(self.is_piece)
        found: Places = place[label[row, column]]
        return found

    def _search(self, found: Places, now: Picture, rng: np.random.Generator) -> tuple[Places, NDArray[np.float32]]:
        """Better pieces: those beside the pieces of neighbours, and others at random, ever nearer to the best one."""
        height, width = self.hole.shape
        everywhere = np.arange(len(found))
        wanted, weight = self._wanted(now, self.known | self.hole, everywhere)
        found, is_piece = found.copy(), self.is_piece.reshape(-1)

        def cost(rows: Places, places: Places) -> NDArray[np.float32]:
            apart = self._pieces(places)
            apart -= wanted[rows]
            apart *= apart
            apart *= weight[rows]
            total: Picture = apart.sum(1) + self._distance(rows, places)
            return total

        least = cost(everywhere, found)

        def attempt(rows: Places, row: Places, column: Places) -> None:
            is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            rows, places = rows[is_inside], (row * width + column)[is_inside]
            is_new = is_piece[places] & (places != found[rows])
            rows, places = rows[is_new], places[is_new]
            other = cost(rows, places)
            is_better = other < least[rows]
            found[rows[is_better]], least[rows[is_better]] = places[is_better], other[is_better]

        framed = np.pad(self._number, 1, constant_values=-1)
        for down, across in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            neighbor = framed[self._rows + 1 + down, self._columns + 1 + across]
            rows = np.flatnonzero(neighbor >= 0)
            beside = found[neighbor[rows]]
            attempt(rows, beside // width - down, beside % width - across)
        reach = max(height, width) / 2
        while reach >= 1:
            down, across = rng.integers(-int(reach), int(reach) + 1, (2, len(found)))
            attempt(everywhere, found // width + down, found % width + across)
            reach /= _NEARER
        return found, least

    def _vote(self, found: Places, weight: NDArray[np.float32]) -> Picture:
        """The picture, every unknown sample the mean of what the pieces around it hold there."""
        height, width = self.hole.shape
        sums = np.zeros(((height + 2 * _REACH) * (width + 2 * _REACH), 4), np.float32)
        side = 2 * _REACH + 1
        chosen = np.ones((len(found), side**2, 4), np.float32)
        chosen[..., :3] = self._pieces(found).reshape(len(found), -1, 3)
        chosen *= weight[:, None, None]
        first = self._rows * (width + 2 * _REACH) + self._columns
        for at in range(side**2):
            sums[first + (at // side * (width + 2 * _REACH) + at % side)] += chosen[:, at]
        own = sums.reshape(height + 2 * _REACH, -1, 4)[_REACH:-_REACH, _REACH:-_REACH][self.hole]
        now = self.picture.copy()
        now[self.hole] = own[:, :3] / np.maximum(own[:, 3:], 1e-8)
        return now


def _around(hole: Mask) -> tuple[slice, slice]:
    """The part of the picture that pieces are taken from."""
    spans = [np.flatnonzero(hole.any(axis))[[0, -1]] for axis in (1, 0)]
    reach = math.ceil(_AROUND * max(last - first + 1 for first, last in spans)) + _AROUND_PX
    rows, columns = (slice(max(int(first) - reach, 0), int(last) + reach + 1) for first, last in spans)
    return rows, columns


def _grids(picture: Picture, known: Mask, hole: Mask, scale: float) -> list[_Grid]:
    """Grids from the finest to the coarsest, on which a piece reaches over the hole; none if too little is known."""
    grids: list[_Grid] = []
    while True:
        grid = _Grid(*_shrunk(picture, known, hole, scale))
        if grid.is_piece.sum() < _LEAST_PIECES or not grid.hole.any():
            return grids
        grids.append(grid)
        if grid.depth <= _REACH:
            return grids
        scale *= _STEP


def _shrunk(picture: Picture, known: Mask, hole: Mask, scale: float) -> tuple[Picture, Mask, Mask]:
    """A picture, what is known of it and its hole, on a grid of larger samples."""
    if scale == 1:
        return picture, known, hole
    size = tuple(max(1, round(side / scale)) for side in hole.shape[::-1])
    colors, share, gone = (
        cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_AREA) for plane in (picture, known, hole)
    )
    is_known = (share > _KNOWN) & (gone < _UNKNOWN)
    colors = np.where(is_known[..., None], colors / np.maximum(share, _UNKNOWN)[..., None], 0)
    return colors.astype(np.float32), is_known, (gone > 0) & ~is_known


def _copied(
    picture: NDArray[np.uint8], known: Mask, hole: Mask, source: _Source
) -> tuple[UInt8[Tensor, "3 h w"], Bool[Tensor, "h w"]]:
    """The hole at full size: means of the copies that the nearest samples ask for, weighted as quadratic splines are.

    Returns:
        The picture; and where the hole is filled.
    """
    rows, columns = np.nonzero(cv2.dilate(hole.view(np.uint8), np.ones((2 * _REACH + 1,) * 2, np.uint8)))
    height, width = hole.shape
    sums = np.zeros((len(rows), 4), np.float32)
    pixels = np.dstack([picture * known[..., None], known]).astype(np.float32)
    (tall, wide), (n_rows, n_columns) = (height / source.down.shape[0], width / source.down.shape[1]), source.down.shape
    y, x = (rows + 0.5) / tall, (columns + 0.5) / wide
    for down, weight_y in _spline(y):
        for across, weight_x in _spline(x):
            cell = (y.astype(np.intp) + down).clip(0, n_rows - 1), (x.astype(np.intp) + across).clip(0, n_columns - 1)
            row = np.rint(rows + source.down[cell] * tall).astype(np.intp).clip(0, height - 1)
            column = np.rint(columns + source.across[cell] * wide).astype(np.intp).clip(0, width - 1)
            is_copied = (source.down[cell] != 0) | (source.across[cell] != 0)
            sums += (weight_y * weight_x * is_copied)[:, None] * pixels[row, column]
    copies, is_made = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.bool_)
    is_made[rows, columns] = sums[:, 3] > 1e-3
    copies[rows, columns] = sums[:, :3] / np.maximum(sums[:, 3:], 1e-3)
    apart = torch.from_numpy(picture - copies).movedim(-1, 0)
    edge = torch.from_numpy(is_made & known) & (apart.abs().amax(0) < _LIGHT)
    apart = filled(apart[None], (~edge)[None, None].float())[0] if edge.any() else torch.zeros_like(apart)
    made = (torch.from_numpy(copies).movedim(-1, 0) + apart).clamp(0, 255).round().byte()
    return made, torch.from_numpy(is_made & hole)


def _spline(places: NDArray[np.float64]) -> list[tuple[int, NDArray[np.float32]]]:
    """Steps to the three nearest samples along one axis, and the weight of each."""
    off = places % 1 - 0.5
    weights = (0.5 * (0.5 - off) ** 2, 0.75 - off**2, 0.5 * (0.5 + off) ** 2)
    return [(step, weight.astype(np.float32)) for step, weight in zip((-1, 0, 1), weights, strict=True)]


def _smoothly_filled(picture: Picture, known: Mask) -> Picture:
    """The picture, its unknown samples as `filled` has them: the colors around the hole, carried inward."""
    planes, gone = torch.from_numpy(picture).movedim(-1, 0)[None], torch.from_numpy(~known)[None, None].float()
    smooth: Picture = filled(planes, gone)[0].movedim(0, -1).numpy()
    return smooth


def _eroded(mask: Mask) -> Mask:
    """Where all of the piece around a sample is in a mask; nothing is beyond the picture."""
    side = np.ones((2 * _REACH + 1,) * 2, np.uint8)
    inner: Mask = cv2.erode(mask.astype(np.uint8), side, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    return inner


def _windows(planes: Picture) -> Picture:
    """The piece around every sample, a view of shape h w 7 7, or h w 7 21 of colors; 0 beyond the picture."""
    side, n_planes = 2 * _REACH + 1, planes[0, 0].size
    padded = np.pad(planes, ((_REACH, _REACH), (_REACH, _REACH), (0, 0))[: planes.ndim])
    rows = padded.reshape(len(padded), -1)
    return np.lib.stride_tricks.sliding_window_view(rows, (side, n_planes * side))[:, ::n_planes]
