"""What backbones that hold a UNet of diffusers share."""

from __future__ import annotations

from functools import partial

from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from pa_lib.modules.backbones._blocks import block_sites, recomputed, spatial_projections
from pa_lib.modules.backbones.base import AbstractBackbone, Site


class AbstractUNetBackbone(AbstractBackbone):
    """A backbone around a UNet of diffusers.

    Attributes:
        unet: The network, with ``down_blocks``, ``mid_block`` and ``up_blocks``.
    """

    unet: ModelMixin

    def sites(self) -> tuple[Site, ...]:
        """The places after every spatial block; see `AbstractBackbone.sites`."""
        return block_sites(self.unet)

    def attention_projections(self) -> dict[str, nn.Linear]:
        """Projections of every self- and cross-attention; see `AbstractBackbone.attention_projections`."""
        return spatial_projections(self.unet)

    def use_gradient_checkpointing(self) -> None:
        """Recompute in the backward pass what diffusers recomputes: ResNets, and transformer blocks where there are."""
        self.unet.enable_gradient_checkpointing(partial(recomputed, self.running))
