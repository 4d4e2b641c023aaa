"""What tests of metrics share; what holds for every metric is in `unit/metrics/test_every_metric.py`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from pa_lib.metrics import AbstractMetric, Measurement, MetricValue, TrackRow
from pa_lib.metrics.base import Field
from pa_lib.metrics.rows import clip_number

Make = Callable[[], AbstractMetric]
Updates = Sequence[Mapping[str, Any]]


def measured(make: Make, updates: Updates) -> Measurement:
    """The measurement of a new metric after these updates."""
    metric = make()
    for update in updates:
        metric.update(**update)
    return metric.measure()


def assert_close(one: Measurement, other: Measurement, tolerance: float = 1e-9) -> None:
    """The same values, counts, intervals and people."""
    assert [entry.name for entry in one.values] == [entry.name for entry in other.values]
    for mine, theirs in zip(one.values, other.values, strict=True):
        assert _is_near(mine.value, theirs.value, tolerance), (mine, theirs)
        assert (mine.n, dict(mine.counted)) == (theirs.n, dict(theirs.counted)), (mine, theirs)
        for end, its in zip(mine.interval or (), theirs.interval or (), strict=True):
            assert _is_near(end, its, tolerance), (mine, theirs)
    assert len(one.tracks) == len(other.tracks)
    for row, its_row in zip(one.tracks, other.tracks, strict=True):
        assert (row.clip, row.person_id, set(row.values)) == (its_row.clip, its_row.person_id, set(its_row.values))
        assert all(_is_near(row.values[name], its_row.values[name], tolerance) for name in row.values)


def assert_split_changes_nothing(make: Make, together: Updates, apart: Updates) -> None:
    """The same content in other batches gives the same measurement, in either order of the parts."""
    whole = measured(make, together)
    assert_close(whole, measured(make, apart))
    assert_close(whole, measured(make, list(reversed(apart))))


def assert_plain_protocol(metric: AbstractMetric) -> None:
    """The protocol is JSON without NaN, the hash is stable and depends on it."""
    protocol = metric.protocol()
    assert json.loads(json.dumps(protocol, allow_nan=False)) == protocol
    assert metric.protocol_hash() == metric.protocol_hash()
    assert len(metric.protocol_hash()) == 12


def _is_near(one: float, other: float, tolerance: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return abs(one - other) <= tolerance * max(1.0, abs(one)) or one == other


class Brightness(AbstractMetric):
    """Mean over clips of their mean; one row for each clip."""

    name = "brightness"
    higher_is_better = True

    needs: frozenset[Field] = frozenset({"source"})
    uses: frozenset[Field] = frozenset({"clip_ids"})

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.add_rows("rows", 3, n_keys=1, clip_column=0)

    def update(self, source: torch.Tensor, clip_ids: torch.Tensor | None = None) -> None:
        values = source.double().mean((1, 2, 3, 4)) * self.scale
        self.add_to("rows", torch.stack([self.clip_keys(clip_ids, len(source)), values, torch.ones_like(values)], 1))

    def protocol(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def _measure(self) -> Measurement:
        rows = self.joined("rows")
        means = rows[:, 1] / rows[:, 2]
        interval = (0.0, 1.0) if len(rows) else None
        value = MetricValue("brightness", float(means.mean()), len(rows), "clips", "mean light", interval=interval)
        pairs = zip(rows, means, strict=True)
        tracks = [TrackRow(clip_number(row[0]), 0, {"brightness": float(mean)}) for row, mean in pairs]
        return Measurement((value,), tuple(tracks))
