"""Optimizers of a system by name: which slots each one updates, how, and how often."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pa_lib.errors import SettingError
from pa_lib.setting_types import checked_names, wrong_types

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeSchedule = Callable[[Optimizer], LRScheduler]

MAIN = "main"
"""Name of the one optimizer of a system that has no others."""


@dataclass(frozen=True)
class OptimizerSpec:
    """One optimizer of a system.

    Args:
        slots: Names of the direct children of the system whose parameters it updates, at least one.
        make: Function from parameters to an optimizer, e.g. ``functools.partial(torch.optim.AdamW, lr=1e-4)``.
        schedule: Function from the optimizer to a schedule of its learning rate, which is stepped once after each of
            its steps; None for a constant rate.
        every: Number of training steps per step of this optimizer, >= 1; it steps in the first one.
        clip: Largest norm of its gradients, > 0; larger ones are scaled down to it. None does not clip.

    Raises:
        SettingError: No slots, or a number out of range.
    """

    slots: Sequence[str]
    make: MakeOptimizer
    schedule: MakeSchedule | None = None
    every: int = 1
    clip: float | None = None

    def __post_init__(self) -> None:
        for name, text in wrong_types(OptimizerSpec, vars(self)):
            raise SettingError(f"{name} of an optimizer: {text}")
        object.__setattr__(self, "slots", checked_names(self.slots, "slots of an optimizer"))  # a config gives a list
        if not self.slots:
            raise SettingError("slots of an optimizer: got none, expected a list of at least one slot")
        if self.every < 1:
            raise SettingError(f"every of an optimizer is {self.every}, expected a number of training steps, 1 or more")
        if self.clip is not None and not 0 < self.clip < float("inf"):
            raise SettingError(f"clip of an optimizer is {self.clip}, expected a norm above 0, or null for none")


class Training(TypedDict, total=False):
    """What every system that learns takes beside its own arguments: ``def __init__(self, *, ..., **training)``.

    Attributes:
        optimizer: Parameters to an optimizer over all that learns; None for a system that only anonymizes.
        lr_schedule: Optimizer to a schedule of its learning rate, counted in its steps.
        optimizers: Several by name, instead of `optimizer` and `lr_schedule`. A system says which names it steps.
        trainable: Names of the slots that learn. Where `optimizers` are given it may be left out: their slots learn.
        seed: Seed for everything random in training.
        has_gradient_checkpointing: Compute blocks again in the backward pass instead of keeping their results: less
            memory, about a third more time.
    """

    optimizer: MakeOptimizer | None
    lr_schedule: MakeSchedule | None
    optimizers: Mapping[str, OptimizerSpec] | None
    trainable: Sequence[str]
    seed: int
    has_gradient_checkpointing: bool


def checked_specs(
    specs: Mapping[str, OptimizerSpec],
    *,
    names: Collection[str],
    slots: Collection[str],
    trainable: Sequence[str],
    system: str,
) -> dict[str, OptimizerSpec]:
    """The same optimizers, in the order in which the system names them.

    Args:
        specs: Specifications of the optimizers by name.
        names: Names of the optimizers that the system steps.
        slots: Names of the system's direct children.
        trainable: Names of the slots that learn; empty where only the optimizers say it.
        system: Name of the system in errors.

    Raises:
        SettingError: An optimizer is missing or unknown, two update the same slot, or a slot that learns has none.
    """
    given: object = specs
    if not isinstance(given, Mapping):
        raise SettingError(f"optimizers of {system}: got {given!r}, expected a mapping of names to OptimizerSpec")
    if odd := [name for name, spec in given.items() if not isinstance(spec, OptimizerSpec)]:
        raise SettingError(f"optimizer {odd[0]} of {system}: got {given[odd[0]]!r}, expected an OptimizerSpec")
    if set(specs) != set(names):
        raise SettingError(
            f"{system} steps the optimizers {', '.join(names)}; got {', '.join(specs) or 'none'} "
            "(module.optimizers.NAME, or module.optimizer where there is only one)"
        )
    owners: dict[str, str] = {}
    for name in names:
        for slot in specs[name].slots:
            if slot not in slots:
                raise SettingError(
                    f"optimizer {name} names the slot {slot}, which {system} does not have; "
                    f"its slots are {', '.join(slots)}"
                )
            if slot in owners:
                both = f"{owners[slot]} and {name}" if owners[slot] != name else f"{name} twice"
                raise SettingError(f"slot {slot} of {system} has two optimizers, {both}; expected one")
            owners[slot] = name
    if trainable and (missing := [slot for slot in trainable if slot not in owners]):
        raise SettingError(f"{', '.join(missing)} of {system} should learn, but no optimizer has it among its slots")
    if trainable and (frozen := [slot for slot in owners if slot not in trainable]):
        raise SettingError(
            f"optimizer {owners[frozen[0]]} updates {frozen[0]} of {system}, which is frozen; "
            "name it in module.trainable, or leave module.trainable out"
        )
    return {name: specs[name] for name in names}


def average_over_processes(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes; one call for all parameters together.

    A parameter that no process has a gradient for keeps none. Parameters that are divided among processes are left
    out: theirs are reduced where they are computed.
    """
    from torch.distributed.tensor import DTensor

    whole = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    if not whole:
        return
    has_gradient = torch.tensor([float(parameter.grad is not None) for parameter in whole], device=whole[0].device)
    parts: list[Tensor] = [
        torch.zeros(parameter.numel(), device=parameter.device) if parameter.grad is None else parameter.grad.flatten()
        for parameter in whole
    ]
    wide = torch.promote_types(torch.float32, whole[0].dtype)
    flat = torch.cat([part.to(wide) for part in (has_gradient, *parts)])
    torch.distributed.all_reduce(flat)
    counts, means = flat[: len(whole)].tolist(), flat[len(whole) :] / torch.distributed.get_world_size()
    at = 0
    for parameter, count in zip(whole, counts, strict=True):
        mean = means[at : at + parameter.numel()].view_as(parameter).to(parameter.dtype)
        parameter.grad = mean if count else None
        at += parameter.numel()
