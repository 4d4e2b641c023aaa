"""The diffusion loss with a larger weight inside the mask than outside it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.modules.losses.base import AbstractDiffusionLoss
from pa_lib.modules.losses.weighted_error import checked_gamma, min_snr_weights, weighted_error


class MaskedDiffusionLoss(AbstractDiffusionLoss):
    """``sum(W (p - y)^2) / (c sum(W))`` with ``W = m + background_weight (1 - m)`` on the latent grid, over the batch.

    Dividing by the weight, not by the size, keeps the loss of small people as large as that of large ones. With
    several processes see `weighted_error`: their mean is what one process would get. Accumulated batches are divided
    each by its own weight. A batch without weight (an empty mask at background_weight 0) has loss 0 and gradient 0.

    Args:
        background_weight: Weight of latents outside the mask, >= 0; those inside weigh 1. 1 is the plain loss, 0 leaves
            the background out. Ours: 0.1, enough to keep crops seamless.
        min_snr_gamma: Limit of min-SNR weights (Hang et al. 2023), > 0, usually 5; None for none.
        temporal_weight: Weight of the same error of differences between neighbouring frames, added to the loss, >= 0.
            An error that all frames share costs nothing there, one that flickers does. W of a pair is the smaller of
            its two.

    Raises:
        SettingError: A setting is out of range.

    Ours: the paper names a mask-aware training strategy and gives no formula.

    >>> prediction, target, mask = torch.ones(1, 1, 4, 2, 2), torch.zeros(1, 1, 4, 2, 2), torch.ones(1, 1, 1, 2, 2)
    >>> float(MaskedDiffusionLoss()(prediction, target, mask))
    1.0
    """

    def __init__(
        self, background_weight: float = 0.1, min_snr_gamma: float | None = None, temporal_weight: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= background_weight < float("inf"):
            raise SettingError(
                f"background_weight of the loss is {background_weight}, expected 0 or more (0.1 is usual)"
            )
        if not 0 <= temporal_weight < float("inf"):
            raise SettingError(
                f"temporal_weight of the loss is {temporal_weight}, expected 0 or more (0 leaves it out)"
            )
        self.background_weight = background_weight
        self.temporal_weight = temporal_weight
        self.min_snr_gamma = checked_gamma(min_snr_gamma)

    def weights(self, mask: Float[Tensor, "b t 1 h w"]) -> Float[Tensor, "b t 1 h w"]:
        """1 inside the mask, `background_weight` outside."""
        inside = mask.float()
        return torch.lerp(torch.full_like(inside, self.background_weight), torch.ones_like(inside), inside)

    def forward(
        self,
        prediction: Float[Tensor, "b t c h w"],
        target: Float[Tensor, "b t c h w"],
        mask: Float[Tensor, "b t 1 h w"],
        snr: Float[Tensor, " b"] | None = None,
        prediction_type: str = "epsilon",
    ) -> Float[Tensor, ""]:
        """The loss of a batch; see `AbstractDiffusionLoss.forward`."""
        weights = self.weights(mask)
        gamma = self.min_snr_gamma
        clip_weights = None if gamma is None else min_snr_weights(snr, gamma, prediction_type)
        loss = weighted_error(prediction, target, weights, clip_weights)
        if self.temporal_weight and prediction.shape[1] > 1:
            changes, true_changes = prediction.float().diff(dim=1), target.float().diff(dim=1)
            pairs = torch.minimum(weights[:, :-1], weights[:, 1:])
            loss = loss + self.temporal_weight * weighted_error(changes, true_changes, pairs, clip_weights)
        return loss
