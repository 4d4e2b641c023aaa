"""What everything that learns shares: slots that learn or stay frozen, optimizers by name, what is saved of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self, Unpack

import lightning
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pa_lib.checkpoint import entry_of, load_module
from pa_lib.errors import PaLibError, SettingError, WeightsError
from pa_lib.modules.backbones.base import AbstractBackbone
from pa_lib.modules.optimization import (
    MAIN,
    MakeOptimizer,
    MakeSchedule,
    OptimizerSpec,
    Training,
    average_over_processes,
    checked_specs,
)
from pa_lib.modules.slot import Origin, Recorded, Slot, outermost_slots
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.modules.systems.division import divide
from pa_lib.modules.systems.losses import LossLog
from pa_lib.modules.temporal.base import AbstractTemporal
from pa_lib.setting_types import check_partial, checked_names, checked_seed

_HALF = ("bf16-true", "16-true")


class AbstractLearned(Recorded, lightning.LightningModule):
    """What learns: a system, or a network of its own. Its direct children are its slots.

    Those in `trainable` learn, the others are frozen.

    A frozen slot keeps no gradients and stays in evaluation mode whatever the trainer asks for, so that its norms and
    dropouts do what they did when it was trained.

    A subclass passes ``**training`` on to this constructor, assigns its slots, and calls `set_up_training` last::

        def __init__(self, *, network: Network, **training: Unpack[Training]) -> None:
            super().__init__(**training)
            self.network = network
            self.set_up_training()

    Most have one optimizer and return the loss from `training_step`. One with several (an anonymizer against a
    recognizer, say) names them in `optimizer_names`, and in `training_step` calls ``self.step(name, loss)`` for each,
    returning nothing. Whatever the number of optimizers, a batch is one training step: `train_step`, Lightning's
    ``global_step``, ``max_steps``, the average of the weights and checkpoints count batches then. (With one optimizer,
    and ``accumulate_grad_batches``, they count its steps.)

    Weights of frozen slots with an `Origin` of their own are left out of checkpoints. Slots that are not exportable are
    left out of everything but ``last.private.ckpt`` and files that `pa_lib.checkpoint.save_module` is asked for. Both
    hold for slots within children too, which go by dotted names there: ``conditioners.key``.

    Args:
        training: See `Training`.

    Attributes:
        optimizer_names: Names of the optimizers that `training_step` steps; ``("main",)`` is the one that Lightning
            steps.
        trainable: Names of the slots that learn.

    Raises:
        SettingError: An unknown setting.
    """

    optimizer_names: tuple[str, ...] = (MAIN,)

    def __init__(self, **training: Unpack[Training]) -> None:
        super().__init__()
        if unknown := sorted(set(training) - set(Training.__annotations__)):
            raise SettingError(f"{type(self).__name__} has no setting {', '.join(unknown)}")
        self.optimizer: MakeOptimizer | None = training.get("optimizer")
        self.lr_schedule: MakeSchedule | None = training.get("lr_schedule")
        self.seed: int = checked_seed(training.get("seed", 0))
        self.has_gradient_checkpointing: bool = training.get("has_gradient_checkpointing", False)
        self.trainable: tuple[str, ...] = ()
        self._specs: dict[str, OptimizerSpec] | None = None
        self._asked_specs: Mapping[str, OptimizerSpec] | None = training.get("optimizers")
        self._asked_trainable = checked_names(training.get("trainable", ()), f"trainable of {type(self).__name__}")
        self._losses = LossLog()
        self._stepped: set[str] = set()  # names of `step` in this training step
        self.automatic_optimization = tuple(self.optimizer_names) == (MAIN,)

    # -- slots -----------------------------------------------------------------------------------------------------

    def set_up_training(self) -> None:
        """Freeze what does not learn and check the optimizers; the last call of a subclass's constructor.

        Raises:
            SettingError: A slot or an optimizer that is not there, or they do not fit each other.
        """
        trainable = self._asked_trainable
        if self._asked_specs is not None:
            if self.optimizer is not None or self.lr_schedule is not None:
                raise SettingError(f"{type(self).__name__} got optimizer and optimizers; give one of them")
            self._specs = checked_specs(
                self._asked_specs,
                names=self.optimizer_names,
                slots=[name for name, _ in self.named_children()],
                trainable=trainable,
                system=type(self).__name__,
            )
            if self.automatic_optimization and self._specs[MAIN].every != 1:
                raise SettingError(f"every of optimizer {MAIN}: use trainer.accumulate_grad_batches instead")
            trainable = trainable or tuple(slot for spec in self._specs.values() for slot in spec.slots)
        self.set_trainable(trainable)
        if self.has_gradient_checkpointing:
            for slot in self.children():
                if isinstance(slot, AbstractBackbone | AbstractTemporal):
                    slot.use_gradient_checkpointing()

    def set_trainable(self, slots: Sequence[str]) -> None:
        """Let these slots learn and freeze the others.

        Raises:
            SettingError: There is no such slot.
        """
        there = dict(self.named_children())
        slots = checked_names(slots, f"trainable of {type(self).__name__}")
        if unknown := sorted(set(slots) - set(there)):
            raise SettingError(
                f"trainable names {', '.join(unknown)}, which {type(self).__name__} does not have; "
                f"its slots are {', '.join(there)}"
            )
        self.trainable = slots
        for name, slot in there.items():
            slot.requires_grad_(name in self.trainable)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training mode for the slots that learn, evaluation mode for the frozen ones."""
        super().train(mode)
        for name, slot in self.named_children():
            if name not in self.trainable:
                slot.eval()
        return self

    def origins(self) -> dict[str, Origin]:
        """Slot, at any depth -> the file that it takes its weights from whenever it is built; without one: left out."""
        given = {name: slot.origin for name, slot in outermost_slots(self, _has_origin).items()}
        return {name: origin for name, origin in given.items() if origin is not None}

    def external_slots(self) -> set[str]:
        """Frozen slots, at any depth, that take their weights from a file of their own; checkpoints omit them."""
        return {name for name in self.origins() if name.partition(".")[0] not in self.trainable}

    def untrained_slots(self) -> set[str]:
        """Slots that begin with random weights: neither from a file nor without any effect at first, as adapters."""
        slots = outermost_slots(self)
        inside = {id(one) for slot in slots.values() if isinstance(slot, nn.Module) for one in slot.parameters()}
        return {name for name, slot in slots.items() if slot.is_random} | {
            name for name, child in self.named_children() if any(id(one) not in inside for one in child.parameters())
        }

    def comes_from(self, path: str | Path, sha256: str | None = None) -> None:
        """Say that slots without an origin take their weights from this file whenever the system is built."""
        for slot in outermost_slots(self).values():
            if slot.origin is None:
                slot.comes_from(path, sha256)

    # -- optimizers ------------------------------------------------------------------------------------------------

    @property
    def train_step(self) -> int:
        """Number of training steps that are done; within one, its number from 0. Continues in a resumed run."""
        if self._trainer is None:
            return 0
        if self.automatic_optimization:
            return int(self.trainer.global_step)
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return int(done.processed)  # type: ignore[attr-defined]  # Lightning declares the base class

    @property
    def optimizer_specs(self) -> dict[str, OptimizerSpec]:
        """The optimizers by name.

        Raises:
            SettingError: There is none.
        """
        if self._specs is not None:
            return self._specs
        if self.optimizer is None:
            example = (
                "e.g. module/optimizer=adamw"
                if self.automatic_optimization
                else f"optimizers with the names {', '.join(self.optimizer_names)}"
            )
            raise SettingError(f"{type(self).__name__} has no optimizer; give it one to train it, {example}")
        if not self.automatic_optimization:
            raise SettingError(
                f"{type(self).__name__} steps the optimizers {', '.join(self.optimizer_names)}; got one optimizer "
                "without a name: give module.optimizers.NAME for each"
            )
        return {MAIN: OptimizerSpec(self.trainable or ("(none)",), self.optimizer, self.lr_schedule)}

    def configure_optimizers(self) -> Any:
        """The optimizers with their schedules, which count their optimizer's steps; for Lightning.

        Raises:
            SettingError: No optimizer, nothing that could learn, or settings that torch refuses.
        """
        made = []
        for name, spec in self.optimizer_specs.items():
            learning = self._parameters_of(spec)
            if not learning:
                raise SettingError(
                    f"nothing to train: the slots {', '.join(spec.slots)} of {type(self).__name__} "
                    "have no weights; name others in module.trainable"
                )
            where = "" if self._specs is None else f"optimizers.{name}."
            making = f"{where}make" if where else "optimizer"
            try:
                check_partial(spec.make, f"module.{making}")
                optimizer = spec.make(learning)
                making = f"{where}schedule" if where else "lr_schedule"
                check_partial(spec.schedule, f"module.{making}")
                schedule = None if spec.schedule is None else spec.schedule(optimizer)
            except PaLibError:
                raise
            except (TypeError, ValueError) as error:  # torch's words on a wrong rate or an unknown argument
                raise SettingError(f"module.{making}: {' '.join(str(error).split())}") from error
            made.append((name, optimizer, schedule))
        if self.automatic_optimization:
            ((_, optimizer, schedule),) = made
            if schedule is None:
                return optimizer
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
        schedules = [{"scheduler": schedule, "name": name} for name, _, schedule in made if schedule is not None]
        return [optimizer for _, optimizer, _ in made], schedules

    def is_due(self, name: str) -> bool:
        """Whether an optimizer steps in this training step; where it does not, its loss need not be computed."""
        if self._trainer is not None and not self.automatic_optimization:
            batches = self.trainer.fit_loop.epoch_loop.batch_progress.total
            if batches.started > batches.processed:  # type: ignore[attr-defined]  # Lightning declares the base class
                self._count_training_step()  # a step in which no optimizer is due is one too
        return self.train_step % self._spec(name).every == 0

    def step(self, name: str, loss: Tensor, *, retain_graph: bool = False) -> None:
        """One step of one optimizer: zero, backward, clip, step, schedule. Does nothing where it is not due (`is_due`).

        Gradients reach only the optimizer's own slots, whatever else the loss was computed from. With several processes
        they are averaged over them, as Lightning does it for one optimizer.

        Args:
            name: One of `optimizer_names`.
            loss: Differentiable. Compute it after the steps whose result it is to see.
            retain_graph: Keep what the loss was computed from for the loss of another optimizer.

        Raises:
            SettingError: There is no such optimizer, or the loss does not depend on its slots.
        """
        spec = self._spec(name)
        self._stepped.add(name)
        self._count_training_step()
        if not self.is_due(name):
            return
        if not loss.requires_grad:
            raise SettingError(f"the loss of optimizer {name} depends on no weight of {', '.join(spec.slots)}")
        optimizer = self.trainer.optimizers[self.optimizer_names.index(name)]
        parameters = self._parameters_of(spec)
        optimizer.zero_grad()
        strategy = self.trainer.strategy
        unsynced = getattr(strategy, "block_backward_sync", nullcontext)  # of Lightning's strategies for processes
        with unsynced():
            self.manual_backward(loss, inputs=parameters, retain_graph=retain_graph)
        if self.trainer.world_size > 1:
            average_over_processes(parameters)
        # Not `LightningOptimizer.step`, which would count a training step for every optimizer.
        strategy.optimizer_step(optimizer, closure=_nothing)
        for config in self.trainer.lr_scheduler_configs:
            if config.name == name:
                schedule: LRScheduler = config.scheduler
                schedule.step()

    def optimizer_name(self, optimizer: Optimizer) -> str:
        """The name of one of the trainer's optimizers."""
        for name, own in zip(self.optimizer_names, self.trainer.optimizers, strict=False):
            if own is optimizer:
                return name
        return MAIN

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip gradients where the optimizer's spec says so; for Lightning, after callbacks have seen the gradients."""
        spec = None if self._specs is None else self._specs.get(self.optimizer_name(optimizer))
        if spec is not None and spec.clip is not None:
            nn.utils.clip_grad_norm_(self._parameters_of(spec), spec.clip)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Refuse a training step that left out an optimizer that was due, which would never learn; for Lightning."""
        if self.automatic_optimization:
            return
        stepped, self._stepped = self._stepped, set()
        step = self.train_step - 1
        if self._specs is None:  # its own `configure_optimizers`: what it does is not known, but Lightning must count
            due = list(self.optimizer_names) if self.trainer.global_step <= step else []
        else:
            due = [name for name, spec in self._specs.items() if step % spec.every == 0]
        if missing := [name for name in due if name not in stepped]:
            raise PaLibError(
                f"{type(self).__name__}.training_step did not call self.step(name, loss) for {', '.join(missing)} in "
                f"step {step}; expected it for each of {', '.join(due)} (every=N of an optimizer steps it less often)"
            )

    def _spec(self, name: str) -> OptimizerSpec:
        specs = self.optimizer_specs
        if name not in specs or self.automatic_optimization:
            raise SettingError(
                f"{type(self).__name__} steps no optimizer {name}; it has {', '.join(specs)}"
                + (": return the loss from training_step" if self.automatic_optimization else "")
            )
        return specs[name]

    def _parameters_of(self, spec: OptimizerSpec) -> list[nn.Parameter]:
        if self._specs is None:
            return [parameter for parameter in self.parameters() if parameter.requires_grad]
        slots = dict(self.named_children())
        return [one for slot in spec.slots for one in slots[slot].parameters() if one.requires_grad]

    def _count_training_step(self) -> None:
        """Count this batch once in Lightning's ``global_step``, whatever the number of optimizers."""
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        while progress.total.completed <= self.train_step:
            progress.increment_ready()
            progress.increment_completed()

    # -- logging ---------------------------------------------------------------------------------------------------

    def log_loss(self, name: str, weighted_sum: Tensor, weight: Tensor, batch_size: int) -> None:
        """Log ``sum(weighted_sum) / sum(weight)`` over all processes, in validation over all batches too.

        The value does not depend on how clips are distributed over processes and batches, as a mean of means would.

        Args:
            name: ``train/loss``, ``val/loss``.
            weighted_sum: Scalar: sum over this batch, in this process, of weight times error.
            weight: Scalar: sum of the weights.
            batch_size: Number of clips in the batch.
        """
        pair = torch.stack([weighted_sum.detach(), weight.detach().to(weighted_sum)])
        if self.trainer.training:
            (value,) = self._losses.reduced([pair], self.trainer.world_size)
            self.log(name, value, prog_bar=True, batch_size=batch_size, sync_dist=False)
        else:
            self._losses.add(name, pair)

    def on_validation_epoch_end(self) -> None:
        """Log the losses that `log_loss` has summed; for Lightning."""
        for name, value in self._losses.close(self.trainer.world_size).items():
            self.log(name, value, prog_bar=True, sync_dist=False, rank_zero_only=False)

    # -- files -----------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse half weights; for Lightning.

        Raises:
            SettingError: The trainer's precision is ``bf16-true`` or ``16-true``.
        """
        if self._trainer is not None and self.trainer.precision in _HALF:
            raise SettingError(
                f"precision={self.trainer.precision}: half weights cannot take small steps, and batches stay float32; "
                "take bf16-mixed"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the entry that `pa_lib.load_module` reads; leave out what lies elsewhere."""
        checkpoint.setdefault("pa_lib", entry_of(self))
        outside = tuple(f"{slot}." for slot in self.external_slots())
        if outside:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: value for name, value in state.items() if not name.startswith(outside)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put back what `on_save_checkpoint` has left out; for Lightning, when a run is resumed."""
        outside = tuple(f"{slot}." for slot in self.external_slots())
        if outside and self.device_mesh is None:  # weights that are divided are loaded in another way
            own = {name: value for name, value in self.state_dict().items() if name.startswith(outside)}
            checkpoint["state_dict"] = {**own, **checkpoint["state_dict"]}

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, map_location: Any = None, **kwargs: Any) -> Self:  # type: ignore[override]  # by its own config, so without hparams_file and strict
        """Rebuild a system from a checkpoint; see `pa_lib.load_module`, which takes the same named arguments.

        Raises:
            PaLibError: What `pa_lib.load_module` raises, or the file holds another system.
        """
        loaded = load_module(checkpoint_path, map_location=map_location or "cpu", **kwargs)
        if not isinstance(loaded, cls):
            raise WeightsError(f"{checkpoint_path} holds a {type(loaded).__name__}, expected a {cls.__name__}")
        return loaded

    def configure_model(self) -> None:
        """Divide the backbone and the adapters' layers among processes, where the strategy does (FSDP2); for Lightning.

        What is frozen and not called as a module (an autoencoder encodes and decodes) stays whole in every process.
        """
        if self.device_mesh is not None:
            divide(self.children(), self.device_mesh["data_parallel"])


class AbstractLearnedAnonymizer(AbstractLearned, AbstractAnonymizer):
    """A system with weights."""


def _has_origin(slot: Slot) -> bool:
    return slot.origin is not None


def _nothing() -> None:
    """What Lightning calls before an optimizer steps: the gradients are there already."""
