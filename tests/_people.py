"""Small made-up people for the tests of who is who."""

from __future__ import annotations

import numpy as np

from pa_lib.contracts import Person, Track
from pa_lib.people import VideoTimeline

W, H, FPS = 640, 480, 25.0


def track(
    number: int,
    kind: str,
    first: int,
    boxes: list[tuple[float, float, float, float]],
    seen: list[int] | None = None,
    landmarks: np.ndarray | None = None,
) -> Track:
    """A track from `first` on with these boxes, detected in the rows `seen` (all if None)."""
    scores = np.full(len(boxes), np.nan if seen is not None else 0.8, dtype=np.float32)
    if seen is not None:
        scores[seen] = 0.8
    return Track(
        number,
        kind,  # type: ignore[arg-type]
        np.arange(first, first + len(boxes), dtype=np.int64),
        np.array(boxes, dtype=np.float32),
        scores,
        landmarks,
    )


def standing(number: int, kind: str, x: float, y: float, w: float, h: float, n: int = 20, first: int = 0) -> Track:
    """Somebody who does not move, with the box's top left corner at x, y."""
    return track(number, kind, first, [(x, y, x + w, y + h)] * n)


def person(number: int, *tracks: Track) -> Person:
    return Person(number, tracks)


def scene(n_frames: int = 20) -> VideoTimeline:
    return VideoTimeline(W, H, n_frames, np.arange(n_frames) / FPS)
