"""People are chosen by places in the video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pa_lib.contracts import Person
from pa_lib.errors import SettingError
from pa_lib.people.choosers.base import AbstractChooser, Choice, Embeddings, VideoTimeline
from pa_lib.people.choosers.named import Mode, check_mode, decided


@dataclass(frozen=True)
class ChooseByPlace(AbstractChooser):
    """Keeps the people at these places and hides the others, or the other way round.

    Args:
        points: Triples of a time in seconds and x, y in pixels of the upright frame.
        tolerance_s: Largest difference between the time of a point and that of a frame with the person, in seconds.
        mode: ``keep`` keeps these people and hides the others; ``hide`` hides these people and keeps the others.

    Raises:
        SettingError: A point is not a triple of numbers, or the mode is unknown.
    """

    points: Sequence[Sequence[float]]
    tolerance_s: float = 0.5
    mode: Mode = "keep"

    def __post_init__(self) -> None:
        check_mode(self.mode)
        _check_points(self.points, f"{self.mode}_at")

    def choose(self, people: Sequence[Person], timeline: VideoTimeline, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        there = {_person_at(point, people, timeline, self.tolerance_s, f"{self.mode}_at") for point in self.points}
        if self.mode == "keep":
            return decided(people, there, "pointed at", "not pointed at")
        return decided(people, {p.person_id for p in people} - there, "not pointed at", "pointed at")


KeepAt = partial(ChooseByPlace, mode="keep")
HideAt = partial(ChooseByPlace, mode="hide")


def _check_points(points: Sequence[Sequence[float]], name: str) -> None:
    example = f"people.chooser.points=[[1.5,320,200]] for 1.5 s, x 320, y 200, with people/chooser={name}"
    is_list = isinstance(points, Sequence) and not isinstance(points, str)
    if not is_list or not points:
        raise SettingError(f"{name} got no points: expected e.g. {example}")
    for point in points:
        try:
            numbers = [float(value) for value in point]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
            raise SettingError(f"{name} point {point!r}: expected time in s, x and y in px, e.g. {example}")


def _person_at(
    point: Sequence[float], people: Sequence[Person], timeline: VideoTimeline, tolerance_s: float, name: str
) -> int:
    """The person whose smallest box holds the point, in the frame nearest in time in which any box does."""
    time_s, x, y = (float(value) for value in point)
    here = f"{name} point at {time_s:g} s, x {x:g}, y {y:g}"
    if not (0 <= x < timeline.width and 0 <= y < timeline.height):
        raise SettingError(f"{here}: outside of the frame, which is {timeline.width} x {timeline.height} px")
    off = np.abs(np.asarray(timeline.times_s, dtype=np.float64) - time_s)
    if not len(off) or off.min() > tolerance_s:
        last = float(timeline.times_s[-1]) if len(off) else 0.0
        raise SettingError(f"{here}: no such time, the video runs from {timeline.times_s[0]:.2f} to {last:.2f} s")
    hits: list[tuple[float, float, int]] = []
    near: dict[int, float] = {}
    for person in people:
        for track in person.tracks:
            rows = np.flatnonzero(off[track.frames] <= tolerance_s)
            if not len(rows):
                continue
            boxes, away_s = track.boxes[rows].astype(np.float64), off[track.frames[rows]]
            outside = np.maximum(np.maximum(boxes[:, :2] - (x, y), (x, y) - boxes[:, 2:]), 0.0)
            away_px = np.hypot(outside[:, 0], outside[:, 1])
            near[person.person_id] = min(near.get(person.person_id, math.inf), float(away_px.min()))
            for row in np.flatnonzero(away_px == 0):
                area = float((boxes[row, 2:] - boxes[row, :2]).prod())
                hits.append((float(away_s[row]), area, person.person_id))
    if hits:
        return min(hits)[2]
    nearest = sorted(near, key=lambda i: (near[i], i))[:3]
    names = ", ".join(f"person {i} {near[i]:.0f} px away" for i in nearest)
    raise SettingError(
        f"{here}: no person there; {'near are ' + names if names else 'no person is in the video at that time'}"
    )
