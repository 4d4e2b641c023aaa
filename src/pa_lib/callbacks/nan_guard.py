"""Training stops at the first loss that is no number."""

from __future__ import annotations

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from pa_lib.errors import PaLibError


class NanGuard(Callback):
    """Looks at every loss before it is differentiated, so that the weights stay those of the last good step.

    Covers automatic and manual optimization. Infinity is let through in float16, where a scaled loss may overflow and
    the scaler mends it by itself.

    Raises:
        PaLibError: The loss is NaN or infinite; says at which step and what usually helps.
    """

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Look at one loss."""
        is_scaled = trainer.precision == "16-mixed" or loss.dtype == torch.float16
        bad = loss.isnan() if is_scaled else ~loss.isfinite()
        # One wait for the device per loss. It comes when the forward pass is queued whole, so it hides little work.
        if bool(bad.any()):
            raise PaLibError(
                f"the loss is {'NaN' if bool(loss.isnan().any()) else 'infinite'} at step {trainer.global_step}; "
                "lower the learning rate, clip gradients (trainer.gradient_clip_val=1.0), or, where precision is "
                f"16-mixed, take bf16-mixed (precision is {trainer.precision})"
            )
