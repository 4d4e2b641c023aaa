"""What an outline network is asked with: a square of the frame, whose outline is wanted, and what is known already."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Box, Disc, OutlinePrompt

Planes = NDArray[np.float32]

N_PLANES = 7
"""Red, green, blue; the box; the head; heads of others; the outline as it is believed to be."""

MARGIN = 0.3  # growth of the longer side of a box to the square that the network sees: arms reach out of boxes
_SOFT = 0.03  # of the square's side: width of the edge of the box


class Square(NamedTuple):
    """A square of the frame in whole pixels; it may reach beyond the frame.

    Args:
        left: Column of its first pixel.
        top: Row of its first pixel.
        side: Number of its rows and columns, >= 1.
    """

    left: int
    top: int
    side: int

    @classmethod
    def around(cls, box: Box, margin: float = MARGIN) -> Square:
        """The square around a box, whose longer side is grown by a share.

        >>> Square.around((10.0, 0.0, 30.0, 100.0), margin=0.2)
        Square(left=-40, top=-10, side=120)
        """
        x0, y0, x1, y1 = box
        side = max(1, int(np.ceil(max(x1 - x0, y1 - y0) * (1 + margin))))
        return cls(round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2), side)

    def inside(self, x: float, y: float, size: int) -> tuple[float, float]:
        """A place of the frame in the square, when that has `size` pixels."""
        scale = size / self.side
        return (x - self.left) * scale, (y - self.top) * scale


def planes_of(
    pixels: NDArray[np.uint8], square: Square, prompt: OutlinePrompt, believed: NDArray[np.float32] | None = None
) -> Planes:
    """Picture and prompt as the network sees them.

    Args:
        pixels: The square, resampled, RGB, shape s s 3; black beyond the frame.
        square: Place of the square in the frame.
        prompt: Prompt with the person whose outline is wanted.
        believed: Outline as it is believed to be, shape s s in [0, 1], from a neighbouring frame; None where unknown.

    Returns:
        Shape 7 s s in [0, 1].
    """
    size = len(pixels)
    planes = np.zeros((N_PLANES, size, size), np.float32)
    planes[:3] = pixels.transpose(2, 0, 1) / np.float32(255)
    planes[3] = _box_map(square, prompt.box, size)
    if prompt.head is not None:
        planes[4] = _disc_map(square, prompt.head, size)
    for disc in prompt.others:
        np.maximum(planes[5], _disc_map(square, disc, size), out=planes[5])
    if believed is not None:
        planes[6] = believed
    return planes


def _box_map(square: Square, box: Box, size: int) -> Planes:
    """1 in the box, falling to 0 outside."""
    (x0, y0), (x1, y1) = square.inside(*box[:2], size), square.inside(*box[2:], size)
    at, soft = np.arange(size, dtype=np.float32) + 0.5, max(1.0, _SOFT * size)
    across, down = (np.clip(1 + np.minimum(at - low, high - at) / soft, 0, 1) for low, high in ((x0, x1), (y0, y1)))
    inside: Planes = (down[:, None] * across[None]).astype(np.float32)
    return inside


def _disc_map(square: Square, disc: Disc, size: int) -> Planes:
    """A bell around the middle of a head, as wide as that."""
    (x, y), radius = square.inside(*disc[:2], size), max(1.0, disc[2] * size / square.side)
    at = np.arange(size, dtype=np.float32) + 0.5
    across, down = (np.exp(-(((at - middle) / radius) ** 2) / 2) for middle in (x, y))
    bell: Planes = (down[:, None] * across[None]).astype(np.float32)
    return bell
