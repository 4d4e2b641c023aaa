"""Faces cut out and set upright by their five landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating[Any]] | Sequence[Sequence[float]]


def similarity(source: Points, target: Points) -> NDArray[np.float64]:
    """Rotation, scale and shift that bring `source` nearest to `target` in least squares: shape 2 3.

    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", without
    its reflection case: in two dimensions the least-squares similarity is one complex factor.

    >>> similarity([[0, 0], [1, 0]], [[5, 5], [5, 7]]).round(6).tolist()
    [[0.0, -2.0, 5.0], [2.0, 0.0, 5.0]]
    """
    start = np.asarray(source, np.float64) @ [1, 1j]
    end = np.asarray(target, np.float64) @ [1, 1j]
    centred = start - start.mean()
    spread = np.vdot(centred, centred).real
    if not spread > 0:
        raise ValueError("all landmarks lie on one point, expected five distinct ones")
    factor = np.vdot(centred, end - end.mean()) / spread
    shift = end.mean() - factor * start.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def align_faces(
    image: NDArray[np.uint8], landmarks: NDArray[np.floating[Any]], template: Points, side_px: int, stretch: float = 1.0
) -> NDArray[np.uint8]:
    """Square chips in which every face has its landmarks at the template's places, as near as a similarity can.

    Args:
        image: RGB image, shape h w 3.
        landmarks: Landmarks (x, y) in pixels, shape n 5 2, in the order of `Detection`.
        template: Places of the landmarks in the chip in pixels, shape 5 2.
        side_px: Side length of a chip in pixels.
        stretch: Factor by which chips are widened about their middle, for networks that learned from stretched boxes.
            The template holds the places before that.

    Returns:
        Shape n side side 3. What lies outside the image repeats its border.

    Raises:
        ValueError: Landmarks of another shape, not finite, or all on one point.
    """
    points = np.asarray(landmarks, np.float64)
    if points.ndim != 3 or points.shape[1:] != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"landmarks have shape {points.shape}, expected n 5 2, all finite")
    chips = np.empty((len(points), side_px, side_px, 3), np.uint8)
    for chip, face in zip(chips, points, strict=True):
        to_chip = similarity(face, template)
        scale = float(np.hypot(to_chip[0, 0], to_chip[1, 0]))
        to_chip[0] = to_chip[0] * stretch + [0, 0, (1 - stretch) * (side_px - 1) / 2]
        # Sampling bilinearly below half the size would skip pixels: render larger by a whole factor, then average.
        factor = round(min(16, max(1, 1 / scale)))
        large = cv2.warpAffine(
            image, to_chip * factor + _half_pixel(factor), (side_px * factor,) * 2, borderMode=cv2.BORDER_REPLICATE
        )
        chip[:] = cv2.resize(large, (side_px, side_px), interpolation=cv2.INTER_AREA) if factor > 1 else large
    return chips


def _half_pixel(factor: int) -> NDArray[np.float64]:
    """Keeps the centres of averaged blocks where the centres of the chip's pixels belong."""
    return np.array([[0, 0, (factor - 1) / 2], [0, 0, (factor - 1) / 2]])
