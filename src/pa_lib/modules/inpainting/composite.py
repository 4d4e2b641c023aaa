"""References before the background: the picture that is shown without a network, or that one goes on from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.functional.filling import filled, inpainted
from pa_lib.modules.inpainting.request import InpaintingRequest


def composite(request: InpaintingRequest, *, has_edges: bool = True) -> Float[Tensor, "b t 3 h w"]:
    r"""References before the background that is known, or else before what goes on from all that is seen.

    .. math:: r + (1 - \alpha)\, b

    with the color r (times alpha) and alpha of the reference, and the background b. Hidden pixels are not looked at.

    Args:
        request: Frames, masks of what is hidden in them, references, and known background.
        has_edges: Whether edges go on into what is hidden (`inpainted`); else it is smooth (`filled`), in a third
            of the time, for what is only gone on from.

    Returns:
        In [0, 1]. Visible pixels as they are, but for what a reference covers of them.
    """
    behind = _behind(request, inpainted if has_edges else filled)
    if request.reference is None:
        return behind
    reference = request.reference.to(behind)
    return reference[:, :, :3] + (1 - reference[:, :, 3:]) * behind


def _behind(request: InpaintingRequest, fill: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, "b t 3 h w"]:
    pixels, hidden = request.frames.flatten(0, 1), request.hidden.flatten(0, 1)
    unknown = hidden if request.beyond is None else torch.maximum(hidden, request.beyond.flatten(0, 1))
    if request.background is None:
        return fill(pixels, unknown).view_as(request.frames)
    known = request.background.flatten(0, 1)
    color, alpha = known[:, :3], known[:, 3:]
    is_sure = hidden * (alpha > 0.5)
    seen = torch.where(is_sure > 0, color / alpha.clamp(min=0.5), pixels)
    behind = color + (1 - alpha) * fill(seen, unknown * (1 - is_sure))
    return torch.where(hidden > 0, behind, pixels).view_as(request.frames)
