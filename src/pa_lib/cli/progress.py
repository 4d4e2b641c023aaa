"""Progress bars, one for each file and stage of it, that appear when work begins."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self


class Bars:
    """Bars on the terminal's error stream.

    Args:
        is_shown: False shows nothing, for the processes that do not speak.
        units: Stage -> what is counted in it, where that is not frames.
    """

    def __init__(self, *, is_shown: bool = True, units: Mapping[str, str] | None = None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        from pa_lib.cli.rate import RateColumn

        columns = (
            SpinnerColumn(),  # turns while a learned system paints for many seconds between two frames told
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not is_shown)
        self._units = units or {}
        self._tasks: dict[tuple[str, str], Any] = {}

    def tell(self, title: str, stage: str, done: int, total: int | None) -> None:
        """Frames (or batches) done of a stage of a file, and how many there are, None where nobody knows."""
        if not self._tasks:
            self._progress.start()  # not before: an error without any work leaves one line, not a frame of bars
        key = (title, stage)
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(
                f"{title}: {stage}", total=total, unit=self._units.get(stage, "frames")
            )
        self._progress.update(self._tasks[key], completed=done, total=total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks:
            self._progress.stop()
