"""Results to metrics: each takes the fields that its `update` names."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from pa_lib.contracts import Result
from pa_lib.errors import PaLibError
from pa_lib.metrics.base import AbstractMetric


def feed(metrics: Iterable[AbstractMetric], result: Result, *, has_masks: bool = True) -> None:
    """Update metrics with what they take of a result.

    Args:
        metrics: Whom to feed.
        result: An original and what was made of it.
        has_masks: False where nobody knows who is where: the result's masks say nothing then.

    Raises:
        PaLibError: A metric cannot use the result, or needs what it does not have; says which metric.
    """
    given: dict[str, Any] = {
        "source": result.source,
        "anonymized": result.anonymized,
        "clip_ids": result.clip_ids,
        "identities": result.identities,
        "context": result.context,
    }
    if has_masks:
        given["masks"] = result.masks
    if result.people is not None:
        given["people"] = result.people
    for metric in metrics:
        if missing := needed(metric) - given.keys():
            raise PaLibError(f"{metric.name} needs {' and '.join(sorted(missing))}, which this data does not have")
        try:
            metric.update(**metric._filter_kwargs(**given))
        except ValueError as error:
            raise PaLibError(f"{metric.name}: {error}") from error


def needed(metric: AbstractMetric) -> set[str]:
    """Which of ``masks`` and ``people`` a metric cannot do without."""
    parameters = inspect.signature(metric.update).parameters
    names = [name for name in ("masks", "people") if name in parameters]
    return {name for name in names if parameters[name].default is inspect.Parameter.empty}
