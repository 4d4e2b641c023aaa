"""Schedules of the learning rate that know where the run ends, also when a resumed run ends elsewhere."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pa_lib.errors import SettingError


class CosineSchedule(LRScheduler):
    r"""Linear warm-up, then half a cosine down to the end of the run.

    With warm-up length :math:`w`, number of steps :math:`n` and final share :math:`e`, the share of the optimizer's
    rate at optimizer step :math:`t` is

    .. math:: \frac{t + 1}{w + 1} \;\; (t < w), \qquad
              e + (1 - e) \, \frac{1 + \cos\bigl(\pi \, (t - w) / (n - w)\bigr)}{2} \;\; (w \le t \le n),

    and :math:`e` after step :math:`n`. The rate depends on nothing but the step and these arguments: a resumed run
    takes the number of steps from its checkpoint, and these arguments and the optimizer's rate from its own settings.
    One that is to be longer than before follows the cosine to its new end.

    Args:
        optimizer: Optimizer whose learning rate is scaled.
        total_steps: Number of optimizer steps of the whole run, >= 1.
        warmup_steps: Number of optimizer steps before the full rate, 0 to `total_steps` - 1.
        final_share: Learning rate at the end as a share of the full rate, in [0, 1].

    Raises:
        SettingError: A number out of range.

    >>> from torch import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    >>> schedule = CosineSchedule(optimizer, total_steps=4)
    >>> schedule.rates_at(0), schedule.rates_at(2), schedule.rates_at(4)
    ([0.1], [0.05], [0.0])
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup_steps: int = 0, final_share: float = 0.0) -> None:
        if total_steps < 1:
            raise SettingError(
                f"total_steps of the cosine schedule is {total_steps}, expected at least 1; "
                "set trainer.max_steps, or take module/lr_schedule=constant"
            )
        if not 0 <= warmup_steps < total_steps:
            raise SettingError(
                f"warmup_steps of the cosine schedule is {warmup_steps}, expected 0 to {total_steps - 1}, "
                f"fewer than the {total_steps} steps of the run"
            )
        if not 0 <= final_share <= 1:
            raise SettingError(f"final_share of the cosine schedule is {final_share}, expected 0 to 1")
        self.total_steps, self.warmup_steps, self.final_share = total_steps, warmup_steps, final_share
        super().__init__(optimizer)

    def rates_at(self, step: int, total_steps: int | None = None) -> list[float]:
        """Learning rate of each parameter group at optimizer step `step`, counted from 0.

        Args:
            step: Number of the step, from 0; the rate stays constant after the end.
            total_steps: Length of another run than this one; None = this one.
        """
        total = self.total_steps if total_steps is None else total_steps
        if step < self.warmup_steps:
            share = (step + 1) / (self.warmup_steps + 1)
        else:
            part = min(1.0, (step - self.warmup_steps) / (total - self.warmup_steps))
            share = self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * part)) / 2
        return [share * float(rate) for rate in self.base_lrs]

    def get_lr(self) -> list[float | Tensor]:
        """The rates of the current step; for torch."""
        return list(self.rates_at(self.last_epoch))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the stored step, with the arguments that this schedule was made with.

        The state of other schedules of torch is taken too: only their step is used.
        """
        self.last_epoch = int(state_dict["last_epoch"])
        self._step_count = int(state_dict["_step_count"])
        self._last_lr: list[float | Tensor] = list(self.rates_at(self.last_epoch))
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            if isinstance(group["lr"], Tensor):  # of a captured optimizer, which reads it where it lies
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
