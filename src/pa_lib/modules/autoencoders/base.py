"""The one interface of what turns pixels into latents and back."""

from __future__ import annotations

from abc import ABC, abstractmethod

import lightning
from jaxtyping import Float
from torch import Tensor

from pa_lib.modules.slot import Slot


class AbstractAutoencoder(Slot, lightning.LightningModule, ABC):
    """Pixels to latents and back, frame by frame. Frozen in every system unless it says otherwise.

    Attributes:
        channels: c of the latents.
        downscale: How many pixels a latent is wide and high.
    """

    channels: int
    downscale: int

    @abstractmethod
    def encode(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h/f w/f"]:
        """Latents of about unit variance, the same for the same pixels.

        Args:
            pixels: In [0, 1]; h and w multiples of `downscale`.

        Raises:
            PaLibError: For other sizes.
        """

    @abstractmethod
    def decode(self, latents: Float[Tensor, "n c h/f w/f"]) -> Float[Tensor, "n 3 h w"]:
        """Pixels; about in [0, 1], not clamped."""
