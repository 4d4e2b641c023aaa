"""What every system with weights shares: slots that learn or stay frozen, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import lightning
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pa_lib.errors import PaLibError
from pa_lib.modules.backbones.base import AbstractBackbone, AbstractGuest
from pa_lib.modules.systems.base import AbstractAnonymizer

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeSchedule = Callable[[Optimizer], LRScheduler]


class AbstractLearnedAnonymizer(lightning.LightningModule, AbstractAnonymizer):
    """A system with weights. Its direct children are its slots; those in `trainable` learn, the others are frozen.

    A frozen slot keeps no gradients and stays in evaluation mode whatever the trainer asks for, so that its norms and
    dropouts do what they did when it was trained.

    A system has one optimizer over everything that learns unless it says otherwise. One with several (an anonymizer
    against a recognizer, say) sets ``automatic_optimization = False``, returns its optimizers from
    `configure_optimizers`, and steps them itself. A slot that must not be handed out with the others (the decoder that
    brings people back) is a slot like any other: `checkpoint.save_module` takes the names of those to write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trainable: tuple[str, ...] = ()
        self.optimizer: MakeOptimizer | None = None
        self.lr_schedule: MakeSchedule | None = None

    def set_trainable(self, slots: Sequence[str]) -> None:
        """Let these slots learn and freeze the others.

        Raises:
            PaLibError: There is no such slot.
        """
        there = dict(self.named_children())
        if unknown := sorted(set(slots) - set(there)):
            raise PaLibError(
                f"trainable names {', '.join(unknown)}, which {type(self).__name__} does not have; "
                f"its slots are {', '.join(there)}"
            )
        self.trainable = tuple(slots)
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

    def external_slots(self) -> set[str]:
        """Frozen slots that are rebuilt from a path of their own; checkpoints leave their weights out."""
        return {
            name
            for name, slot in self.named_children()
            if name not in self.trainable and getattr(slot, "path", None) is not None
        }

    def untrained_slots(self) -> set[str]:
        """Slots that begin with random weights: without a path of their own, and no guests, which begin as nothing."""
        return {
            name
            for name, slot in self.named_children()
            if not isinstance(slot, AbstractGuest)
            and getattr(slot, "path", None) is None
            and any(True for _ in slot.parameters())
        }

    def configure_model(self) -> None:
        """Divide the backbone and the guests' layers among processes, where the strategy does (FSDP2); for Lightning.

        What is frozen and not called as a module (an autoencoder encodes and decodes) stays whole in every process.
        """
        if self.device_mesh is None:
            return
        from torch.distributed.fsdp import FSDPModule, fully_shard

        for slot in self.children():
            parts: list[nn.Module] = [slot] if isinstance(slot, AbstractBackbone) else []
            if isinstance(slot, AbstractGuest):
                parts = list(slot.layers.values())
            for part in parts:
                if not isinstance(part, FSDPModule):
                    fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        """One optimizer over what learns, with its learning rate's schedule counted in steps; for Lightning.

        Raises:
            PaLibError: No optimizer, nothing that could learn, or settings that torch refuses.
        """
        if self.optimizer is None:
            raise PaLibError(
                f"{type(self).__name__} has no optimizer; give it one to train it, e.g. module/optimizer=adamw"
            )
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not learning:
            raise PaLibError(
                f"nothing to train: the slots {', '.join(self.trainable) or '(none)'} of {type(self).__name__} "
                "have no weights; name others in module.trainable"
            )
        making = "optimizer"
        try:
            optimizer = self.optimizer(learning)
            if self.lr_schedule is None:
                return optimizer
            making = "lr_schedule"
            schedule = self.lr_schedule(optimizer)
        except (TypeError, ValueError) as error:  # torch's words on a wrong rate or an unknown argument
            raise PaLibError(f"module.{making}: {' '.join(str(error).split())}") from error
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
