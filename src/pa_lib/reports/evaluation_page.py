"""The pages of evaluations and comparisons: one file each, in light and dark, with nothing loaded from the network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pa_lib.paths import AS_ESCAPES
from pa_lib.reports import templates
from pa_lib.reports.comparison import Comparison, Row, cell
from pa_lib.reports.evaluation_record import MEASURED_ON, Evaluation, MetricRecord, TrackSummary, rank_tracks
from pa_lib.reports.found import FILE_NAME
from pa_lib.reports.json import plain
from pa_lib.reports.plots import interval_plot, run_plot, track_plot
from pa_lib.reports.tables import comparison_csv, comparison_latex, comparison_markdown
from pa_lib.reports.text import interval, number, quantity
from pa_lib.video import StagedResults, write_whole

MAX_TRACKS = 200
MAX_CLIPS = 200
ARROWS = {True: "higher is better", False: "lower is better", None: ""}


def render_evaluation(evaluation: Evaluation) -> str:
    """The page of one evaluation."""
    places = list(dict.fromkeys(record.measured_on for record in evaluation.metrics))
    groups = [(place, [record for record in evaluation.metrics if record.measured_on == place]) for place in places]
    by_name: dict[str, list[MetricRecord]] = {}
    for record in evaluation.metrics:
        by_name.setdefault(record.name, []).append(record)
    _, last = groups[-1]
    people = rank_tracks(last)
    better = {value.name: value.is_higher_better for record in last for value in record.values}

    def who(person: TrackSummary) -> str:
        name = f"person {person.person_id}"
        return name if len(evaluation.clips) == 1 else f"{evaluation.clip_name(person.clip)}, {name}"

    columns = list(dict.fromkeys(name for person in people for name in person.values))
    return _page(
        "evaluation.html.j2",
        evaluation=evaluation,
        places=MEASURED_ON,
        groups=groups,
        heads=[(record, record.values[0]) for record in last if record.values],
        plots=[
            (name, svg)
            for name, records in by_name.items()
            if (svg := interval_plot(name, {record.measured_on: record.values for record in records})) is not None
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
        metrics.setdefault((row.measured_on, row.metric), []).append(row)
    return _page(
        "compare.html.j2",
        comparison=comparison,
        places=MEASURED_ON,
        metrics=[
            (
                place,
                name,
                rows,
                sorted({one for row in rows for one in row.hashes if one is not None}),
                run_plot(f"{place} {name}", rows, comparison.names),
            )
            for (place, name), rows in metrics.items()
        ],
    )


def write_page(path: Path, page: str) -> None:
    """Writes a page, which appears whole or not at all.

    Raises:
        PaLibError: It cannot be written.
    """
    write_whole(path, page.encode(errors=AS_ESCAPES))


def write_evaluation(evaluation: Evaluation, folder: Path) -> dict[str, Path]:
    """Write the page and the record of an evaluation; both appear together or not at all.

    Args:
        evaluation: The record.
        folder: Folder to write to; it is made.

    Returns:
        The files, by what they are: ``page``, ``record``.

    Raises:
        PaLibError: The folder cannot be written.
    """
    files = {"page": folder / "metrics.html", "record": folder / FILE_NAME}
    with StagedResults(folder) as staged:
        write_page(staged.path / files["page"].name, render_evaluation(evaluation))
        evaluation.write_json(staged.path / FILE_NAME)
        staged.commit(last=FILE_NAME)
    return files


def write_comparison(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Write the page, the tables and the record of a comparison; they appear together or not at all.

    Args:
        comparison: The record.
        folder: Folder to write to; it is made.

    Returns:
        The files, by what they are: ``page``, ``csv``, ``latex``, ``markdown``, ``record``.

    Raises:
        PaLibError: The folder cannot be written.
    """
    files = {"page": "compare.html"}
    with StagedResults(folder) as staged:
        write_page(staged.path / files["page"], render_comparison(comparison))
        for name, suffix, make in (
            ("csv", "csv", comparison_csv),
            ("latex", "tex", comparison_latex),
            ("markdown", "md", comparison_markdown),
        ):
            files[name] = f"compare.{suffix}"
            write_page(staged.path / files[name], make(comparison))
        files["record"] = "compare.json"
        comparison.write_json(staged.path / files["record"])
        staged.commit(last=files["record"])
    return {name: folder / file for name, file in files.items()}


def _page(template: str, **values: Any) -> str:
    return templates.render(
        template,
        number=number,
        interval=interval,
        quantity=quantity,
        counted=_counted,
        cell=cell,
        arrows=ARROWS,
        is_nan=math.isnan,
        **values,
    )


def _counted(counted: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    return [(name, count) for name, count in counted.items() if count]


def _pretty(value: Any) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False)
