"""The one progress column that rich lacks: frames, or other things, per second."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.text import Text


class RateColumn(ProgressColumn):
    """Frames per second of a task, over rich's own sliding window while it runs and over all of it at the end.

    A task with a field ``unit`` counts something else.
    """

    def render(self, task: Task) -> Text:
        """One cell, e.g. ``12.3 frames/s``."""
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{speed:.1f} {task.fields.get('unit', 'frames')}/s", style="progress.data.speed"
        )
