"""Figures as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from pa_lib.reports.evaluation_record import STAGES
from pa_lib.reports.text import interval, number, quantity

if TYPE_CHECKING:
    from pa_lib.reports.comparison import Comparison
    from pa_lib.reports.evaluation_record import Evaluation


def wide_console() -> Console:
    """Of standard output; a file has room for a table, whatever the terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)
    return console


def evaluation_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Every figure with its interval and of how many things it is: a table for each stage."""
    stages = list(dict.fromkeys(record.stage for record in evaluation.metrics))
    for stage in stages:
        title = evaluation.title if len(stages) == 1 else f"{evaluation.title}: {STAGES[stage]}"
        table = Table(title=title, title_justify="left")
        table.add_column("figure", overflow="fold")
        table.add_column("", justify="center", min_width=1)
        table.add_column("value", justify="right", no_wrap=True, min_width=10)
        table.add_column("95 % interval", justify="right", no_wrap=True, min_width=18)
        table.add_column("of", overflow="fold")
        for record in evaluation.metrics:
            if record.stage != stage:
                continue
            for figure in record.values:
                arrow = {True: "↑", False: "↓", None: ""}[figure.is_higher_better]
                n_of = quantity(figure.n, figure.n_of)
                table.add_row(figure.name, arrow, number(figure.value), interval(figure), n_of)
            table.add_section()
        yield table


def comparison_table(comparison: Comparison) -> Table:
    """Runs side by side; where they may be ranked, the best one is marked."""
    table = Table(title_justify="left")
    table.add_column("figure", overflow="fold")
    table.add_column("", justify="center")
    for name in comparison.names:
        table.add_column(name, justify="right", overflow="fold")
    has_marks = any(row.mark for row in comparison.rows)
    if has_marks:
        table.add_column("", overflow="fold")
    stages = list(dict.fromkeys(row.stage for row in comparison.rows))
    for row in comparison.rows:
        cells = []
        for at, figure in enumerate(row.values):
            text = "" if figure is None else number(figure.value)
            if figure is not None and figure.interval is not None:
                text += f"\n[dim]{interval(figure)}[/dim]"
            cells.append(f"[bold]★ {text}[/bold]" if at in row.best else text)
        title = row.name if len(stages) == 1 else f"{row.name} [dim]({row.stage})[/dim]"
        arrow = {True: "↑", False: "↓", None: ""}[row.is_higher_better]
        table.add_row(title, arrow, *cells, *([row.mark] if has_marks else []))
    return table


def counted(evaluation: Evaluation) -> list[str]:
    """What was counted apart, e.g. ``identity_distance: 3 faces not found``; zeros and repetitions are left out."""
    lines: list[str] = []
    told: set[tuple[str, str, str, int]] = set()
    for record in evaluation.metrics:
        for figure in record.values:
            new = [
                quantity(count, name)
                for name, count in figure.counted.items()
                if count and (record.name, record.stage, name, count) not in told
            ]
            told |= {(record.name, record.stage, name, count) for name, count in figure.counted.items()}
            if new:
                lines.append(f"{figure.name} ({record.stage}): {', '.join(new)}")
    return lines
