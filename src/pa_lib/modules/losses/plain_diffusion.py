"""The usual diffusion loss, with which the masked one is compared."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.modules.losses.base import AbstractDiffusionLoss
from pa_lib.modules.losses.weighted_error import checked_gamma, min_snr_weights, weighted_error


class PlainDiffusionLoss(AbstractDiffusionLoss):
    """``mean((p - y)^2)``: the ablation without mask weighting. With several processes see `weighted_error`.

    Args:
        min_snr_gamma: Limit of min-SNR weights (Hang et al. 2023), > 0, usually 5; None for none.

    Raises:
        PaLibError: The limit is out of range.

    >>> prediction, target, mask = torch.ones(1, 1, 4, 2, 2), torch.zeros(1, 1, 4, 2, 2), torch.zeros(1, 1, 1, 2, 2)
    >>> float(PlainDiffusionLoss()(prediction, target, mask))
    1.0
    """

    def __init__(self, min_snr_gamma: float | None = None) -> None:
        super().__init__()
        self.min_snr_gamma = checked_gamma(min_snr_gamma)

    def weights(self, mask: Float[Tensor, "b t 1 h w"]) -> Float[Tensor, "b t 1 h w"]:
        """1 everywhere."""
        return torch.ones_like(mask, dtype=torch.float32)

    def forward(
        self,
        prediction: Float[Tensor, "b t c h w"],
        target: Float[Tensor, "b t c h w"],
        mask: Float[Tensor, "b t 1 h w"],
        snr: Float[Tensor, " b"] | None = None,
        prediction_type: str = "epsilon",
    ) -> Float[Tensor, ""]:
        """The loss of a batch; see `AbstractDiffusionLoss.forward`. Of `mask` only the shape matters."""
        gamma = self.min_snr_gamma
        clip_weights = None if gamma is None else min_snr_weights(snr, gamma, prediction_type)
        return weighted_error(prediction, target, self.weights(mask), clip_weights)
