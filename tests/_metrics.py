"""The checklist of every metric: batches and processes change nothing, protocols are plain."""

from __future__ import annotations

import concurrent.futures
import json
import math
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.multiprocessing as processes
from torch import distributed

from pa_lib.metrics import AbstractMetric, Measurement, MetricValue, TrackRow, summed

Make = Callable[[], AbstractMetric]
Updates = Sequence[Mapping[str, Any]]


def measured(make: Make, updates: Updates) -> Measurement:
    """What a new metric says after these updates."""
    metric = make()
    for update in updates:
        metric.update(**update)
    return metric.measure()


def assert_close(one: Measurement, other: Measurement, tolerance: float = 1e-9) -> None:
    """The same figures, counts, intervals and people."""
    assert [figure.name for figure in one.values] == [figure.name for figure in other.values]
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
    """The protocol is JSON without NaN, the hash is stable and hangs on it."""
    told = metric.protocol()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert metric.protocol_hash() == metric.protocol_hash()
    assert len(metric.protocol_hash()) == 12


def assert_two_processes_equal_one(make: Make, updates: Updates) -> None:
    """Each of two processes gets every other update; both then say what one process says that got all of them.

    The metric travels to the processes, so what it is made of is defined in pa_lib or in a module beside this one, not
    in a test's own file, which they cannot import.
    """
    expected = measured(make, updates)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = processes.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        shares = [pool.submit(_measure_share, rank, port, make(), updates[rank::2]) for rank in (0, 1)]
        for share in shares:
            assert_close(expected, share.result())


def _measure_share(rank: int, port: int, metric: AbstractMetric, updates: Updates) -> Measurement:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        for update in updates:
            metric.update(**update)
        return metric.measure()
    finally:
        distributed.destroy_process_group()


def _is_near(one: float, other: float, tolerance: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return abs(one - other) <= tolerance * max(1.0, abs(one)) or one == other


class Brightness(AbstractMetric):
    """Mean over clips of their mean; one row for each clip."""

    name = "brightness"
    higher_is_better = True

    rows: torch.Tensor

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.add_rows("rows", 3)

    def update(self, source: torch.Tensor, clip_ids: torch.Tensor) -> None:
        values = source.double().mean((1, 2, 3, 4)) * self.scale
        new = torch.stack([clip_ids.double(), values, torch.ones_like(values)], 1)
        self.rows = summed(torch.cat([self.rows, new]))

    def protocol(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def _measure(self) -> Measurement:
        rows = summed(self.rows)
        means = rows[:, 1] / rows[:, 2]
        figure = MetricValue("brightness", float(means.mean()), len(rows), "clips", "mean light", interval=(0.0, 1.0))
        return Measurement(
            (figure,),
            tuple(TrackRow(int(row[0]), 0, {"brightness": float(mean)}) for row, mean in zip(rows, means, strict=True)),
        )
