"""How different the kept pixels look (LPIPS)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pa_lib.functional.pixels import as_unit, check_videos
from pa_lib.functional.psnr import kept_pixels

Pixels = Float[Tensor, "b t 3 h w"] | UInt8[Tensor, "b t 3 h w"]
DistanceMap = Callable[[Tensor, Tensor], Tensor]


def unmasked_lpips(
    source: Pixels,
    anonymized: Pixels,
    masks: Float[Tensor, "b t 1 h w"],
    network: DistanceMap,
    chunk: int = 1,
) -> Float[Tensor, "b t"]:
    r"""Mean over the kept pixels of a map of perceptual distances.

    .. math:: \frac{\sum_p k(p) \, d(x, \, k y + (1 - k) x)(p)}{\sum_p k(p)}

    with source x, anonymized y, and k = 1 where the mask is exactly 0. Each value of the map d comes from a wide
    surrounding (far over 100 px in the last layers), so that hardly any would see kept pixels only. Instead the source
    is put into the hidden pixels of both pictures: nothing hidden has a part in the value, no edge is made, and what is
    kept to the bit scores 0. What that costs: some of the effect of a change beside the mask falls on hidden pixels,
    where it is not counted.

    Args:
        source: Frames of the original, uint8 in 0..255 or floats in [0, 1].
        anonymized: Frames of the anonymized video, in the same range.
        masks: Masks in [0, 1], 1 = anonymize.
        network: Network from two stacks of RGB pictures in [0, 1], n 3 h w, to their distances n 1 h w, such as
            `pretrained.Perceptual`.
        chunk: Number of frames at a time, >= 1. With 1 no value depends on the other items in the batch; more is faster
            on an accelerator, takes more memory, and may change the seventh digit.

    Returns:
        float64, at least 0; NaN where nothing is kept: count these.

    Raises:
        ValueError: Shapes do not fit, pixels or masks are of another range, or the chunk is smaller than 1.

    >>> source, other = torch.zeros(1, 1, 3, 2, 2), torch.full((1, 1, 3, 2, 2), 0.5)
    >>> unmasked_lpips(source, other, torch.zeros(1, 1, 1, 2, 2), lambda x, y: (x - y).abs().mean(1, keepdim=True))
    tensor([[0.5000]], dtype=torch.float64)

    Source: Zhang et al. 2018. Ours: the restriction to kept pixels.
    """
    check_videos(source, anonymized, masks)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}, expected at least 1 frame")
    kept = kept_pixels(masks).flatten(0, 1).to(source.device)
    stacks = (source.flatten(0, 1), anonymized.flatten(0, 1), kept)
    pairs = zip(*(torch.split(stack, chunk) for stack in stacks), strict=True)
    values = [_chunk_lpips(x, y, where, network) for x, y, where in pairs]
    joined = torch.cat(values) if values else torch.zeros(0, dtype=torch.float64, device=source.device)
    return joined.view(source.shape[:2])


def _chunk_lpips(x: Tensor, y: Tensor, kept: Tensor, network: DistanceMap) -> Float[Tensor, " n"]:
    if not bool(kept.any()):
        return torch.full((len(x),), math.nan, dtype=torch.float64, device=x.device)
    one, other = as_unit(x).float(), as_unit(y).float()
    distances = network(one, torch.where(kept, other, one)).double()
    # 0 / 0 is NaN, which is what a frame with nothing kept is to be.
    return (distances * kept).sum((1, 2, 3)) / kept.sum((1, 2, 3))
