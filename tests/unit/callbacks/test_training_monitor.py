"""Learning rates, gradient norms and speed, against what can be worked out by hand."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from _toys import ToyGan, two
from pa_lib.callbacks import TrainingMonitor
from pa_lib.data import SyntheticDataModule

pytestmark = pytest.mark.filterwarnings("ignore:.*(many workers|not resumable|treespec|eval mode|litlogger).*")


class Slope(LightningModule):
    """Loss ``3 w + 4 v``: the gradient's norm is 5 in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = (torch.nn.Parameter(torch.zeros(())) for _ in range(2))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return 3 * self.w + 4 * self.v

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def rows(module: LightningModule, folder: Path, data: Any, **more: Any) -> list[dict[str, str]]:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=CSVLogger(folder, "", ""),
        callbacks=[TrainingMonitor()],
        **more,
    )
    trainer.fit(module, **data)
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_rate_and_the_norm_are_those_of_the_step(tmp_path: Path) -> None:
    data = {"train_dataloaders": DataLoader(torch.zeros(30, 1), batch_size=5)}
    found = rows(Slope(), tmp_path, data, max_steps=6, log_every_n_steps=2, gradient_clip_val=1.0)
    # Logged at the second, fourth and sixth step; the rate halves after each step.
    assert [float(row["train/lr"]) for row in found] == pytest.approx([0.5, 0.125, 0.03125])
    assert [float(row["train/grad_norm"]) for row in found] == pytest.approx([5.0] * 3)  # before it is clipped to 1
    assert all(float(row["train/clips_per_s"]) > 0 for row in found)


def test_a_step_of_several_batches_is_one_step(tmp_path: Path) -> None:
    data = {"train_dataloaders": DataLoader(torch.zeros(30, 1), batch_size=5)}
    found = rows(Slope(), tmp_path, data, max_steps=2, log_every_n_steps=1, accumulate_grad_batches=3)
    assert [float(row["train/lr"]) for row in found if row["train/lr"]] == pytest.approx([1.0, 0.5])


def test_every_optimizer_is_logged_by_its_name(tmp_path: Path) -> None:
    module = ToyGan(optimizers=two(schedule=partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.1)))
    data = SyntheticDataModule(n_clips=24, n_frames=1, side=16, n_identities=4, batch_size=2)
    found = rows(module, tmp_path, {"datamodule": data}, max_steps=3, log_every_n_steps=1, limit_val_batches=0)
    assert [float(row["train/lr/generator"]) for row in found] == pytest.approx([1e-2, 1e-3, 1e-4])
    assert [float(row["train/lr/critic"]) for row in found] == pytest.approx([0.1] * 3)
    assert all(float(row["train/grad_norm/critic"]) > 0 for row in found)
