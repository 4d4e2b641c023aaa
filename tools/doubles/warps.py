"""Smooth warps between two sets of points, and blending without seams."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Points = NDArray[np.floating[Any]]

STIFFNESS = 1e-3  # of the spline: neighbours of the mesh that disagree by a pixel do not fold the picture


def thin_plate(targets: Points, sources: Points, size: tuple[int, int], step_px: int) -> Picture:
    """For every pixel of the target where it comes from: shape h w 2, for `cv2.remap`.

    Args:
        targets: Points of the result, shape n 2 (x, y), px.
        sources: The same points in the source, px.
        size: Width and height of the result, px.
        step_px: The spline is evaluated at this distance and interpolated between.

    Source: Bookstein 1989, "Principal warps: thin-plate splines and the decomposition of deformations".
    """
    scale = max(size)
    centres = targets / scale
    n = len(centres)
    affine = np.hstack([np.ones((n, 1)), centres])
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _radial(centres, centres) + STIFFNESS * np.eye(n)
    system[:n, n:], system[n:, :n] = affine, affine.T
    weights = np.linalg.solve(system, np.vstack([(sources - targets) / scale, np.zeros((3, 2))]))
    columns, rows = -(-size[0] // step_px) + 1, -(-size[1] // step_px) + 1
    x, y = np.meshgrid(np.arange(columns) * step_px, np.arange(rows) * step_px)
    places = np.stack([x.ravel(), y.ravel()], axis=1) / scale
    basis = np.hstack([_radial(places, centres), np.ones((len(places), 1)), places])
    moved = ((basis @ weights) * scale).reshape(rows, columns, 2).astype(np.float32)
    px, py = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))
    dense = cv2.remap(moved, px / step_px, py / step_px, cv2.INTER_LINEAR)
    return dense + np.stack([px, py], axis=2)


def _radial(a: Points, b: Points) -> NDArray[np.float64]:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    squared = np.maximum(squared, 1e-12)
    return squared * np.log(squared) / 2


def warped(picture: NDArray[Any], places: Picture) -> NDArray[Any]:
    """The picture, sampled at these places."""
    return cv2.remap(picture, places[..., 0], places[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def blended(below: Picture, above: Picture, mask: NDArray[np.float32], levels: int) -> Picture:
    """`above` where the mask is 1, `below` where it is 0: fine detail changes at once, light over a wide band.

    Args:
        below: Picture, shape h w 3.
        above: Other picture, shape h w 3.
        mask: Share of `above`, shape h w, in [0, 1].
        levels: Number of levels of the pyramids, >= 1; sides that they do not halve are padded.

    Source: Burt & Adelson 1983, "A multiresolution spline with application to image mosaics".
    """
    h, w = mask.shape
    multiple = 2**levels
    pad = (0, -h % multiple, 0, -w % multiple)
    a, b = (cv2.copyMakeBorder(x, *pad, cv2.BORDER_REPLICATE) for x in (below, above))
    m = cv2.copyMakeBorder(mask, *pad, cv2.BORDER_REPLICATE)
    bands = []
    for _ in range(levels):
        smaller = [cv2.pyrDown(x) for x in (a, b, m)]
        size = a.shape[1], a.shape[0]
        fine = [x - cv2.pyrUp(s, dstsize=size) for x, s in zip((a, b), smaller[:2], strict=True)]
        bands.append(fine[0] + m[..., None] * (fine[1] - fine[0]))
        a, b, m = smaller
    result = a + m[..., None] * (b - a)
    for band in reversed(bands):
        result = cv2.pyrUp(result, dstsize=(band.shape[1], band.shape[0])) + band
    return result[:h, :w]


def hull(points: Points, size: tuple[int, int], grow_px: float, soft_px: float) -> NDArray[np.float32]:
    """A soft mask of what the points enclose.

    Args:
        points: Places in the mask, shape n 2 (x, y), px.
        size: Width and height, px.
        grow_px: The hull is grown by this; below 0 it is shrunk.
        soft_px: Standard deviation of its edge.
    """
    mask = np.zeros((size[1], size[0]), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points).astype(np.int32)), 1.0)
    if abs(grow_px) >= 1:
        side = 2 * round(abs(grow_px)) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        mask = cv2.dilate(mask, kernel) if grow_px > 0 else cv2.erode(mask, kernel)
    return cv2.GaussianBlur(mask, (0, 0), soft_px)
