"""The table of a sweep: one row for each setting, mean and standard deviation over its seeds."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SweepRow:
    """One run of a sweep.

    Args:
        label: The settings that the sweep gives it, e.g. ``module/adapter=none seed=1``.
        folder: Run folder.
        exit_code: Exit code of its process; 0 is success.
        result: Best and last monitored values, or how it failed, in a few words.
        outcome: Content of its ``outcome.json``; empty for a failed run.
    """

    label: str
    folder: str
    exit_code: int
    result: str
    outcome: dict[str, Any]

    @property
    def setting(self) -> str:
        """The label without the seed: what runs of different seeds have in common."""
        words = [word for word in self.label.split() if word.partition("=")[0] not in ("seed", "data.seed")]
        return " ".join(words) or "all"

    @property
    def values(self) -> dict[str, float]:
        """The best monitored value, and all values of the last validation."""
        best = self.outcome.get("best")
        monitored = {} if best is None else {f"best {self.outcome['monitor']}": float(best)}
        return monitored | {str(name): float(value) for name, value in self.outcome.get("metrics", {}).items()}

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @staticmethod
    def read(path: Path) -> SweepRow:
        """Read what `write` has written."""
        return SweepRow(**json.loads(path.read_text(encoding="utf-8")))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); the latter is None for a single value.

    >>> mean_and_sd([1.0, 2.0, 3.0]), mean_and_sd([1.0])
    ((2.0, 1.0), (1.0, None))
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def write_tables(rows: Sequence[SweepRow], folder: Path) -> dict[str, Path]:
    """Write ``summary.csv`` and ``summary.md``: mean and standard deviation of every value over the seeds of a setting.

    Returns:
        Name -> file.
    """
    settings = list(dict.fromkeys(row.setting for row in rows))
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    lines: list[list[str]] = []
    table = ["| setting | runs | " + " | ".join(names) + " |", "|---|---:|" + "---:|" * len(names)]
    for setting in settings:
        runs = [row for row in rows if row.setting == setting]
        finished = [row for row in runs if not row.exit_code]
        counted = f"{len(finished)}" + (f" ({len(runs) - len(finished)} failed)" if len(runs) > len(finished) else "")
        cells, numbers = [], []
        for name in names:
            values = [row.values[name] for row in finished if name in row.values]
            mean, sd = mean_and_sd(values) if values else (None, None)
            cells.append("" if mean is None else f"{mean:.4g}" + ("" if sd is None else f" ± {sd:.2g}"))
            numbers += ["" if mean is None else repr(mean), "" if sd is None else repr(sd)]
        table.append(f"| {setting} | {counted} | " + " | ".join(cells) + " |")
        lines.append([setting, str(len(finished)), str(len(runs) - len(finished)), *numbers])
    files = {"table": folder / "summary.md", "values": folder / "summary.csv"}
    folders = [f"- `{row.label}`: {row.result}, `{row.folder}`" for row in rows]
    note = "Mean ± sample standard deviation over the seeds of a setting; `best` is that of the monitored value."
    files["table"].write_text("\n".join([*table, "", note, "", *folders]) + "\n", encoding="utf-8")
    with files["values"].open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["setting", "runs", "failed", *(f"{name} {what}" for name in names for what in ("mean", "sd"))])
        writer.writerows(lines)
    return files
