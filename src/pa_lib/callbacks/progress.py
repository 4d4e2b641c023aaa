"""Progress of the training, on the terminal."""

from __future__ import annotations

from lightning.pytorch.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Lightning's rich bar; where steps and not epochs end a run it shows steps, instead of counting to epoch -1."""

    def _get_train_description(self, current_epoch: int) -> str:
        if (self.trainer.max_epochs or -1) > 0 or self.trainer.max_steps < 0:
            return str(super()._get_train_description(current_epoch))
        return f"Epoch {current_epoch + 1}, from step {self.trainer.global_step} of {self.trainer.max_steps}"
