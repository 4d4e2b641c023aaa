"""No double over people in front: heads that were lost from sight behind the body of another person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Person, Track
from pa_lib.people.poses import PoseTrack, near_in_time
from pa_lib.people.tracking.heads import measured_boxes
from pa_lib.people.tracking.motion import Array

_LOST_S = 0.15  # without a detection for longer than this, something may stand before a head
# The part of another body's box in which what lies behind is covered: its sides and its top, as shares of the box.
_SIDES, _TOP = 0.1, 0.1
_ONE = 1.0  # scales between two heads up to which they are one head that was found twice
# A body is the nearer one that ends at most so many scales of the head above the feet that belong to the head; where
# these are unknown, one that is so many scales tall.
_LEVEL, _LEAST_TALL = 1.0, 12.0


def without_covered(poses: Mapping[int, PoseTrack], people: Sequence[Person], times_s: Array) -> dict[int, PoseTrack]:
    """Poses of people, without a place for heads of which nothing is seen because another person stands in front.

    A track goes on where a person is lost for a moment. A head has no place there, see `PoseTrack.is_placed`, in frames
    that are far from all detections of its face, and of its body around it, and where the body of another person was
    detected at that place: one that ends lower in the picture than the person's own body, or, where that is unknown,
    one that is large enough to be nearer. Masks are not concerned.

    Args:
        poses: Person id -> poses, of all people of a video.
        people: The same people, with their tracks.
        times_s: Time of every frame of the video in seconds.
    """
    found = dict(poses)
    bodies = [
        (person.person_id, track, _seen_near(track, times_s))
        for person in people
        for track in person.tracks
        if track.kind == "body"
    ]
    for person in people:
        pose = poses[person.person_id]
        is_lost = pose.is_placed & ~_seen(person, pose, times_s)
        if not is_lost.any():
            continue
        feet = _feet(person, pose)
        is_covered = np.zeros(len(pose.frames), dtype=np.bool_)
        for other, track, is_near in bodies:
            if other != person.person_id:
                is_covered |= _covers(track, is_near, pose, poses[other], feet, is_lost)
        if is_covered.any():
            found[person.person_id] = replace(pose, is_placed=pose.is_placed & ~is_covered)
    return found


def _seen(person: Person, pose: PoseTrack, times_s: Array) -> NDArray[np.bool_]:
    """In which frames of a pose a detection of the face, or of the body around the head, is at most a moment away."""
    is_seen = np.zeros(len(pose.frames), dtype=np.bool_)
    for track in person.tracks:
        rows = np.searchsorted(pose.frames, track.frames)
        here = np.isfinite(track.scores)
        if track.kind == "body":
            here &= _holds(track.boxes.astype(np.float64), pose.numbers[rows, :2])
        is_seen[rows] |= here
    return near_in_time(times_s[pose.frames], is_seen, _LOST_S)


def _seen_near(track: Track, times_s: Array) -> NDArray[np.bool_]:
    return near_in_time(times_s[track.frames], np.isfinite(track.scores), _LOST_S)


def _feet(person: Person, pose: PoseTrack) -> Array:
    """How low the person's body ends in each frame of a pose, px; NaN where no body is around the head."""
    feet = np.full(len(pose.frames), np.nan)
    for track in person.tracks:
        if track.kind == "body":
            rows = np.searchsorted(pose.frames, track.frames)
            _, y, _, tall = measured_boxes(track).T
            is_own = _holds(track.boxes.astype(np.float64), pose.numbers[rows, :2])
            feet[rows] = np.fmax(feet[rows], np.where(is_own, y + tall / 2, np.nan))
    return feet


def _covers(
    track: Track, is_near: NDArray[np.bool_], pose: PoseTrack, its: PoseTrack, feet: Array, is_lost: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """In which frames of a pose a body stands before the head.

    Args:
        track: The body.
        is_near: Frames of the body with a detection at most a moment away.
        pose: Poses of the head.
        its: Poses of the head that belongs to the body.
        feet: Lowest row of the body that belongs to the head, px; NaN where unknown.
        is_lost: Frames of the head that are in question.
    """
    is_covered = np.zeros(len(pose.frames), dtype=np.bool_)
    if track.frames[0] > pose.frames[-1] or pose.frames[0] > track.frames[-1]:
        return is_covered
    frames, rows, at = np.intersect1d(pose.frames[is_lost], track.frames[is_near], True, return_indices=True)
    rows, at = np.flatnonzero(is_lost)[rows], np.flatnonzero(is_near)[at]
    x0, y0, x1, y1 = track.boxes[at].astype(np.float64).T
    margin, top = _SIDES * (x1 - x0), y0 + _TOP * (y1 - y0)
    places, scales = pose.numbers[rows, :2], pose.numbers[rows, 2]
    inside = _holds(np.stack([x0 + margin, top, x1 - margin, y1], axis=1), places)
    head = its.numbers[np.searchsorted(its.frames, frames), :3]
    is_other = np.hypot(*(head[:, :2] - places).T) > _ONE * np.maximum(head[:, 2], scales)
    is_lower = y1 > feet[rows] - _LEVEL * scales
    is_nearer = np.where(np.isfinite(feet[rows]), is_lower, y1 - y0 > _LEAST_TALL * scales)
    is_covered[rows] = inside & is_other & is_nearer
    return is_covered


def _holds(boxes: Array, places: Array) -> NDArray[np.bool_]:
    x, y = places.T
    x0, y0, x1, y1 = boxes.T
    held: NDArray[np.bool_] = (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)
    return held
