"""Square crops around people: where they lie, how they are cut out and resized, and which pixels a mask reaches.

Boxes lie on whole pixels, so cutting and pasting copy and only the resizing interpolates: no second resampling blurs,
and which source pixels enter a crop pixel is known exactly.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor
from torch.nn.functional import interpolate

_REACH = 3  # of a Gaussian's sigmas, beyond which its weights do not matter


def extent(top: int, left: int, alpha: Float[Tensor, "h w"]) -> tuple[int, int, int, int] | None:
    """Box ``x0 y0 x1 y1`` px of everything above 0 in a part of a frame; None where nothing is.

    >>> extent(5, 7, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.1, 1.0]]))
    (8, 6, 10, 7)
    """
    rows = (alpha > 0).any(1).nonzero()
    if not len(rows):
        return None
    columns = (alpha > 0).any(0).nonzero()
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


def square_boxes(boxes: Float[Tensor, "t 4"], expansion: float = 1.25, steadiness: float = 0.0) -> Float[Tensor, "t 4"]:
    """Square boxes on whole pixels that hold the given ones, with the same centre up to half a pixel.

    Args:
        boxes: ``x0 y0 x1 y1`` px; NaN where there is none, which takes the square of the nearest frame that has one.
        expansion: Side of a square over the longer side of its box, >= 1.
        steadiness: Standard deviation in frames of a Gaussian that smooths centres and sides over the frames given. A
            square that no longer held its box is enlarged. 0 = every frame by itself.

    Returns:
        float64, whole numbers; they may reach beyond the frame.

    Raises:
        ValueError: No frame has a box.

    >>> square_boxes(torch.tensor([[10.0, 10.0, 20.0, 30.0]]), expansion=1.5).tolist()
    [[0.0, 5.0, 30.0, 35.0]]
    """
    boxes = boxes.double()
    (present,) = boxes.isfinite().all(1).nonzero(as_tuple=True)
    if not len(present):
        raise ValueError("no frame has a box to put a square around")
    own = boxes[present]
    centres = (own[:, :2] + own[:, 2:]) / 2
    sides = (own[:, 2:] - own[:, :2]).amax(1, keepdim=True) * expansion
    if steadiness > 0:
        distance = (present[:, None] - present[None, :]).double() / steadiness
        weights = torch.where(distance.abs() <= _REACH, torch.exp(-(distance**2) / 2), 0.0)
        weights /= weights.sum(1, keepdim=True)
        centres, sides = weights @ centres, weights @ sides
    needed = 2 * torch.maximum(own[:, 2:] - centres, centres - own[:, :2]).amax(1, keepdim=True)
    # Ceiling and floor forgive what float64 leaves of a whole number, 1e-9 px.
    sides = (torch.maximum(sides, needed) - 1e-9).ceil().clamp_min(1)
    corners = (centres - sides / 2 + 1e-9).floor()
    squares = torch.cat([corners, corners + sides], dim=1)
    nearest = (torch.arange(len(boxes), device=present.device)[:, None] - present[None, :]).abs().argmin(1)
    return squares[nearest]


def cut(frame: Num[Tensor, "c h w"], box: tuple[int, int, int, int]) -> Num[Tensor, "c y x"]:
    """The part of a frame within a box of whole pixels; zeros where the box reaches beyond the frame.

    >>> cut(torch.ones(1, 2, 2), (-1, 0, 2, 1)).tolist()
    [[[0.0, 1.0, 1.0]]]
    """
    x0, y0, x1, y1 = box
    height, width = frame.shape[1:]
    part = frame.new_zeros(frame.shape[0], y1 - y0, x1 - x0)
    rows, columns = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
    if rows.start < rows.stop and columns.start < columns.stop:
        part[:, rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0] = frame[:, rows, columns]
    return part


def resize(pixels: Float[Tensor, "n c h w"], height: int, width: int, mode: str = "bilinear") -> Tensor:
    """Resize, with the kernel widened as much as the picture shrinks, so that nothing aliases.

    Args:
        pixels: Any range. Float32 or wider.
        height: Of the result, px.
        width: Of the result, px.
        mode: ``bilinear``, whose weights are never negative, or ``bicubic``, which is sharper and may overshoot.
    """
    return interpolate(pixels, size=(height, width), mode=mode, align_corners=False, antialias=True)


def cut_and_hide(
    frame: Num[Tensor, "3 h w"],
    hidden: Bool[Tensor, "h w"],
    own: Bool[Tensor, "h w"],
    box: tuple[int, int, int, int],
    side: int,
) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "1 s s"], Float[Tensor, "1 s s"]]:
    """A crop of one frame in which no hidden pixel has a part, with the masks at its size.

    Hidden pixels become 0 (black) *before* the resizing. Masks are resized together with the pixels by a kernel without
    negative weights, so a mask is above 0 at exactly those crop pixels in which one of its pixels has a part.

    Args:
        frame: Pixels in [0, 1] as float, or 0..255 as uint8.
        hidden: Everybody's mask, of the whole frame.
        own: One person's mask, of the whole frame; counts as hidden.
        box: Square, whole pixels; may reach beyond the frame, where the crop is black and not hidden.
        side: Of the crop, px.

    Returns:
        Pixels in [0, 1]; hidden and own as 0 or 1. Float32.
    """
    is_own = cut(own[None], box)
    is_hidden = cut(hidden[None], box) | is_own
    pixels = cut(frame, box)
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
    pixels = torch.where(is_hidden, 0.0, pixels)
    resized = resize(torch.cat([pixels, is_hidden.float(), is_own.float()])[None], side, side)[0]
    return resized[:3].clamp(0, 1), (resized[3:4] > 0).float(), (resized[4:5] > 0).float()
