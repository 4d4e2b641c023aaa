"""The mask and the background around it as a condition."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pa_lib.modules.backbones.context import ForwardContext
from pa_lib.modules.conditioners.base import AbstractConditioner, Scene, with_channels


class MaskAndBackground(AbstractConditioner):
    """The mask on the latents' grid, and the latents of the crop with hidden pixels blanked, as inpainting models have.

    Args:
        is_shown: Whether the network sees mask and background; False gives zeros in their place, as an ablation.
    """

    name = "mask_and_background"
    needs = frozenset({"pixels", "masks"})

    def __init__(self, is_shown: bool = True) -> None:
        self.is_shown = is_shown

    def n_channels(self, latent_channels: int) -> int:
        """One for the mask, as many as the latents have for the background."""
        return 1 + latent_channels

    def condition(self, scene: Scene, context: ForwardContext, left_out: Sequence[bool]) -> ForwardContext:
        """The context with 1 + c channels more: mask first, background after it."""
        channels = torch.cat([scene.latent_mask, scene.background], dim=2)
        if not self.is_shown:
            channels = torch.zeros_like(channels)
        elif any(left_out):
            is_kept = ~torch.tensor(left_out, device=channels.device)
            channels = channels * is_kept[:, None, None, None, None]
        return with_channels(context, channels)
