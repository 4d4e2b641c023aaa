"""How blurred and how grainy a picture is, measured in parts of it, so that what is put into it can be made alike."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad

REACH_PX = 5  # no pixel farther than this from a measured one has a part in a measure
_AGAIN_PX = 1.0  # standard deviation of the blur that is added to see how much it takes
_LEAST_EDGES = 10  # pixels on edges, below which nothing is said
_OF_DIFFERENCES = 1 / 3  # variance of a difference over 2 px
_LEAST_STEP = 0.02  # per pixel, below which no gradient is an edge
_TAPS = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / (2 * _AGAIN_PX**2))
_NOISE = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])  # 0 on every plane, parabola and edge
_NOISE_GAIN = 6.0  # its norm
_TO_DEVIATION = 1.4826  # of a median of distances, for a normal distribution


def blur_px(luma: Float[Tensor, "h w"], where: Bool[Tensor, "h w"]) -> float | None:
    r"""Standard deviation of the Gaussian blur of the edges in a picture, in pixels.

    An edge that is blurred by :math:`\sigma` and again by :math:`\sigma_0` loses the share
    :math:`R = \sqrt{\sigma^2 + \sigma_0^2} / \sigma` of its gradient, so :math:`\sigma = \sigma_0 / \sqrt{R^2 - 1}`; of
    all edges the median. The differences that the gradient is made of blur by themselves (variance 1/3), which is
    taken off.

    Args:
        luma: Grey values in [0, 1].
        where: Pixels that are measured.

    Returns:
        None where there are no edges.

    Source: Zhuo and Sim 2011, Defocus map estimation from a single image, section 3.
    """
    taps = (_TAPS / _TAPS.sum()).to(luma)
    padded = pad(luma[None, None], (3, 3, 3, 3), mode="replicate")
    again = conv2d(conv2d(padded, taps[None, None, None]), taps[None, None, :, None])[0, 0]
    first, second = _gradient(luma), _gradient(again)
    # On the ridge of an edge: beside it the ratio is another one.
    is_edge = where & (second > _LEAST_STEP) & (second >= max_pool2d(second[None], 3, 1, 1)[0])
    if int(is_edge.sum()) < _LEAST_EDGES:
        return None
    ratio = float((first[is_edge] / second[is_edge]).median())
    variance: float = max(_AGAIN_PX**2 / max(ratio**2 - 1, 1e-2) - _OF_DIFFERENCES, 0.0)
    return math.sqrt(variance)


def grain(luma: Float[Tensor, "h w"], where: Bool[Tensor, "h w"]) -> float:
    """Standard deviation of the noise in a picture, in grey values; 0 where nothing is measured.

    Args:
        luma: Grey values in [0, 1].
        where: Pixels that are measured.

    Source: Immerkaer 1996, Fast noise variance estimation. Differs: the median of the responses instead of their mean,
    which textures would raise.
    """
    padded = pad(luma[None, None], (1, 1, 1, 1), mode="replicate")
    response = conv2d(padded, _NOISE.to(luma)[None, None])[0, 0][where]
    return float(response.abs().median()) * _TO_DEVIATION / _NOISE_GAIN if response.numel() else 0.0


def _gradient(luma: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    padded = pad(luma[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    across, down = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    return torch.hypot(across, down) / 2
