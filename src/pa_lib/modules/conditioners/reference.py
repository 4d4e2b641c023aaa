"""A placed reference as a condition."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pa_lib.modules.backbones.context import ForwardContext
from pa_lib.modules.conditioners.base import AbstractConditioner, Scene, with_channels


class ReferencePicture(AbstractConditioner):
    """Latents of the reference, blank where it is transparent or before its background, and its alpha on their grid.

    A clip without one has a picture that is wholly transparent.
    """

    name = "reference"
    needs = frozenset({"reference"})

    def n_channels(self, latent_channels: int) -> int:
        """As many as the latents have for the picture, one for its alpha."""
        return latent_channels + 1

    def condition(self, scene: Scene, context: ForwardContext, left_out: Sequence[bool]) -> ForwardContext:
        """The context with c + 1 channels more: the picture first, alpha after it.

        Raises:
            ValueError: The scene was made for conditioners that do not need a reference.
        """
        if scene.reference is None:
            raise ValueError("the scene holds no latents of a reference, expected b t c+1 y x")
        channels = scene.reference
        if any(left_out):
            is_kept = ~torch.tensor(left_out, device=channels.device)
            channels = channels * is_kept[:, None, None, None, None]
        return with_channels(context, channels)
