"""Logged losses, against sums worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning import Trainer

from _toys import ToyGan, two
from pa_lib.modules.systems.losses import LossLog


def test_batches_count_by_their_weight() -> None:
    log = LossLog()
    log.add("val/loss", torch.tensor([6.0, 2.0]))  # means of 3 and of 0.5: no mean of means
    log.add("val/loss", torch.tensor([1.0, 2.0]))
    log.add("val/other", torch.tensor([5.0, 10.0]))
    assert {name: float(value) for name, value in log.close().items()} == {"val/loss": 1.75, "val/other": 0.5}
    assert log.close() == {}  # begun anew


def test_no_weight_is_no_loss() -> None:
    log = LossLog()
    log.add("val/loss", torch.zeros(2))
    assert float(log.close()["val/loss"]) == 0


@pytest.mark.filterwarnings("ignore:.*(many workers|not resumable|treespec|eval mode|litlogger).*")
def test_a_system_with_optimizers_of_its_own_is_left_alone() -> None:
    from pa_lib.data import SyntheticDataModule

    class Own(ToyGan):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.generator(self.values(batch)).mean())
            optimizer.step()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.generator.parameters(), lr=1.0)

    module = Own(trainable=["generator"])
    before = module.generator.weight.clone()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=SyntheticDataModule(n_clips=24, n_frames=1, side=16, n_identities=4, batch_size=2))
    assert module.train_step == trainer.global_step == 3
    assert not torch.equal(module.generator.weight, before)
    assert set(two()) == {"generator", "critic"}
