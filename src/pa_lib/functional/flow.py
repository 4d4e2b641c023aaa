"""Optical flow: pictures warped along it, and the pixels that it does not explain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor
from torch.nn.functional import grid_sample

_ROUNDING = 1e-3  # px; an exact flow ends on the last row or column up to it
_REMAP_MOST_PX = 32_767  # a side, OpenCV's limit

Lookup = Callable[[Float[Tensor, "2 rows w"], int], Float[Tensor, "n rows w"]]

# Lai et al. 2018, in the code of their evaluation, which took them from Sundaram et al. 2010 and Ruder et al. 2016.
INCONSISTENCY_SLOPE, INCONSISTENCY_PX2 = 0.01, 0.5
BOUNDARY_SLOPE, BOUNDARY_OFFSET = 0.01, 0.002


def warp(
    frames: Float[Tensor, "n c h w"], flow: Num[Tensor, "n 2 rows w"], top: int = 0
) -> Float[Tensor, "n c rows w"]:
    """``y(p) = x(p + flow(p))``: look every pixel up where it has moved to.

    Bilinear in pixel coordinates; beyond the border the border's pixels go on.

    Args:
        frames: The later frames, or other values of their pixels.
        flow: Optical flow (x, y) in pixels: where each pixel of the earlier frame is in the later one; of all rows, or
            of some.
        top: Row of the frames at which the first row of the flow lies.

    >>> later = torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]])
    >>> right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    >>> warp(later, right).tolist()
    [[[[1.0, 2.0, 3.0, 3.0]]]]
    """
    height, width = frames.shape[-2:]
    x, y = _targets(flow, top)
    x.mul_(2 / max(width - 1, 1)).sub_(1)
    y.mul_(2 / max(height - 1, 1)).sub_(1)
    grid = torch.stack((x, y)).movedim(0, -1).to(frames.dtype)  # planes, not pairs: sampled 10 % sooner on a CPU
    return grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=True)


def lookup(planes: Sequence[Float[Tensor, "h w"]]) -> Lookup:
    """`warp` of one picture, band by band: no gradients, on the CPU several times as fast where OpenCV is exact.

    Args:
        planes: Channels of the picture, each of them anywhere in memory.

    Returns:
        What looks all of them up along the flow of some rows, given with the number of the first row.

    >>> left = torch.tensor([-0.5, 0.0]).view(2, 1, 1).expand(2, 1, 4)
    >>> lookup([torch.tensor([[0.0, 1.0, 2.0, 3.0]])])(left, 0).tolist()
    [[[0.0, 0.5, 1.5, 2.5]]]
    """
    height, width = planes[0].shape
    is_plain = all(plane.device.type == "cpu" and plane.dtype == torch.float32 for plane in planes)
    if not (is_plain and max(height, width) < _REMAP_MOST_PX and _is_remap_exact()):
        picture = torch.stack(list(planes))[None]
        return lambda flow, top: warp(picture, flow[None], top)[0]
    # In fours: four channels in one are looked up in the time that a single one takes. Zeros fill the last four up.
    own = [plane.detach().contiguous().numpy() for plane in planes]
    n_planes, filled = len(own), -(-len(own) // 4) * 4
    own += [np.zeros((height, width), np.float32)] * (filled - n_planes)
    pictures = [cv2.merge(own[first : first + 4]) for first in range(0, filled, 4)]

    def remapped(flow: Float[Tensor, "2 rows w"], top: int) -> Float[Tensor, "n rows w"]:
        x, y = (way[0].float() for way in _targets(flow.detach()[None], top))
        # Places far out of the picture do not fit into the integers of OpenCV.
        xs, ys = x.clamp_(0, width - 1).numpy(), y.clamp_(0, height - 1).numpy()
        moved = torch.empty(filled, *xs.shape)
        places = list(moved.numpy())
        for number, picture in enumerate(pictures):
            found = cv2.remap(picture, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            cv2.split(found, places[4 * number : 4 * number + 4])  # into `moved`
        return moved[:n_planes]

    return remapped


@functools.cache
def _is_remap_exact() -> bool:
    """Whether OpenCV looks up exactly the given places: 5 does where it has the instructions for it, 4 to 1/32 px."""
    rows, columns = np.mgrid[:70, :90].astype(np.float32)
    picture = (columns + 2 * rows) / 256
    x, y = np.minimum(columns + 0.3137, 89).astype(np.float32), np.minimum(rows + 0.7713, 69).astype(np.float32)
    moved = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return bool(np.abs(moved - (x + 2 * y) / 256).max() < 1e-6)  # to 1/32 px it is 5e-5 and more


def stays_inside(flow: Num[Tensor, "n 2 h w"]) -> Num[Tensor, "n 1 h w"]:
    """1 where a pixel is still in the picture after it has moved, else 0.

    >>> stays_inside(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3)).tolist()
    [[[[1.0, 1.0, 0.0]]]]
    """
    height, width = flow.shape[-2:]
    x, y = _targets(flow)
    is_in = (x > -_ROUNDING) & (x < width - 1 + _ROUNDING) & (y > -_ROUNDING) & (y < height - 1 + _ROUNDING)
    return is_in[:, None].to(flow.dtype)


def occlusion(
    forward_flow: Float[Tensor, "n 2 h w"], backward_flow: Float[Tensor, "n 2 h w"]
) -> Bool[Tensor, "n 1 h w"]:
    r"""True where a pixel of the earlier frame is not seen in the later one, or where the flow is unreliable.

    Either the way there and back does not end where it began (`flow_inconsistency`), or the flow changes too fast
    (`motion_boundaries`).

    Args:
        forward_flow: Optical flow (x, y) in pixels: where each pixel of the earlier frame is in the later one.
        backward_flow: Optical flow in pixels: where each pixel of the later frame was in the earlier one.

    Raises:
        ValueError: The flows differ in shape, or it is not n 2 h w.

    >>> right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    >>> bool(occlusion(right, -right).any()), bool(occlusion(right, right).all())
    (False, True)

    Source: Lai et al. 2018, "Learning blind video temporal consistency", the code of their evaluation.
    """
    _check_flow(forward_flow)
    if backward_flow.shape != forward_flow.shape:
        raise ValueError(
            f"flows have shapes {tuple(forward_flow.shape)} and {tuple(backward_flow.shape)}, expected the same twice"
        )
    return flow_inconsistency(forward_flow, warp(backward_flow, forward_flow)) | motion_boundaries(forward_flow)


def flow_inconsistency(flow: Float[Tensor, "n 2 h w"], way_back: Float[Tensor, "n 2 h w"]) -> Bool[Tensor, "n 1 h w"]:
    r"""True where the way there and the way back do not cancel out.

    .. math:: \lVert w + \tilde w \rVert^2 > 0.01 \, (\lVert w \rVert^2 + \lVert \tilde w \rVert^2) + 0.5

    Args:
        flow: :math:`w`, the flow in pixels.
        way_back: :math:`\tilde w`, the opposite flow in pixels, looked up where `flow` leads, ``warp(backward, flow)``.

    >>> flow_inconsistency(torch.ones(1, 2, 1, 1), torch.tensor([-1.0, -0.2]).view(1, 2, 1, 1)).item()
    True
    """
    _check_flow(flow)
    allowed = (_squared_length(flow) + _squared_length(way_back)).mul_(INCONSISTENCY_SLOPE).add_(INCONSISTENCY_PX2)
    return _squared_length(flow + way_back) > allowed


def motion_boundaries(flow: Float[Tensor, "n 2 h w"]) -> Bool[Tensor, "n 1 h w"]:
    r"""True where neighbouring pixels move apart: flow is least exact there, and pixels get hidden.

    .. math:: \lVert \nabla u \rVert^2 + \lVert \nabla v \rVert^2 > 0.01 \, \lVert w \rVert^2 + 0.002

    with forward differences, which are 0 in the last row and the last column.

    Args:
        flow: :math:`w = (u, v)`, the flow in pixels.

    >>> step = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 1, 4).expand(1, 2, 1, 4)
    >>> motion_boundaries(step)[0, 0, 0].tolist()
    [False, True, False, False]
    """
    _check_flow(flow)
    change = torch.zeros_like(flow[:, :1])
    change[..., :, :-1] += _squared_length(flow[..., :, 1:] - flow[..., :, :-1])
    change[..., :-1, :] += _squared_length(flow[..., 1:, :] - flow[..., :-1, :])
    return change > _squared_length(flow).mul_(BOUNDARY_SLOPE).add_(BOUNDARY_OFFSET)


def _squared_length(field: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 1 h w"]:
    # Half the time of a sum over the squares, on a CPU
    x, y = field[:, :1], field[:, 1:]
    return (x * x).addcmul_(y, y)


def _targets(flow: Num[Tensor, "n 2 rows w"], top: int = 0) -> tuple[Num[Tensor, "n rows w"], Num[Tensor, "n rows w"]]:
    """Where pixels are after they have moved, px from the upper left pixel's centre."""
    n_rows, width = flow.shape[-2:]
    flow = flow.to(torch.promote_types(flow.dtype, torch.float32))  # halves cannot count a thousand columns
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)
    rows = torch.arange(top, top + n_rows, device=flow.device, dtype=flow.dtype)
    return flow[:, 0] + columns, flow[:, 1] + rows[:, None]


def _check_flow(flow: Tensor) -> None:
    if flow.ndim != 4 or flow.shape[1] != 2:
        raise ValueError(f"flow has shape {tuple(flow.shape)}, expected n 2 h w")
