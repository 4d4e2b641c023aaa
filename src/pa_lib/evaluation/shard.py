"""The part of an evaluation that one process measures, and the interface of sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pa_lib.contracts import ProgressCallback
from pa_lib.errors import PaLibError
from pa_lib.metrics import AbstractMetric
from pa_lib.reports.evaluation_record import MeasuredClip, MetricRecord

MakeMetrics = Callable[[], Sequence[AbstractMetric]]
"""Function that makes new metrics; called once for every place that is measured on."""
OnProgress = Callable[[str, str, int, "int | None"], None]
"""Callback with (what is worked on, task, steps done, steps in all or None if unknown)."""


@dataclass
class Shard:
    """What one process has measured: its part of all clips.

    Args:
        title: Description of what all processes together measure, one line.
        metrics: Place of measurement (see `reports.evaluation_record.MEASURED_ON`) -> metrics that were fed.
        records: Metrics that are complete already, for sources that one process measures alone.
        clips: The videos.
        left_out: Metric or file -> why it was not measured.
        digests: Hash of each batch of a data module, hex.
        n_clips: Number of clips of a data module.
        data: Record of the data module; None for videos. `digests` and `n_clips` are added to it when shards join.
        notes: Notes on reading the values, one line each.
    """

    title: str
    metrics: dict[str, list[AbstractMetric]] = field(default_factory=dict)
    records: list[MetricRecord] = field(default_factory=list)
    clips: list[MeasuredClip] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    n_clips: int = 0
    data: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


class AbstractSource(ABC):
    """Something to evaluate: it anonymizes or opens clips, and feeds metrics with them.

    Every process makes its own and takes every `world`-th clip (or batch) from number `rank` on.
    """

    is_divisible: ClassVar[bool] = True
    """Whether several processes can share the work."""
    has_own_metrics: ClassVar[bool] = False
    """Whether it needs no metrics, since it measures by itself."""

    @abstractmethod
    def measure(self, make_metrics: MakeMetrics, rank: int, world: int, on_progress: OnProgress) -> Shard:
        """Measure the part of one process.

        Args:
            make_metrics: Function that makes the metrics to be fed.
            rank: Number of this process, from 0.
            world: Number of processes.
            on_progress: Callback, called as the work goes on.

        Raises:
            PaLibError: Something cannot be measured.
        """


def no_progress(title: str, task: str, done: int, total: int | None) -> None:
    """Progress that is not shown."""


def under(title: str, on_progress: OnProgress) -> ProgressCallback:
    """The progress of one thing that is worked on, reported under its title."""

    def report(task: str, done: int, total: int | None = None) -> None:
        on_progress(title, task, done, total)

    return report


@contextmanager
def errors_named(name: str) -> Iterator[None]:
    """Errors of one file among several begin with its name; an empty name changes nothing."""
    try:
        yield
    except PaLibError as error:
        if not name or str(error).startswith(name):
            raise
        raise type(error)(f"{name}: {error}") from error


def described(part: object) -> dict[str, Any]:
    """The class of a part and its plain public attributes: its settings, where no others are known."""
    plain = {
        name: value
        for name, value in vars(part).items()
        if not name.startswith("_") and isinstance(value, bool | int | float | str) and name != "path"
    }
    return {"_target_": f"{type(part).__module__}.{type(part).__qualname__}", **plain}
