"""Mean guidance: beyond the first prediction, which is the mean of all pictures that fit."""

from __future__ import annotations

import torch
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.modules.guidance.base import AbstractGuidance, PreparedGuidance, SamplingStart


class MeanGuidance(AbstractGuidance):
    """``x_0 <- m + scale (x_0 - m)`` in every step, ``m`` being the clean latents that the first step predicts.

    From pure noise a network can only predict the mean of all pictures that fit; small networks stay near it. It does
    not look at hidden pixels. The last step stays as predicted.

    Args:
        scale: Guidance scale, >= 0; 1 = no guidance. The system that ships has 1.25; larger scales give caricatures.

    Raises:
        SettingError: The scale is out of range.

    Ours: autoguidance (Karras et al. 2024, https://arxiv.org/abs/2406.02507) with the network's own first prediction
    in the place of a worse network's.
    """

    needs_pure_noise = True
    order = 1  # after those that move a prediction elsewhere: it goes beyond what they arrive at

    def __init__(self, scale: float = 1.25) -> None:
        if not 0 <= scale < float("inf"):
            raise SettingError(f"scale of mean guidance is {scale}, expected at least 0 (1 = none, 1.25 is usual)")
        self.scale = scale

    @property
    def is_active(self) -> bool:
        """Whether the scale is not 1."""
        return self.scale != 1

    def prepare(self, start: SamplingStart) -> PreparedGuidance:
        """Keeps the first prediction of this batch."""
        process = start.process
        first: list[Tensor] = []

        def correct(prediction: Tensor, noisy: Tensor, levels: Tensor) -> Tensor:
            clean = process.clean_from(prediction, noisy, levels)
            if not first:
                first.append(clean)
            return process.prediction_of(torch.lerp(first[0], clean, self.scale), noisy, levels)

        return PreparedGuidance(correct=correct)
