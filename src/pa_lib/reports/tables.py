"""A comparison as a table for a spreadsheet, a paper or a readme."""

from __future__ import annotations

import csv
import io
import re

from pa_lib.reports.comparison import ColumnValue, Comparison, Row, cell
from pa_lib.reports.text import NOTHING

_LATEX = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "…": r"\ldots{}",
    NOTHING: "--",
}
_POWER = re.compile(r"(-?\d+\.\d+)e([+-]\d+)")
_COLUMNS = (
    "measured_on", "metric", "name", "column", "value", "sd", "n_runs", "low", "high", "n", "n_of", "better", "is_best",
    "protocol_hash", "mark",
)  # fmt: skip


def comparison_csv(comparison: Comparison) -> str:
    """One line for each value of each column, with all digits: what a program reads. NaN is an empty cell."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in comparison.rows:
        for at, (name, value) in enumerate(zip(comparison.names, row.values, strict=True)):
            if value is None:
                continue
            low, high = value.interval or (None, None)
            numbers = (value.value, value.sd, value.n_runs, low, high)
            writer.writerow(
                [row.measured_on, row.metric, row.name, name]
                + ["" if one is None or one != one else repr(one) for one in numbers]
                + [value.n, value.n_of, _better(row), int(at in row.best), row.hashes[at], row.mark]
            )
    return file.getvalue()


def comparison_markdown(comparison: Comparison) -> str:
    """A row for each value, a column for each run; the best is bold where values may be ranked."""
    lines = [
        " | ".join(("value", *map(_markdown, comparison.names))),
        " | ".join(("---", *("---:" for _ in comparison.names))),
    ]
    for row in comparison.rows:
        cells = [f"**{text}**" if at in row.best else text for at, text in enumerate(_texts(row))]
        lines.append(" | ".join((_markdown(_title(row, comparison)) + _arrow(row), *cells)))
    return "".join(f"| {line} |\n" for line in lines) + "".join(f"\n{_markdown(note)}\n" for note in _notes(comparison))


def comparison_latex(comparison: Comparison) -> str:
    """The same as a ``tabular`` with the rules of booktabs."""
    arrows = {"": "", " ↑": r" $\uparrow$", " ↓": r" $\downarrow$"}
    lines = [
        "% made by pa-compare; needs \\usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * len(comparison.names)}}}",
        r"\toprule",
        " & ".join(("", *map(_latex, comparison.names))) + r" \\",
        r"\midrule",
    ]
    for row in comparison.rows:
        cells = [_latex(text) for text in _texts(row)]
        cells = [rf"\textbf{{{text}}}" if at in row.best else text for at, text in enumerate(cells)]
        lines.append(" & ".join((_latex(_title(row, comparison)) + arrows[_arrow(row)], *cells)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {note}" for note in _notes(comparison)]
    return "\n".join(lines) + "\n"


def _texts(row: Row) -> list[str]:
    return [_text(value) for value in row.values]


def _text(value: ColumnValue | None) -> str:
    return cell(value)[0]


def _title(row: Row, comparison: Comparison) -> str:
    places = {one.measured_on for one in comparison.rows}
    return row.name if len(places) == 1 else f"{row.name} ({row.measured_on})"


def _arrow(row: Row) -> str:
    return {True: " ↑", False: " ↓", None: ""}[row.is_higher_better]


def _better(row: Row) -> str:
    return {True: "higher", False: "lower", None: ""}[row.is_higher_better]


def _notes(comparison: Comparison) -> list[str]:
    """What a reader of the table must know: what ± is, and what is not comparable."""
    notes = [f"{row.name}: {row.mark}" for row in comparison.rows if row.mark.startswith("not ranked")]
    if any(value is not None and value.sd is not None for row in comparison.rows for value in row.values):
        sizes = sorted({len(column.runs) for column in comparison.columns if len(column.runs) > 1})
        notes.insert(0, f"± is the standard deviation over {' or '.join(map(str, sizes))} runs with other seeds.")
    return notes


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    return _POWER.sub(lambda found: rf"${found[1]} \times 10^{{{int(found[2])}}}$", escaped)


def _markdown(text: str) -> str:
    return text.replace("|", "\\|")
