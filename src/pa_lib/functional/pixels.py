"""Pixels of any kind to floats in [0, 1]."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

_ROUNDING = 1e-3  # an encoder's or a network's last digit beyond the range; a mix-up of ranges is far larger


def as_unit(frames: Float[Tensor, "*shape"] | UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Pixels in [0, 1]: 8-bit ones divided by 255, floats as they are.

    Args:
        frames: Pixels, uint8 in 0..255 or any float type in [0, 1]. Floats up to 0.001 outside pass, and are not
            clamped.

    Returns:
        float32 for uint8; else the tensor itself.

    Raises:
        ValueError: Another type, values beyond [0, 1] (such as floats in 0..255 or in [-1, 1]), or NaN.

    >>> as_unit(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    if frames.dtype == torch.uint8:
        return frames.float() / 255
    if not frames.is_floating_point():
        raise ValueError(f"pixels are {frames.dtype}, expected uint8 in 0..255 or floats in [0, 1]")
    if frames.numel():
        low, high = (float(end) for end in torch.aminmax(frames.detach()))
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # written so that NaN fails too
            fix = "find out where the NaN comes from" if low != low else "divide by 255, or map [-1, 1] to [0, 1]"
            raise ValueError(f"float pixels lie in [{low:g}, {high:g}], expected [0, 1]; {fix}")
    return frames


def check_videos(
    source: Tensor, anonymized: Tensor, masks: Tensor | None = None, *, channels: int | None = 3, context: int = 0
) -> None:
    """Refuse videos, and masks, whose shapes do not fit each other.

    Args:
        source: Frames of the original, expected b t c h w.
        anonymized: Frames of the anonymized video, expected in the same shape.
        masks: Masks, expected b t 1 h w; None if there are none.
        channels: Number of channels c that is expected; None takes any.
        context: Number of first frames that are left out.

    Raises:
        ValueError: Says what was got and what was expected.

    >>> check_videos(torch.zeros(1, 2, 3, 8, 8), torch.zeros(1, 2, 3, 8, 8), torch.zeros(1, 2, 8, 8))
    Traceback (most recent call last):
    ...
    ValueError: masks have shape (1, 2, 8, 8), expected (1, 2, 1, 8, 8)
    """
    is_right = source.ndim == 5 and channels in (None, source.shape[2])
    if not is_right or anonymized.shape != source.shape:
        shapes = f"source has shape {tuple(source.shape)}, anonymized {tuple(anonymized.shape)}"
        raise ValueError(f"{shapes}, expected both b t {channels or 'c'} h w")
    b, t, _, h, w = source.shape
    if masks is not None and tuple(masks.shape) != (b, t, 1, h, w):
        raise ValueError(f"masks have shape {tuple(masks.shape)}, expected {(b, t, 1, h, w)}")
    if not 0 <= context <= t:
        raise ValueError(f"context is {context}, expected 0 to {t}, the number of frames")
