"""Put the anonymized pixels into the source, and nothing else."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pa_lib.functional.boxes import bounding_box


def composite(
    source: UInt8[Tensor, "t 3 h w"], anonymized: UInt8[Tensor, "t 3 h w"], alpha: Float[Tensor, "t 1 h w"]
) -> UInt8[Tensor, "t 3 h w"]:
    """``round(source + alpha * (anonymized - source))``: exactly `source` at alpha 0, exactly `anonymized` at 1.

    Only the rows and columns that hold a mask are worked on, and only the pixels between 0 and 1 are blended.

    Args:
        source: Decoded pixels of the frame, in 0..255.
        anonymized: Pixels that replace them, in 0..255.
        alpha: Opacity of the replacement, in [0, 1]; 1 = replaced.

    Returns:
        New frames; neither input is changed.

    Raises:
        ValueError: A shape or type does not fit, or a value is not finite or out of range. A frame that meets this
            cannot be trusted and must not be written.

    >>> source, other = torch.zeros(1, 3, 1, 3).byte(), torch.full((1, 3, 1, 3), 200).byte()
    >>> composite(source, other, torch.tensor([[[[0.0, 0.5, 1.0]]]]))[0, 0].tolist()
    [[0, 100, 200]]
    """
    _check(source, anonymized, alpha)
    result = source.clone()
    for frame, (pixels, mask) in enumerate(zip(anonymized, alpha[:, 0], strict=True)):
        where = bounding_box(mask)
        if where is None:
            continue
        rows, columns = where
        region, mask, pixels = result[frame][:, rows, columns], mask[rows, columns], pixels[:, rows, columns]
        is_blended = (mask > 0) & (mask < 1)
        old = region[:, is_blended].float()
        blended = old + mask[is_blended] * (pixels[:, is_blended].float() - old)
        torch.where(mask == 1, pixels, region, out=region)
        if blended.numel():
            region[:, is_blended] = blended.round_().byte()
    return result


def _check(source: Tensor, anonymized: Tensor, alpha: Tensor) -> None:
    """Refuse arguments that would silently give a wrong or an unprotected frame."""
    if source.ndim != 4 or source.shape[1] != 3 or source.dtype != torch.uint8:
        raise ValueError(f"source must be uint8 of shape t 3 h w, got {source.dtype} of shape {tuple(source.shape)}")
    if anonymized.is_floating_point() and not bool(anonymized.isfinite().all()):
        raise ValueError("the anonymized frames hold NaN or infinity")
    if anonymized.dtype != torch.uint8 or anonymized.shape != source.shape:
        raise ValueError(
            f"the anonymized frames must be uint8 of the source's shape {tuple(source.shape)}, "
            f"got {anonymized.dtype} of shape {tuple(anonymized.shape)}"
        )
    expected = (source.shape[0], 1, *source.shape[2:])
    if alpha.shape != expected or not alpha.is_floating_point():
        raise ValueError(f"alpha must be float of shape {expected}, got {alpha.dtype} of shape {tuple(alpha.shape)}")
    if alpha.numel():
        low, high = (float(limit) for limit in alpha.aminmax())
        if not (low >= 0 and high <= 1):  # written so that NaN fails too
            raise ValueError(f"alpha must lie in [0, 1], got {low}..{high}")
