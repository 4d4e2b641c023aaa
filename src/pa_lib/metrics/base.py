"""What every metric of pa_lib is: values with counts and intervals, and the protocol that makes them comparable."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torchmetrics
from jaxtyping import Float
from torch import Tensor, distributed
from torchmetrics.utilities import dim_zero_cat

from pa_lib.errors import SettingError
from pa_lib.metrics.rows import shifted, summed, unnumbered_keys

Field = Literal["source", "anonymized", "masks", "clip_ids", "identities", "people", "context"]
"""A field of `contracts.Result`, which is also the name of an argument of `AbstractMetric.update`."""


@dataclass(frozen=True)
class MetricValue:
    """One number, with what it takes to read it.

    Args:
        name: Name of the value, unique within the evaluation, with its unit as suffix if it has one, e.g.
            ``unmasked_psnr_db``.
        value: The value; NaN if there was nothing to measure; `counted` then says why.
        n: Number of items that the value is a mean (or a rate) of.
        n_of: Description of the items, e.g. ``pairs of frames``.
        what: Description in one line.
        is_higher_better: Whether a higher value is better; None if neither is.
        interval: Low and high end of the 95 % interval; None if there is none.
        counted: Number of items that were left out of the value, or that weaken it, by name, e.g. ``{"faces not found":
            3}``.
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
    """Values of one person of one clip.

    Args:
        clip: Id of the clip, see `contracts.Result.clip_ids`; without them, the number of the row among all rows, from
            0.
        person_id: Id of the person, see `contracts.Sighting`.
        values: Contribution of the person to each value, by name of the value.
    """

    clip: int
    person_id: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Measurement:
    """All that a metric reports.

    Args:
        values: The values; the first one stands for the metric.
        tracks: Values person by person, for metrics that look at people.
    """

    values: tuple[MetricValue, ...]
    tracks: tuple[TrackRow, ...] = ()


def hash_of_protocol(name: str, protocol: Mapping[str, Any]) -> str:
    """Twelve hex digits of what makes a number reproducible: a metric's name and protocol, or an attack's.

    Raises:
        SettingError: The protocol holds something else than finite JSON values.
    """
    try:
        text = json.dumps({"metric": name, **protocol}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"protocol of {name}: {error}; expected plain JSON values, e.g. float(x) or x.tolist() of a tensor"
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class _MetricType(ABCMeta):
    """Adds the settings of a metric to its states once its constructor is through, which is when they are known."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        if not isinstance(getattr(cls, "name", None), str):
            raise SettingError(f'{cls.__name__} has no name: expected name = "..." in the class, in snake case')
        metric = super().__call__(*arguments, **named)
        metric.add_state("settings", _settings(metric.protocol_hash()), dist_reduce_fx=_one_setting)
        return metric


class AbstractMetric(torchmetrics.Metric, ABC, metaclass=_MetricType):
    """A metric that is updated with fields of `contracts.Result`, named as there.

    So a `torchmetrics.MetricCollection` of them takes ``collection.update(source=…, anonymized=…, masks=…, clip_ids=…,
    people=…, context=…)``, and each picks its own; `feed` does the same with a whole result. `measure()` gives values,
    intervals and counts; `compute()` gives the bare values as tensors, as torchmetrics and Lightning expect.

    States are float64 sums and float64 rows (`add_rows`), so that neither batches nor the number of processes change a
    value: `update`, `forward` and `merge_state` accumulate the same. Rows that are updated without `clip_ids` are clips
    of their own, however the states come together. The settings are part of the state: a MetricCollection never takes
    two differently set metrics for one, and merging them is refused.

    A subclass sets `name`, `needs` and `uses`, adds its states in its constructor, and implements `update`, `protocol`
    and `_measure`.
    """

    full_state_update: bool = False
    is_differentiable: bool = False
    name: ClassVar[str]  # unique, in snake case; the name of the first value begins with it
    needs: frozenset[Field] = frozenset({"source", "anonymized"})  # what `update` cannot do without; empty: no result
    needs_one_of: frozenset[Field] = frozenset()  # and at least one of these, if there are any
    uses: frozenset[Field] = frozenset()  # fields that it takes if they are there

    settings: Tensor
    n_unnumbered: Tensor

    def __init__(self) -> None:
        # Sums on the CPU: float64 is slow or absent on accelerators, and states are small.
        super().__init__(compute_with_cache=True)
        self._measured: Measurement | None = None
        self._keys: dict[str, tuple[int, int | None]] = {}
        self.add_state("n_unnumbered", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """All that is needed to reproduce the numbers from the same files: plain JSON values.

        Networks with the sha256 of their weights, sizes, conventions, thresholds, and what happens to odd cases. Not:
        file names, devices, batch sizes, or versions of pa_lib. Called once at the end of the constructor.
        """

    @abstractmethod
    def _measure(self) -> Measurement:
        """The measurement from the states of all processes together; without updates all values are NaN."""

    def protocol_hash(self) -> str:
        """Twelve hex digits. Numbers with different ones were not measured the same way: do not rank them."""
        return hash_of_protocol(self.name, self.protocol())

    def compute(self) -> dict[str, Tensor]:
        """Values by name, float64; interval ends as ``<name>_low`` and ``<name>_high``."""
        self._measured = self._measure()
        values: dict[str, Tensor] = {}
        for entry in self._measured.values:
            values[entry.name] = torch.tensor(entry.value, dtype=torch.float64)
            if entry.interval is not None:
                for end, value in zip(("low", "high"), entry.interval, strict=True):
                    values[f"{entry.name}_{end}"] = torch.tensor(value, dtype=torch.float64)
        return values

    def measure(self) -> Measurement:
        """Values, intervals, counts and people of everything since the last reset, over all processes."""
        self.compute()  # torchmetrics joins the processes around it, and keeps its result until the next update
        assert self._measured is not None
        return self._measured

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Figure and axes with all values, or with those given; see `torchmetrics.Metric`."""
        return self._plot(val, ax)

    def add_rows(self, name: str, n_columns: int, n_keys: int = 0, clip_column: int | None = None) -> None:
        """Add a state of shape (n, n_columns), float64, empty at first. `add_to` adds rows, `joined` reads them.

        Args:
            name: Name of the state.
            n_columns: Number of columns.
            n_keys: Number of columns in front that are keys (integers, such as clip and person): rows with the same
                keys are added up, see `summed`. 0 keeps rows apart.
            clip_column: Index of the column that holds keys of `clip_keys`; None if there is none.
        """
        self._keys[name] = n_keys, clip_column
        self.add_state(name, torch.zeros(0, n_columns, dtype=torch.float64), dist_reduce_fx="cat")

    def add_to(self, name: str, new: Float[Tensor, "n k"]) -> None:
        """Add rows to a state of `add_rows`."""
        known = getattr(self, name)
        setattr(self, name, self.compacted(name, torch.cat([known, new.to(known.device)])))

    def joined(self, name: str) -> Float[Tensor, "n k"]:
        """The rows of a state on the CPU; those of all processes in `_measure`."""
        return self.compacted(name, getattr(self, name).cpu())

    def compacted(self, name: str, rows: Float[Tensor, "n k"]) -> Float[Tensor, "m k"]:
        """The rows of a state in their shortest form: those with the same keys added up. For subclasses to extend."""
        n_keys, _ = self._keys[name]
        return summed(rows, n_keys) if n_keys else rows

    def clip_keys(self, clip_ids: Tensor | None, n_rows: int) -> Float[Tensor, " b"]:
        """The key of every row of an update, float64.

        Args:
            clip_ids: Ids of the clips, see `contracts.Result`; None makes every row of every update a clip of its own.
            n_rows: Number of rows of the update.

        Raises:
            ValueError: There are not as many ids as rows, or one of them is 2^52 or more.
        """
        keys = unnumbered_keys(clip_ids, n_rows, int(self.n_unnumbered))
        if clip_ids is None:
            self.n_unnumbered = self.n_unnumbered + n_rows
        return keys.to(self.n_unnumbered.device)

    def merge_state(self, incoming_state: dict[str, Any] | torchmetrics.Metric) -> None:
        """Add what another metric of the same settings has accumulated; see `torchmetrics.Metric`.

        Raises:
            SettingError: The settings differ.
        """
        super().merge_state(incoming_state)
        self._computed = None  # torchmetrics would go on to give the result of before

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> torch.nn.Module:
        # A module that is converted to half precision takes its metrics along; sums and clip ids would be rounded.
        before, defaults = self._copy_state_dict(), dict(self._defaults)
        this = super()._apply(fn, exclude_state)
        for name, state in before.items():
            now = getattr(self, name)
            if isinstance(state, Tensor) and now.dtype != state.dtype:
                setattr(self, name, state.to(now.device))
                default = defaults[name]
                assert isinstance(default, Tensor)
                self._defaults[name] = default.to(now.device)
        return this

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        # torchmetrics' hook in `forward` and `merge_state`: incoming states come first, then the metric's own.
        if "settings" in incoming_state:
            _one_setting(torch.stack([self.settings, incoming_state["settings"].to(self.settings.device)]))
        self._renumber(int(incoming_state.get("n_unnumbered", 0)))
        super()._reduce_states(incoming_state)
        for name in self._keys:
            setattr(self, name, self.compacted(name, getattr(self, name)))

    def _sync_dist(
        self,
        dist_sync_fn: Callable[..., Any] = torchmetrics.utilities.distributed.gather_all_tensors,
        process_group: Any = None,
    ) -> None:
        group = process_group or self.process_group
        counts = dist_sync_fn(self.n_unnumbered, group=group)
        rank = distributed.get_rank(group) if distributed.is_available() and distributed.is_initialized() else 0
        self._renumber(sum(int(count) for count in counts[:rank]))
        # torchmetrics stacks what tensors the processes hold, which must be of one size, but joins what is in lists.
        for name, reduction in self._reductions.items():
            state = getattr(self, name)
            if reduction is dim_zero_cat and isinstance(state, Tensor):
                setattr(self, name, [state])
        super()._sync_dist(dist_sync_fn, process_group)

    def _renumber(self, n_before: int) -> None:
        """Number the metric's own clips without an id from `n_before` on."""
        for name, (_, column) in self._keys.items():
            if column is not None and n_before:
                setattr(self, name, shifted(getattr(self, name), column, n_before))


def _settings(protocol_hash: str) -> Float[Tensor, " 12"]:
    """A hash as numbers that torchmetrics' tolerant comparison of states distinguishes."""
    return torch.tensor([int(digit, 16) for digit in protocol_hash], dtype=torch.float64)


def _one_setting(stacked: Float[Tensor, "n 12"]) -> Float[Tensor, " 12"]:
    """The settings that all states have."""
    if bool((stacked != stacked[0]).any()):
        raise SettingError("states of differently set metrics cannot be merged: expected the same protocol of both")
    return stacked[0]
