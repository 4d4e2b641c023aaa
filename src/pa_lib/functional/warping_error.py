"""How much a video flickers: every frame against the next one, brought back along the flow."""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Num, UInt8
from torch import Tensor

from pa_lib.functional.flow import flow_inconsistency, lookup, motion_boundaries, stays_inside, warp
from pa_lib.functional.pixels import as_unit

Convention = Literal["lai", "per_pixel"]
CHANNELS_COUNTED = {"lai": 3, "per_pixel": 1}  # what a visible pixel adds to the denominator
_BAND_ROWS = 32  # at a time: maps that fit a cache, and that torch does not divide among threads DIS keeps busy


def temporal_warping_error(
    frames: Float[Tensor, "b t 3 h w"] | UInt8[Tensor, "b t 3 h w"],
    flow: Num[Tensor, "b t-1 2 h w"],
    mask: Float[Tensor, "b t 1 h w"] | None = None,
    visible: Float[Tensor, "b t-1 1 h w"] | Bool[Tensor, "b t-1 1 h w"] | None = None,
    convention: Convention = "lai",
) -> Float[Tensor, "b t-1"]:
    r"""Temporal warping error of every pair of neighbouring frames.

    .. math:: E_t = \frac{\sum_p M_t(p) \, \lVert O_{t+1}(p + F_t(p)) - O_t(p) \rVert^2}{k \sum_p M_t(p)}

    :math:`M_t(p)` is ``visible`` times the mask at both ends, :math:`m_t(p) \, m_{t+1}(p + F_t(p))`: what enters or
    leaves the mask is not compared. k is 3 for ``lai``, whose quotient counts pixels of channels, and 1 for
    ``per_pixel``, whose values are three times as large. The flow is that of the source, not of `frames`. A frozen,
    blurred or blank video can score well: report how sharp it is beside it.

    Args:
        frames: Frames of the video to evaluate, in [0, 1] or uint8 in 0..255.
        flow: Optical flow (x, y) in pixels: where each pixel of a frame is in the next one.
        mask: Weight of each pixel, in [0, 1]; None weighs all pixels 1, ``1 - mask`` evaluates the background.
        visible: Visibility, 1 where a pixel is seen in the next frame too, 0 where it is occluded there:
            ``~occlusion(forward, backward)`` is Lai's. None counts every pixel that does not leave the picture as seen,
            for flow that is exact.
        convention: ``lai`` or ``per_pixel``.

    Returns:
        At least 0; NaN for pairs of which nothing can be compared: leave them out, and count them.

    Raises:
        ValueError: Shapes or ranges do not fit, there is but one frame, or no such convention.

    >>> flicker = torch.tensor([0.5, 0.6, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 4, 4)
    >>> [round(pair, 4) for pair in temporal_warping_error(flicker, torch.zeros(1, 2, 2, 4, 4))[0].tolist()]
    [0.01, 0.01]

    Source: Lai et al. 2018, "Learning blind video temporal consistency", section 4.2, and the code of its evaluation;
    ``per_pixel`` is the scale of EvalCrafter (Liu et al. 2024), without its other changes.
    Ours: the mask at both ends, and NaN where Lai's code scores a wholly hidden pair as a perfect 0.
    """
    _check(frames, flow, mask, visible, convention)
    n_clips, n_pairs = flow.shape[:2]
    pixels = as_unit(frames)
    motion = rearrange(flow, "b t c h w -> (b t) c h w")
    if visible is None:
        weights = stays_inside(motion).to(pixels.dtype)
    else:
        weights = rearrange(visible, "b t c h w -> (b t) c h w").to(pixels.dtype)
    if mask is not None:
        before, after = (rearrange(part, "b t c h w -> (b t) c h w") for part in (mask[:, :-1], mask[:, 1:]))
        weights = weights * before.to(pixels.dtype) * warp(after.to(pixels.dtype), motion)
    earlier, later = (rearrange(part, "b t c h w -> (b t) c h w") for part in (pixels[:, :-1], pixels[:, 1:]))
    squares = (warp(later, motion) - earlier).square().sum(1, keepdim=True)
    # 0 / 0 is NaN, which is what a pair with nothing to compare is to be.
    errors = (weights * squares).sum((1, 2, 3)) / (CHANNELS_COUNTED[convention] * weights.sum((1, 2, 3)))
    return rearrange(errors, "(b t) -> b t", b=n_clips, t=n_pairs)


def region_sums(
    earlier: Float[Tensor, "v 3 h w"],
    later: Float[Tensor, "v 3 h w"],
    forward_flow: Float[Tensor, "2 h w"],
    backward_flow: Float[Tensor, "2 h w"],
    earlier_mask: Float[Tensor, "1 h w"] | None = None,
    later_mask: Float[Tensor, "1 h w"] | None = None,
) -> tuple[Float[Tensor, "v 3"], Float[Tensor, " 3"]]:
    """Numerators and denominators of `temporal_warping_error` of one pair, for several videos and regions at once.

    Args:
        earlier: The same frame of v videos, in [0, 1].
        later: The next frame of them, in [0, 1].
        forward_flow: Optical flow (x, y) in pixels: where each pixel of the earlier frame is in the later one.
        backward_flow: Optical flow in pixels: where each pixel of the later frame was in the earlier one.
        earlier_mask: Mask of the earlier frame, in [0, 1]; None if there is no mask.
        later_mask: Mask of the later frame, in [0, 1].

    Returns:
        Float64, over the whole frame, inside the mask and outside it: squared errors, all channels together, and
        weights of the pixels compared.
    """
    n_videos, _, height, width = earlier.shape
    n_channels = 3 * n_videos
    # All that is looked up along the flow is looked up at once.
    planes = [*later.flatten(0, 1), *backward_flow, *(() if later_mask is None else later_mask)]
    look_up, motion = lookup(planes), forward_flow[None]
    none, is_masked = earlier.new_zeros(1, 1, 1), earlier_mask is not None or later_mask is not None
    # Numerators of each video, and the denominator: errors of 1
    sums = earlier.new_zeros(n_videos + 1, 3, dtype=torch.float64)
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top, min(top + _BAND_ROWS, height))
        n_rows = rows.stop - top
        moved = look_up(forward_flow[:, rows], top)
        hidden = flow_inconsistency(motion[:, :, rows], moved[None, n_channels : n_channels + 2])
        hidden |= motion_boundaries(motion[:, :, top : rows.stop + 1])[:, :, :n_rows]  # they look a row ahead
        # Float64 from here on: sums of half a million small squares
        errors = earlier.new_ones(n_videos + 1, n_rows, width, dtype=torch.float64)
        red, green, blue = moved[:n_channels].view(n_videos, 3, n_rows, width).sub_(earlier[:, :, rows]).unbind(1)
        errors[:n_videos] = (red * red).addcmul_(green, green).addcmul_(blue, blue)
        seen = hidden[0].logical_not_().double()
        before = none if earlier_mask is None else earlier_mask[:, rows]
        after = none if later_mask is None else moved[n_channels + 2 :]
        # Each video by itself: a product of matrices may round equal videos differently.
        if is_masked:
            within = torch.cat([seen, seen * (before * after), seen * ((1 - before) * (1 - after))]).flatten(1)
            sums += torch.stack([within @ of_one for of_one in errors.flatten(1)])
        else:  # all of it is outside
            sums[:, 0::2] += torch.stack([seen.flatten() @ of_one for of_one in errors.flatten(1)])[:, None]
    squares, visible = sums[:n_videos], sums[n_videos]
    return squares, visible


def _check(frames: Tensor, flow: Tensor, mask: Tensor | None, visible: Tensor | None, convention: str) -> None:
    if convention not in CHANNELS_COUNTED:
        raise ValueError(f"convention is {convention!r}, expected one of {', '.join(CHANNELS_COUNTED)}")
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
