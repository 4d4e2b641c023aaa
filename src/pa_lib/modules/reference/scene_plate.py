"""A clean plate where it lies in the scene, and what each frame shows of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from pa_lib.contracts import Box
from pa_lib.functional.camera import placed, shifted
from pa_lib.functional.completion import completed
from pa_lib.functional.crops import resample

_FEATHER_PX = 3  # width of the soft edge of what is known, inward; islands that are not wider go
_MARGIN_PX = 3  # around a box that is looked up, so that its edge is resampled as well as the rest
_FAR_PX = 30_000
_BEYOND = 0.5  # share of the frame's size by which the scene may reach beyond it, at each side


class ScenePlate:
    """A clean plate in pixels of the scene: those of the frame, or of the middle frame where the camera moves.

    What no frame shows of it is completed once, by pieces of what is known around it (`functional.completion`), so it
    is the same in all frames. Bodies that stand still are known as well, but take no part in it: no shirt goes on
    beside the neck, and no wall over a shoulder.

    Args:
        plate: The background in 0..255.
        known: Mask of the pixels at which it is known.
        wanted: Mask of the pixels at which it is completed where it is unknown.
        bodies: Mask of the pixels that take no part in the completion.
        corner: Place of the upper left pixel in the scene.
        motion: Homography from the scene to each frame that is asked for; None where the camera stands still.
        size: Height and width of the frames, where the camera moves.
    """

    def __init__(
        self,
        plate: UInt8[Tensor, "3 h w"],
        known: Bool[Tensor, "h w"],
        wanted: Bool[Tensor, "h w"],
        bodies: Bool[Tensor, "h w"],
        corner: tuple[int, int],
        motion: Float64[np.ndarray, "t 3 3"] | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        made, is_made = completed(plate, known & ~bodies, wanted & ~(known | bodies))
        whole, is_there = torch.where(known, plate, made), is_made | known
        masks = torch.stack([known, is_there, ~(known | wanted)]).float()
        self._planes = torch.cat([whole.float() / 255 * is_there, masks])
        self._planes[4:5] = _feathered(self._planes[4:5])
        self._corner, self._motion, self._size = corner, motion, size

    @property
    def is_moving(self) -> bool:
        """Whether the camera moves, so that frames are resampled to be compared."""
        return self._motion is not None

    def seen(self, frame: int, box: Box, height: int, width: int) -> Float[Tensor, "6 h w"]:
        """The plate in a box of a frame.

        That is its color, 0 where there is none; 1 where it is known; its opacity, known or completed, with a soft
        edge; and 1 where something else moves, so that it is neither.

        Args:
            frame: Row of the boxes that the plate was made for.
            box: ``x0 y0 x1 y1`` in pixels of the frame.
            height: Height of the picture in pixels.
            width: Width of the picture in pixels.
        """
        planes, (left, top) = self._planes, self._corner
        if self._motion is not None:
            planes, (left, top) = self._moved(frame, box)
        own = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
        return resample(planes, own, height, width, has_black_bars=True)

    def _moved(self, frame: int, box: Box) -> tuple[Float[Tensor, "6 h w"], tuple[int, int]]:
        """The part of a frame around a box, as far as it lies within the frame, and its corner."""
        assert self._motion is not None
        height, width = self._size
        x0, y0 = max(math.floor(box[0]) - _MARGIN_PX, 0), max(math.floor(box[1]) - _MARGIN_PX, 0)
        x1, y1 = min(math.ceil(box[2]) + _MARGIN_PX, width), min(math.ceil(box[3]) + _MARGIN_PX, height)
        if x1 <= x0 or y1 <= y0 or np.isnan(self._motion[frame]).any() or 0 in self._planes.shape:
            return torch.zeros(6, 1, 1), (x0, y0)
        left, top = self._corner
        to_plate = shifted(-left, -top) @ np.linalg.inv(self._motion[frame]) @ shifted(x0, y0)
        colors, masks = self._planes[:3].movedim(0, -1).numpy(), self._planes[3:].movedim(0, -1).numpy()
        colors, masks = (
            cv2.warpPerspective(part, to_plate, (x1 - x0, y1 - y0), flags=flags | cv2.WARP_INVERSE_MAP)
            for part, flags in ((colors, cv2.INTER_CUBIC), (masks, cv2.INTER_LINEAR))
        )
        return torch.from_numpy(np.dstack([colors, masks])).movedim(-1, 0), (x0, y0)


def covered(
    masks: Sequence[Bool[Tensor, "h w"]],
    motion: Float64[np.ndarray, "t 3 3"] | None,
    part: tuple[int, int, int, int],
) -> Bool[Tensor, "y x"]:
    """The pixels of a part of the scene that masks cover in any frame.

    Args:
        masks: Masks in pixels of the frames.
        motion: Homography from the scene to each of the frames; None where the camera stands still.
        part: Part ``x0 y0 x1 y1`` of the scene in whole pixels.
    """
    x0, y0, x1, y1 = part
    if motion is None:
        return torch.stack([mask[y0:y1, x0:x1] for mask in masks]).any(0).cpu()
    found = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for mask, matrix in zip((one.cpu().numpy() for one in masks), motion, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if not found.size or not len(rows) or np.isnan(matrix).any():
            continue
        own = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8)
        way = shifted(-int(columns[0]), -int(rows[0])) @ matrix @ shifted(x0, y0)
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        found |= cv2.warpPerspective(own, way, found.shape[::-1], flags=flags)
    return torch.from_numpy(found > 0)


def under(
    boxes: Sequence[Box], motion: Float64[np.ndarray, "t 3 3"] | None, part: tuple[int, int, int, int]
) -> Bool[Tensor, "y x"]:
    """The pixels of a part of the scene that lie in any of some boxes.

    Args:
        boxes: ``x0 y0 x1 y1`` in pixels of the frames, one for each; one without area is none.
        motion: Homography from the scene to each of the frames; None where the camera stands still.
        part: Part ``x0 y0 x1 y1`` of the scene in whole pixels.

    >>> under([(1.0, 1.0, 3.0, 9.0)], None, (0, 0, 4, 3)).int().tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    """
    x0, y0, x1, y1 = part
    found = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for at, (left, top, right, bottom) in enumerate(boxes):
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
        if right <= left or bottom <= top or (motion is not None and np.isnan(motion[at]).any()):
            continue
        if motion is not None:
            corners = placed(np.linalg.inv(motion[at]), corners)
        # the middles of the pixels at the edge; far beyond the part, whole numbers would not hold them
        own = (corners - (x0, y0)).clip(-_FAR_PX, _FAR_PX)
        own = np.ceil(own - 0.5) - (own > own.mean(0))
        cv2.fillConvexPoly(found, own.astype(np.int32), 1)
    return torch.from_numpy(found > 0)


def part_of_scene(
    boxes: Sequence[Box], motion: Float64[np.ndarray, "t 3 3"] | None, height: int, width: int
) -> tuple[int, int, int, int]:
    """The part of the scene that boxes show, as far as they lie within their frames.

    Args:
        boxes: ``x0 y0 x1 y1`` in pixels of the frames.
        motion: Homography from the scene to each of the frames; None where the camera stands still.
        height: Height of the frames in pixels.
        width: Width of the frames in pixels.

    Returns:
        ``x0 y0 x1 y1`` in whole pixels, at most half a frame beyond the one whose pixels are the scene's.

    >>> part_of_scene([(-3.5, 1.5, 4.0, 5.0), (2.0, 2.0, 9.5, 5.0)], None, 8, 8)
    (0, 1, 8, 5)
    """
    corners = np.array([[(x, y) for x in box[::2] for y in box[1::2]] for box in boxes], np.float64)
    beyond = 0.0
    if motion is not None:
        beyond = _BEYOND
        is_found = ~np.isnan(motion[:, 0, 0])
        inside = corners[is_found].clip(0, (width, height))
        ways = [np.linalg.inv(one) for one in motion[is_found]]
        corners = np.array([placed(way, own) for way, own in zip(ways, inside, strict=True)])
    if not len(corners):
        return 0, 0, 0, 0
    least, most = np.array([width, height]) * -beyond, np.array([width, height]) * (1 + beyond)
    x0, y0 = np.floor(corners.min((0, 1)).clip(least, most)).astype(int).tolist()
    x1, y1 = np.ceil(corners.max((0, 1)).clip(least, most)).astype(int).tolist()
    return x0, y0, x1, y1


def _feathered(known: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    """1 well inside of what is known, falling to 0 at its edge; beyond the part of the frame it counts as known."""
    if not known.numel():
        return known
    size, whole = 2 * _FEATHER_PX + 1, known[None]
    inner = -max_pool2d(-pad(whole, (_FEATHER_PX,) * 4, value=1.0), size, 1)
    soft: Tensor = avg_pool2d(pad(inner, (_FEATHER_PX,) * 4, value=1.0), size, 1)[0]
    return soft * known
