"""SCA's alternative: a small residual network after every spatial attention, instead of changes inside of it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pa_lib.errors import SettingError
from pa_lib.modules.adapters.base import AbstractAdapter, Hook, Network, sites_of
from pa_lib.modules.adapters.scale import checked_scale, checked_width
from pa_lib.modules.backbones.base import on_sample


class _Bottleneck(nn.Module):
    """up(silu(down(norm(x)))) of one site."""

    def __init__(self, channels: int, width: int, like: Tensor) -> None:
        super().__init__()
        # Half precision would lose a small learning rate's steps, so the weights are float32 over a half backbone.
        made = {"device": like.device, "dtype": torch.promote_types(like.dtype, torch.float32)}
        self.norm = nn.LayerNorm(channels, **made)  # type: ignore[arg-type]
        self.down = nn.Linear(channels, width, **made)  # type: ignore[arg-type]
        self.act = nn.SiLU()
        self.up = nn.Linear(width, channels, **made)  # type: ignore[arg-type]
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, sample: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        positions = rearrange(sample, "n c h w -> n h w c").to(self.down.weight.dtype)
        change: Tensor = self.up(self.act(self.down(self.norm(positions))))
        return rearrange(change, "n h w c -> n c h w")


class BottleneckContentAdapter(AbstractAdapter):
    """SCA as a bottleneck: after each block that ends in spatial attention, x + scale * up(silu(down(norm(x)))).

    `down` and `up` act on the channels of one position, so nothing moves in space; `norm` is a LayerNorm over the same
    channels, which makes a position's change independent of the frame around it and of the frame's size. `up` begins at
    zero: right after `attach` the backbone computes what it did. It costs 2 c width per block and cannot be fused
    into the backbone: the choice of `SpatialContentAdapter` unless the ablation asks for this one.

    Args:
        width: Channels between `down` and `up`, >= 1. With 64 it has about the parameters of an SCA of rank 8 on
            Stable Diffusion 1.5 (1.64 M against 1.59 M).
        scale: Finite; 1 is full effect, 0 turns it off exactly. Settable at any time.

    Raises:
        SettingError: A setting is out of range.

    Source: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (2019), section 2.1, for the bottleneck.
    Ours: its use as SCA, the place after each spatial block, and the start at exactly zero, where they start near it.
    """

    def __init__(self, width: int = 64, scale: float = 1.0) -> None:
        super().__init__()
        self.width = checked_width(width, "width")
        self._scale = checked_scale(scale)

    @property
    def scale(self) -> float:
        """How strongly the adapter acts: 1 fully, 0 not at all."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        self._scale = checked_scale(scale)

    def prepared(self, network: Network) -> Mapping[str, nn.Module]:
        """One bottleneck per block with spatial attention, beside the block's weights; see `AbstractAdapter`."""
        sites = [site for site in sites_of(network) if site.has_attention]
        if not sites:
            raise SettingError(
                f"{type(network).__name__} has no block with spatial attention for BottleneckContentAdapter; "
                "choose a backbone that has some, or no adapter"
            )
        if self.layers:
            self._check_same({site.name: site.channels for site in sites})
        for site in sites if not self.layers else ():
            like = next(chain(site.module.parameters(), network.parameters()))
            self.layers[site.name] = _Bottleneck(site.channels, self.width, like)
        return {site.name: site.module for site in sites}

    def changed(self, hook: Hook, inputs: tuple[Any, ...], output: Any) -> Any:
        """The block's output with the bottleneck's change; see `AbstractAdapter`."""
        if self.scale == 0:
            return None
        layer = self.layers[hook.name]
        return on_sample(output, lambda sample: torch.add(sample, layer(sample).to(sample.dtype), alpha=self.scale))

    def _check_same(self, channels: Mapping[str, int]) -> None:
        ours = {name: cast(_Bottleneck, layer).down.in_features for name, layer in self.layers.items()}
        if ours != channels:
            raise SettingError(
                f"this BottleneckContentAdapter has layers for {len(ours)} blocks of another network, this one has "
                f"{len(channels)} blocks with attention that differ in name or width; build another adapter for it"
            )
