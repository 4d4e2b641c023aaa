"""Fills of what is hidden, from what is visible around it: smooth, or with edges that go on."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

_LEAST = 1e-6
_INPAINTING_PX = 5.0  # reach of the neighbourhood that a pixel is inpainted from
_RELAXED = 3  # times that a level is averaged with its neighbours, so that no step is seen at the edge of the mask


def filled(pixels: Float[Tensor, "n c h w"], hidden: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n c h w"]:
    """Pictures whose hidden pixels are means of the visible ones around them: wider means, the farther those are.

    Each level of a pyramid holds the means of the visible pixels, weighted by how many there are; going back up, what a
    level does not know comes from the coarser one, and is averaged with its neighbours a few times.

    Args:
        pixels: The pictures. Hidden pixels are not looked at.
        hidden: Mask of the hidden pixels, 1 = hidden, else 0.

    Returns:
        Visible pixels as they were; all of it 0.5 where nothing is visible.

    Source: the pull-push algorithm, Gortler et al. 1996, The Lumigraph, section 3.4. Differs: the averaging.

    >>> picture = torch.tensor([[[[1.0, 9.0, 3.0, 9.0]]]])
    >>> filled(picture, torch.tensor([[[[0.0, 1.0, 0.0, 1.0]]]]))[0, 0, 0, [0, 2]]
    tensor([1., 3.])
    """
    weight = 1 - hidden
    return _filled(torch.where(hidden > 0, 0.0, pixels), weight)


def inpainted(pixels: Float[Tensor, "n 3 h w"], hidden: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Pictures whose hidden pixels continue what lies around them, edges as well, each by itself.

    Args:
        pixels: The pictures, RGB in [0, 1]. Hidden pixels are not looked at.
        hidden: Mask of the hidden pixels, 1 = hidden, else 0.

    Returns:
        Visible pixels as they were, hidden ones in steps of 1/255; all of it 0.5 where nothing is visible.

    Source: Bertalmio, Bertozzi and Sapiro 2001, Navier-Stokes, fluid dynamics, and image and video inpainting, in
    OpenCV's implementation.

    >>> picture = torch.full((1, 3, 8, 8), 0.2)
    >>> hidden = torch.zeros(1, 1, 8, 8)
    >>> hidden[..., 2:6, 2:6] = 1
    >>> inpainted(torch.where(hidden > 0, 1.0, picture), hidden).unique()
    tensor([0.2000])
    """
    found = []
    for picture, mask in zip(pixels.cpu(), hidden.cpu(), strict=True):
        is_hidden = (mask[0] > 0).numpy()
        if is_hidden.all():
            found.append(torch.full_like(picture, 0.5))
            continue
        image = (picture.movedim(0, -1).clamp(0, 1) * 255).round().byte().numpy()
        image = np.where(is_hidden[..., None], np.uint8(0), image)
        filled_in = cv2.inpaint(image, is_hidden.astype(np.uint8), _INPAINTING_PX, cv2.INPAINT_NS)
        found.append(torch.where(mask > 0, torch.from_numpy(filled_in).movedim(-1, 0).float() / 255, picture))
    return torch.stack(found).to(pixels.device)


def _filled(sums: Float[Tensor, "n c h w"], weight: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n c h w"]:
    """What each pixel is, where it is known with a weight; `sums` are multiplied by it."""
    size = sums.shape[-2:]
    if min(size) == 1:
        means = sums.sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp(min=_LEAST)
        coarse = torch.where(weight.sum((2, 3), keepdim=True) > _LEAST, means, 0.5).expand_as(sums)
    else:
        pool = {"kernel_size": 2, "ceil_mode": True, "count_include_pad": False}
        few = avg_pool2d(weight, **pool)  # type: ignore[arg-type]
        trusted = (4 * few).clamp(max=1)  # one visible pixel of four is enough
        means = avg_pool2d(sums, **pool) / few.clamp(min=_LEAST)  # type: ignore[arg-type]
        smaller = _filled(means * trusted, trusted)
        coarse = interpolate(smaller, size, mode="bilinear", align_corners=False)
    found = sums + (1 - weight) * coarse
    for _ in range(_RELAXED):
        found = sums + (1 - weight) * avg_pool2d(found, 3, 1, 1, count_include_pad=False)
    return found
