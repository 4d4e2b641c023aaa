"""The one interface of what turns pixels into latents and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
from jaxtyping import Float
from torch import Tensor

from pa_lib.modules.fit import Fitting, Requirement
from pa_lib.modules.slot import Slot


class AbstractAutoencoder(Slot, Fitting, lightning.LightningModule, ABC):
    """Clips of pixels to clips of latents and back. Frozen in every system unless it says otherwise.

    Attributes:
        channels: Number of channels c of the latents.
        downscale: Width and height of the square of pixels that one latent stands for.
        time_downscale: Number of frames that one latent stands for; 1 where every frame is encoded by itself.
    """

    channels: int
    downscale: int
    time_downscale: int = 1

    @abstractmethod
    def encode(self, pixels: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b _ c _ _"]:
        """Latents of about unit variance, the same for the same pixels.

        Args:
            pixels: Pixels in [0, 1]; h and w are multiples of `downscale`, t of `time_downscale`.

        Raises:
            PaLibError: For other sizes.
        """

    @abstractmethod
    def decode(self, latents: Float[Tensor, "b _ c _ _"]) -> Float[Tensor, "b t 3 h w"]:
        """Pixels; about in [0, 1], not clamped."""

    def provides(self) -> Mapping[str, Any]:
        """Its number of channels, as ``latent_channels``."""
        return {"latent_channels": self.channels}

    def requirements(self) -> Sequence[Requirement]:
        """Crops whose side it divides."""

        def problem(side: int) -> str | None:
            if side % self.downscale == 0:
                return None
            return (
                f"crops of {side} px cannot be encoded, {self.downscale} px to a latent; "
                f"choose a multiple of {self.downscale} for module.crops.side"
            )

        return [Requirement("crop_side", problem)]
