"""`evaluate`: a source and metrics, in one process or several, joined to one record."""

from __future__ import annotations

import copy
import hashlib
import itertools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pa_lib.errors import InputError, PaLibError, SettingError, first_line, listed
from pa_lib.evaluation.distributed import gathered, in_processes, launched, process_group
from pa_lib.evaluation.shard import AbstractSource, OnProgress, Shard, no_progress
from pa_lib.metrics import AbstractMetric
from pa_lib.reports.evaluation_record import Evaluation, MeasuredClip, MetricRecord
from pa_lib.reports.text import quantity

Source = AbstractSource | Callable[[], AbstractSource]
Metrics = Sequence[AbstractMetric] | Callable[[], Sequence[AbstractMetric]]

_CERTAIN = 1 - 1e-9  # a chance of 1 but for rounding


def evaluate(
    source: Source,
    metrics: Metrics = (),
    *,
    processes: int = 1,
    on_progress: OnProgress | None = None,
    config: Mapping[str, Any] | None = None,
) -> Evaluation | None:
    """Measure a source with metrics.

    Args:
        source: Source that is measured: `FilePairs`, `ModuleOnVideos`, `ModuleOnClips`, `AttackOnFaces`, a
            `MemorizationOnFaces`, or an `AbstractSource` of your own; or a function that makes it.
        metrics: The metrics, which are reset first; or a function that makes new ones. Empty for an attack and for
            memorization, which measure by themselves.
        processes: Number of processes that share the clips; values are equal to 1e-9 however they are shared. More than
            one pickles `source` and `metrics`, so functions of a module that make them are safer than objects. Under
            torchrun the processes that it started are used instead.
        on_progress: Callback with (what is worked on, task, steps done, steps in all or None).
        config: Settings to record, plain values.

    Returns:
        The record; None in every process of a launcher but the first. `reports.write_evaluation` writes it as JSON
        and as a page.

    Raises:
        SettingError: There are no metrics, or the source cannot be shared by several processes.
        PaLibError: Something cannot be measured.

    >>> import pa_lib
    >>> from pa_lib.data import SyntheticDataModule
    >>> from pa_lib.evaluation import ModuleOnClips
    >>> from pa_lib.metrics import UnmaskedPSNR
    >>> from pa_lib.modules import ConventionalAnonymizer
    >>> data = SyntheticDataModule(n_clips=8, side=16, n_frames=2, n_identities=4, batch_size=2, val_share=0.5)
    >>> evaluation = pa_lib.evaluate(ModuleOnClips(ConventionalAnonymizer("fill"), data), [UnmaskedPSNR()])
    >>> {value.name: value.value for value in evaluation.metrics[0].values}["unmasked_identical_share"]
    1.0
    """
    started_s = time.monotonic()
    if processes < 1:
        raise SettingError(f"processes={processes}: expected at least 1")
    work = _Evaluating(source, metrics)
    on_progress = on_progress or no_progress
    place = launched()
    if place is not None:
        rank, world = place
        with process_group("env://", rank, world):
            evaluation = work(rank, world, on_progress if rank == 0 else no_progress)
        if rank > 0:
            return None
    elif processes > 1:
        evaluation = in_processes(work, processes, on_progress)
    else:
        evaluation = work(0, 1, on_progress)
    return replace(evaluation, config=dict(config or {}), elapsed_s=round(time.monotonic() - started_s, 2))


@dataclass(frozen=True)
class _Evaluating:
    """What every process does: its shard, and then the same record as all others."""

    source: Source
    metrics: Metrics

    def __call__(self, rank: int, world: int, on_progress: OnProgress) -> Evaluation:
        shard: Shard | None = None
        failure: Exception | None = None
        try:
            shard = self._shard(rank, world, on_progress)
        except Exception as error:
            if world == 1:
                raise
            failure = error
        # Metrics stay in their process: they join by themselves when they are computed.
        shards = gathered((shard and replace(shard, metrics={}), _as_message(failure)), world)
        for _, message in shards:
            if message is not None:
                raise message
        assert shard is not None
        return _joined(shard, [other for other, _ in shards])

    def _shard(self, rank: int, world: int, on_progress: OnProgress) -> Shard:
        source = self.source if isinstance(self.source, AbstractSource) else self.source()
        if world > 1 and not source.is_divisible:
            raise SettingError(f"processes={world}: {type(source).__name__} works in one process; set processes=1")
        make_metrics = _MetricsMaker(self.metrics)
        if not source.has_own_metrics and not make_metrics.is_any:
            raise SettingError("no metrics: nothing would be measured; give at least one")
        return source.measure(make_metrics, rank, world, on_progress)


class _MetricsMaker:
    """New metrics at each call: the given ones first, then copies of them."""

    def __init__(self, metrics: Metrics) -> None:
        self._make = metrics if callable(metrics) else None
        self._given = () if callable(metrics) else tuple(metrics)
        self._is_used = False

    @property
    def is_any(self) -> bool:
        return self._make is not None or bool(self._given)

    def __call__(self) -> Sequence[AbstractMetric]:
        if self._make is not None:
            return self._make()
        metrics: list[AbstractMetric] = list(self._given)
        if self._is_used:
            metrics = copy.deepcopy(metrics)
        self._is_used = True
        for metric in metrics:
            metric.reset()
        return metrics


def _joined(own: Shard, shards: Sequence[Shard]) -> Evaluation:
    """One record of all shards; every process must call it, since metrics join here."""
    records, left_out = list(own.records), {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The ``compute`` method")  # a process without clips
        for measured_on, metrics in own.metrics.items():
            for metric in metrics:
                try:
                    records.append(MetricRecord.of(metric, measured_on))
                except (PaLibError, ValueError) as error:
                    left_out[metric.name] = " ".join(str(error).split())
    for other in shards:
        left_out |= other.left_out
    if not records:
        raise InputError(f"nothing could be measured: {'; '.join(f'{name}: {why}' for name, why in left_out.items())}")
    clips = sorted((clip for other in shards for clip in other.clips), key=lambda clip: clip.clip)
    return Evaluation(
        own.title,
        tuple(records),
        tuple(clips),
        _data(shards),
        left_out,
        (*own.notes, *notes_of(clips), *notes_on(records)),
    )


def notes_of(clips: Sequence[MeasuredClip]) -> tuple[str, ...]:
    """What to know when reading the values of these videos, one line each."""
    notes = []
    if empty := [clip.name for clip in clips if clip.n_hidden == 0]:
        where = empty[0]
        if len(clips) > 1:
            where = f"{len(empty)} of {len(clips)} videos ({listed(empty)})"
        notes.append(f"no person is hidden in {where}: values of people and of the inside of masks do not include it")
    if missing := sum(clip.n_undecodable for clip in clips):
        notes.append(f"{quantity(missing, 'frames')} could not be decoded in one of the files: in no value")
    if blank := sum(clip.n_redacted for clip in clips):
        notes.append(f"{quantity(blank, 'frames')} blanked whole when anonymized: masked everywhere")
    if any(clip.masker_from == "settings" for clip in clips):
        notes.append("masks are those of people/masker: neither report nor tracks file records how they were made")
    return tuple(notes)


def notes_on(records: Sequence[MetricRecord]) -> tuple[str, ...]:
    """What to know when reading these values, one line each."""
    notes = []
    values = {(record.measured_on, value.name): value.value for record in records for value in record.values}
    places = {record.measured_on for record in records}
    if places == {"encoded"} and values.get(("encoded", "unmasked_identical_share"), 1.0) < 1:
        notes.append(
            "unmasked values are those of the decoded file: an encoder with loss changes pixels outside the masks; "
            "module=... measures the frames before they are encoded as well"
        )
    certain = [
        name
        for (place, name) in values
        if "reidentification_" in name
        and values.get((place, name.replace("reidentification_", "reidentification_chance_")), 0.0) >= _CERTAIN
    ]
    if certain:
        notes.append(
            f"{', '.join(dict.fromkeys(certain))}: chance is 1, too, as the gallery is so small (see gallery above); "
            "they say nothing about the anonymizer"
        )
    return tuple(notes)


def _data(shards: Sequence[Shard]) -> dict[str, Any]:
    if shards[0].data is None:
        return {}
    digests = sorted(itertools.chain.from_iterable(shard.digests for shard in shards))
    if not digests:  # a source that measures by itself
        return dict(shards[0].data)
    return {
        **shards[0].data,
        "n_clips": sum(shard.n_clips for shard in shards),
        "sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
    }


def _as_message(failure: Exception | None) -> PaLibError | None:
    if failure is None or isinstance(failure, PaLibError):
        return failure
    return PaLibError(f"{type(failure).__name__}: {first_line(failure)}")
