"""Plots as SVG inside a page: matplotlib draws them, the page's own style gives font and colours, light or dark."""

from __future__ import annotations

import io
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pa_lib.metrics import MetricValue
from pa_lib.reports.comparison import ColumnValue, Row
from pa_lib.reports.evaluation_record import TrackSummary
from pa_lib.reports.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Colours that stand for the page's: each appears nowhere else in a drawing.
_INK, _SOFT, _LINE = "#010203", "#020304", "#030405"
_SERIES = ("#040506", "#050607", "#060708", "#070809", "#08090a", "#090a0b")
_NAMES = {_INK: "ink", _SOFT: "soft", _LINE: "line", **{colour: f"series-{at}" for at, colour in enumerate(_SERIES)}}
_MARKERS = ("o", "D", "s", "^", "v", "P")
_WIDTH_IN, _ROW_IN, _EXTRA_IN = 7.6, 0.34, 0.55
_LEAST_TRACKS, _MOST_TRACKS, _MOST_LETTERS = 5, 60, 28
_UNITS = {"db": "dB", "px": "px", "s": "s", "share": "share", "rate": "share", "distance": "distance"}


def interval_plot(name: str, places: Mapping[str, Sequence[MetricValue]]) -> str | None:
    """Values of one metric with their intervals, one panel for each unit; None where the table says as much.

    Args:
        name: Name of the metric.
        places: Values by place of measurement.
    """
    panels: dict[str, dict[str, list[tuple[int, MetricValue]]]] = {}
    for at, values in enumerate(places.values()):
        for value in values:
            if _is_drawn(value) and (value.interval is not None or len(places) > 1):
                panels.setdefault(_unit(value.name), {}).setdefault(value.name, []).append((at, value))
    if not panels:
        return None
    canvas, axes = _canvas([len(rows) for rows in panels.values()])
    for axis, (unit, rows) in zip(axes, panels.items(), strict=True):
        for place, points in enumerate(rows.values()):
            for at, value in points:
                shift = (at - (len(places) - 1) / 2) * 0.24
                _point(axis, value, place + shift, at)
        _label(axis, [row.removeprefix(f"{name}_") for row in rows], unit)
    if len(places) > 1:
        _legend(axes[0], list(places))
    return _svg(canvas, f"{name}-intervals", f"{name}: values with 95 % intervals")


def run_plot(name: str, rows: Sequence[Row], runs: Sequence[str]) -> str | None:
    """One metric in several runs: a panel for each value, a line for each run; None where runs differ in no value."""
    drawn = [row for row in rows if len({value.value for value in row.values if value and _is_drawn(value)}) > 1]
    if not drawn:
        return None
    canvas, axes = _canvas([len(runs)] * len(drawn))
    for axis, row in zip(axes, drawn, strict=True):
        for at, value in enumerate(row.values):
            if value is not None and _is_drawn(value):
                _point(axis, value, at, _style(row, at))
        _label(axis, list(runs), "")
        axis.set_title(row.name, loc="left", fontsize=10, color=_INK)
    return _svg(canvas, f"{name}-runs", f"{name} in {len(runs)} runs")


def track_plot(
    name: str, people: Sequence[TrackSummary], is_higher_better: bool | None, who: Callable[[TrackSummary], str]
) -> str | None:
    """One value of every person, sorted, the worst at the top; None where the table of people says as much.

    That is for fewer than five numbers, or where all are equal.

    Args:
        name: Name of the value.
        people: Summaries of all people.
        is_higher_better: Whether a higher value is better; None where neither is.
        who: Function from a summary to the label of the person.
    """
    rows = sorted(
        ((person.values[name], who(person)) for person in people if math.isfinite(person.values.get(name, math.nan))),
        reverse=is_higher_better is not True,
    )
    values = [value for value, _ in rows]
    if len(values) < _LEAST_TRACKS or len(set(values)) == 1:
        return None
    shown = values[:_MOST_TRACKS]
    canvas, (axis,) = _canvas([max(3.0, 0.55 * len(shown))], width_in=4.8)
    axis.hlines(range(len(shown)), min(shown), shown, color=_LINE, linewidth=1)
    axis.plot(shown, range(len(shown)), "o", color=_SERIES[0], markersize=4)
    median = statistics.median(values)
    axis.axvline(median, color=_SOFT, linewidth=1, linestyle=(0, (3, 3)))
    axis.annotate("median", (median, 1.0), xycoords=("data", "axes fraction"), color=_SOFT, fontsize=8.5, ha="center")
    axis.set_yticks(range(len(shown)), [_short(label) for _, label in rows[: len(shown)]], fontsize=8)
    axis.set_ylim(len(shown) - 0.5, -0.8)
    side = {True: "lower is worse", False: "higher is worse", None: "no better side"}[is_higher_better]
    more = f", the first {len(shown)} of {len(values)}" if len(shown) < len(values) else ""
    axis.set_xlabel(f"{name} ({side}{more})", color=_SOFT, fontsize=9)
    return _svg(canvas, f"{name}-tracks", f"{name} of {len(values)} people, worst first")


def _style(row: Row, at: int) -> int:
    """Runs of one protocol look alike; another protocol has another colour and marker."""
    known = list(dict.fromkeys(one for one in row.hashes if one is not None))
    own = row.hashes[at]
    return known.index(own) if own is not None else 0


def _canvas(rows: Sequence[float], width_in: float = _WIDTH_IN) -> tuple[Canvas, Sequence[Axes]]:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import MaxNLocator

    height = sum(rows) * _ROW_IN + len(rows) * _EXTRA_IN
    canvas = Canvas(figsize=(width_in, height), layout="constrained")
    ratios = [count * _ROW_IN + _EXTRA_IN for count in rows]
    axes = canvas.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    canvas.patch.set_visible(False)
    for axis in axes:
        axis.patch.set_visible(False)
        axis.grid(axis="x", color=_LINE, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=_SOFT, labelsize=9, length=0)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.6g}")  # no power of ten that stands apart
        for side in ("top", "left", "right"):
            axis.spines[side].set_visible(False)
        axis.spines["bottom"].set_color(_LINE)
    return canvas, list(axes)


def _point(axis: Axes, value: MetricValue | ColumnValue, place: float, at: int) -> None:
    colour = _SERIES[at % len(_SERIES)]
    if value.interval is not None:
        low, high = (min(max(end, -1e300), 1e300) for end in value.interval)
        if math.isfinite(low) and math.isfinite(high):
            axis.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
    axis.plot([value.value], [place], _MARKERS[at % len(_MARKERS)], color=colour, markersize=6)
    axis.annotate(
        number(value.value),
        (value.value, place),
        (0, 5),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=_INK,
    )


def _label(axis: Axes, labels: Sequence[str], unit: str) -> None:
    axis.set_yticks(range(len(labels)), labels)
    for text in axis.get_yticklabels():
        text.set_color(_INK)
    axis.set_ylim(len(labels) - 0.5, -0.75)
    axis.margins(x=0.12)
    if unit:
        axis.set_xlabel(unit, color=_SOFT, fontsize=9)


def _legend(axis: Axes, places: Sequence[str]) -> None:
    handles: list[Any] = []
    from matplotlib.lines import Line2D

    for at, place in enumerate(places):
        marker, colour = _MARKERS[at % len(_MARKERS)], _SERIES[at % len(_SERIES)]
        handles.append(Line2D([], [], marker=marker, color=colour, linestyle="", label=place))
    legend = axis.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles), frameon=False)
    for text in legend.get_texts():
        text.set_color(_SOFT)
        text.set_fontsize(9)


def _is_drawn(value: MetricValue | ColumnValue) -> bool:
    return math.isfinite(value.value)


def _short(label: str) -> str:
    return label if len(label) <= _MOST_LETTERS else f"…{label[1 - _MOST_LETTERS :]}"


def _unit(name: str) -> str:
    return _UNITS.get(name.rsplit("_", 1)[-1], "")


def _svg(canvas: Canvas, salt: str, title: str) -> str:
    """The drawing as an element of the page: same input, same text."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}):
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", drawn)
    for colour, name in _NAMES.items():
        drawn = drawn.replace(colour, f"var(--{name})")
    # Ids are of one page, where other drawings have the same.
    mark = re.sub(r"\W", "-", salt)
    drawn = re.sub(r'id="([^"]+)"', rf'id="{mark}-\1"', drawn)
    drawn = re.sub(r'href="#([^"]+)"', rf'href="#{mark}-\1"', drawn)
    drawn = re.sub(r"url\(#([^)]+)\)", rf"url(#{mark}-\1)", drawn)
    head = r'<svg class="drawing" role="img" viewBox="\1" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', head, drawn, count=1)
