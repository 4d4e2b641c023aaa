"""Square crops around people: where they lie, how they are cut out and resized, and which pixels a mask reaches.

Boxes lie anywhere, also between pixels: a box on whole pixels jumps where a person glides, by half a pixel and by the
size of its own rounding, and a generated face would jitter with it. Cutting and resizing are one resampling, whose
weights are at hand, so which source pixels enter a crop pixel is known exactly.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from pa_lib.contracts import Box
from pa_lib.functional.boxes import bounding_box
from pa_lib.functional.smoothing import local_lines

Interpolation = Literal["bilinear", "bicubic"]
"""``x0 y0 x1 y1``, px; the first pixel reaches from 0 to 1."""

_SHARPNESS = -0.5  # the cubic kernel's free parameter, at which it is exact for parabolas (Keys 1981)


def extent(top: int, left: int, alpha: Float[Tensor, "h w"]) -> tuple[int, int, int, int] | None:
    """Box ``x0 y0 x1 y1`` px of everything above 0 in a part of a frame; None where nothing is.

    >>> extent(5, 7, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.1, 1.0]]))
    (8, 6, 10, 7)
    """
    found = bounding_box(alpha)
    if found is None:
        return None
    rows, columns = found
    return left + columns.start, top + rows.start, left + columns.stop, top + rows.stop


def square_boxes(
    boxes: Float[Tensor, "t 4"], expansion: float = 1.25, temporal_smoothing: float = 0.0
) -> Float[Tensor, "t 4"]:
    """Square boxes that hold the given ones, with the same centre, or nearly where they are smoothed.

    Args:
        boxes: Boxes ``x0 y0 x1 y1`` in pixels; a row of NaN has no box, and gets the square of the nearest frame that
            has one.
        expansion: Ratio of the side of a square to the longer side of its box, >= 1.
        temporal_smoothing: Standard deviation in frames of the Gaussian that weighs the frames; a straight line in time
            is fitted around every frame to centres and sides. Even motion and growth stay as they are, jitter is
            smoothed. A square that no longer holds its box is enlarged. 0 = every frame by itself.

    Returns:
        float64; they may reach beyond the frame.

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
    if temporal_smoothing > 0:
        smoothing = local_lines(present.double(), temporal_smoothing)
        centres, sides = smoothing @ centres, smoothing @ sides
    needed = 2 * torch.maximum(own[:, 2:] - centres, centres - own[:, :2]).amax(1, keepdim=True)
    sides = torch.maximum(sides, needed)
    squares = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    nearest = (torch.arange(len(boxes), device=present.device)[:, None] - present[None, :]).abs().argmin(1)
    return squares[nearest]


def resample(
    planes: Num[Tensor, "c h w"],
    box: Box,
    height: int,
    width: int,
    interpolation: Interpolation = "bilinear",
    *,
    has_black_bars: bool = False,
) -> Float[Tensor, "c y x"]:
    """A box of a picture at another size, with the kernel widened as much as it shrinks, so that nothing aliases.

    Args:
        planes: The picture, values of any range.
        box: Box of the part in pixels of `planes`; may lie between pixels, and beyond a picture with zero padding.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        interpolation: ``bilinear``, whose weights are never negative, or ``bicubic``, which is sharper and may
            overshoot (Keys 1981).
        has_black_bars: Whether the picture is padded with 0. Otherwise only pixels of the picture count.

    Returns:
        float32 or wider.

    Raises:
        ValueError: The box reaches beyond a picture without black bars.

    >>> resample(torch.tensor([[[0.0, 4.0]]]), (0.5, 0.0, 1.5, 1.0), 1, 2)
    tensor([[[1., 3.]]])
    """
    x0, y0, x1, y1 = box
    n_rows, n_columns = planes.shape[1:]
    if not has_black_bars and (min(x0, y0) < 0 or x1 > n_columns or y1 > n_rows):
        raise ValueError(f"the box {box} reaches beyond a picture of {n_columns} x {n_rows}")
    rows, down = _weights(n_rows, y0, y1, height, interpolation, has_black_bars)
    columns, across = _weights(n_columns, x0, x1, width, interpolation, has_black_bars)
    return _resampled(planes[:, rows, columns], down, across)


def _resampled(
    part: Num[Tensor, "c h w"], down: Float[Tensor, "y h"], across: Float[Tensor, "x w"]
) -> Float[Tensor, "c y x"]:
    part = part if part.is_floating_point() else part.float()
    return down.to(part) @ part @ across.to(part).T


def _weights(
    n: int, start: float, stop: float, n_new: int, interpolation: Interpolation, has_black_bars: bool
) -> tuple[slice, Float[Tensor, "new old"]]:
    """Along one axis: the old pixels that matter, and the weight of each in every new one."""
    scale = (stop - start) / n_new
    reach = max(scale, 1.0) * (1 if interpolation == "bilinear" else 2)
    centres = start + (torch.arange(n_new, dtype=torch.float64) + 0.5) * scale
    first, last = math.floor(start + scale / 2 - reach), math.ceil(stop - scale / 2 + reach)
    distance = (torch.arange(first, last, dtype=torch.float64) + 0.5 - centres[:, None]).abs() / max(scale, 1.0)
    if interpolation == "bilinear":
        weights = (1 - distance).clamp_min(0)
    else:
        a = _SHARPNESS
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    inside = slice(min(max(first, 0), n), min(max(last, 0), n))
    kept = weights[:, inside.start - first : inside.stop - first]
    total = (weights if has_black_bars else kept).sum(1, keepdim=True)
    return inside, kept / total


def cut_and_hide(
    frame: Num[Tensor, "3 h w"], hidden: Bool[Tensor, "h w"], own: Bool[Tensor, "h w"], box: Box, side: int
) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "1 s s"], Float[Tensor, "1 s s"]]:
    """A crop of one frame in which no hidden pixel has a part, with the masks at its size.

    Hidden pixels become 0 (black) *before* the resizing. Masks are resized together with the pixels by a kernel without
    negative weights, so a mask is above 0 at exactly those crop pixels in which one of its pixels has a part.

    Args:
        frame: The whole frame, in [0, 1] as float or in 0..255 as uint8.
        hidden: Mask of all hidden people over the whole frame.
        own: Mask of the person of this crop over the whole frame; counts as hidden.
        box: Square of the crop in pixels; may reach beyond the frame, where the crop is black and not hidden.
        side: Side length of the crop in pixels.

    Returns:
        Pixels in [0, 1]; hidden and own as 0 or 1. Float32.
    """
    x0, y0, x1, y1 = box
    rows, down = _weights(frame.shape[1], y0, y1, side, "bilinear", has_black_bars=True)
    columns, across = _weights(frame.shape[2], x0, x1, side, "bilinear", has_black_bars=True)
    part, own = frame[:, rows, columns], own[rows, columns]  # before anything else: most of a frame is left out
    is_hidden = hidden[rows, columns] | own
    masks = torch.stack([is_hidden, own]).to(frame.dtype)
    resized = _resampled(torch.cat([torch.where(is_hidden, 0, part), masks]), down, across)
    pixels = resized[:3] / 255 if frame.dtype == torch.uint8 else resized[:3]
    return pixels.clamp(0, 1), (resized[3:4] > 0).float(), (resized[4:5] > 0).float()
