"""Evaluations side by side, ranked only where they were measured in the same way on the same material."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pa_lib.errors import PaLibError
from pa_lib.metrics import MetricValue
from pa_lib.reports.evaluation_record import Evaluation, MetricRecord, differences, plain
from pa_lib.video import write_whole

SCHEMA = "pa_lib.comparison"
SCHEMA_VERSION = 1
OTHER_PROTOCOL = "not ranked: protocols differ"
OTHER_MATERIAL = "not ranked: other clips"


@dataclass(frozen=True)
class Row:
    """One figure in all runs.

    Args:
        stage, metric, name: Which; see `MetricRecord` and `MetricValue`.
        values: One per run; None where a run does not have it.
        hashes: Of the protocols; None where a run does not have it.
        is_higher_better: None where neither is.
        best: Positions of the best runs; empty where they are not ranked.
        mark: Why they are not ranked, or how sure the rank is; empty where there is nothing to say.
    """

    stage: str
    metric: str
    name: str
    values: tuple[MetricValue | None, ...]
    hashes: tuple[str | None, ...]
    is_higher_better: bool | None
    best: tuple[int, ...]
    mark: str


@dataclass(frozen=True)
class Comparison:
    """Several evaluations.

    Args:
        names: Of the runs, each its own.
        titles: What each of them measured.
        rows: MetricValue by figure.
        differing: Metric (and stage) -> what differs between protocols, one line for each setting.
        notes: What else to know.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    rows: tuple[Row, ...]
    differing: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def is_refused(self) -> bool:
        """Whether a figure of several runs could not be ranked, since protocols or material differ."""
        return any(row.mark in (OTHER_PROTOCOL, OTHER_MATERIAL) for row in self.rows)

    def write_json(self, path: Path) -> None:
        """Writes all of it; NaN and infinities as in ``metrics.json``.

        Raises:
            PaLibError: It cannot be written.
        """
        content = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **plain(asdict(self))}
        write_whole(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def compare(paths: Sequence[Path]) -> Comparison:
    """Evaluations read and put side by side.

    Args:
        paths: Output folders of `pa-evaluate`, or their ``metrics.json``; two or more.

    Raises:
        PaLibError: One of them cannot be read, or there is nothing that two of them have in common.
    """
    if len(paths) < 2:
        raise PaLibError(f"got {len(paths)} evaluations, expected two or more to compare")
    runs = [Evaluation.read_json(path) for path in paths]
    names = _names(paths)
    keys: dict[tuple[str, str, str], None] = {}
    for run in runs:
        for record in run.metrics:
            for figure in record.values:
                keys[record.stage, record.name, figure.name] = None
    rows = tuple(_row(key, runs) for key in keys)
    if not any(sum(figure is not None for figure in row.values) > 1 for row in rows):
        stages = "; ".join(
            f"{name}: {', '.join(sorted({r.stage for r in run.metrics}))}"
            for name, run in zip(names, runs, strict=True)
        )
        raise PaLibError(f"no two runs have a figure in common ({stages}); measure the same metrics in each")
    return Comparison(names, tuple(run.title for run in runs), rows, _differing(names, runs), _notes(names, runs))


def _row(key: tuple[str, str, str], runs: Sequence[Evaluation]) -> Row:
    stage, metric, name = key
    found = [_figure(run, key) for run in runs]
    figures = tuple(figure for _, figure in found)
    hashes = tuple(None if record is None else record.protocol_hash for record, _ in found)
    present = [at for at, figure in enumerate(figures) if figure is not None]
    better = {figure.is_higher_better for figure in figures if figure is not None}
    is_higher_better = better.pop() if len(better) == 1 else None
    best: tuple[int, ...] = ()
    mark = ""
    if len(present) > 1:
        if len({hashes[at] for at in present}) > 1:
            mark = OTHER_PROTOCOL
        elif len({runs[at].material for at in present}) > 1:
            mark = OTHER_MATERIAL
        elif is_higher_better is not None:
            best, mark = _best([(at, figures[at]) for at in present], is_higher_better=is_higher_better)
    return Row(stage, metric, name, figures, hashes, is_higher_better, best, mark)


def _best(figures: Sequence[tuple[int, MetricValue | None]], *, is_higher_better: bool) -> tuple[tuple[int, ...], str]:
    """Positions of the best, and what weakens that."""
    known = [(at, figure) for at, figure in figures if figure is not None and not math.isnan(figure.value)]
    if len(known) < len(figures):
        return (), "not ranked: nothing to measure in some runs"
    values = [figure.value for _, figure in known]
    top = max(values) if is_higher_better else min(values)
    best = tuple(at for at, figure in known if figure.value == top)
    if len(best) == len(known):
        return (), "equal"
    leaders = [figure for at, figure in known if at in best]
    others = [figure for at, figure in known if at not in best]
    return best, "intervals overlap" if any(_overlap(a, b) for a in leaders for b in others) else ""


def _overlap(one: MetricValue, other: MetricValue) -> bool:
    if one.interval is None or other.interval is None:
        return False
    return one.interval[0] <= other.interval[1] and other.interval[0] <= one.interval[1]


def _figure(run: Evaluation, key: tuple[str, str, str]) -> tuple[MetricRecord | None, MetricValue | None]:
    for record in run.metrics:
        if (record.stage, record.name) == key[:2]:
            for figure in record.values:
                if figure.name == key[2]:
                    return record, figure
    return None, None


def _differing(names: Sequence[str], runs: Sequence[Evaluation]) -> dict[str, tuple[str, ...]]:
    """Each run's protocols against those of the first run that has the metric."""
    told: dict[str, list[str]] = {}
    first: dict[tuple[str, ...], tuple[str, MetricRecord]] = {}
    for name, run in zip(names, runs, strict=True):
        for record in run.metrics:
            base_name, base = first.setdefault(_identity(record), (name, record))
            if base.protocol_hash != record.protocol_hash:
                lines = differences(base.protocol, record.protocol)
                told.setdefault(f"{record.name} ({record.stage})", []).extend(
                    f"{base_name} | {name}: {line}" for line in lines
                )
    return {metric: tuple(lines) for metric, lines in told.items()}


def _identity(record: MetricRecord) -> tuple[str, ...]:
    """What makes two records one metric: one class may be there twice, with figures of other names."""
    return (record.stage, record.name, *(figure.name for figure in record.values[:1]))


def _notes(names: Sequence[str], runs: Sequence[Evaluation]) -> tuple[str, ...]:
    notes = []
    if len({run.material for run in runs}) > 1:
        notes.append("the runs were measured on different clips, so they are not ranked against each other")
    elif len({run.masks for run in runs}) > 1:
        notes.append(
            "tracks files or maskers differ: figures inside and outside the masks are of different pixels and people"
        )
    for name, run in zip(names, runs, strict=True):
        notes += [f"{name}: left out {metric}: {why}" for metric, why in run.left_out.items()]
        notes += [f"{name}: {note}" for note in run.notes]
    return tuple(notes)


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The shortest ends of the paths that tell them apart, without the usual suffix."""
    parts = [(path.parent if path.is_file() else path).resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]).removesuffix(".evaluation") for part in parts]
        if len(set(names)) == len(names):
            return tuple(names)
    raise PaLibError(f"the same evaluation is given twice: {paths[0]}; name different ones")
