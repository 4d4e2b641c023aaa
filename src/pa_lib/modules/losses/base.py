"""The one interface of losses of diffusion models."""

from __future__ import annotations

from abc import ABC, abstractmethod

import lightning
from jaxtyping import Float
from torch import Tensor

from pa_lib.modules.slot import Slot


class AbstractDiffusionLoss(Slot, lightning.LightningModule, ABC):
    """Weighted error between a network's prediction and its target."""

    @abstractmethod
    def weights(self, mask: Float[Tensor, "b t 1 h w"]) -> Float[Tensor, "b t 1 h w"]:
        """The weight of the error at every place of the latent grid; the loss divides by their sum."""

    @abstractmethod
    def forward(
        self,
        prediction: Float[Tensor, "b t c h w"],
        target: Float[Tensor, "b t c h w"],
        mask: Float[Tensor, "b t 1 h w"],
        snr: Float[Tensor, " b"] | None = None,
        prediction_type: str = "epsilon",
    ) -> Float[Tensor, ""]:
        """The loss of a batch, float32.

        Args:
            prediction: Prediction of the network.
            target: Target of the prediction.
            mask: Mask on the latent grid, in [0, 1], 1 = the person; soft values allowed.
            snr: Signal-to-noise ratio per clip; needed for min-SNR weights.
            prediction_type: Kind of the target, which decides the min-SNR weights.

        Raises:
            PaLibError: Shapes do not fit, or `snr` is missing.
        """
