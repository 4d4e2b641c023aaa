"""The page of a run: its values as the words, shapes and positions that the template needs."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pa_lib.paths import AS_ESCAPES
from pa_lib.reports import templates
from pa_lib.reports.run_record import PersonRecord, RunReport, TrackRecord
from pa_lib.reports.thumbnails import Thumbnail
from pa_lib.video import StagedFile

WIDTH = 1000
"""Units across every chart; they are stretched to the width of the window."""
MAX_BINS = 600
"""Points of a curve: more than a screen shows, and 12 kB of page."""
MAX_LANES = 120
MAX_TRACKS = 1500
MAX_ROWS = 500
MAX_GROUPS = 100
SHAPE_BUDGET = 30_000
"""Separate bars in the whole timeline; gaps are closed where there would be more."""


def write_run_page(report: RunReport, path: Path, thumbnails: Sequence[Thumbnail] = ()) -> None:
    """Write the page of a run, which needs no other file and no network. It appears complete or not at all.

    Args:
        report: The record of the run.
        path: File to write.
        thumbnails: Pictures of the output, from a `ThumbnailCollector`.

    Raises:
        PaLibError: The file cannot be written.
    """
    with stage_run_page(report, path, thumbnails) as staged:
        staged.commit()


def stage_run_page(report: RunReport, path: Path, thumbnails: Sequence[Thumbnail] = ()) -> StagedFile:
    """The page of `write_run_page`, written and waiting for its name."""
    return StagedFile.holding(path, [render(report, thumbnails).encode(errors=AS_ESCAPES)])


def render(report: RunReport, thumbnails: Sequence[Thumbnail]) -> str:
    """The whole page as text. Its size does not grow with the video, but for the list of redacted frames."""
    clock = _Clock(report)
    page = templates.render(
        "run.html.j2",
        report=report,
        head=_head(report),
        clock=clock,
        groups=_groups(report),
        share=_share,
        pictures=_pictures(report, thumbnails, clock),
        has_before=any(thumbnail.before is not None for thumbnail in thumbnails),
        strip=_strip(report),
        lanes=_lanes(report, clock),
        curve=_curve(report, clock),
        rows=report.people[:MAX_ROWS],
        config=json.dumps(report.config, indent=2, ensure_ascii=False, default=str),
        command=_command(report),
    )
    return _with_script_hash(page)


def _with_script_hash(page: str) -> str:
    """Allows this page's own script by its hash, so that no other script can ever run in it."""
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = hashlib.sha256(script.group(1).encode()).digest() if script else b""
    return page.replace("SCRIPT-HASH", "sha256-" + base64.b64encode(digest).decode("ascii"), 1)


class _Clock:
    """Frames as times, where the file has times."""

    def __init__(self, report: RunReport) -> None:
        self.n_frames = len(report.frames)
        times_s = report.frames.times_s
        self.is_timed = self.n_frames > 1 and bool(np.isfinite(times_s).all()) and times_s[-1] > times_s[0]
        self.times_s = times_s if self.is_timed else np.arange(self.n_frames, dtype=np.float64)

    def at(self, frame: int) -> str:
        """When a frame is shown, e.g. ``1:02.4`` or ``frame 12``."""
        return self.text_of(float(self.times_s[frame]), 1) if self.is_timed else f"frame {frame}"

    def text_of(self, seconds: float, digits: int) -> str:
        """Seconds below a minute, then m:ss, then h:mm:ss."""
        if not self.is_timed:
            return f"{seconds:.0f}"
        if self.times_s[-1] < 60:
            return f"{seconds:.{digits}f} s"
        total = round(seconds * 10**digits)
        minutes, rest = divmod(total, 60 * 10**digits)
        text = f"{rest / 10**digits:0{3 + digits if digits else 2}.{digits}f}"
        return f"{minutes // 60}:{minutes % 60:02d}:{text}" if minutes >= 60 else f"{minutes}:{text}"

    def duration_of(self, person: PersonRecord) -> str:
        """Time on screen, e.g. ``3.5 s``."""
        if not self.is_timed:
            return f"{person.n_frames} frames" if person.n_frames != 1 else "1 frame"
        step = (self.times_s[-1] - self.times_s[0]) / (self.n_frames - 1)
        ends = np.append(self.times_s, self.times_s[-1] + step)
        seconds = sum(float(ends[min(last + 1, self.n_frames)] - ends[first]) for first, last in person.spans)
        return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"

    def ticks(self, count: int = 6) -> list[tuple[float, str]]:
        """Round times, each with its place in percent."""
        first, last = float(self.times_s[0]), float(self.times_s[-1])
        steps = [base * 10.0**power for power in range(-2, 2) for base in (1, 2, 5)]
        steps = [*(step for step in steps if step < 15), 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200]
        step = next((step for step in steps if (last - first) / step <= count), (last - first) / count)
        if not self.is_timed:
            step = max(10.0 ** math.floor(math.log10(max((last - first) / 2, 1))), 1)
        marks = first + np.arange(int((last - first) / step + 1e-6) + 1) * step
        digits = 0 if step >= 1 else 1 if step >= 0.1 else 2
        frames = np.searchsorted(self.times_s, marks - 1e-6)
        return [
            (_percent(int(frame), self.n_frames), self.text_of(float(mark - (first if self.is_timed else 0)), digits))
            for frame, mark in zip(frames, marks, strict=True)
        ]


@dataclass(frozen=True)
class _Head:
    tone: str
    title: str
    mark: str
    mean_share: str
    most_share: str
    bar: tuple[tuple[str, int, float], ...]


def _head(report: RunReport) -> _Head:
    counts, n_frames = report.counts, len(report.frames)
    redacted = report.frames.is_redacted
    if counts["redacted"]:
        tone, title = "bad", f"{_frames(counts['redacted'])} had to be redacted"
    elif not report.people:
        tone, title = "care", "No person was found in this video"
    else:  # fallbacks are listed further down: they hide more than was asked for, never less
        tone, title = "good", "All frames accounted for"
    areas = report.frames.mask_areas[~redacted]
    return _Head(
        tone=tone,
        title=title,
        mark={"good": "✓", "care": "!", "bad": "✕"}[tone],
        mean_share=_share(float(areas.mean())) if len(areas) else "none",
        most_share=_share(float(areas.max())) if len(areas) else "none",
        bar=tuple((status, count, 100 * count / n_frames) for status, count in counts.items() if count),
    )


def _groups(report: RunReport) -> dict[str, list[tuple[str, int, str]]]:
    """Frames to look at, by what happened: ``redacted``, ``fault`` and ``fallback`` -> (reason, count, frames)."""
    found: dict[str, dict[str, list[int]]] = {"redacted": {}, "fault": {}, "fallback": {}}
    for index in np.flatnonzero(report.frames.is_noteworthy).tolist():
        record = report.frames[index]
        if record.status == "redacted":
            found["redacted"].setdefault(record.fault or "no reason recorded", []).append(index)
        elif record.fault:
            found["fault"].setdefault(record.fault, []).append(index)
        if record.status != "redacted":
            for fallback in record.fallbacks:
                found["fallback"].setdefault(fallback, []).append(index)
    return {name: list(_largest(group)) for name, group in found.items()}


def _largest(group: dict[str, list[int]]) -> Iterator[tuple[str, int, str]]:
    """The commonest reasons by themselves, all others together, so that every frame is named."""
    ordered = sorted(group.items(), key=lambda item: (-len(item[1]), item[1][0]))
    for reason, indices in ordered[:MAX_GROUPS]:
        yield reason, len(indices), _ranges(indices)
    rest = sorted(index for _, indices in ordered[MAX_GROUPS:] for index in indices)
    if rest:
        yield f"{len(ordered) - MAX_GROUPS} other reasons (see the JSON report)", len(rest), _ranges(rest)


def _ranges(indices: Iterable[int]) -> str:
    """``3, 7–9`` for 3, 7, 8, 9."""
    at = np.fromiter(indices, dtype=np.int64)
    breaks = np.flatnonzero(np.diff(at) > 1)
    firsts = at[np.concatenate([[0], breaks + 1])].tolist()
    lasts = at[np.concatenate([breaks, [len(at) - 1]])].tolist()
    return ", ".join(
        str(first) if first == last else f"{first}–{last}"  # noqa: RUF001 (an en dash, as in print)
        for first, last in zip(firsts, lasts, strict=True)
    )


def _pictures(report: RunReport, thumbnails: Sequence[Thumbnail], clock: _Clock) -> list[dict[str, Any]]:
    pictures = []
    for thumbnail in thumbnails:
        record = report.frames[thumbnail.index]
        note = record.fault or ", ".join(record.fallbacks)
        pictures.append(
            {
                "thumbnail": thumbnail,
                "when": clock.at(thumbnail.index),
                "is_noteworthy": record.status == "redacted" or bool(note),
                "status": record.status,
                "note": note,
                "n_hidden": record.n_hidden,
            }
        )
    return sorted(pictures, key=lambda picture: not picture["is_noteworthy"])


def _strip(report: RunReport) -> list[tuple[str, float, float]]:
    """What happened along the video: (status, left, width). A bad frame wins over the good ones beside it."""
    n_frames = len(report.frames)
    rank = report.frames.is_touched.astype(np.int64) + report.frames.is_redacted
    worst = np.maximum.reduceat(rank, _bin_starts(n_frames, WIDTH))
    edges = np.append(_bin_starts(n_frames, WIDTH), n_frames) / n_frames * WIDTH
    breaks = np.concatenate([[0], np.flatnonzero(np.diff(worst)) + 1, [len(worst)]])
    names = ("untouched", "anonymized", "redacted")
    return [
        (names[int(worst[first])], round(float(edges[first]), 2), round(float(edges[last] - edges[first]), 2))
        for first, last in itertools.pairwise(breaks.tolist())
    ]


def _bin_starts(n_frames: int, count: int) -> NDArray[np.int64]:
    """First frame of each of at most `count` equal parts."""
    return np.unique(np.linspace(0, n_frames, min(n_frames, count), endpoint=False).astype(np.int64))


def _lanes(report: RunReport, clock: _Clock) -> dict[str, Any]:
    """One lane for each person, those longest on screen where there are too many, in order of their numbers."""
    ordered = sorted(report.people, key=lambda person: -person.n_frames)[:MAX_LANES]
    n_tracks = np.cumsum([min(len(person.tracks), MAX_TRACKS // 5) for person in ordered])
    ordered = ordered[: max(int(np.searchsorted(n_tracks, MAX_TRACKS, side="right")), 1)]
    gap = WIDTH * len(ordered) / SHAPE_BUDGET
    lanes = []
    for person in sorted(ordered, key=lambda each: each.person_id):
        rows = []
        for name in ("face", "body"):
            tracks = [track for track in person.tracks if track.kind == name]
            tracks = sorted(tracks, key=lambda track: track.first_frame - track.last_frame)[: MAX_TRACKS // 5]
            if tracks:
                bars = [_bar(track, name, clock, gap) for track in sorted(tracks, key=lambda each: each.first_frame)]
                rows.append((name, bars))
        lanes.append((person, rows))
    cuts = sorted({round(_percent(cut, clock.n_frames), 1) for cut in report.cuts})
    odd = np.flatnonzero(report.frames.is_noteworthy & ~report.frames.is_redacted)
    marks = sorted({round(_percent(int(frame), clock.n_frames) * 2) / 2 for frame in odd})
    return {"rows": lanes, "n_left_out": len(report.people) - len(lanes), "cuts": cuts, "marks": marks}


def _bar(track: TrackRecord, name: str, clock: _Clock, gap: float) -> dict[str, str]:
    scale = WIDTH / clock.n_frames
    runs: list[list[float]] = []
    for first, last in track.detected_runs:
        if runs and first * scale - runs[-1][1] < gap:
            runs[-1][1] = (last + 1) * scale
        else:
            runs.append([first * scale, (last + 1) * scale])
    score = "" if track.mean_score is None else f", mean score {track.mean_score:.2f}"
    when = f"{clock.at(track.first_frame)} to {clock.at(track.last_frame)}"
    return {
        "title": (
            f"{name}, {when}, frames {track.first_frame} to {track.last_frame}: "
            f"seen in {track.n_detected}, filled in for {track.n_filled}{score}"
        ),
        "span": _box_path(track.first_frame * scale, (track.last_frame + 1) * scale),
        "seen": "".join(_box_path(left, right) for left, right in runs),
    }


def _box_path(left: float, right: float) -> str:
    width = max(right - left, 1.5)  # one frame of a long video is still seen
    return f"M{left:.1f} 0h{width:.1f}v10h-{width:.1f}z"


def _curve(report: RunReport, clock: _Clock) -> dict[str, Any]:
    """Masked share along the video: least and most of each bin, and the numbers for the pointer."""
    n_frames = len(report.frames)
    starts = _bin_starts(n_frames, MAX_BINS)
    redacted = report.frames.is_redacted
    areas = np.where(redacted, np.nan, report.frames.mask_areas.astype(np.float64))
    most = np.fmax.reduceat(areas, starts)
    least = np.fmin.reduceat(areas, starts)
    highest = float(np.nanmax(most)) if np.isfinite(most).any() else 0.0
    top = next(limit for limit in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0) if highest <= limit)
    edges = np.append(starts, n_frames) / n_frames * WIDTH
    is_bad = np.logical_or.reduceat(redacted, starts)
    hidden = np.maximum.reduceat(report.frames.n_hidden, starts)
    return {
        "most": _area(edges, most, top),
        "least": _area(edges, least, top),
        "line": _line(edges, most, top),
        "is_binned": len(starts) < n_frames,
        "top": top,
        "data": {
            "first": starts.tolist(),
            "when": [clock.at(int(start)) for start in starts],
            "most": [None if math.isnan(value) else round(100 * value, 2) for value in most.tolist()],
            "hidden": hidden.tolist(),
            "redacted": is_bad.astype(int).tolist(),
            "frames": n_frames,
        },
    }


def _area(edges: NDArray[np.float64], values: NDArray[np.float64], top: float) -> str:
    """Outline of what lies between the curve and zero."""
    return "".join(
        f"M{edges[first]:.1f} 100L{_steps(edges, values, top, first, last)}L{edges[last]:.1f} 100z"
        for first, last in _known(values)
    )


def _line(edges: NDArray[np.float64], values: NDArray[np.float64], top: float) -> str:
    return "".join(f"M{_steps(edges, values, top, first, last)}" for first, last in _known(values))


def _steps(edges: NDArray[np.float64], values: NDArray[np.float64], top: float, first: int, last: int) -> str:
    """One level for each bin: a slope would show areas that no frame has."""
    heights = [f"{100 - 100 * value / top:.1f}" for value in values[first:last].tolist()]
    sides = [f"{edge:.1f}" for edge in edges[first : last + 1].tolist()]
    return "L".join(f"{sides[at]} {y}L{sides[at + 1]} {y}" for at, y in enumerate(heights))


def _known(values: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Stretches of numbers between the gaps, first and one past the last."""
    is_known = np.concatenate([[0], np.isfinite(values).astype(np.int64), [0]])
    return list(
        zip(
            np.flatnonzero(np.diff(is_known) == 1).tolist(),
            np.flatnonzero(np.diff(is_known) == -1).tolist(),
            strict=True,
        )
    )


def _command(report: RunReport) -> str | None:
    """The run again with the tracks file as it is then."""
    if report.tracks_name is None:
        return None
    parts = {"input": report.source.name, "output": report.output_name, "tracks": report.tracks_name}
    return "pa-anonymize " + " ".join(shlex.quote(f"{name}={value}") for name, value in parts.items())


def _share(value: float) -> str:
    """A share in percent, with a space that keeps the sign on the line."""
    percent = 100 * value
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f}\N{NO-BREAK SPACE}%"
    return "<\N{NO-BREAK SPACE}0.1\N{NO-BREAK SPACE}%" if percent < 0.05 else f"{percent:.1f}\N{NO-BREAK SPACE}%"


def _percent(frame: int, n_frames: int) -> float:
    return round(100 * frame / n_frames, 3)


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count:,} frames"
