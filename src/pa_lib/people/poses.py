"""Head poses from tracks: where a person's head is in every frame, how large, and how it is turned.

Everything is known in advance, so it is smoothed in both directions. Landmarks are followed where a detector gave them;
between and around them the smoothed box of the face carries the pose along. Where there is no face, the head that the
body's outline shows is followed in the same way, and where it shows none, the box of the body stands in. What a
person's face and body have in common is kept: the head has the size and the place that the face had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pa_lib.contracts import Box, HeadPose, Person, Track
from pa_lib.functional.head_outline import HEAD_DOWN, HEAD_HALF, HEAD_UP
from pa_lib.functional.head_pose import VIEW_EDGES, VIEW_MARGIN, poses_of_landmarks
from pa_lib.functional.smoothing import outliers, smoothed, steadied
from pa_lib.people.facing import is_facing
from pa_lib.people.tracking.heads import eyes_of_bodies, measured_boxes
from pa_lib.people.tracking.motion import Array, to_centre_size

# A face's box by CenterFace: its height over the head's scale, and how far the eyes lie above its middle, in heights.
# Medians over the faces of 20 px and more of the shared clips.
_FACE_SCALE, _FACE_EYES = 0.367, 0.145
# Errors of landmarks that are never wild: of place and size in scales (and its logarithm), of roll and yaw in degrees.
_PLACE, _SIZE, _ROLL, _YAW = 0.3, 0.2, 12.0, 25.0
_OUTLINE_PLACE, _OUTLINE_SIZE = 0.6, 0.3  # the same, of heads in outlines
# Heads do not grow; they come nearer. Their size is smoothed over a longer time than their place: by lines that are
# fitted with this standard deviation.
_SIZE_S = 0.4
# A body has a head at its top if it stands or sits: if it is at most this wide over its height, and more where the
# frame cuts it off below or its outline shows the head. What was seen of a head holds for this time before and after.
_WIDEST, _WIDEST_IF_CUT = 1.0, 1.5
_KNOWN_S = 0.5
# Score that the best detection of a body has, and for a body by its box the mean one: those of cones and signs on the
# shared clips reach 0.52, with means of 0.46.
_SURE = 0.5
_USUAL = 0.4  # share of the detections of a body in which its outline shows a head, from which on that is usual
# A body so tall, in pixels, has an outline that shows the head of a person. Where fewer of its detections than this
# share show one at the same place of the body, it is an arm, a vase, a dancer on one hand; where none does, a body that
# is whole and at most so wide over its height stands.
_OUTLINED_PX, _SHOWN, _STANDS = 96.0, 0.5, 0.6
_STEADY = 1.0  # scales of the head from its smooth way up to which it is at the same place
_BORDER_PX, _BORDER_SHARE = 2.0, 0.02  # boxes that end so near to the top of the frame go on beyond it
# Largest logarithm by which a head grows in a second: what grows faster is the box of two people, or of another one.
_GROWTH = 1.0
_APPROACH = 0.5  # the same, of a head whose face was seen before or after
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
        is_placed: Whether there is a head at that place, as far as is known, shape n: none is where the frame cuts a
            body off above, nor at the top of a body that lies, nor on what the outline shows to be an arm, nor beside
            the body's box, where a track that began later was carried back to.
        hair: Ratio of the outline's head with all its hair to a usual head, >= 1, shape n: masks grow by it, and what
            replaces the head does not. None: 1 everywhere.
    """

    frames: NDArray[np.int64]
    numbers: Array
    is_seen: NDArray[np.bool_]
    is_placed: NDArray[np.bool_]
    hair: Array | None = None

    def at(self, frame: int) -> HeadPose | None:
        """The pose in a frame, a guess where no head is known: for masks. None where the person has no track."""
        row = self._row(frame)
        return None if row is None else self._pose(row, 1.0 if self.hair is None else float(self.hair[row]))

    def placed_at(self, frame: int) -> HeadPose | None:
        """The pose in a frame for what replaces the head; None where nothing is to be drawn."""
        row = self._row(frame)
        return None if row is None or not self.is_placed[row] else self._pose(row)

    def _row(self, frame: int) -> int | None:
        row = int(np.searchsorted(self.frames, frame))
        return row if row < len(self.frames) and self.frames[row] == frame else None

    def _pose(self, row: int, growth: float = 1.0) -> HeadPose:
        x, y, scale, roll, yaw = (float(number) for number in self.numbers[row])
        return HeadPose(x, y, growth * scale, roll, yaw, bool(self.is_seen[row]))


def head_poses(person: Person, times_s: NDArray[np.float64], height: int) -> PoseTrack:
    """The poses of a person's head in all frames of their tracks.

    Where a face was detected, its landmarks give the pose; single wild ones are left out, and the rest is smoothed by
    as much as it jitters. Without landmarks the face's box stands in, without a face the outline of the body, without
    a head in it the body's box. Whether it is then seen from behind, or turns from where it looked to where it looks
    next, is for `is_facing` to say: neither a face that is seen once on the back of a head counts, nor one that is lost
    for a moment.

    Args:
        person: The person, with tracks of faces, bodies or both.
        times_s: Time of every frame of the video in seconds, increasing.
        height: Height of the frame in pixels: a body that ends there is cut off.
    """
    frames = np.unique(np.concatenate([track.frames for track in person.tracks]))
    if (np.diff(times_s) <= 0).any():  # a file with broken times; how fast it goes matters little
        times_s = np.arange(len(times_s)) / 25.0
    times = times_s[frames]
    faces, bodies = np.full((2, len(frames), 5), np.nan)
    scores, boxes = np.full((2, len(frames)), np.nan), np.full((len(frames), 4), np.nan)
    is_placed, hair = np.zeros(len(frames), dtype=np.bool_), np.zeros(len(frames))
    for track in sorted(person.tracks, key=lambda one: (np.isfinite(one.scores).sum(), -one.track_id)):
        rows = np.searchsorted(frames, track.frames)  # of two tracks at once the one that was detected more often
        if track.kind == "face":
            faces[rows] = _of_face(track, times_s)
        else:
            bodies[rows, :3], hair[rows], known = _of_body(track, times_s, height)
            is_placed[rows] = _has_head(track, known, times_s, height)
            boxes[rows] = track.boxes
        own = scores[0 if track.kind == "face" else 1]
        own[rows] = np.fmax(own[rows], track.scores)
    has_face, has_body = np.isfinite(faces[:, 0]), np.isfinite(bodies[:, 0])
    is_front = is_facing(scores[0], scores[1], np.exp(bodies[:, 2]) / _FACE_SCALE, times)
    if not has_body.any() or not np.isfinite(scores).any():  # nothing speaks against a face
        is_front = has_face
    is_seen = has_face & is_front
    shown = np.where((is_seen | ~has_body)[:, None], faces, np.nan)
    numbers = _with_bodies(shown, bodies, boxes, times, np.isfinite(scores[0]))
    numbers[:, 3:] = 0.0, 180.0
    if is_seen.any():
        numbers[is_front, 3:] = _between(times[is_front], times[is_seen], faces[is_seen, 3:])
    sizes = steadied(torch.from_numpy(times), torch.from_numpy(numbers[:, 2]), _SIZE_S)
    numbers[:, 2] = np.exp(sizes.numpy())
    numbers[:, 4] = _settled(numbers[:, 4], times)
    is_placed &= _is_around(boxes, np.concatenate([numbers[:, :2], sizes[:, None].numpy()], axis=1))
    if len(times) > 1:
        is_placed &= np.abs(np.gradient(sizes.numpy(), times)) <= _GROWTH
    hair = np.where(is_front, 1.0, np.exp(np.maximum(hair, 0.0)))
    return PoseTrack(frames, numbers, is_seen, is_placed | ~has_body | near_in_time(times, is_seen, _KNOWN_S), hair)


def pose_of_box(track: Track, row: int, height: int) -> HeadPose:
    """The pose that the box of a track implies in one frame by itself, for callers without `head_poses`."""
    box = measured_boxes(track, np.array([row]))
    if track.kind == "face":
        x, y, size = _eyes_of_face(box)[0]
        return HeadPose(float(x), float(y), float(np.exp(size)))
    x, y, size = eyes_of_bodies(box, height)[0][0]
    return HeadPose(float(x), float(y), float(np.exp(size)), 0.0, 180.0, is_seen=False)


def pose_of_mask(box: Box) -> HeadPose:
    """The pose that a mask of the usual size around a face implies, for data that knows nothing else of a face.

    Args:
        box: Box ``x0 y0 x1 y1`` px of an upright ellipse, 1.6 times as large as the box that a detector gives.
    """
    x, y, size = _eyes_of_face(to_centre_size(np.array([box], dtype=np.float64)) * [1, 1, 1 / 1.6, 1 / 1.6])[0]
    return HeadPose(float(x), float(y), float(np.exp(size)))


def _of_face(track: Track, times_s: Array) -> Array:
    """x, y, log scale, roll and yaw in every frame of a track of a face."""
    times = times_s[track.frames]
    carrier = _smooth(times, _eyes_of_face(measured_boxes(track)))
    numbers = np.concatenate([carrier, np.zeros((len(times), 2))], axis=1)
    if track.landmarks is None:
        return numbers
    known = np.flatnonzero(np.isfinite(track.landmarks).all(axis=(1, 2)))
    poses = poses_of_landmarks(track.landmarks[known].astype(np.float64))
    usable = np.isfinite(poses).all(axis=1) & (poses[:, 2] > 0)
    known, poses = known[usable], poses[usable]
    if not len(known):
        return numbers
    # How large a face is, is the mean of what its eyes and its mouth say over the whole track; how much larger or
    # smaller it becomes, the eyes alone say, since a mouth opens.
    points = track.landmarks[known].astype(np.float64)
    down = np.linalg.norm(points[:, 3:].mean(1) - points[:, :2].mean(1), axis=1)
    poses[:, 2] = np.log(poses[:, 2]) + np.median(np.log(down / poses[:, 2])) / 2
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


def _of_body(track: Track, times_s: Array, height: int) -> tuple[Array, Array, NDArray[np.intp]]:
    """The head in every frame of a track of a body: by its outline, carried along by its box.

    Returns:
        x, y and log scale; the logarithm of the ratio of the head with its hair to a usual one; and the rows in which
        the outline shows the head where it shows it before and after.
    """
    times = times_s[track.frames]
    carrier = _smooth(times, eyes_of_bodies(measured_boxes(track), height)[0])
    known = np.zeros(0, dtype=np.intp)
    if track.heads is not None:
        known = np.flatnonzero(np.isfinite(track.heads).all(axis=1))
    if track.heads is None or not len(known):
        return carrier, np.zeros(len(times)), known
    x0, y0, x1, y1 = track.heads[known].astype(np.float64).T
    size = (y1 - y0) / (HEAD_UP + HEAD_DOWN)
    found = np.stack([(x0 + x1) / 2, y0 + HEAD_UP * size, np.log(size)], axis=1)
    hair = np.log((x1 - x0) / (2 * HEAD_HALF * size))[:, None]
    apart = _apart(found, carrier[known])
    limits = torch.tensor([_OUTLINE_PLACE, _OUTLINE_PLACE, _OUTLINE_SIZE], dtype=torch.float64)
    is_wild = outliers(torch.from_numpy(times[known]), torch.from_numpy(apart), limits).numpy()
    known, apart = known[~is_wild], np.concatenate([apart, hair], axis=1)[~is_wild]
    smooth = np.concatenate([_smooth(times[known], apart[:, at : at + 1]) for at in range(4)], axis=1)
    is_steady = np.hypot(*(apart - smooth)[:, :2].T) < _STEADY * np.exp(smooth[:, 2])
    apart = _between(times, times[known], smooth)
    return _moved(carrier, apart[:, :3]), apart[:, 3], known[is_steady]


def _has_head(track: Track, known: NDArray[np.intp], times_s: Array, height: int) -> NDArray[np.bool_]:
    """In which frames of a track of a body a head is known: one was seen in its outline, or it stands or sits.

    Where the outline usually shows a head, a long time without one says more than the box: a dancer stands on a hand.
    Where it rarely shows one though it is large, the few are none.

    Args:
        track: The body.
        known: Rows in which the outline shows a head.
        times_s: Time of every frame of the video in seconds.
        height: Height of the frame in pixels.
    """
    times, boxes = times_s[track.frames], measured_boxes(track)
    scores = track.scores[np.isfinite(track.scores)]
    is_shown = np.zeros(len(times), dtype=np.bool_)
    if len(scores) and scores.max() < _SURE:
        return is_shown  # a cone, a sign, a piece of a person
    _, y, wide, tall = boxes.T
    is_large, share = np.median(tall) >= _OUTLINED_PX, len(known) / max(len(scores), 1)
    is_shown[known] = share >= _SHOWN or not is_large
    is_near = near_in_time(times, is_shown, _KNOWN_S) & mostly(times, wide <= _WIDEST_IF_CUT * tall)
    if share > _USUAL or (is_large and len(known)) or (len(scores) and scores.mean() < _SURE):
        return is_near
    is_cut = eyes_of_bodies(boxes, height)[1]
    widest = np.where(is_cut, 0.0, _STANDS) if is_large else np.where(is_cut, _WIDEST_IF_CUT, _WIDEST)
    is_whole_above = y - tall / 2 > np.maximum(_BORDER_PX, _BORDER_SHARE * tall)
    return is_near | mostly(times, (wide <= widest * tall) & is_whole_above)


def _eyes_of_face(boxes: Array) -> Array:
    """x, y and log scale that boxes of faces imply; boxes by centre and size."""
    x, y, width, tall = boxes.T
    side = np.maximum(np.maximum(tall, width), 1.0)  # a face that the frame cuts off is wider than high
    return np.stack([x, y - _FACE_EYES * side, np.log(_FACE_SCALE * side)], axis=1)


def _with_bodies(faces: Array, bodies: Array, boxes: Array, times: Array, is_detected: NDArray[np.bool_]) -> Array:
    """Place and size from the face where there is one, else from the body, with what they differed by where both were.

    The difference in place counts in scales, so that it grows with a person who comes nearer. A body's box grows, too,
    where legs come into view or another person into the box: so the size of a head that has been seen changes with it
    by no more than a person comes near. A head is not carried out of the body's box: one that would be there was the
    head of another person, and the body says by itself where its own is.
    """
    has_face, has_body = np.isfinite(faces[:, 0]), np.isfinite(bodies[:, 0])
    numbers = faces.copy()
    both, alone = has_face & has_body, np.flatnonzero(~has_face)
    seen = np.flatnonzero(both & is_detected if (both & is_detected).any() else both)
    base = bodies[alone, :3]
    if len(seen) and len(alone):
        carried = _moved(base, _between(times[alone], times[seen], _apart(faces[seen, :3], bodies[seen, :3])))
        base = np.where(_is_around(boxes[alone], carried)[:, None], carried, base)
        usual = np.interp(times[alone], times[seen], faces[seen, 2])
        change = _APPROACH * np.abs(times[alone, None] - times[seen]).min(1)
        base[:, 2] = np.clip(base[:, 2], usual - change, usual + change)
    numbers[alone, :3] = base
    return numbers


def _is_around(boxes: Array, places: Array) -> NDArray[np.bool_]:
    """Whether boxes, grown by the scale of the head, hold places (x, y, log scale)."""
    x, y, scale = places[:, 0], places[:, 1], np.exp(places[:, 2])
    x0, y0, x1, y1 = boxes.T
    is_around: NDArray[np.bool_] = (x0 - scale <= x) & (x <= x1 + scale) & (y0 - scale <= y) & (y <= y1 + scale)
    return is_around


def _apart(places: Array, others: Array) -> Array:
    """How far places (x, y, log scale) lie from others, in scales of those, and the logarithm of the ratio of sizes."""
    return np.concatenate(
        [(places[:, :2] - others[:, :2]) / np.exp(others[:, 2:]), places[:, 2:] - others[:, 2:]], axis=1
    )


def _moved(places: Array, apart: Array) -> Array:
    """Places moved by what `_apart` gives."""
    return np.concatenate([places[:, :2] + apart[:, :2] * np.exp(places[:, 2:]), places[:, 2:] + apart[:, 2:]], axis=1)


def near_in_time(times: Array, is_true: NDArray[np.bool_], reach_s: float) -> NDArray[np.bool_]:
    """Whether something is true within some time before or after."""
    known = times[is_true]
    if not len(known):
        return is_true
    after = np.searchsorted(known, times)
    before = known[(after - 1).clip(0)]
    away = np.minimum(np.abs(times - before), np.abs(known[after.clip(0, len(known) - 1)] - times))
    is_near: NDArray[np.bool_] = away <= reach_s
    return is_near


def mostly(times: Array, is_true: NDArray[np.bool_], reach_s: float = 0.5) -> NDArray[np.bool_]:
    """Whether something is true for most of the time around every moment: heads do not come and go.

    Args:
        times: Times in seconds, increasing, shape n.
        is_true: Whether it is true at each of them, shape n.
        reach_s: Time before and after that counts, in seconds.

    >>> mostly(np.arange(5) / 4, np.array([True, True, False, True, True])).tolist()
    [True, True, True, True, True]
    """
    total = np.concatenate([[0], np.cumsum(is_true)])
    first, last = np.searchsorted(times, times - reach_s), np.searchsorted(times, times + reach_s, side="right")
    is_most: NDArray[np.bool_] = 2 * (total[last] - total[first]) > last - first
    return is_most


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
