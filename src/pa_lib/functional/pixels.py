"""Pixels of any kind to floats in [0, 1]."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

_ROUNDING = 1e-3  # an encoder's or a network's last digit beyond the range; a mix-up of ranges is far larger


def as_unit(frames: Float[Tensor, "*shape"] | UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Pixels in [0, 1]: 8-bit ones divided by 255, floats as they are.

    Args:
        frames: uint8 in 0..255, or any float type in [0, 1]. Floats up to 0.001 outside pass, and are not clamped.

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
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # said so that NaN fails too
            mend = "find out where the NaN comes from" if low != low else "divide by 255, or map [-1, 1] to [0, 1]"
            raise ValueError(f"float pixels lie in [{low:g}, {high:g}], expected [0, 1]; {mend}")
    return frames
