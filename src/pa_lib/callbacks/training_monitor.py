"""Progress of the training: learning rates, gradient norms and speed, logged beside the loss."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from pa_lib.modules import AbstractLearned


class TrainingMonitor(Callback):
    """Logs ``train/lr``, ``train/grad_norm`` and ``train/clips_per_s`` at the steps that the trainer logs.

    A system with several optimizers has one of the first two for each, e.g. ``train/lr/critic``. The rate is that of
    the step that was just taken. The norm is taken over all weights of the optimizer before gradients are clipped, and
    costs one pass over them at logged steps only. Clips of all processes are counted; time spent in validation is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[str, Tensor | float] = {}
        self._n_clips = 0
        self._began = self._paused = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure the time."""
        self._begin()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Take the rate and the gradients' norm of one step."""
        if not _is_logged(trainer, pl_module):
            return
        name = _name(pl_module, optimizer)
        gradients = [
            weight.grad for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None
        ]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._logged[f"train/grad_norm{name}"] = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        self._logged[f"train/lr{name}"] = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log what was taken, and the speed since it was logged last."""
        self._n_clips += _count(batch)
        if not self._logged:
            return
        took = time.perf_counter() - self._began
        if self._n_clips and took > 0:
            self._logged["train/clips_per_s"] = self._n_clips * trainer.world_size / took
        for name, value in self._logged.items():
            pl_module.log(name, value, on_step=True, on_epoch=False, batch_size=1)
        self._begin()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock again."""
        self._began += time.perf_counter() - self._paused

    def _begin(self) -> None:
        self._logged = {}
        self._n_clips = 0
        self._began = time.perf_counter()


def _is_logged(trainer: Trainer, module: LightningModule) -> bool:
    """Whether the trainer hands the values of the step that is being taken to its loggers."""
    step = module.train_step if isinstance(module, AbstractLearned) else trainer.global_step
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return bool(trainer.loggers) and (step + 1) % every == 0


def _name(module: LightningModule, optimizer: Optimizer) -> str:
    """Suffix that distinguishes the optimizers of a module; empty if there is only one."""
    if isinstance(module, AbstractLearned) and not module.automatic_optimization:
        return f"/{module.optimizer_name(optimizer)}"
    own = module.trainer.optimizers
    return "" if len(own) == 1 else f"/{next(at for at, one in enumerate(own) if one is optimizer)}"


def _count(batch: Any) -> int:
    """Number of clips or images in a batch, of all its streams together."""
    if isinstance(batch, Mapping):
        return sum(_count(one) for one in batch.values())
    clips = getattr(batch, "clip_ids", batch)
    return len(clips) if isinstance(clips, Tensor) else 0
