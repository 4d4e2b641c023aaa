"""What commands show on the terminal: progress bars, and values as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pa_lib.reports.comparison import Comparison
    from pa_lib.reports.evaluation_record import Evaluation

_ARROWS = {True: "↑", False: "↓", None: ""}


class RateColumn(ProgressColumn):
    """Frames per second of a task: over rich's own sliding window while it runs, over all of it at the end.

    A task with a field ``unit`` counts something else.
    """

    def render(self, task: Task) -> Text:
        """One cell, e.g. ``12.3 frames/s``."""
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{speed:.1f} {task.fields.get('unit', 'frames')}/s", style="progress.data.speed"
        )


class ProgressBars:
    """Progress bars on the error stream, one for each file and task, that appear when work begins.

    Args:
        is_shown: Whether anything is shown; set it in the first process only.
        units: Task -> what is counted in it, where that is not frames.
    """

    def __init__(self, *, is_shown: bool = True, units: Mapping[str, str] | None = None) -> None:
        columns = (
            SpinnerColumn(),  # turns while a learned system works for many seconds between two reports
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not is_shown)
        self._units = units or {}
        self._tasks: dict[tuple[str, str], Any] = {}

    def report(self, title: str, task: str, done: int, total: int | None) -> None:
        """Show how much of a task of a file is done, and how much there is; None if unknown."""
        if not self._tasks:
            self._progress.start()  # not before: an error without any work leaves one line, not a frame of bars
        key = (title, task)
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(
                f"{title}: {task}", total=total, unit=self._units.get(task, "frames")
            )
        self._progress.update(self._tasks[key], completed=done, total=total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks:
            self._progress.stop()


def wide_console() -> Console:
    """Standard output; a file has room for a table, whatever the terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)
    return console


def show_line(console: Console, line: str) -> None:
    """Print text that no markup is read from and that is not wrapped."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def evaluation_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Every value with its interval and the number of things it is a mean of: a table for each place of measuring."""
    from pa_lib.reports.evaluation_record import MEASURED_ON
    from pa_lib.reports.text import interval, number, quantity

    places = list(dict.fromkeys(record.measured_on for record in evaluation.metrics))
    for place in places:
        title = evaluation.title if len(places) == 1 else f"{evaluation.title}: {MEASURED_ON[place]}"
        table = Table(title=title, title_justify="left")
        table.add_column("name", overflow="fold")
        table.add_column("", justify="center", min_width=1)
        table.add_column("value", justify="right", no_wrap=True, min_width=10)
        table.add_column("95 % interval", justify="right", no_wrap=True, min_width=18)
        table.add_column("of", overflow="fold")
        for record in evaluation.metrics:
            if record.measured_on != place:
                continue
            for value in record.values:
                n_of = quantity(value.n, value.n_of)
                table.add_row(value.name, _ARROWS[value.is_higher_better], number(value.value), interval(value), n_of)
            table.add_section()
        yield table


def comparison_table(comparison: Comparison) -> Table:
    """Runs side by side; where they may be ranked, the best one is marked."""
    from pa_lib.reports.comparison import cell

    table = Table(title_justify="left")
    table.add_column("name", overflow="fold")
    table.add_column("", justify="center")
    for column in comparison.columns:
        several = f"\n[dim]n = {len(column.runs)} runs[/dim]" if column.seeds else ""
        table.add_column(f"{column.name}{several}", justify="right", overflow="fold")
    has_marks = any(row.mark for row in comparison.rows)
    if has_marks:
        table.add_column("", overflow="fold")
    places = {row.measured_on for row in comparison.rows}
    for row in comparison.rows:
        cells = []
        for at, value in enumerate(row.values):
            text, spread = cell(value)
            if spread:
                text += f"\n[dim]{spread}[/dim]"
            cells.append(f"[bold]★ {text}[/bold]" if at in row.best else text)
        title = row.name if len(places) == 1 else f"{row.name} [dim]({row.measured_on})[/dim]"
        table.add_row(title, _ARROWS[row.is_higher_better], *cells, *([row.mark] if has_marks else []))
    return table


def counted(evaluation: Evaluation) -> list[str]:
    """What was counted apart, e.g. ``identity_distance: 3 faces not found``; zeros and repetitions are left out."""
    from pa_lib.reports.text import quantity

    lines: list[str] = []
    seen: set[tuple[str, str, str, int]] = set()
    for record in evaluation.metrics:
        for value in record.values:
            keys = {name: (record.name, record.measured_on, name, count) for name, count in value.counted.items()}
            new = [quantity(count, name) for name, count in value.counted.items() if count and keys[name] not in seen]
            seen |= set(keys.values())
            if new:
                lines.append(f"{value.name} ({record.measured_on}): {', '.join(new)}")
    return lines
