"""How well the pixels that were to be kept are kept: squared errors outside the mask, and PSNR from them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from pa_lib.functional.masks import dilate
from pa_lib.functional.pixels import as_unit, check_videos


class RegionErrors(NamedTuple):
    """Sums over one or more regions of every frame, float64, so that any pooling can be made of them.

    Args:
        squares: Sum over the region's pixels and channels of the squared difference of pixels in [0, 1].
        values: Number of summands: pixels times channels.
        identical: Number of pixels of the region that are the same in all channels, to the bit.
        pixels: Number of pixels of the region.
    """

    squares: Float[Tensor, "r b t"]
    values: Float[Tensor, "r b t"]
    identical: Float[Tensor, "r b t"]
    pixels: Float[Tensor, "r b t"]


Pixels = Float[Tensor, "b t c h w"] | UInt8[Tensor, "b t c h w"]


def kept_pixels(masks: Float[Tensor, "b t 1 h w"]) -> Bool[Tensor, "b t 1 h w"]:
    """Which pixels were to stay as they are: where the mask is exactly 0, for anything above may be blended.

    Raises:
        ValueError: The mask is not in [0, 1], or NaN.

    >>> kept_pixels(torch.tensor([0.0, 0.01, 1.0]).view(1, 1, 1, 1, 3)).flatten().tolist()
    [True, False, False]
    """
    if masks.is_floating_point() and masks.numel():
        low, high = (float(end) for end in torch.aminmax(masks))
        if not (low >= 0 and high <= 1):  # written so that NaN fails too
            raise ValueError(f"mask values lie in [{low:g}, {high:g}], expected [0, 1] with 1 = anonymize")
    return masks == 0


def halo(kept: Bool[Tensor, "b t 1 h w"], width_px: float) -> Bool[Tensor, "b t 1 h w"]:
    """The kept pixels next to the mask: centre at most `width_px` from the centre of a pixel that is not kept.

    >>> halo(torch.tensor([0, 1, 1, 1, 1]).bool().view(1, 1, 1, 1, 5), 2.0).flatten().int().tolist()
    [0, 1, 1, 0, 0]
    """
    planes = kept.flatten(0, 2)
    near = [dilate(~plane.cpu(), width_px).to(kept.device) for plane in planes]
    return torch.stack(near).view(kept.shape) & kept if near else kept.clone()


def region_errors(source: Pixels, anonymized: Pixels, regions: Bool[Tensor, "r b t 1 h w"]) -> RegionErrors:
    """Squared errors and identical pixels of every frame, region by region.

    A frame at a time, so memory stays that of one frame in float64. Where both are uint8 the sums are exact integers
    until they are divided by 255 squared.

    Args:
        source: Frames of the original, uint8 in 0..255 or floats in [0, 1].
        anonymized: Frames of the anonymized video, in the same range.
        regions: Regions of pixels; they may overlap.

    Raises:
        ValueError: Shapes do not fit, or pixels are of another range.

    >>> source, other = torch.zeros(1, 1, 3, 2, 2), torch.full((1, 1, 3, 2, 2), 0.5)
    >>> [float(part) for part in region_errors(source, other, torch.ones(1, 1, 1, 1, 2, 2).bool())]
    [3.0, 12.0, 0.0, 4.0]
    """
    check_videos(source, anonymized, channels=None)
    for region in regions:
        check_videos(source, anonymized, region, channels=None)
    clips, frames, channels = source.shape[:3]
    sums = torch.zeros(3, len(regions), clips, frames, dtype=torch.float64, device=source.device)
    for clip in range(clips):
        for frame in range(frames):
            squares, is_same = _pixel_errors(source[clip, frame], anonymized[clip, frame])
            inside = regions[:, clip, frame, 0].to(source.device)
            for part, plane in enumerate((squares, is_same, torch.ones_like(is_same))):
                sums[part, :, clip, frame] = (plane * inside).sum((1, 2)).double()
    if source.dtype == anonymized.dtype == torch.uint8:
        sums[0] /= 255**2
    return RegionErrors(sums[0], sums[2] * channels, sums[1], sums[2])


def psnr_db(
    squares: Float[Tensor, "*shape"], values: Float[Tensor, "*shape"], data_range: float = 1.0
) -> Float[Tensor, "*shape"]:
    """``10 log10(R^2 n / s)`` of a sum s of n squared errors; infinite where s is 0, NaN where n is 0.

    >>> psnr_db(torch.tensor([0.03, 0.0, 0.0]), torch.tensor([3.0, 3.0, 0.0])).tolist()
    [20.0, inf, nan]
    """
    return 10 * torch.log10(data_range**2 * values / squares)


def unmasked_psnr(
    source: Pixels,
    anonymized: Pixels,
    masks: Float[Tensor, "b t 1 h w"],
    data_range: float = 1.0,
    pooling: Literal["frame", "clip"] = "frame",
) -> Float[Tensor, "b t"] | Float[Tensor, " b"]:
    r"""Peak signal-to-noise ratio of the kept pixels, in dB.

    .. math:: 10 \log_{10} \frac{R^2 \, C \sum_p k(p)}{\sum_p k(p) \, \lVert x(p) - y(p) \rVert^2}

    where k is 1 where the mask is exactly 0, and C the number of channels. The hidden pixels are in neither sum:
    blackening them and dividing by all pixels would flatter the result (by 1.549 dB where 30 % is hidden).

    Args:
        source: Frames of the original, uint8 in 0..255 or floats in [0, 1].
        anonymized: Frames of the anonymized video, in the same range.
        masks: Masks in [0, 1], 1 = anonymize.
        data_range: R, the peak value of pixels in [0, 1].
        pooling: ``frame``: one value per frame, b t. ``clip``: one value of the sums over all frames of a clip, b.

    Returns:
        float64 dB; infinite where all kept pixels are equal, NaN where none is kept: count these, do not average them.

    Raises:
        ValueError: Shapes do not fit, pixels or masks are of another range, or the data range is not positive.

    >>> source = torch.zeros(1, 2, 3, 2, 2, dtype=torch.float64)
    >>> other = source + torch.tensor([1e-2, 1e-1], dtype=torch.float64).view(1, 2, 1, 1, 1)
    >>> mask = torch.zeros(1, 2, 1, 2, 2)
    >>> [round(float(value), 3) for value in unmasked_psnr(source, other, mask)[0]]
    [40.0, 20.0]
    >>> round(float(unmasked_psnr(source, other, mask, pooling="clip")), 3)
    22.967

    Source: the definition of PSNR; the unchanged region alone as in the "masked PSNR" of Video-P2P (Liu et al. 2023).
    """
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}, expected more than 0")
    check_videos(source, anonymized, masks, channels=None)
    errors = region_errors(source, anonymized, kept_pixels(masks)[None])
    squares, values = errors.squares[0], errors.values[0]
    if pooling == "clip":
        squares, values = squares.sum(1), values.sum(1)
    elif pooling != "frame":
        raise ValueError(f"pooling is {pooling!r}, expected 'frame' or 'clip'")
    return psnr_db(squares, values, data_range)


def _pixel_errors(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Squared difference of a frame, summed over channels, and whether the pixels are equal in all of them: h w."""
    if x.dtype == y.dtype == torch.uint8:
        squares = (x.int() - y.int()).square_().sum(0)
        return squares, squares == 0
    x, y = as_unit(x), as_unit(y)
    return (x.double() - y.double()).square_().sum(0), (x == y).all(0)
