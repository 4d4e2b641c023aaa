"""The one progress column that rich lacks: frames per second."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.text import Text


class FrameRateColumn(ProgressColumn):
    """Frames per second of a task, over rich's own sliding window while it runs and over all of it at the end."""

    def render(self, task: Task) -> Text:
        """One cell, e.g. ``12.3 frames/s``."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} frames/s", style="progress.data.speed")
