"""The temporal transformer: every position of the picture attends over its own frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

from pa_lib.errors import SettingError
from pa_lib.modules.temporal.layer import AbstractTemporalLayer, largest_divisor, zero_linear

_MOST_SEQUENCES = 32768  # to one attention call: CUDA's kernels count them in a grid that ends at 65535
_TOKENS_PER_CHANNEL = 4  # from here on, weights put together are small beside the tokens that go through them


class TemporalTransformer(AbstractTemporalLayer):
    r"""Two self-attentions over the frames and a feed-forward layer, at each position of the picture by itself.

    With tokens :math:`z` (one per frame) of a position, and :math:`p` the position codes of the frames:

    .. math::
        z_0 = W_{in} \mathrm{GN}(x), \quad
        z_i = z_{i-1} + \mathrm{Attention}_i(\mathrm{LN}_i(z_{i-1}) + p) \; (i = 1, 2), \quad
        z_3 = z_2 + \mathrm{GEGLU}(\mathrm{LN}_3(z_2)), \quad
        y = x + W_{out} z_3

    :math:`W_{out}` and its bias start at zero, so a new layer changes nothing. The codes are added after the norms, so
    they reach the values too. It takes no time step and no text. Names of the weights are those of diffusers'
    ``AnimateDiffTransformer3D``, so that weights travel in both directions. Differentiable once, not twice.

    Args:
        channels: Number of channels, c.
        heads: Number of attention heads; must divide `channels`.
        groups: Largest number of groups of the first norm; the largest divisor of `channels` up to it is taken.
        is_norm_per_frame: Whether the first norm takes its statistics from each frame (as AnimateDiff was trained) or
            from all frames of a clip together (as diffusers computes it).
        has_position_codes: Whether attention gets the position codes; without them it is blind to the order of frames.

    Raises:
        SettingError: `heads` does not divide `channels`, or a count is below 1.

    >>> layer = TemporalTransformer(8, heads=2)
    >>> x = torch.randn(6, 8, 4, 4)  # 2 clips of 3 frames
    >>> torch.equal(layer(x, frames=3), x)
    True

    Source: Guo et al., AnimateDiff (2023), section 4.2, and its released code. Ours: no limit to the number of frames
    (the code is computed, not looked up), and a GEGLU that recomputes instead of keeping what its backward pass needs.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        groups: int = 32,
        is_norm_per_frame: bool = True,
        has_position_codes: bool = True,
    ) -> None:
        super().__init__()
        if min(channels, heads, groups) < 1 or channels % heads:
            raise SettingError(
                f"{heads} heads and {groups} groups do not fit a temporal transformer of {channels} channels; "
                "choose heads that divide the channels"
            )
        self.heads = heads
        self.groups = largest_divisor(channels, groups)
        self.has_position_codes = has_position_codes
        self.is_norm_per_frame = is_norm_per_frame
        self.norm = nn.GroupNorm(self.groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([_Block(channels, heads, has_position_codes)])
        self.proj_out = zero_linear(channels)

    def change(self, x: Float[Tensor, "bt c h w"], frames: int) -> Float[Tensor, "bt c h w"]:
        """What attention over the frames adds; see `AbstractTemporalLayer.forward`."""
        height, width = x.shape[-2:]
        tokens = self.proj_in(self._normed_tokens(x, frames))
        for block in self.transformer_blocks:
            tokens = block(tokens)
        change: Tensor = rearrange(self.proj_out(tokens), "(b h w) t c -> (b t) c h w", h=height, w=width)
        return change

    def _normed_tokens(self, x: Float[Tensor, "bt c h w"], frames: int) -> Float[Tensor, "bhw t c"]:
        tokens: Tensor
        if self.is_norm_per_frame:
            tokens = rearrange(self.norm(x), "(b t) c h w -> (b h w) t c", t=frames)
            return tokens
        # Tokens first: as a picture of t columns with channels last they can be normed where they lie, so the one copy
        # that makes them is the only one.
        tokens = rearrange(x, "(b t) c h w -> b h w t c", t=frames).contiguous()
        tokens = rearrange(self.norm(rearrange(tokens, "b h w t c -> b c h w t")), "b c h w t -> (b h w) t c")
        return tokens


class _Block(nn.Module):
    """The attentions and the feed-forward layer, on tokens."""

    def __init__(self, channels: int, heads: int, has_position_codes: bool) -> None:
        super().__init__()
        self.has_position_codes = has_position_codes
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = _Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = _Attention(channels, heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = _FeedForward(channels)

    def forward(self, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n t c"]:
        codes = position_codes(tokens.shape[1], tokens.shape[2], tokens.device) if self.has_position_codes else None
        for norm, attention in ((self.norm1, self.attn1), (self.norm2, self.attn2)):
            normed = norm(tokens)
            if codes is not None:
                normed += codes.to(normed.dtype)  # in place: a norm keeps its input for the backward pass, not this
            tokens = _added(attention(normed), tokens)
        return _added(self.ff(self.norm3(tokens)), tokens)


class _Attention(nn.Module):
    """Multi-head self-attention: no bias to queries, keys and values, one to the output."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n t c"]:
        projected = self._projected(tokens)
        query, key, value = (rearrange(p, "n t (heads d) -> n heads t d", heads=self.heads) for p in projected)
        if len(query) <= _MOST_SEQUENCES:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            parts = zip(*(torch.split(p, _MOST_SEQUENCES) for p in (query, key, value)), strict=True)
            mixed = torch.cat([F.scaled_dot_product_attention(*part) for part in parts])
        mixed = rearrange(mixed, "n heads t d -> n t (heads d)")
        for layer in self.to_out:
            mixed = layer(mixed)
        return mixed

    def _projected(self, tokens: Float[Tensor, "n t c"]) -> Sequence[Float[Tensor, "n t c"]]:
        """Queries, keys and values: in one product where that is cheaper and no projection was replaced."""
        layers = (self.to_q, self.to_k, self.to_v)
        is_plain = all(type(layer) is nn.Linear for layer in layers)
        if not is_plain or tokens.numel() < _TOKENS_PER_CHANNEL * tokens.shape[-1] ** 2:
            return [layer(tokens) for layer in layers]
        return F.linear(tokens, torch.cat([layer.weight for layer in layers])).chunk(3, dim=-1)


class _FeedForward(nn.Module):
    """c -> 8c, gated to 4c, -> c. The empty place is where diffusers has a dropout, which keeps its names."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(_GatedGelu(channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n t c"]:
        result: Tensor = self.net(tokens)
        return result


class _GatedGelu(nn.Module):
    """GEGLU: one half of a projection times the GELU of the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 8 * channels)

    def forward(self, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n t d"]:
        both = self.proj(tokens)
        if torch.compiler.is_compiling():  # the compiler fuses the plain formula, and finds itself what to recompute
            value, gate = both.chunk(2, dim=-1)
            gated: Tensor = value * F.gelu(gate)
        else:
            gated = _GateByGelu.apply(both)
        return gated


class _GateByGelu(torch.autograd.Function):
    """``a * gelu(g)`` of a tensor whose halves are a and g.

    Keeps its input alone for the backward pass: GELU's result, a quarter of all that the layer would keep otherwise
    in its feed-forward part, is computed again there, and the gradients of the halves go straight to where they belong.
    """

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        value, gate = both.chunk(2, dim=-1)
        return F.gelu(gate).mul_(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        value, gate = both.chunk(2, dim=-1)
        result = torch.empty_like(both)
        of_value, of_gate = result.chunk(2, dim=-1)
        # Nothing but the result is allocated: here is where the whole layer's memory peaks
        torch.ops.aten.gelu_backward.grad_input(gradient, gate, grad_input=of_gate)
        of_gate.mul_(value)
        torch.ops.aten.gelu.out(gate, out=of_value)
        of_value.mul_(gradient)
        return result


def position_codes(frames: int, channels: int, device: torch.device | None = None) -> Float[Tensor, "t c"]:
    r"""Sinusoidal position codes of frames, for any number of frames.

    .. math:: p_{f, 2i} = \sin(f \, 10000^{-2i / c}), \quad p_{f, 2i + 1} = \cos(f \, 10000^{-2i / c})

    Args:
        frames: Number of frames, t.
        channels: Number of channels, c.
        device: Device of the result.

    Returns:
        float32 in [-1, 1].

    >>> position_codes(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])

    Source: Vaswani et al., Attention is all you need (2017), section 3.5.
    """
    rates = torch.exp(torch.arange(0, channels, 2, device=device) * (-math.log(10000.0) / channels))
    angles = torch.arange(frames, device=device).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :channels]


def _added(fresh: Tensor, tokens: Tensor) -> Tensor:
    """The sum, in the place of a linear layer's result, which nothing else needs."""
    return fresh.add_(tokens) if fresh.dtype == tokens.dtype else fresh + tokens
