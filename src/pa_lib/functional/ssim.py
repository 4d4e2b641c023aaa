"""Structural similarity of the pixels that were to be kept."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import max_pool2d

from pa_lib.functional.pixels import as_unit, check_videos
from pa_lib.functional.psnr import kept_pixels

SSIM_WINDOW_PX = 11  # Wang's window, a Gaussian of 1.5 px

Pixels = Float[Tensor, "b t c h w"] | UInt8[Tensor, "b t c h w"]


def unmasked_ssim(source: Pixels, anonymized: Pixels, masks: Float[Tensor, "b t 1 h w"]) -> Float[Tensor, "b t"]:
    r"""Mean SSIM of the windows that see kept pixels only.

    .. math::
        \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}{(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}

    with moments under a Gaussian of 1.5 px in a window of 11 x 11 px, :math:`C_1 = 0.01^2` and :math:`C_2 = 0.03^2`. A
    window counts if it lies wholly inside the picture and the mask is exactly 0 in all of it, so that nothing hidden
    has a part in the value; a strip of 5 px along the mask and along the picture's edge is the centre of none. Channels
    are taken one by one and averaged. A frame at a time in float32, which puts a frame's mean off by less than 1e-5.

    Args:
        source: Frames of the original, uint8 in 0..255 or floats in [0, 1]; at least 11 px high and wide.
        anonymized: Frames of the anonymized video, in the same range and size.
        masks: Masks in [0, 1], 1 = anonymize.

    Returns:
        float64 in [-1, 1]; NaN where no window is left: count these.

    Raises:
        ValueError: Shapes do not fit, frames are smaller than the window, or pixels or masks are of another range.

    >>> source = torch.rand(1, 1, 3, 16, 16)
    >>> unmasked_ssim(source, source, torch.zeros(1, 1, 1, 16, 16)).tolist()
    [[1.0]]

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", equation 13
    and its constants; population moments, as in its reference code. Ours: which windows count.
    """
    _check(source, anonymized, masks)
    # A window is kept if none of its pixels is hidden.
    hidden = (~kept_pixels(masks)).flatten(0, 1).float()
    is_kept = max_pool2d(hidden, SSIM_WINDOW_PX, stride=1) == 0
    pairs = zip(source.flatten(0, 1), anonymized.flatten(0, 1), is_kept, strict=True)
    values = [_frame_ssim(x, y, windows.to(x.device)) for x, y, windows in pairs]
    return torch.tensor(values, dtype=torch.float64, device=source.device).view(source.shape[:2])


def _frame_ssim(x: Tensor, y: Tensor, windows: Bool[Tensor, "1 h w"]) -> float:
    from kornia.metrics import ssim  # here, for it takes most of a second to import

    if not bool(windows.any()):
        return math.nan
    # One frame in its own call: in batches of other sizes convolutions round otherwise.
    x, y = (as_unit(pixels).float()[None] for pixels in (x, y))
    values = ssim(x, y, SSIM_WINDOW_PX, max_val=1.0, eps=0.0, padding="valid")[0]
    total = (values.double() * windows).sum()
    return float(total / (windows.sum() * len(values)))


def _check(source: Tensor, anonymized: Tensor, masks: Tensor) -> None:
    check_videos(source, anonymized, masks, channels=None)
    h, w = source.shape[3:]
    if min(h, w) < SSIM_WINDOW_PX:
        raise ValueError(f"frames are {h} x {w} px, expected at least {SSIM_WINDOW_PX} px each way: SSIM's window")
