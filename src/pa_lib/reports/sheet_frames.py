"""Which frames of a video show its people best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Box, Kind, Person, Track

MAX_OVERVIEWS = 4
CANDIDATES = 3
"""Frames looked at for each person; the sharpest gives the picture."""


@dataclass(frozen=True)
class Candidate:
    """A frame that may give the picture of one person.

    Args:
        person_id: Id of the person.
        kind: Whether the box is of the face or of the body.
        frame: Index of the frame in the video.
        box: Box ``x0 y0 x1 y1`` in pixels.
        quality: Quality of the view; larger is better.
    """

    person_id: int
    kind: Kind
    frame: int
    box: Box
    quality: float


def candidates(person: Person, width: int, height: int) -> list[Candidate]:
    """Frames, far apart, in which a person is large, detected with high confidence and wholly inside the frame."""
    # A body shows more than a face of 15 px, and has the face in it.
    tracks = [track for track in person.tracks if track.kind == "body"] or list(person.tracks)
    rated: list[Candidate] = []
    for track in tracks:
        quality = _qualities(track, width, height)
        for _ in range(CANDIDATES):
            row = int(np.argmax(quality))
            if quality[row] <= 0:
                break
            box = tuple(track.boxes[row].tolist())
            rated.append(Candidate(person.person_id, track.kind, int(track.frames[row]), box, float(quality[row])))
            apart = max(len(quality) // 8, 1)
            quality[max(row - apart, 0) : row + apart + 1] = 0
    rated.sort(key=lambda candidate: -candidate.quality)
    return rated[:CANDIDATES]


def _qualities(track: Track, width: int, height: int) -> NDArray[np.float64]:
    """Shape n: side length of the visible part x score x visible share; filled-in boxes count little."""
    boxes = track.boxes.astype(np.float64)
    inside = np.clip(boxes, 0, [width, height, width, height])
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), axis=1)
    visible = np.prod(np.maximum(inside[:, 2:] - inside[:, :2], 0), axis=1)
    scores = np.nan_to_num(track.scores.astype(np.float64), nan=0.05)
    return np.asarray(np.sqrt(visible) * np.maximum(scores, 0.05) * np.minimum(visible / area, 1))


def overview_frames(people: Sequence[Person], n_frames: int, width: int, height: int) -> tuple[int, ...]:
    """Few frames that show as many people as possible between them: each adds the most people not yet shown."""
    if n_frames == 0:
        return ()
    # An even grid is enough to choose from, and costs the same for an hour as for a minute.
    grid = np.unique(np.linspace(0, n_frames - 1, min(n_frames, 400)).round().astype(np.int64))
    shown = np.zeros((len(people), len(grid)))
    for at, person in enumerate(people):
        for track in person.tracks:
            rows = np.searchsorted(track.frames, grid).clip(max=len(track.frames) - 1)
            is_there = track.frames[rows] == grid
            quality = _qualities(track, width, height)[rows]
            shown[at] = np.maximum(shown[at], np.where(is_there, 1 + quality / (quality.max() + 1e-9), 0))
    chosen: list[int] = []
    missing = np.ones(len(people), dtype=bool)
    while len(chosen) < MAX_OVERVIEWS and missing.any() and shown[missing].any():
        best = int(np.argmax(shown[missing].sum(axis=0)))
        chosen.append(int(grid[best]))
        missing &= shown[:, best] == 0
    return tuple(sorted(chosen)) or (int(grid[len(grid) // 2]),)


def body_or_face(person: Person, frame: int) -> Box | None:
    """The person's body in a frame, else their face."""
    for track in sorted(person.tracks, key=lambda each: each.kind == "face"):
        row = track.row(frame)
        if row is not None:
            x0, y0, x1, y1 = track.boxes[row].tolist()
            return x0, y0, x1, y1
    return None
