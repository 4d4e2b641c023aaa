"""Convolutions over time: the alternative that attention over the frames is compared with."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from pa_lib.modules.temporal.layer import AbstractTemporalLayer, largest_divisor, zero_linear

_STEPS = 7
_KERNEL = 3


class TemporalConvolution(AbstractTemporalLayer):
    r"""A stack of 1-D convolutions over the frames, at each position of the picture by itself.

    .. math::
        z_0 = x, \quad z_i = z_{i-1} + \mathrm{Conv1d}_i(\mathrm{SiLU}(\mathrm{GN}_i(z_{i-1}))) \; (i = 1 \ldots 7),
        \quad y = x + W_{out} z_7

    :math:`W_{out}` and its bias start at zero, so a new layer changes nothing. A frame sees the seven before it and the
    seven behind it; beyond the ends of a clip there are zeros, on both sides alike, so time has no direction here.

    Args:
        channels: Number of channels, c.
        groups: Largest number of groups of the norms; the largest divisor of `channels` up to it is taken.
        is_norm_per_frame: Whether the norms take their statistics from each frame or from all frames of a clip.

    >>> import torch
    >>> layer = TemporalConvolution(8)
    >>> x = torch.randn(6, 8, 4, 4)  # 2 clips of 3 frames
    >>> torch.equal(layer(x, frames=3), x)
    True

    Source: Guo et al., AnimateDiff (2023), whose ablation holds the temporal transformer against a 1-D temporal
    convolution of equal size. Ours, for we found no details: full kernels of 3 frames; seven of them, because then the
    layer has 22 c^2 + 22 c weights beside the transformer's 22 c^2 + 21 c and spans 15 frames of its usual 16; the
    norm, activation and skip around each.
    """

    def __init__(self, channels: int, groups: int = 32, is_norm_per_frame: bool = True) -> None:
        super().__init__()
        self.is_norm_per_frame = is_norm_per_frame
        count = largest_divisor(channels, groups)
        self.norms = nn.ModuleList([nn.GroupNorm(count, channels, eps=1e-6) for _ in range(_STEPS)])
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(channels, channels, _KERNEL, padding=_KERNEL // 2) for _ in range(_STEPS)]
        )
        self.proj_out = zero_linear(channels)

    def change(self, x: Float[Tensor, "bt c h w"], frames: int) -> Float[Tensor, "bt c h w"]:
        """What the convolutions add; see `AbstractTemporalLayer.forward`."""
        height, width = x.shape[-2:]
        around = "(b t) c h w" if self.is_norm_per_frame else "b c t h w"
        z: Tensor = rearrange(x, f"(b t) c h w -> {around}", t=frames)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            lines = rearrange(F.silu(norm(z)), f"{around} -> (b h w) c t", t=frames)
            z = z + rearrange(convolution(lines), f"(b h w) c t -> {around}", h=height, w=width)
        change = self.proj_out(rearrange(z, f"{around} -> (b t) h w c", t=frames))
        result: Tensor = rearrange(change, "n h w c -> n c h w")
        return result
