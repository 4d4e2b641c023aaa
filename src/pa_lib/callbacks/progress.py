"""Progress of the training, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

if TYPE_CHECKING:
    from rich.progress import TaskID


class Progress(RichProgressBar):
    """Lightning's rich bar; where steps and not epochs end a run it counts steps, instead of counting to epoch -1."""

    _begun_at = 0  # step at which this epoch began, or the run was resumed

    @property
    def _counts_steps(self) -> bool:
        return (self.trainer.max_epochs or -1) <= 0 and self.trainer.max_steps >= 0

    @property
    def total_train_batches(self) -> int | float:
        """Length of the bar: the steps of the run where they end it, else the batches of an epoch."""
        return self.trainer.max_steps if self._counts_steps else super().total_train_batches

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the bar."""
        self._begun_at = trainer.global_step
        super().on_train_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the bar again, from the step that is reached."""
        self._begun_at = trainer.global_step
        super().on_train_epoch_start(trainer, pl_module)

    def _get_train_description(self, current_epoch: int) -> str:
        if not self._counts_steps:
            return str(super()._get_train_description(current_epoch))
        return f"Epoch {current_epoch + 1}, from step {self._begun_at} of {self.trainer.max_steps}"

    def _update(self, progress_bar_id: TaskID | None, current: int, visible: bool = True, hard: bool = False) -> None:
        if self._counts_steps and progress_bar_id is not None and progress_bar_id == self.train_progress_bar_id:
            current = self.trainer.global_step
        super()._update(progress_bar_id, current, visible, hard)
