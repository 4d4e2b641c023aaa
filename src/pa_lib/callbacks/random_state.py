"""Random numbers that continue in a resumed run where they stopped."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from pa_lib.errors import SettingError

State = dict[str, Any]


class RandomState(Callback):
    """Keeps the state of the global random generators (torch, its devices, numpy, Python) of each process.

    The systems of pa_lib draw their random numbers from (seed, clip, step) and need no state; dropout and foreign parts
    do. The state is restored right before the first resumed batch, because constructing the loaders draws numbers too.
    Validation gets separate numbers, so that how often it runs does not change what is learned.

    Raises:
        SettingError: The number of processes has changed in a resumed run; leave the callback out to resume regardless.
    """

    def __init__(self) -> None:
        super().__init__()
        self._to_restore: State | None = None
        self._after_batch: State | None = None
        self._before_validation: State | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gather the states of all processes; every process calls this."""
        own = _plain(self._before_validation or _read(pl_module.device))
        states = [own]
        if trainer.world_size > 1:
            states = [{} for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(states, own)
        checkpoint["random_states"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep this process's state until the first batch."""
        states = checkpoint.get("random_states")
        if states is None:
            return
        if len(states) != trainer.world_size:
            raise SettingError(
                f"the checkpoint is of {len(states)} processes, this run has {trainer.world_size}: it is not resumed "
                "exactly; add ~callbacks.random_state to resume with other random numbers"
            )
        self._to_restore = states[trainer.global_rank]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Put the state back, once."""
        if self._to_restore is not None:
            _write(self._to_restore, pl_module.device)
            self._to_restore = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the state: a validation draws numbers for its loaders before any callback is called."""
        self._after_batch = _read(pl_module.device)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the training's numbers aside."""
        self._before_validation = self._after_batch

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore them."""
        if self._before_validation is not None:
            _write(self._before_validation, pl_module.device)
            self._before_validation = None


def _read(device: torch.device) -> State:
    state: State = {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(legacy=True),
        "python": random.getstate(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _plain(state: State) -> State:
    """Tensors and plain values only, so that a checkpoint stays loadable without running code."""
    name, keys, position, has_gauss, cached = state["numpy"]
    version, words, gauss = state["python"]
    return state | {
        "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "python": [version, list(words), gauss],
    }


def _write(state: State, device: torch.device) -> None:
    torch.set_rng_state(state["torch"].cpu())
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, has_gauss, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
