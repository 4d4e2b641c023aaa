"""Head poses from tracks: where a person's head is in every frame, how large, and how it is turned.

Everything is known in advance, so it is smoothed in both directions. Landmarks are followed where a detector gave them;
between and around them the smoothed box of the face carries the pose along, and where there is no face, that of the
body. What a person's face and body have in common is kept: the head has the size and the place that the face had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pa_lib.contracts import HeadPose, Person, Track
from pa_lib.functional.head_pose import VIEW_EDGES, VIEW_MARGIN, poses_of_landmarks
from pa_lib.functional.smoothing import outliers, smoothed
from pa_lib.people.tracking.motion import Array, to_centre_size

# A face's box by CenterFace: its height over the head's scale, and how far the eyes lie above its middle, in heights.
# Medians over the faces of 20 px and more of the shared clips.
_FACE_SCALE, _FACE_EYES = 0.367, 0.145
# A body's box: the scale over its height for a whole standing body, over its width for one that the frame cuts off, and
# how far the eyes lie below its top, in scales.
_BODY_SCALE, _BODY_WIDTH_SCALE, _BODY_EYES = 0.038, 0.13, 1.75
# Errors of landmarks that are never wild: of place and size in scales (and its logarithm), of roll and yaw in degrees.
_PLACE, _SIZE, _ROLL, _YAW = 0.3, 0.2, 12.0, 25.0
_BRIDGE_S = 1.0  # longest time without a face over which a head turns from where it looked to where it looks next
# A head that hesitates at the edge between two views keeps the one it has until it is the margin beyond, and then turns
# within this time. Between two views there is no place to stay, where both would be seen at once.
_TURN_S = 0.12


@dataclass(frozen=True, eq=False)
class PoseTrack:
    """The poses of one person's head.

    Args:
        frames: Frame indices, shape n, strictly increasing.
        numbers: x, y, scale, roll and yaw of every frame as in `HeadPose`, shape n 5.
        is_seen: Whether the face was seen, shape n.
    """

    frames: NDArray[np.int64]
    numbers: Array
    is_seen: NDArray[np.bool_]

    def at(self, frame: int) -> HeadPose | None:
        """The pose in a frame; None where the person has no track."""
        row = int(np.searchsorted(self.frames, frame))
        if row == len(self.frames) or self.frames[row] != frame:
            return None
        x, y, scale, roll, yaw = (float(number) for number in self.numbers[row])
        return HeadPose(x, y, scale, roll, yaw, bool(self.is_seen[row]))


def head_poses(person: Person, times_s: NDArray[np.float64], height: int) -> PoseTrack:
    """The poses of a person's head in all frames of their tracks.

    Where a face was detected, its landmarks give the pose; single wild ones are left out, and the rest is smoothed by
    as much as it jitters. Without landmarks the face's box stands in, without a face the body's, and then the head is
    seen from behind, unless the face was seen within a second before and after.

    Args:
        person: The person, with tracks of faces, bodies or both.
        times_s: Time of every frame of the video in seconds, increasing.
        height: Height of the frame in pixels: a body that ends there is cut off.
    """
    frames = np.unique(np.concatenate([track.frames for track in person.tracks]))
    if (np.diff(times_s) <= 0).any():  # a file with broken times; how fast it goes matters little
        times_s = np.arange(len(times_s)) / 25.0
    faces, bodies = np.full((2, len(frames), 5), np.nan)
    for track in sorted(person.tracks, key=lambda one: (np.isfinite(one.scores).sum(), -one.track_id)):
        rows = np.searchsorted(frames, track.frames)  # of two tracks at once the one that was detected more often
        if track.kind == "face":
            faces[rows] = _of_face(track, times_s)
        else:
            bodies[rows, :3] = _of_body(track, times_s, height)
    times = times_s[frames]
    is_seen = np.isfinite(faces[:, 0])
    numbers = _with_bodies(faces, bodies, times)
    if is_seen.any():
        numbers[:, 3:] = _turns(faces[:, 3:], is_seen, times)
    else:
        numbers[:, 3:] = 0.0, 180.0
    numbers[:, 2] = np.exp(numbers[:, 2])
    numbers[:, 4] = _settled(numbers[:, 4], times)
    return PoseTrack(frames, numbers, is_seen)


def pose_of_box(track: Track, row: int, height: int) -> HeadPose:
    """The pose that the box of a track implies in one frame by itself, for callers without `head_poses`."""
    box = track.boxes[row : row + 1].astype(np.float64)
    if track.kind == "face":
        x, y, size = _eyes_of_face(to_centre_size(box))[0]
        return HeadPose(float(x), float(y), float(np.exp(size)))
    x, y, size = _eyes_of_body(to_centre_size(box), height)[0]
    return HeadPose(float(x), float(y), float(np.exp(size)), 0.0, 180.0, is_seen=False)


def _of_face(track: Track, times_s: Array) -> Array:
    """x, y, log scale, roll and yaw in every frame of a track of a face."""
    times = times_s[track.frames]
    carrier = _smooth(times, _eyes_of_face(to_centre_size(track.boxes.astype(np.float64))))
    numbers = np.concatenate([carrier, np.zeros((len(times), 2))], axis=1)
    if track.landmarks is None:
        return numbers
    known = np.flatnonzero(np.isfinite(track.landmarks).all(axis=(1, 2)))
    poses = poses_of_landmarks(track.landmarks[known].astype(np.float64))
    usable = np.isfinite(poses).all(axis=1) & (poses[:, 2] > 0)
    known, poses = known[usable], poses[usable]
    if not len(known):
        return numbers
    poses[:, 2] = np.log(poses[:, 2])
    poses[:, 3] = np.unwrap(poses[:, 3], period=360)
    size = float(np.exp(np.median(poses[:, 2])))
    limits = torch.tensor([_PLACE * size, _PLACE * size, _SIZE, _ROLL, _YAW], dtype=torch.float64)
    is_wild = outliers(torch.from_numpy(times[known]), torch.from_numpy(poses), limits).numpy()
    known, poses = known[~is_wild], poses[~is_wild]
    places = _smooth(times[known], poses[:, :2])
    turned = np.concatenate([_smooth(times[known], poses[:, at : at + 1]) for at in (2, 3, 4)], axis=1)
    found = np.concatenate([places, turned], axis=1)
    numbers[:, :3] += _between(times, times[known], found[:, :3] - carrier[known])
    numbers[:, 3:] = _between(times, times[known], found[:, 3:])
    return numbers


def _of_body(track: Track, times_s: Array, height: int) -> Array:
    """x, y and log scale in every frame of a track of a body."""
    return _smooth(times_s[track.frames], _eyes_of_body(to_centre_size(track.boxes.astype(np.float64)), height))


def _eyes_of_face(boxes: Array) -> Array:
    """x, y and log scale that boxes of faces imply; boxes by centre and size."""
    x, y, width, tall = boxes.T
    side = np.maximum(np.maximum(tall, width), 1.0)  # a face that the frame cuts off is wider than high
    return np.stack([x, y - _FACE_EYES * side, np.log(_FACE_SCALE * side)], axis=1)


def _eyes_of_body(boxes: Array, height: int) -> Array:
    """x, y and log scale that boxes of bodies imply; boxes by centre and size."""
    x, y, width, tall = boxes.T
    is_cut = y + tall / 2 >= height - np.maximum(2.0, 0.02 * tall)
    scale = np.where(is_cut, np.maximum(_BODY_SCALE * tall, _BODY_WIDTH_SCALE * width), _BODY_SCALE * tall)
    scale = np.maximum(scale, 0.5)
    return np.stack([x, y - tall / 2 + _BODY_EYES * scale, np.log(scale)], axis=1)


def _with_bodies(faces: Array, bodies: Array, times: Array) -> Array:
    """Place and size from the face where there is one, else from the body, with what they differed by where both were.

    The difference in place counts in scales, so that it grows with a person who comes nearer.
    """
    has_face, has_body = np.isfinite(faces[:, 0]), np.isfinite(bodies[:, 0])
    numbers = faces.copy()
    both, alone = np.flatnonzero(has_face & has_body), np.flatnonzero(~has_face)
    base = bodies[alone, :3]
    if len(both) and len(alone):
        size = np.exp(bodies[both, 2])[:, None]
        apart = np.concatenate([(faces[both, :2] - bodies[both, :2]) / size, faces[both, 2:3] - bodies[both, 2:3]], 1)
        apart = _between(times[alone], times[both], apart)
        base = base + np.concatenate([apart[:, :2] * np.exp(base[:, 2:3]), apart[:, 2:]], axis=1)
    numbers[alone, :3] = base
    return numbers


def _turns(faces: Array, is_seen: NDArray[np.bool_], times: Array) -> Array:
    """Roll and yaw in all frames: bridged over short times without a face, from behind in longer ones."""
    known = np.flatnonzero(is_seen)
    turns = _between(times, times[known], faces[known])
    last = np.searchsorted(known, np.arange(len(times)), side="right") - 1
    before = np.where(last >= 0, times[known[last.clip(0)]], -np.inf)
    after = np.where(last + 1 < len(known), times[known[(last + 1).clip(0, len(known) - 1)]], np.inf)
    turns[~is_seen & (after - before > _BRIDGE_S)] = 0.0, 180.0
    return turns


def _settled(yaws: Array, times: Array) -> Array:
    """Yaws that do not hesitate where the view of a head changes: held in the view before, then turned quickly.

    Between the changes yaws stay as they are, but for those within a few degrees of an edge.
    """
    edges = np.array(VIEW_EDGES)
    views = np.searchsorted(edges, np.abs(yaws)) * np.where(yaws < 0, -1, 1)
    held = int(views[0]) if len(views) else 0
    settled, at = yaws.copy(), np.empty(len(yaws), dtype=np.int64)
    for row, yaw in enumerate(yaws):
        low, high = _bounds(held)
        if not low - VIEW_MARGIN <= yaw <= high + VIEW_MARGIN or abs(int(views[row]) - held) > 1:
            held = int(views[row])
            low, high = _bounds(held)
        at[row] = held
        settled[row] = np.clip(yaw, max(low + VIEW_MARGIN, -180.0), min(high - VIEW_MARGIN, 180.0))
    for change in np.flatnonzero(np.diff(at)):
        if abs(settled[change + 1] - settled[change]) > 90:
            continue  # from the face to the back of the head: nothing lies between that was seen
        late = np.flatnonzero((times > times[change]) & (times < times[change] + _TURN_S) & (at == at[change + 1]))
        share = (times[late] - times[change]) / _TURN_S
        settled[late] = settled[change] + share * (settled[late] - settled[change])
    return settled


def _bounds(view: int) -> tuple[float, float]:
    """The least and largest yaw of a view: 0 the front, 1 to 3 three quarters, profile and back; negative = left."""
    ends = (-180.0 - VIEW_MARGIN, *(-edge for edge in reversed(VIEW_EDGES)), *VIEW_EDGES, 180.0 + VIEW_MARGIN)
    return ends[view + 3], ends[view + 4]


def _smooth(times: Array, values: Array) -> Array:
    made: Array = smoothed(torch.from_numpy(times), torch.from_numpy(values)).numpy()
    return made


def _between(times: Array, known: Array, values: Array) -> Array:
    """Values at all times: straight lines between the known ones, and the nearest one before and after them."""
    columns: Sequence[Array] = [np.interp(times, known, column) for column in values.T]
    return np.stack(columns, axis=1)
