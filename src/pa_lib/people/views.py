"""Small grey views of frames: how the camera moves from one to the next, and how much else changes."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.video.frame import Picture

VIEW_PX = 256  # longer side of the view in which the motion of the camera is measured
DETAIL_PX = 640  # longest side of the view in which frames are compared: the smallest face, of 16 px, has 5 in 1080p
_BETTER = 0.95  # what a shift must leave of the difference between two views; over a still scene it is never below 1
THUMBNAIL = (48, 27)  # width, height: a person who walks moves less than a pixel in it, a new shot changes them all


def camera_view(picture: Picture) -> NDArray[np.float32]:
    """The picture in grey at the size in which `motion` compares, values in [0, 1]."""
    scale = VIEW_PX / max(picture.format.width, picture.format.height)
    top = (1 << picture.format.bits) - 1
    return cast("NDArray[np.float32]", _grey(picture, scale).astype(np.float32) / top)


def detail_view(picture: Picture) -> NDArray[np.uint8]:
    """The picture in grey, at most `DETAIL_PX` on its longer side."""
    scale = min(1.0, DETAIL_PX / max(picture.format.width, picture.format.height))
    grey = _grey(picture, scale)
    if picture.format.bits > 8:
        grey = grey.astype(np.uint16) >> (picture.format.bits - 8)
    return grey.astype(np.uint8)


def _grey(picture: Picture, scale: float) -> NDArray[Any]:
    """The picture in grey; its luma where it has one, which spares a conversion."""
    size = max(8, round(picture.format.width * scale)), max(8, round(picture.format.height * scale))
    plane = picture.planes[0]
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small.mean(axis=2) if plane.ndim == 3 else small)


def motion(before: NDArray[np.float32], after: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """How far the scene moved between two views, in their px, and how much else has changed, as a mean in [0, 1].

    The shift is found by phase correlation. Tracks lie in the moving scene, so that a crowd stands still while a camera
    pans. A wrong shift does little harm: it is the same at both ends of what the tracker fills in, and those are the
    detector's own boxes. The change is that of two thumbnails, after the shift: a fast pan is no cut.
    """
    still = np.zeros(2)
    if before.shape != after.shape:
        return still, 1.0
    whole = np.ones_like(before)
    change = _change(before, after, whole)
    window = cv2.createHanningWindow(before.shape[::-1], cv2.CV_32F)
    # Copies: OpenCV puts the window onto the very pictures it is given.
    shift = np.array(cv2.phaseCorrelate(before.copy(), after.copy(), window)[0], np.float64)
    if not np.isfinite(shift).all():
        return still, change
    path = np.concatenate([np.eye(2), shift[:, None]], axis=1)
    moved, known = (cv2.warpAffine(view, path, before.shape[::-1]) for view in (before, whole))
    both = known > 0.99
    if both.mean() < 0.5 or np.abs(after - moved)[both].mean() > _BETTER * np.abs(after - before)[both].mean():
        return still, change
    return shift, min(change, _change(moved, after, known))


def _change(before: NDArray[np.float32], after: NDArray[np.float32], known: NDArray[np.float32]) -> float:
    """Mean difference of two views at the size of a thumbnail, where both are known."""
    old, new, share = (cv2.resize(view, THUMBNAIL, interpolation=cv2.INTER_AREA) for view in (before, after, known))
    return float(np.abs(new - old)[share > 0.99].mean())
