"""Sums of losses over batches and processes, from which a logged value comes that depends on neither."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class LossLog:
    """Sums weighted losses by name until they are logged.

    >>> log = LossLog()
    >>> log.add("val/loss", torch.tensor([3.0, 1.0]))
    >>> log.add("val/loss", torch.tensor([1.0, 3.0]))
    >>> {name: float(value) for name, value in log.close().items()}
    {'val/loss': 1.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, pair: Tensor) -> None:
        """Add one batch: its weighted sum of errors and its weight, shape 2."""
        wide = pair.float() if pair.device.type == "mps" else pair.double()
        self._sums[name] = self._sums[name] + wide if name in self._sums else wide

    def close(self, n_processes: int = 1) -> dict[str, Tensor]:
        """The quotients by name, of all processes together; begins again."""
        sums, self._sums = self._sums, {}
        names = sorted(sums)
        if n_processes > 1:  # a process without a batch knows no names
            everyones: list[list[str]] = [[] for _ in range(n_processes)]
            torch.distributed.all_gather_object(everyones, names)
            names = sorted({name for own in everyones for name in own})
        if not names:
            return {}
        like = next(iter(sums.values()), None)
        empty = torch.zeros(2, dtype=torch.double) if like is None else torch.zeros_like(like)
        values = self.reduced([sums.get(name, empty) for name in names], n_processes)
        return dict(zip(names, values, strict=True))

    @staticmethod
    def reduced(pairs: Sequence[Tensor], n_processes: int) -> list[Tensor]:
        """The quotient of each pair, summed over all processes in one exchange; 0 where there is no weight."""
        stacked = torch.stack(list(pairs))
        if n_processes > 1:
            torch.distributed.all_reduce(stacked)
        sums, weights = stacked.unbind(1)
        return list((sums / torch.where(weights > 0, weights, torch.ones_like(weights))).float().unbind())
