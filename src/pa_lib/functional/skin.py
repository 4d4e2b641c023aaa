"""How much colors look like skin, of any person."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_HUE, _SPREAD = math.radians(50), math.radians(25)  # in the plane of Lab's a and b: skin of all tones


def skin_hue(lab: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n 1 h w"], Float[Tensor, "n 1 h w"]]:
    r"""How near the hue of colors is to that of skin, :math:`\exp(-((h - 50°) / 25°)^2)`, and their chroma.

    Light and dark skin differ in lightness and chroma, hardly in hue. Hues of little chroma mean little: what chroma is
    enough is left to the caller.

    Args:
        lab: Colors in CIELAB.

    Returns:
        In (0, 1], and >= 0.

    >>> hue, chroma = skin_hue(torch.tensor([60.0, 15.0, 18.0]).view(1, 3, 1, 1))
    >>> round(float(hue), 3), round(float(chroma), 1)
    (1.0, 23.4)

    Source: that the hue of skin varies little, Fitzpatrick 1988 as in Chardon et al. 1991, Skin colour typology; the
    numbers are ours.
    """
    hue, chroma = torch.atan2(lab[:, 2:], lab[:, 1:2]), lab[:, 1:].norm(dim=1, keepdim=True)
    return torch.exp(-(((hue - _HUE) / _SPREAD) ** 2)), chroma
