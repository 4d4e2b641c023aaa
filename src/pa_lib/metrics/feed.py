"""Results to metrics: each takes the fields that it declares."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pa_lib.contracts import Result
from pa_lib.errors import InputError, SettingError
from pa_lib.metrics.base import AbstractMetric, Field


def feed(metrics: Iterable[AbstractMetric], result: Result, *, has_masks: bool = True) -> None:
    """Update metrics with the fields of a result that they take.

    Args:
        metrics: Metrics to update.
        result: Originals and their anonymized versions.
        has_masks: Whether the result's masks are valid; False if it is unknown where people are.

    Raises:
        InputError: A metric cannot use the result, or needs what it does not have; says which metric.
        SettingError: A metric is not updated with results at all.
    """
    given: dict[Field, Any] = {
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
        if absent := missing(metric, given):
            raise InputError(f"{metric.name} needs {absent}, which this data does not have")
        taken = metric.needs | metric.needs_one_of | metric.uses
        try:
            metric.update(**{field: value for field, value in given.items() if field in taken})
        except ValueError as error:
            raise InputError(f"{metric.name}: {error}") from error


def missing(metric: AbstractMetric, given: Collection[Field]) -> str:
    """The fields that a metric requires and is not given, such as ``masks``, or ``masks or people``; empty if nothing.

    Raises:
        SettingError: The metric is not updated with results.

    >>> from pa_lib.metrics import DetectionRate, UnmaskedSSIM
    >>> missing(UnmaskedSSIM(), ["source", "anonymized"]), missing(DetectionRate(), ["source", "anonymized"])
    ('masks', 'masks or people')
    """
    if not metric.needs:
        raise SettingError(f"{metric.name} is not measured on videos; give its update what it takes, from Python")
    parts: list[str] = sorted(metric.needs - set(given))
    if metric.needs_one_of and not metric.needs_one_of & set(given):
        parts.append(" or ".join(sorted(metric.needs_one_of)))
    return " and ".join(parts)
