"""The pages of evaluations and comparisons: one file each, in light and dark, asking nothing of the network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from pa_lib.errors import PaLibError
from pa_lib.reports.comparison import Comparison, Row
from pa_lib.reports.evaluation_record import STAGES, Evaluation, MetricRecord, TrackSummary, plain, worst_first
from pa_lib.reports.plots import interval_plot, run_plot, track_plot
from pa_lib.reports.text import interval, number, quantity
from pa_lib.video import write_whole

MAX_TRACKS = 200
MAX_CLIPS = 200
ARROWS = {True: "higher is better", False: "lower is better", None: ""}


def render_evaluation(evaluation: Evaluation) -> str:
    """The page of one evaluation."""
    stages = list(dict.fromkeys(record.stage for record in evaluation.metrics))
    groups = [(stage, [record for record in evaluation.metrics if record.stage == stage]) for stage in stages]
    by_name: dict[str, list[MetricRecord]] = {}
    for record in evaluation.metrics:
        by_name.setdefault(record.name, []).append(record)
    stage = stages[-1]
    people = worst_first(record for record in evaluation.metrics if record.stage == stage)
    last = [record for record in evaluation.metrics if record.stage == stage]
    better = {figure.name: figure.is_higher_better for record in last for figure in record.values}

    def who(person: TrackSummary) -> str:
        name = f"person {person.person_id}"
        return name if len(evaluation.clips) == 1 else f"{evaluation.clip_name(person.clip)}, {name}"

    columns = list(dict.fromkeys(name for person in people for name in person.values))
    return _page(
        "evaluation.html.j2",
        evaluation=evaluation,
        stages=STAGES,
        groups=groups,
        heads=[(record, record.values[0]) for record in last if record.values],
        plots=[
            (name, svg)
            for name, records in by_name.items()
            if (svg := interval_plot(name, {record.stage: record.values for record in records})) is not None
        ],
        people=people[:MAX_TRACKS],
        n_people=len(people),
        columns=columns,
        better=better,
        track_plots=[
            (name, svg) for name in columns if (svg := track_plot(name, people, better.get(name), who)) is not None
        ],
        clips=evaluation.clips[:MAX_CLIPS],
        protocols=[(record, _pretty(record.protocol)) for records in by_name.values() for record in records[:1]],
        config=_pretty(evaluation.config),
        data=_pretty(evaluation.data),
        who=who,
    )


def render_comparison(comparison: Comparison) -> str:
    """The page of a comparison."""
    metrics: dict[tuple[str, str], list[Row]] = {}
    for row in comparison.rows:
        metrics.setdefault((row.stage, row.metric), []).append(row)
    return _page(
        "compare.html.j2",
        comparison=comparison,
        stages=STAGES,
        metrics=[
            (
                stage,
                name,
                rows,
                sorted({told for row in rows for told in row.hashes if told is not None}),
                run_plot(f"{stage} {name}", rows, comparison.names),
            )
            for (stage, name), rows in metrics.items()
        ],
    )


def write_page(path: Path, page: str) -> None:
    """Writes a page, and makes its folder; the page appears whole or not at all.

    Raises:
        PaLibError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PaLibError(f"output={path.parent}: {error.strerror}; name another folder") from error
    write_whole(path, page.encode())


def _page(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        number=number,
        interval=interval,
        quantity=quantity,
        counted=_counted,
        arrows=ARROWS,
        is_nan=math.isnan,
        **values,
    )


def _counted(counted: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    return [(name, count) for name, count in counted.items() if count]


def _pretty(value: Any) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False)
