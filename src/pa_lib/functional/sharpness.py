"""How much detail there is, so that what is smooth over time because it is blurred can be recognized."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from pa_lib.functional.pixels import as_unit

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601, as in the grey pictures that optical flow is computed on


def gradient_length(
    frames: Float[Tensor, "b t 3 h w"] | UInt8[Tensor, "b t 3 h w"], mask: Float[Tensor, "b t 1 h w"] | None = None
) -> Float[Tensor, "b t"]:
    r"""Mean length of the gradient of every frame's grey values.

    .. math:: S_t = \frac{\sum_p m_t(p) \, \lVert \nabla Y_t(p) \rVert}{\sum_p m_t(p)}

    with forward differences, :math:`Y = 0.299 R + 0.587 G + 0.114 B`, and :math:`m_t(p)` the product of the mask at p,
    to its right and below, so that the edge of the mask is no detail. The last row and column are left out.

    Args:
        frames: Frames, RGB in [0, 1] or uint8 in 0..255.
        mask: Weight of each pixel, in [0, 1]; None weighs all pixels 1.

    Returns:
        Grey levels (0 to 1) per pixel; NaN for frames whose mask is empty.

    Raises:
        ValueError: Shapes or ranges do not fit.

    >>> ramp = torch.linspace(0, 0.3, 4).expand(1, 1, 3, 4, 4)
    >>> round(float(gradient_length(ramp)), 4)
    0.1
    """
    if frames.ndim != 5 or frames.shape[2] != 3 or min(frames.shape[3:]) < 2:
        raise ValueError(f"frames have shape {tuple(frames.shape)}, expected b t 3 h w of at least 2 x 2 pixels")
    b, t, _, h, w = frames.shape
    if mask is not None and tuple(mask.shape) != (b, t, 1, h, w):
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {(b, t, 1, h, w)}")
    pixels = rearrange(as_unit(frames), "b t c h w -> (b t) c h w")
    lengths, weights = gradient_sums(pixels, None if mask is None else rearrange(mask, "b t c h w -> (b t) c h w"))
    return rearrange(lengths / weights, "(b t) -> b t", b=b)


def gradient_sums(
    pixels: Float[Tensor, "n 3 h w"], mask: Float[Tensor, "#n 1 h w"] | None = None
) -> tuple[Float[Tensor, " n"], Float[Tensor, " #n"]]:
    """Numerator and denominator of `gradient_length`, float64, for means over more than a frame.

    One mask for all frames gives one denominator.
    """
    red, green, blue = pixels.unbind(1)
    grey = (_LUMA[0] * red).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    here = grey[:, :-1, :-1]
    right, down = grey[:, :-1, 1:] - here, grey[:, 1:, :-1] - here
    length = right.square_().addcmul_(down, down).sqrt_()  # a third of the time of hypot; nothing here overflows
    if mask is None:
        n_pixels = torch.full((len(pixels),), length[0].numel() if len(pixels) else 0, dtype=torch.float64)
        return length.sum((1, 2), dtype=torch.float64), n_pixels.to(pixels.device)
    m = mask[:, 0].to(grey.dtype)
    weights = m[:, :-1, :-1] * m[:, :-1, 1:] * m[:, 1:, :-1]
    return (weights * length).sum((1, 2), dtype=torch.float64), weights.sum((1, 2), dtype=torch.float64)
