"""An average of the weights over the training, which is what is validated, saved and used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from pa_lib.errors import SettingError, WeightsError
from pa_lib.renamed import current_names


class ExponentialAverage(Callback):
    """Exponential moving average of the weights that are trained, used for validation and in checkpoints.

    ``a <- d a + (1 - d) w`` after every training step, with ``d = min(decay, (1 + n) / (10 + n))`` for the n-th, so
    that the average does not depend on the initial weights. Frozen weights and buffers are not averaged.

    A checkpoint's ``state_dict`` holds the average, its entry ``training_weights`` the weights that training continues
    from; a resumed run is exactly the run that was not interrupted. After `fit` the module holds the average.

    Args:
        decay: Share of the average that stays in each step, d in [0, 1).

    Differs: from Lightning's `EMAWeightAveraging`, which averages a copy of the whole module. With a frozen backbone
    that copy takes the backbone's memory again, and updating it takes most of a step; and it averages in the type of
    the weights, where bfloat16 loses small changes.

    Source: Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", section 3, on why
    to average; the warm-up is TensorFlow's `ExponentialMovingAverage` with ``num_updates``.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise SettingError(f"decay {decay}: expected a number in [0, 1)")
        self.decay = decay
        self.n_updates = 0
        self._weights: dict[str, nn.Parameter] = {}  # that are trained; listed once, for a walk takes milliseconds
        self._averages: dict[str, Tensor] = {}
        self._set_aside: dict[str, Tensor] = {}  # the training weights while the module holds the average
        self._seen_at = 0

    def state_dict(self) -> dict[str, Any]:
        """Number of steps that the average is of."""
        return {"n_updates": self.n_updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue to count."""
        self.n_updates = int(state_dict["n_updates"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """List what is trained; restore the training weights if the same callback fits twice."""
        self._take_up_training(pl_module)
        self._weights = _trained(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the average with the weights as they are, if no checkpoint brought one."""
        self._begin()
        self._seen_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take one step into the average."""
        if trainer.global_step == self._seen_at:  # batches are being summed; no step yet
            return
        self._seen_at = trainer.global_step
        self.n_updates += 1
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        averages = [self._averages[name] for name in self._weights]
        with torch.no_grad():  # and not detach(): hundreds of views in every step
            weights = [weight.to(mean.dtype) for weight, mean in zip(self._weights.values(), averages, strict=True)]
            torch._foreach_lerp_(averages, weights, 1 - decay)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        if trainer.state.fn == "fit":
            self._begin()
            self._show_average(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Back to the training weights."""
        if trainer.state.fn == "fit":
            self._take_up_training(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module."""
        self._show_average(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the average as the weights, and the training weights beside it."""
        if not self._averages:
            return
        held = self._weights
        training: Mapping[str, Tensor] = self._set_aside or held
        state = checkpoint["state_dict"]
        kept: dict[str, Tensor] = {}
        precise: dict[str, Tensor] = {}
        for name in held:
            # Where weights are divided among processes all of them must take part, though one saves.
            kept[name], averaged = _whole(training[name]), _whole(self._averages[name])
            if name in state:
                state[name] = averaged.to(held[name].dtype)
            if averaged.dtype != held[name].dtype:
                precise[name] = averaged
        checkpoint["training_weights"] = kept
        checkpoint["precise_averages"] = precise

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Separate the two: the module has just been given the average.

        Raises:
            WeightsError: Other weights are trained than in the run that saved.
        """
        kept = checkpoint.get("training_weights")
        if trainer.state.fn != "fit" or kept is None:
            return  # a checkpoint without an average: it begins here
        kept, precise = current_names(kept), current_names(checkpoint.get("precise_averages", {}))
        own = _trained(pl_module)
        if odd := sorted(own.keys() ^ kept.keys()):
            side = "not trained" if odd[0] in own else "trained"
            raise WeightsError(
                f"the checkpoint cannot be resumed: {odd[0]} was {side} in it ({len(odd)} such weights differ); "
                "resume with the same trainable slots, or begin a new stage with init_from"
            )
        self._set_aside = {}
        with torch.no_grad():
            for name, weight in own.items():
                self._averages[name] = _average_of(weight)
                if name in precise:
                    self._averages[name].copy_(_like(precise[name], self._averages[name]))
                weight.copy_(_like(kept[name], weight))

    def _begin(self) -> None:
        for name, weight in self._weights.items():
            if name not in self._averages:
                self._averages[name] = _average_of(weight)
            elif self._averages[name].device != weight.device:  # loaded before the module went to its device
                self._averages[name] = self._averages[name].to(weight.device)

    @torch.no_grad()
    def _show_average(self, module: LightningModule) -> None:
        if not self._averages or self._set_aside:
            return
        _reshard(module)
        for name, weight in self._weights.items():
            self._set_aside[name] = weight.detach().clone()
            weight.copy_(self._averages[name])

    @torch.no_grad()
    def _take_up_training(self, module: LightningModule) -> None:
        _reshard(module)
        for name, training in self._set_aside.items():
            self._weights[name].copy_(training)
        self._set_aside = {}


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def _reshard(module: nn.Module) -> None:
    """Where weights are divided among processes, release what a validation has gathered and kept."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from torch.distributed.fsdp import FSDPModule

        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()


def _average_of(weight: Tensor) -> Tensor:
    wide = torch.float32 if weight.dtype in (torch.bfloat16, torch.float16) else weight.dtype
    return weight.detach().clone().to(wide)


def _whole(tensor: Tensor) -> Tensor:
    """The full tensor from the shards of all processes, on the CPU."""
    from torch.distributed.tensor import DTensor

    plain = tensor.detach()
    if isinstance(plain, DTensor):
        plain = plain.full_tensor()
    return plain.cpu().clone()


def _like(whole: Tensor, shard: Tensor) -> Tensor:
    """`whole` divided as `shard` is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(shard, DTensor):
        return distribute_tensor(whole.to(shard.device), shard.device_mesh, shard.placements)
    return whole
