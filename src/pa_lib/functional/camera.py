"""How the camera moves: one homography for each frame of a window, from what is visible."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8
from numpy.typing import NDArray
from torch import Tensor

_VIEW_PX = 512  # longer side of the grey views in which points are followed
_MOST_POINTS = 250
_APART_PX = 8  # of a view, between two points
_QUALITY = 0.005  # of a corner, as a share of the best one's
_WINDOW_PX = 15  # side of the patch that is followed
_LEVELS = 3  # of the pyramid above the view: 40 px of it in one frame are found
_BACK_PX = 0.5  # of a view, by which a point may miss its origin on the way back
_INLIER_PX = 0.7  # of a view, by which a point of the background may miss its place
_LEAST_POINTS = 24
_LEAST_SHARE = 0.4  # of the points that were followed
_LEAST_OVERLAP = 0.6  # share of the key frame's points that are still in the picture
_LEAST_KNOWN = 0.5  # share of the frames whose motion must be found
_MOST_STILL = 1 / 3  # share of those frames that may look like the middle one where the camera moves
_BLOCK_PX = 16  # of a view
_MOST_DIFFERENCE = 30  # grey values that a pixel counts
_CLEAR = 1.5  # grey values by which a block prefers one motion to another
# Share of the blocks that must prefer a motion to none. Measured: people who walk before a still camera move up to
# 0.15 of them, the camera of four clips 0.55 and more.
_LEAST_MOVED = 1 / 3
_CLEARLY = 3.0  # times as many blocks must prefer a motion to none as the other way round
_AS_GOOD = 0.95  # times its difference: how much simpler counts

Matrix = NDArray[np.float64]


def camera_motion(
    frames: UInt8[Tensor, "t 3 h w"], hidden: Bool[Tensor, "t h w"]
) -> Float64[np.ndarray, "t 3 3"] | None:
    """Homographies from pixels of the middle frame to pixels of each frame.

    Corners of the visible background are followed from a key frame, the middle one, to every other frame, outwards; a
    frame with less than 60 % of the key frame's points becomes the next key frame. Most points decide (RANSAC): what
    moves by itself is left out, and so is what is nearer than most.

    Args:
        frames: Frames in 0..255. Hidden pixels are not looked at.
        hidden: Mask of the hidden pixels.

    Returns:
        Pixels have their centre at whole numbers. NaN in frames whose motion is unknown: too few points, or no motion
        that most of the picture agrees on. None where the camera stands still for a third of the window, or where the
        motion of most frames is unknown.

    Source: Lucas and Kanade 1981 and Shi and Tomasi 1994, in OpenCV's implementations. Ours: key frames and limits.
    """
    n_frames, _, height, width = frames.shape
    scale = max(1.0, max(height, width) / _VIEW_PX)
    views = [
        _View.of(frame[1].numpy(), gone.numpy(), scale) for frame, gone in zip(frames.cpu(), hidden.cpu(), strict=True)
    ]
    found = np.full((n_frames, 3, 3), np.nan)
    middle = n_frames // 2
    found[middle] = np.eye(3)
    for way in (range(middle + 1, n_frames), range(middle - 1, -1, -1)):
        _follow(views, found, middle, way)
    known = ~np.isnan(found[:, 0, 0])
    n_known, n_still = known.sum() - 1, (found == np.eye(3)).all((1, 2)).sum() - 1  # besides the middle one
    if known.mean() < _LEAST_KNOWN or n_still > _MOST_STILL * n_known or not n_known:
        return None
    grow = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    motion: Matrix = grow @ found @ np.linalg.inv(grow)
    return motion


@dataclass(frozen=True, eq=False)
class _View:
    """A frame, small and grey.

    Args:
        picture: Grey picture: the frame's green, and where a pixel is hidden the mean of what is visible around it.
        visible: Mask of the pixels whose patches hold nothing hidden, 1 or 0.
    """

    picture: NDArray[np.uint8]
    visible: NDArray[np.uint8]

    @classmethod
    def of(cls, green: NDArray[np.uint8], hidden: NDArray[np.bool_], scale: float) -> _View:
        size = (round(green.shape[1] / scale), round(green.shape[0] / scale))
        seen = (~hidden).astype(np.uint8)
        share = cv2.resize(seen.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        small = cv2.resize((green * seen).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        if hidden.any():
            reach = (4 * _WINDOW_PX + 1,) * 2
            mean = cv2.blur(small, reach) / np.maximum(cv2.blur(share, reach), 1e-3)
            small = np.where(share >= 0.999, small, mean)
        near = np.ones((_WINDOW_PX + 2,) * 2, np.uint8)
        return cls(np.clip(small, 0, 255).round().astype(np.uint8), cv2.erode((share >= 0.999).astype(np.uint8), near))

    def points(self) -> NDArray[np.float32]:
        """Corners, shape n 2."""
        found = cv2.goodFeaturesToTrack(self.picture, _MOST_POINTS, _QUALITY, _APART_PX, mask=self.visible)
        return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)

    def difference(self, other: _View) -> Matrix:
        """Mean difference in blocks of 16 px, in grey values, large ones cut; NaN where a block is not all visible."""
        size = tuple(max(side // _BLOCK_PX, 1) for side in self.picture.shape[::-1])
        difference = np.minimum(cv2.absdiff(self.picture, other.picture), _MOST_DIFFERENCE).astype(np.float32)
        both = (self.visible & other.visible).astype(np.float32)
        share = cv2.resize(both, size, interpolation=cv2.INTER_AREA)
        means = cv2.resize(difference, size, interpolation=cv2.INTER_AREA).astype(np.float64)
        return np.where(share > 0.999, means, np.nan)

    def warped(self, matrix: Matrix) -> _View:
        """What a view shows at the places that the matrix leads to."""
        size, flags = self.picture.shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        picture = cv2.warpPerspective(self.picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return _View(picture, cv2.warpPerspective(self.visible, matrix, size, flags=flags))


def _follow(views: list[_View], found: Matrix, first: int, way: Iterable[int]) -> None:
    """Fills in what is found of the frames on the way, until one is lost."""
    key, last, points = first, first, views[first].points()
    for at in way:
        relative, overlap = _measured(views[key], points, views[at], found[last] @ np.linalg.inv(found[key]))
        if (relative is None or overlap < _LEAST_OVERLAP) and key != last:
            key, points = last, views[last].points()
            relative, _ = _measured(views[key], points, views[at], np.eye(3))
        if relative is None:
            return
        found[at] = relative @ found[key]
        last = at


def _measured(key: _View, points: NDArray[np.float32], other: _View, guess: Matrix) -> tuple[Matrix | None, float]:
    """Motion from one view to another, near a guess, and the share of points that are in the other picture."""
    if len(points) < _LEAST_POINTS:
        return None, 0.0
    warped = other.warped(guess)
    there, is_there = _followed(key, warped, points)
    back, is_back = _followed(warped, key, there)
    height, width = key.visible.shape
    columns, rows = there.round().astype(np.int64).T
    is_in = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    is_in[is_in] = warped.visible[rows[is_in], columns[is_in]] > 0
    good = is_in & is_there & is_back & (np.abs(back - points).max(1) < _BACK_PX)
    found = _candidates(points[good].astype(np.float64), placed(guess, there[good].astype(np.float64)))
    if not found:
        return None, float(is_in.mean())
    blocks = [key.difference(other.warped(one)) for one in found]
    if any(np.isnan(one).all() for one in blocks):
        return None, float(is_in.mean())
    best = min(range(len(found)), key=lambda at: float(np.nanmean(blocks[at])) * (_AS_GOOD if at == 0 else 1))
    # Corners are few on walls, and many on people who walk before them: so areas have the last word.
    still = key.difference(other)
    change = still - blocks[best]
    n_moved, n_still = ((way * change > _CLEAR).sum() for way in (1, -1))
    if n_moved < _LEAST_MOVED * (~np.isnan(change)).sum():
        return np.eye(3), float(is_in.mean())
    return (found[best] if n_moved >= _CLEARLY * n_still else None), float(is_in.mean())


def _followed(one: _View, other: _View, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Places of points in another view, and which were found."""
    nothing: Any = None  # the type that OpenCV declares has no place for it
    window = (_WINDOW_PX, _WINDOW_PX)
    there, is_found, _ = cv2.calcOpticalFlowPyrLK(
        one.picture, other.picture, points, nothing, winSize=window, maxLevel=_LEVELS
    )
    return there, is_found[:, 0] > 0


def _candidates(points: Matrix, there: Matrix) -> list[Matrix]:
    """Motions that most points agree on, the simplest first: a similarity, and a homography."""
    if len(points) < _LEAST_POINTS:
        return []
    similarity, _ = cv2.estimateAffinePartial2D(points, there, method=cv2.RANSAC, ransacReprojThreshold=_INLIER_PX)
    homography, _ = cv2.findHomography(points, there, cv2.RANSAC, _INLIER_PX, maxIters=500)
    found = [] if similarity is None else [np.vstack([similarity, [0, 0, 1]])]
    found += [] if homography is None else [homography]
    least = max(_LEAST_POINTS, _LEAST_SHARE * len(points))
    return [one for one in found if (np.abs(placed(one, points) - there).max(1) < _INLIER_PX).sum() >= least]


def placed(matrix: Matrix, points: Matrix) -> Matrix:
    """Points, shape n 2, where a homography takes them.

    >>> placed(shifted(1, -2), np.array([[5.0, 5.0]])).tolist()
    [[6.0, 3.0]]
    """
    moved = points @ matrix[:2, :2].T + matrix[:2, 2]
    found: Matrix = moved / (points @ matrix[2, :2] + matrix[2, 2])[:, None]
    return found


def shifted(x: float, y: float) -> Matrix:
    """The homography that moves all points by the same way."""
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])
