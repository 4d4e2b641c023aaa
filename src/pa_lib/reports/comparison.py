"""Evaluations side by side, ranked only where they were measured in the same way on the same material.

Runs that differ in nothing but seeds become one column: mean and standard deviation over them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pa_lib.errors import InputError, SettingError
from pa_lib.functional.intervals import t_interval
from pa_lib.metrics import MetricValue
from pa_lib.metrics.base import hash_of_protocol
from pa_lib.reports.columns import Column, columns_of, without_seeds
from pa_lib.reports.evaluation_record import Evaluation, MetricRecord, differences
from pa_lib.reports.found import evaluations_in
from pa_lib.reports.json import NUMBERS, write_record
from pa_lib.reports.text import interval, mean_and_sd, number

SCHEMA = "pa_lib.comparison"
SCHEMA_VERSION = 2
OTHER_PROTOCOL = "not ranked: protocols differ"
OTHER_MATERIAL = "not ranked: other clips"


@dataclass(frozen=True)
class ColumnValue:
    """One value of one column.

    Args:
        value: The value of the run, or the mean over runs with other seeds. NaN where there was nothing to measure.
        n: Number of items that it is a mean of, in each run; the smallest of several runs.
        n_of: Description of the items.
        interval: The 95 % interval: that of a single run, or Student's t over several runs. None without.
        sd: Standard deviation over runs (n - 1 in the denominator); None of a single run.
        n_runs: Number of runs that have the value.
        counted: Number of items that were left out or weaken it, by name, summed over runs.
    """

    value: float
    n: int
    n_of: str
    interval: tuple[float, float] | None = None
    sd: float | None = None
    n_runs: int = 1
    counted: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Sequence[MetricValue]) -> ColumnValue:
        """The value of one run as it is; of several their mean, over those that have a number.

        >>> runs = [MetricValue("a", value, 5, "clips", "") for value in (1.0, 2.0, 6.0)]
        >>> joined = ColumnValue.of(runs)
        >>> joined.value, round(joined.sd, 4), joined.n_runs
        (3.0, 2.6458, 3)
        """
        first = values[0]
        counted: dict[str, int] = {}
        for value in values:
            for name, count in value.counted.items():
                name = name if len(values) == 1 else f"{name} in {len(values)} runs"
                counted[name] = counted.get(name, 0) + count
        n = min(value.n for value in values)
        if len(values) == 1:
            return cls(first.value, n, first.n_of, first.interval, counted=counted)
        known = [value.value for value in values if not math.isnan(value.value)]
        if len(known) < len(values):
            counted["runs without a value"] = len(values) - len(known)
        mean = statistics.fmean(known) if known else math.nan
        if len(known) < 2 or not math.isfinite(mean):
            return cls(mean, n, first.n_of, n_runs=len(known), counted=counted)
        return cls(mean, n, first.n_of, _interval(known), statistics.stdev(known), len(known), counted)


@dataclass(frozen=True)
class Row:
    """One value in all columns.

    Args:
        measured_on, metric, name: Place, metric and name of the value; see `MetricRecord` and `MetricValue`.
        values: Value of each column; None where a column does not have it.
        hashes: Hash of each column's protocol; None where a column does not have the value.
        is_higher_better: Whether a higher value is better; None where neither is.
        best: Positions of the best columns; empty where they are not ranked.
        mark: Reason why they are not ranked, or how certain the rank is; empty where there is nothing to state.
    """

    measured_on: str
    metric: str
    name: str
    values: tuple[ColumnValue | None, ...]
    hashes: tuple[str | None, ...]
    is_higher_better: bool | None
    best: tuple[int, ...]
    mark: str


@dataclass(frozen=True)
class Comparison:
    """Several evaluations.

    Args:
        columns: The runs, those with other seeds together.
        rows: Rows, one per value.
        differing: Differences between protocols, one line for each setting, by metric (and place).
        notes: Further notes, one line each.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    differing: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, each its own."""
        return tuple(column.name for column in self.columns)

    @property
    def is_refused(self) -> bool:
        """Whether a value of several columns could not be ranked, since protocols or material differ."""
        return any(row.mark in (OTHER_PROTOCOL, OTHER_MATERIAL) for row in self.rows)

    def write_json(self, path: Path) -> None:
        """Writes all of it; NaN and infinities as in ``metrics.json``.

        Raises:
            PaLibError: It cannot be written.
        """
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        write_record(path, SCHEMA, SCHEMA_VERSION, {"numbers": NUMBERS, "names": self.names, **fields})


def compare(
    paths: Sequence[str | Path], *, values: Sequence[str] | None = None, is_grouped_by_seed: bool = True
) -> Comparison:
    """Evaluations read and put side by side.

    Args:
        paths: Output folders of `pa-evaluate`, their ``metrics.json``, or folders with evaluations further down.
        values: Names of the values to compare, in this order; None: all.
        is_grouped_by_seed: Whether runs that differ in nothing but seeds become one column.

    Raises:
        SettingError: There are fewer than two evaluations, or no value of such a name.
        InputError: One of them cannot be read, or there is nothing that two of them have in common.
    """
    files = evaluations_in(paths)
    if len(files) < 2:
        raise SettingError(
            f"got {len(files) or 'no'} evaluation{'' if files else 's'}, expected two or more to compare"
        )
    runs = [Evaluation.read_json(file) for file in files]
    columns = columns_of(files, runs, is_grouped_by_seed=is_grouped_by_seed)
    keys: dict[tuple[str, str, str], None] = {}
    for run in runs:
        for record in run.metrics:
            for value in record.values:
                keys[record.measured_on, record.name, value.name] = None
    if values is not None:
        names = {name for *_, name in keys}
        if unknown := [name for name in values if name not in names]:
            raise SettingError(f"values: no {unknown[0]} in these evaluations; there are: {', '.join(sorted(names))}")
        keys = dict.fromkeys(key for name in values for key in keys if key[2] == name)
    rows = tuple(_row(key, columns, runs) for key in keys)
    if len(columns) > 1 and not any(sum(value is not None for value in row.values) > 1 for row in rows):
        places = "; ".join(
            f"{column.name}: {', '.join(sorted({r.measured_on for at in column.runs for r in runs[at].metrics}))}"
            for column in columns
        )
        raise InputError(f"no two runs have a value in common ({places}); measure the same metrics in each")
    return Comparison(columns, rows, _differing(columns, runs), _notes(columns, runs))


def cell(value: ColumnValue | None) -> tuple[str, str]:
    """A value as people read it, and its interval; of several runs the mean with its standard deviation instead.

    >>> cell(ColumnValue(3.0, 5, "clips", sd=0.25, n_runs=3)), cell(ColumnValue(0.5, 8, "faces", (0.25, 0.75)))
    (('3.00 ± 0.25', ''), ('0.5', '0.25 … 0.75'))
    """
    if value is None:
        return "", ""
    if value.sd is not None:
        return mean_and_sd(value.value, value.sd), ""
    return number(value.value), interval(value)


def _interval(known: Sequence[float]) -> tuple[float, float] | None:
    import torch

    return t_interval(torch.tensor(known, dtype=torch.float64))


def _row(key: tuple[str, str, str], columns: Sequence[Column], runs: Sequence[Evaluation]) -> Row:
    measured_on, metric, name = key
    found = [[pair for at in column.runs if (pair := _value(runs[at], key)) is not None] for column in columns]
    values = tuple(ColumnValue.of([value for _, value in pairs]) if pairs else None for pairs in found)
    hashes = tuple(_hash([record for record, _ in pairs]) if pairs else None for pairs in found)
    present = [at for at, value in enumerate(values) if value is not None]
    better = {value.is_higher_better for pairs in found for _, value in pairs}
    is_higher_better = better.pop() if len(better) == 1 else None
    best: tuple[int, ...] = ()
    mark = ""
    if len(present) > 1:
        if len({hashes[at] for at in present}) > 1:
            mark = OTHER_PROTOCOL
        elif len({runs[columns[at].runs[0]].material for at in present}) > 1:
            mark = OTHER_MATERIAL
        elif is_higher_better is not None:
            best, mark = _best([(at, values[at]) for at in present], is_higher_better=is_higher_better)
    return Row(measured_on, metric, name, values, hashes, is_higher_better, best, mark)


def _hash(records: Sequence[MetricRecord]) -> str:
    """The hash of the protocol; of runs whose protocols differ in seeds, that of the rest of it."""
    hashes = {record.protocol_hash for record in records}
    return hashes.pop() if len(hashes) == 1 else hash_of_protocol(records[0].name, without_seeds(records[0].protocol))


def _best(values: Sequence[tuple[int, ColumnValue | None]], *, is_higher_better: bool) -> tuple[tuple[int, ...], str]:
    """Positions of the best, and what weakens that."""
    known = [(at, value) for at, value in values if value is not None and not math.isnan(value.value)]
    if len(known) < len(values):
        return (), "not ranked: nothing to measure in some runs"
    numbers = [value.value for _, value in known]
    top = max(numbers) if is_higher_better else min(numbers)
    best = tuple(at for at, value in known if value.value == top)
    if len(best) == len(known):
        return (), "equal"
    leaders = [value for at, value in known if at in best]
    others = [value for at, value in known if at not in best]
    return best, "intervals overlap" if any(_overlap(a, b) for a in leaders for b in others) else ""


def _overlap(one: ColumnValue, other: ColumnValue) -> bool:
    if one.interval is None or other.interval is None:
        return False
    return one.interval[0] <= other.interval[1] and other.interval[0] <= one.interval[1]


def _value(run: Evaluation, key: tuple[str, str, str]) -> tuple[MetricRecord, MetricValue] | None:
    for record in run.metrics:
        if (record.measured_on, record.name) == key[:2]:
            for value in record.values:
                if value.name == key[2]:
                    return record, value
    return None


def _differing(columns: Sequence[Column], runs: Sequence[Evaluation]) -> dict[str, tuple[str, ...]]:
    """Each column's protocols against those of the first column that has the metric."""
    lines: dict[str, list[str]] = {}
    first: dict[tuple[str, ...], tuple[str, MetricRecord]] = {}
    for column in columns:
        for record in runs[column.runs[0]].metrics:
            base_name, base = first.setdefault(_identity(record), (column.name, record))
            if base.protocol_hash != record.protocol_hash:
                lines.setdefault(f"{record.name} ({record.measured_on})", []).extend(
                    f"{base_name} | {column.name}: {line}" for line in differences(base.protocol, record.protocol)
                )
    return {metric: tuple(several) for metric, several in lines.items()}


def _identity(record: MetricRecord) -> tuple[str, ...]:
    """What makes two records one metric: one class may be there twice, with values of other names."""
    return (record.measured_on, record.name, *(value.name for value in record.values[:1]))


def _notes(columns: Sequence[Column], runs: Sequence[Evaluation]) -> tuple[str, ...]:
    notes = []
    if len({run.material for run in runs}) > 1:
        notes.append("the runs were measured on different clips, so they are not ranked against each other")
    elif len({run.masks for run in runs}) > 1:
        notes.append(
            "tracks files or maskers differ: values inside and outside the masks are of different pixels and people"
        )
    for column in columns:
        for at, member in zip(column.runs, column.members, strict=True):
            name = column.name if len(column.runs) == 1 else f"{column.name} ({member})"
            notes += [f"{name}: left out {metric}: {why}" for metric, why in runs[at].left_out.items()]
            notes += [f"{name}: {note}" for note in runs[at].notes]
    return tuple(notes)
