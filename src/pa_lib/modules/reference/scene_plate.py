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
from pa_lib.functional.crops import resample

_FEATHER_PX = 3  # width of the soft edge of what is known, inward; islands that are not wider go
_MARGIN_PX = 3  # around a box that is looked up, so that its edge is resampled as well as the rest
_BEYOND = 0.5  # share of the frame's size by which the scene may reach beyond it, at each side


class ScenePlate:
    """A clean plate in pixels of the scene: those of the frame, or of the middle frame where the camera moves.

    Args:
        plate: The background in 0..255.
        known: Mask of the pixels at which it is known.
        corner: Place of the upper left pixel in the scene.
        motion: Homography from the scene to each frame that is asked for; None where the camera stands still.
        size: Height and width of the frames, where the camera moves.
    """

    def __init__(
        self,
        plate: UInt8[Tensor, "3 h w"],
        known: Bool[Tensor, "h w"],
        corner: tuple[int, int],
        motion: Float64[np.ndarray, "t 3 3"] | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        share = known[None].float()
        self._planes = torch.cat([plate.float() / 255 * share, share, _feathered(share)])
        self._corner, self._motion, self._size = corner, motion, size

    def seen(self, frame: int, box: Box, height: int, width: int) -> Float[Tensor, "5 h w"]:
        """The plate in a box of a frame: color, 0 where it is unknown; 1 where it is known; the same with a soft edge.

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

    def _moved(self, frame: int, box: Box) -> tuple[Float[Tensor, "5 h w"], tuple[int, int]]:
        """The part of a frame around a box, as far as it lies within the frame, and its corner."""
        assert self._motion is not None
        height, width = self._size
        x0, y0 = max(math.floor(box[0]) - _MARGIN_PX, 0), max(math.floor(box[1]) - _MARGIN_PX, 0)
        x1, y1 = min(math.ceil(box[2]) + _MARGIN_PX, width), min(math.ceil(box[3]) + _MARGIN_PX, height)
        if x1 <= x0 or y1 <= y0 or np.isnan(self._motion[frame]).any() or 0 in self._planes.shape:
            return torch.zeros(5, 1, 1), (x0, y0)
        left, top = self._corner
        to_plate = shifted(-left, -top) @ np.linalg.inv(self._motion[frame]) @ shifted(x0, y0)
        colors, masks = self._planes[:3].movedim(0, -1).numpy(), self._planes[3:].movedim(0, -1).numpy()
        colors, masks = (
            cv2.warpPerspective(part, to_plate, (x1 - x0, y1 - y0), flags=flags | cv2.WARP_INVERSE_MAP)
            for part, flags in ((colors, cv2.INTER_CUBIC), (masks, cv2.INTER_LINEAR))
        )
        return torch.from_numpy(np.dstack([colors, masks])).movedim(-1, 0), (x0, y0)


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
