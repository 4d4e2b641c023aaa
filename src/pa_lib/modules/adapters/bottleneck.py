"""SCA's alternative: a small residual network after every spatial attention, instead of changes inside of it."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pa_lib.errors import PaLibError
from pa_lib.modules.adapters.scale import checked_scale, checked_width
from pa_lib.modules.backbones.base import AbstractBackbone, AbstractGuest, Site, on_sample


class _Bottleneck(nn.Module):
    """up(silu(down(norm(x)))) at one site. Its hook is a bound method, so a deep copy's hook is the copy's own."""

    def __init__(self, site: Site, width: int, scale: float, like: Tensor) -> None:
        super().__init__()
        # Half precision would lose a small learning rate's steps, so the weights are float32 over a half backbone.
        made = {"device": like.device, "dtype": torch.promote_types(like.dtype, torch.float32)}
        self.scale = scale
        self.norm = nn.LayerNorm(site.channels, **made)  # type: ignore[arg-type]
        self.down = nn.Linear(site.channels, width, **made)  # type: ignore[arg-type]
        self.act = nn.SiLU()
        self.up = nn.Linear(width, site.channels, **made)  # type: ignore[arg-type]
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        site.module.register_forward_hook(self._add)

    def forward(self, sample: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        positions = rearrange(sample, "n c h w -> n h w c").to(self.down.weight.dtype)
        change: Tensor = self.up(self.act(self.down(self.norm(positions))))
        return rearrange(change, "n h w c -> n c h w")

    def _add(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if self.scale == 0:
            return None  # leaves the output as it is
        return on_sample(output, self._changed)

    def _changed(self, sample: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return torch.add(sample, self(sample).to(sample.dtype), alpha=self.scale)


class BottleneckContentAdapter(AbstractGuest):
    """SCA as a bottleneck: after each block that ends in spatial attention, x + scale * up(silu(down(norm(x)))).

    `down` and `up` act on the channels of one position, so nothing moves in space; `norm` is a LayerNorm over the same
    channels, which makes a position's change independent of the frame around it and of the frame's size. `up` begins at
    zero: right after `attach` the backbone computes what it did. It costs 2 c width per block and cannot be merged
    into the backbone: the choice of `SpatialContentAdapter` unless the ablation asks for this one.

    Args:
        width: Channels between `down` and `up`, >= 1. With 64 it has about the parameters of an SCA of rank 8 on
            Stable Diffusion 1.5 (1.64 M against 1.59 M).
        scale: Finite; 1 is full effect, 0 turns it off exactly. Settable at any time.

    Raises:
        PaLibError: A setting is out of range.

    Source: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (2019), section 2.1, for the bottleneck.
    Ours: its use as SCA, the place after each spatial block, and the start at exactly zero, where they start near it.
    """

    def __init__(self, width: int = 64, scale: float = 1.0) -> None:
        super().__init__()
        self.width = checked_width(width, "width")
        self._scale = checked_scale(scale)
        self.layers = nn.ModuleDict()

    @property
    def scale(self) -> float:
        """How strongly the adapter acts: 1 fully, 0 not at all."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        self._scale = checked_scale(scale)
        for layer in self.layers.values():
            assert isinstance(layer, _Bottleneck)
            layer.scale = self._scale

    def attach(self, backbone: AbstractBackbone) -> None:
        """Make one bottleneck per block with spatial attention, beside the block's weights, and hook it in.

        Raises:
            PaLibError: It is attached already, or the backbone has no spatial attention.
        """
        if self.layers:
            raise PaLibError(
                "this BottleneckContentAdapter is attached already; build another one for another backbone"
            )
        sites = [site for site in backbone.sites() if site.has_attention]
        if not sites:
            raise PaLibError(
                f"{type(backbone).__name__} has no block with spatial attention for BottleneckContentAdapter; "
                "choose a backbone that has some, or no adapter"
            )
        for site in sites:
            like = next(chain(site.module.parameters(), backbone.parameters()))
            self.layers[site.name] = _Bottleneck(site, self.width, self._scale, like)
