"""The background of a clip where it was visible in some frames and stayed the same: what film calls a clean plate."""

from __future__ import annotations

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

_MOST_FRAMES = 16  # that are compared, spread evenly: more cost time and change little
_LEAST_FRAMES = 3  # in which a pixel must be visible
_OUTLIERS = 0.2  # share of its frames, at either end, in which a pixel may be anything else
_MOST_SPREAD = 12  # between them, in grey values: noise and compression, no motion


def clean_plate(
    frames: UInt8[Tensor, "t 3 h w"], hidden: Bool[Tensor, "t h w"]
) -> tuple[UInt8[Tensor, "3 h w"], Bool[Tensor, "h w"]]:
    """The median of each pixel over the frames in which it is visible, and where it can be relied on.

    It can where the pixel is visible in three of at most 16 frames, and hardly changes among the middle three fifths of
    them. So a camera that moves leaves even surfaces alone, and no motion is estimated.

    Args:
        frames: Frames in 0..255. Hidden pixels are not looked at.
        hidden: Mask of the hidden pixels.

    Returns:
        The background, 0 where it is unknown; and where it is known.

    Source: the temporal median is the usual background estimate for a fixed camera. Ours: what is relied on.

    >>> seen = torch.tensor([10, 12, 200, 11, 255]).byte().view(5, 1, 1, 1).expand(5, 3, 1, 1)
    >>> plate, known = clean_plate(seen, torch.tensor([False, False, True, False, True]).view(5, 1, 1))
    >>> plate.flatten().tolist(), known.item()
    ([11, 11, 11], True)
    """
    at = torch.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).round().long()
    gone = hidden[at].to(frames.device)
    n_visible = (~gone).sum(0)
    # Hidden pixels come last, so that the first ones of each pixel are the visible ones in order.
    ordered = torch.where(gone[:, None], torch.full_like(frames[:1], 255), frames[at]).sort(0).values

    def quantile(share: float) -> Tensor:
        row = ((n_visible - 1).clamp(min=0) * share).round().long()
        return ordered.gather(0, row.expand(1, 3, -1, -1))[0]

    spread = (quantile(1 - _OUTLIERS).int() - quantile(_OUTLIERS).int()).amax(0)
    known = (n_visible >= _LEAST_FRAMES) & (spread <= _MOST_SPREAD)
    return torch.where(known, quantile(0.5), 0).byte(), known
