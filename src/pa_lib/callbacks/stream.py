"""What callbacks that look at the results of validation share: they may wait for one stream of the data only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer

from pa_lib.contracts import stream_name
from pa_lib.errors import SettingError, listed


class AbstractStreamCallback(Callback, ABC):
    """Takes what validation gives for the batches of one stream, or of all.

    Args:
        stream: Name of the data stream, where the data has several (see `data.JointDataModule`). None = all.
    """

    def __init__(self, stream: str | None = None) -> None:
        super().__init__()
        self.stream = stream

    @abstractmethod
    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any) -> None:
        """Take what `validation_step` returned for one batch of the stream."""

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Pass over batches of other streams."""
        if self.stream is None or stream_name(trainer.val_dataloaders, dataloader_idx) == self.stream:
            self.take(trainer, pl_module, outputs)

    def require_stream(self, trainer: Trainer) -> None:
        """Check that the validation data has the stream.

        Raises:
            SettingError: It has not.
        """
        if self.stream is None:
            return
        loaders = trainer.val_dataloaders
        if not isinstance(loaders, Mapping) or self.stream not in loaders:
            names = listed(loaders, 8) if isinstance(loaders, Mapping) else ""
            raise SettingError(
                f"{type(self).__name__}: stream {self.stream}: the validation data has "
                + (f"the streams {names}" if names else "no named streams; leave stream empty")
            )
