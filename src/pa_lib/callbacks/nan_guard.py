"""Training stops at the first loss that is not finite."""

from __future__ import annotations

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from pa_lib.errors import PaLibError
from pa_lib.modules import AbstractLearned


class NanGuard(Callback):
    """Looks at every loss before it is differentiated, so that the weights stay those of the last good step.

    Covers automatic and manual optimization. Infinity is accepted in float16, where a scaled loss may overflow and the
    scaler skips the step.

    Raises:
        PaLibError: The loss is NaN or infinite; the message gives the step and what usually helps.
    """

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check one loss."""
        is_scaled = trainer.precision == "16-mixed" or loss.dtype == torch.float16
        bad = loss.isnan() if is_scaled else ~loss.isfinite()
        # One wait for the device per loss. It comes when the forward pass is queued whole, so it hides little work.
        if bool(bad.any()):
            # Within a step of several optimizers Lightning has counted it already.
            is_ours = isinstance(pl_module, AbstractLearned)
            step = pl_module.train_step if is_ours else trainer.global_step
            raise PaLibError(
                f"the loss is {'NaN' if bool(loss.isnan().any()) else 'infinite'} at step {step}; "
                "lower the learning rate, clip gradients (trainer.gradient_clip_val=1.0), or, where precision is "
                f"16-mixed, take bf16-mixed (precision is {trainer.precision})"
            )
