"""Crops enlarged with the detail of a reference: the network's low band, and what its grid cannot hold."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.contracts import Box
from pa_lib.functional.crops import resample
from pa_lib.modules.reference.light import unmultiplied

_PURITY = 8  # exponent of a cell's share of the head: cells of the edge, which mix, count only where no other is near
_LEAST = 1e-4


def enlarged(
    crop: Float[Tensor, "3 s s"],
    grid: Float[Tensor, "4 s s"],
    picture: Float[Tensor, "4 h w"],
    part: Box,
    background: Float[Tensor, "4 h w"] | None = None,
) -> Float[Tensor, "3 h w"]:
    r"""A part of a crop at the size of a picture, sharp where the reference is.

    .. math:: y = \alpha\,(\mathrm{up}_a(n) + r - \mathrm{up}_a(r_s)) + (1 - \alpha)\,\mathrm{up}_{1-a}(n)

    with the crop n and the reference's color :math:`r_s` and alpha a on its grid, and color r and alpha of the
    reference at full size. :math:`\mathrm{up}_w` is a bilinear resampling in which every cell counts by
    :math:`w^8 + 10^{-4}`: so what the network has generated of the head does not mix with what lies beside it, and the
    edge between them is the reference's own. Without a reference it is a bilinear resampling.

    Args:
        crop: Crop as the network has generated it, about in [0, 1].
        grid: The reference on the crop's grid, in its light: color times alpha, and alpha.
        picture: The reference of the part at full size, in the same light.
        part: Box ``x0 y0 x1 y1`` of the part in pixels of the crop, inside of it.
        background: Known background of the part at full size, color times alpha, and alpha: it takes the place of the
            crop beside the reference. None where none is known.

    >>> flat = torch.full((4, 2, 2), 0.5)
    >>> flat[3] = 1
    >>> fine = torch.ones(4, 4, 4)
    >>> fine[:3, ::2] = 0  # stripes that two rows cannot hold
    >>> enlarged(flat[:3] + 0.1, flat, fine, (0.0, 0.0, 2.0, 2.0))[0, :, 0]
    tensor([0.1000, 1.1000, 0.1000, 1.1000])
    """
    height, width = picture.shape[-2:]
    alpha, color = picture[3:], unmultiplied(picture[None])[0]
    of_head, of_rest = (share.clamp(0, 1) ** _PURITY + _LEAST for share in (grid[3:], 1 - grid[3:]))
    own = unmultiplied(grid[None])[0]
    planes = torch.cat([(crop - own) * of_head, of_head, crop * of_rest, of_rest])
    large = resample(planes, part, height, width)
    difference, rest = large[:3] / large[3:4], large[4:7] / large[7:8]
    if background is not None:
        rest = background[:3] + (1 - background[3:]) * rest
    return alpha * (color + difference) + (1 - alpha) * rest
