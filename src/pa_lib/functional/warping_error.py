"""How much a video flickers: every frame against the next one, brought back along the flow."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

_ROUNDING = 1e-3  # px; an exact flow ends on the last row or column up to it


def warp(frames: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n c h w"]:
    """``y(p) = x(p + flow(p))``: look every pixel up where it has moved to.

    Bilinear in pixel coordinates; beyond the border the border's pixels go on.

    Args:
        frames: The later frames.
        flow: px, x then y: where each pixel of the earlier frame is in the later one.

    >>> later = torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]])
    >>> right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    >>> warp(later, right).tolist()
    [[[[1.0, 2.0, 3.0, 3.0]]]]
    """
    height, width = frames.shape[-2:]
    x, y = _targets(flow)
    scaled = (2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1)
    grid = torch.stack(scaled, dim=-1).to(frames.dtype)
    return grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=True)


def stays_inside(flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 1 h w"]:
    """1 where a pixel is still in the picture after it has moved, else 0.

    >>> stays_inside(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3)).tolist()
    [[[[1.0, 1.0, 0.0]]]]
    """
    height, width = flow.shape[-2:]
    x, y = _targets(flow)
    is_in = (x > -_ROUNDING) & (x < width - 1 + _ROUNDING) & (y > -_ROUNDING) & (y < height - 1 + _ROUNDING)
    return is_in[:, None].to(flow.dtype)


def warping_error(
    frames: Float[Tensor, "b t 3 h w"],
    flow: Float[Tensor, "b t-1 2 h w"],
    mask: Float[Tensor, "b t 1 h w"] | None = None,
    visible: Float[Tensor, "b t-1 1 h w"] | None = None,
) -> Float[Tensor, "b t-1"]:
    r"""Temporal warping error of every pair of neighbouring frames.

    .. math:: E_t = \frac{\sum_p M_t(p) \, \lVert O_{t+1}(p + F_t(p)) - O_t(p) \rVert^2}{3 \sum_p M_t(p)}

    :math:`M_t(p)` is 0 where p leaves the picture, and else ``visible`` times the mask at both ends, that is
    :math:`m_t(p) \, m_{t+1}(p + F_t(p))`: what enters or leaves the mask is not compared. The flow is that of the
    source, not of `frames`. A frozen, blurred or blank video can score well: report how sharp it is beside it.

    Args:
        frames: The video to judge, in [0, 1].
        flow: px, x then y: where each pixel of a frame has moved in the next one.
        mask: Weights in [0, 1] of what is judged; None judges everything.
        visible: 1 where a pixel is seen in the next frame too, 0 where it is hidden there; None takes all for seen.

    Returns:
        Per channel and pixel, >= 0; NaN for pairs of which nothing can be compared: leave them out, and count them.

    Raises:
        ValueError: Shapes do not fit, or there is but one frame.

    >>> flicker = torch.tensor([0.5, 0.6, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 4, 4)
    >>> [round(pair, 4) for pair in warping_error(flicker, torch.zeros(1, 2, 2, 4, 4))[0].tolist()]
    [0.01, 0.01]

    Source: Lai et al. 2018, "Learning blind video temporal consistency", section 4.2, with its quotient by channels
    and pixels. Ours: the mask at both ends, and NaN where Lai's code scores a wholly hidden pair as a perfect 0.
    """
    _check(frames, flow, mask, visible)
    n_clips, n_pairs = flow.shape[:2]
    motion = rearrange(flow, "b t c h w -> (b t) c h w")
    weights = stays_inside(motion).to(frames.dtype)
    if visible is not None:
        weights = weights * rearrange(visible, "b t c h w -> (b t) c h w").to(frames.dtype)
    if mask is not None:
        before, after = (rearrange(part, "b t c h w -> (b t) c h w") for part in (mask[:, :-1], mask[:, 1:]))
        weights = weights * before.to(frames.dtype) * warp(after.to(frames.dtype), motion)
    earlier, later = (rearrange(part, "b t c h w -> (b t) c h w") for part in (frames[:, :-1], frames[:, 1:]))
    squares = (warp(later, motion) - earlier).square().mean(1, keepdim=True)
    # 0 / 0 is NaN, which is what a pair with nothing to compare is to be.
    errors = (weights * squares).sum((1, 2, 3)) / weights.sum((1, 2, 3))
    return rearrange(errors, "(b t) -> b t", b=n_clips, t=n_pairs)


def _targets(flow: Float[Tensor, "n 2 h w"]) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Where pixels are after they have moved, px from the upper left pixel's centre."""
    height, width = flow.shape[-2:]
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)
    return flow[:, 0] + columns, flow[:, 1] + rows[:, None]


def _check(frames: Tensor, flow: Tensor, mask: Tensor | None, visible: Tensor | None) -> None:
    if frames.ndim != 5 or frames.shape[2] != 3 or frames.shape[1] < 2:
        raise ValueError(f"frames have shape {tuple(frames.shape)}, expected b t 3 h w with at least 2 frames")
    b, t, _, h, w = frames.shape
    given = {
        "flow": (flow, (b, t - 1, 2, h, w)),
        "mask": (mask, (b, t, 1, h, w)),
        "visible": (visible, (b, t - 1, 1, h, w)),
    }
    for name, (tensor, expected) in given.items():
        if tensor is not None and tuple(tensor.shape) != expected:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {expected}")
