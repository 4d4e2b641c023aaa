"""One head, one double: people whose heads coincide are one person who was found twice, or a piece of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pa_lib.people.poses import PoseTrack, mostly
from pa_lib.people.tracking.motion import Array

_NEAR = 1.0  # scales of the larger head between the eyes of two heads up to which they are one


def without_coinciding(poses: Mapping[int, PoseTrack], times_s: Array) -> dict[int, PoseTrack]:
    """Poses of people, without the lesser one of two heads where they are at one place for most of a second.

    The lesser one is the one whose face was seen in fewer of the frames that both are in, then the one with fewer
    frames in all, since two people in one box are not found for long, then the smaller one, then the one who came
    later. It has no place there, see `PoseTrack.is_placed`; masks are not concerned.

    Args:
        poses: Person id -> poses, of all people of a video.
        times_s: Time of every frame of the video in seconds.
    """
    found = dict(poses)
    ids = sorted(poses)
    for at, one in enumerate(ids):
        for other in ids[at + 1 :]:
            first, second = found[one], found[other]
            if first.frames[0] > second.frames[-1] or second.frames[0] > first.frames[-1]:
                continue
            frames, rows, others = np.intersect1d(first.frames, second.frames, True, return_indices=True)
            if not len(frames):
                continue
            a, b = first.numbers[rows], second.numbers[others]
            larger = np.maximum(a[:, 2], b[:, 2])
            is_one = np.hypot(*(a[:, :2] - b[:, :2]).T) < _NEAR * larger
            is_one &= first.is_placed[rows] & second.is_placed[others]
            if not is_one.any():
                continue
            is_one = mostly(times_s[frames], is_one)
            ranks = (
                (int(track.is_seen[where].sum()), len(track.frames), float(np.median(track.numbers[where, 2])))
                for track, where in ((first, rows), (second, others))
            )
            lesser, where = (other, others) if next(ranks) >= next(ranks) else (one, rows)
            is_placed = found[lesser].is_placed.copy()
            is_placed[where[is_one]] = False
            found[lesser] = replace(found[lesser], is_placed=is_placed)
    return found
