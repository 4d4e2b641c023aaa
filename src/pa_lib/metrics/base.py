"""What every metric of pa_lib is: figures with counts and intervals, and the protocol that makes them comparable."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat


@dataclass(frozen=True)
class MetricValue:
    """One number, with what it takes to read it.

    Args:
        name: Unique within the evaluation, with its unit as suffix where it has one, e.g. ``unmasked_psnr_db``.
        value: NaN where there was nothing to measure; `counted` then tells why.
        n: How many things it is a mean (or a rate) of.
        n_of: What they are, e.g. ``pairs of frames``.
        what: One line for people.
        is_higher_better: None where neither is.
        interval: Low and high end of its 95 % interval, None where it has none.
        counted: What was left out of the value, or makes it weaker, by name, e.g. ``{"faces not found": 3}``.
    """

    name: str
    value: float
    n: int
    n_of: str
    what: str
    is_higher_better: bool | None = None
    interval: tuple[float, float] | None = None
    counted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackRow:
    """What a metric says about one person of one clip.

    Args:
        clip: As in `contracts.Result.clip_ids`.
        person_id: As in `contracts.Sighting`.
        values: By name; names as of figures.
    """

    clip: int
    person_id: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Measurement:
    """All that a metric says.

    Args:
        values: The first is the one that stands for the metric.
        tracks: Person by person, for metrics that look at people.
    """

    values: tuple[MetricValue, ...]
    tracks: tuple[TrackRow, ...] = ()


def hash_of_protocol(name: str, protocol: Mapping[str, Any]) -> str:
    """Twelve hex digits of what makes a number reproducible: a metric's name and protocol, or an attack's."""
    told = json.dumps({"metric": name, **protocol}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


class AbstractMetric(torchmetrics.Metric, ABC):
    """A metric fed by `update(...)`, whose arguments bear the names of the fields of `contracts.Result`.

    So a `torchmetrics.MetricCollection` of them takes ``collection.update(source=…, anonymized=…, masks=…, clip_ids=…,
    people=…, context=…)``, and each picks what it needs. `measure()` gives figures, intervals and counts; `compute()`
    gives their bare values as tensors, as torchmetrics and Lightning expect. States are float64 sums or float64 rows
    (see `summed`), so that neither batches nor the number of processes change a figure.
    """

    full_state_update: bool = False
    is_differentiable: bool = False
    name: ClassVar[str]  # unique, in snake case; the first figure begins with it

    def __init__(self) -> None:
        # Sums on the CPU: float64 is slow or absent on accelerators, and states are small.
        super().__init__(compute_with_cache=True)
        self._measured: Measurement | None = None

    def add_rows(self, name: str, n_columns: int) -> None:
        """A state of shape (n, n_columns), float64, empty at first; the processes' rows are joined. See `summed`."""
        self.add_state(name, torch.zeros(0, n_columns, dtype=torch.float64), dist_reduce_fx="cat")

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """All that another lab needs to get the same number from the same files: plain JSON values.

        Networks with the sha256 of their weights, sizes, conventions, thresholds, and what happens to odd cases. Not:
        file names, devices, batch sizes, or versions of pa_lib.
        """

    @abstractmethod
    def _measure(self) -> Measurement:
        """What the states say. Called when the states of all processes are together; without updates all is NaN."""

    def compute(self) -> dict[str, Tensor]:
        """Values of all figures by name, float64; interval ends as ``<name>_low`` and ``<name>_high``."""
        self._measured = self._measure()
        values: dict[str, Tensor] = {}
        for figure in self._measured.values:
            values[figure.name] = torch.tensor(figure.value, dtype=torch.float64)
            if figure.interval is not None:
                for end, value in zip(("low", "high"), figure.interval, strict=True):
                    values[f"{figure.name}_{end}"] = torch.tensor(value, dtype=torch.float64)
        return values

    def _sync_dist(self, *arguments: Any, **named: Any) -> None:
        # torchmetrics stacks what tensors the processes hold, which must be of one size, but joins what is in lists.
        for name, reduction in self._reductions.items():
            state = getattr(self, name)
            if reduction is dim_zero_cat and isinstance(state, Tensor):
                setattr(self, name, [state])
        super()._sync_dist(*arguments, **named)

    def measure(self) -> Measurement:
        """Figures, intervals, counts and people of everything that was fed so far, over all processes."""
        self.compute()  # torchmetrics joins the processes around it, and keeps its result until the next update
        assert self._measured is not None
        return self._measured

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """MetricValue and axes with all values, or with those given; see `torchmetrics.Metric`."""
        return self._plot(val, ax)

    def protocol_hash(self) -> str:
        """Twelve hex digits. Numbers with different ones were not measured the same way: do not rank them."""
        return hash_of_protocol(self.name, self.protocol())
