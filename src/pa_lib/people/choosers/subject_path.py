"""One person through broken and mixed tracks: the chain of bodies that fills most of the picture for longest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Person, PersonInfo, Track
from pa_lib.functional.boxes import aligned_overlaps
from pa_lib.people.choosers.base import VideoTimeline
from pa_lib.people.tracking.heads import STILL_SIDES, detected_rows, head_fits, moves_along
from pa_lib.people.tracking.motion import Array

# A standing person measured in their own face: the height and width of the body, and where it begins above the face.
# Medians of the linked faces and bodies on the shared clips: the face is 0.13 of the height.
BODY_HEIGHT, BODY_WIDTH, ABOVE_FACE = 7.5, 3.0, 0.4
# Distance from the centre, in half frames, at which a person counts 0.6 of what they would in the middle. Across it is
# strict; up and down lenient, as heads are high and bodies low.
SPREAD_X, SPREAD_Y = 0.7, 1.2
# Time from a detection that counts as presence, in seconds: margins and bridged gaps make a few false ones weighty.
NEAR_S = 0.15
# A body goes on as another one only where the smaller box lies in the larger by this share and neither is more than
# `HOP` away from the other, in sides or logarithms of the size; it costs as much as `HOP_COST` frames of presence.
HOP_INSIDE, HOP, HOP_COST = 0.45, 1.3, 0.6
# A searched frame may be left out within `LEAVE_OUT_S` seconds, at this cost: rather no box than a bystander's.
LEAVE_OUT_S, LEAVE_OUT_COST = 0.5, 0.3
# How much a jump within a track costs, in frames of presence per squared side: a track that takes in another person
# jumps.
JUMP_COST = 0.5
# A body is a piece of the subject where this share of it is inside; the track is where this share of its detections is.
PIECE_INSIDE, PIECE_SHARE = 0.75, 0.5
# A body that is nearly the subject's own box: the same one, found twice.
SAME_IOU = 0.5
# Number of faces on a body that make it another person's: fewer are lamps and wheels.
FACE_TIMES = 3


def salience(tracks: Sequence[Track], timeline: VideoTimeline, face_weight: float = 1.0) -> float:
    """Area x centrality x duration of a person, in [0, 1]: 1 fills the frame from the first frame to the last.

    Args:
        tracks: Tracks of one person; in each frame the largest body counts, or what the face implies where there is
            none.
        timeline: The video.
        face_weight: Weight of a body that only a face implies, in [0, 1]; see `face_weight`.
    """
    begin = min(int(t.frames[0]) for t in tracks)
    values = np.zeros(max(int(t.frames[-1]) for t in tracks) + 1 - begin)
    has_body = np.zeros(len(values), dtype=bool)
    for track in sorted(tracks, key=lambda t: t.kind != "body"):
        near = _near_detections(track, timeline)
        frames = track.frames[near] - begin
        value = _values(_bodies(track)[near], timeline) * (1.0 if track.kind == "body" else face_weight)
        if track.kind == "body":
            has_body[frames] = True
            np.maximum.at(values, frames, value)
        else:
            free = ~has_body[frames]
            np.maximum.at(values, frames[free], value[free])
    return float(values.sum()) / timeline.n_frames


def face_weight(people: Sequence[Person]) -> float:
    """Weight of a face without a body: half where bodies were searched for, as it is hidden then, or no face."""
    return 0.5 if any(t.kind == "body" for p in people for t in p.tracks) else 1.0


def gather_subject(people: Sequence[Person], timeline: VideoTimeline) -> tuple[tuple[Person, ...], Person]:
    """Gathers the tracks of the person who fills most of the picture for longest into one.

    The best chain of bodies is found by dynamic programming: every step stays on a track or goes over to a body at the
    same place, and pays for jumps. Tracks that are on the chain for a part only are cut; bodies that lie in it most of
    the time and have no face elsewhere are pieces of it. Nothing is lost: what is cut off stays with its person.

    Args:
        people: The people in the video, at least one.
        timeline: The video.

    Returns:
        All people, numbered in order of first appearance, and which of them is the subject.
    """
    # People with a body are followed by it; a face stands in for the body of the others.
    candidates = [
        t for p in people for t in p.tracks if t.kind == "body" or all(other.kind == "face" for other in p.tracks)
    ]
    chain = _best_chain(candidates, timeline)
    path = _path(chain, timeline)
    used: dict[int, tuple[int, int]] = {}
    for before, at, after in zip([chain[0], *chain[:-1]], chain, [*chain[1:], chain[-1]], strict=True):
        # What was left out between two tracks belongs to both.
        since, until = min(before.frame + 1, at.frame), max(after.frame - 1, at.frame)
        first, last = used.get(at.track.track_id, (since, until))
        used[at.track.track_id] = (min(first, since), max(last, until))
    next_id = max(t.track_id for p in people for t in p.tracks) + 1
    subject: list[Track] = []
    others: list[tuple[list[Track], PersonInfo]] = []
    for person in people:
        rest: list[Track] = []
        is_linked = any(t.kind == "body" and t.track_id in used for t in person.tracks)
        for track in person.tracks:
            if track.kind == "face":
                is_own = track.track_id in used or _is_own_face(track, path, is_linked)
                (subject if is_own else rest).append(track)
                continue
            span = used.get(track.track_id) or _span_inside(track, path)
            if track.track_id not in used and _has_other_face(person, track, path):
                span = None
            if span is None:
                rest.append(track)
                continue
            mine, *left = _cut(track, span, next_id)
            next_id += len(left)
            subject.append(_held_open(mine))
            rest += left
        if rest:
            others.append((rest, person.info))
    owners = [p.info for p in people if any(t.track_id == chain[0].track.track_id for t in p.tracks)]
    whole = [(subject, owners[0]), *others]
    groups = sorted(whole, key=lambda group: (min(int(t.frames[0]) for t in group[0]), group[0][0].track_id))
    gathered = tuple(Person(number, tuple(tracks), info) for number, (tracks, info) in enumerate(groups, start=1))
    return gathered, next(p for p, (tracks, _) in zip(gathered, groups, strict=True) if tracks is subject)


@dataclass(frozen=True, eq=False)
class _Step:
    """One body of the chain."""

    frame: int
    track: Track
    box: Array


@dataclass(frozen=True, eq=False)
class _Layer:
    """All bodies in one frame: which tracks, where, their value, the best chain that ends there, and its last step."""

    tracks: NDArray[np.intp]
    boxes: Array
    values: Array
    scores: Array
    back: NDArray[np.intp]  # frames of the grid back to the step before, 0 = the chain begins here
    place: NDArray[np.intp]  # position in that layer


def _best_chain(tracks: Sequence[Track], timeline: VideoTimeline) -> list[_Step]:
    """The chain of bodies with the highest sum of presence less jumps. It may leave out single searched frames."""
    boxes = [_bodies(t) for t in tracks]
    nears = [_near_detections(t, timeline) for t in tracks]
    grid = np.unique(np.concatenate([t.frames[detected_rows(t)] for t in tracks]))
    times = np.asarray(timeline.times_s, dtype=np.float64)[grid]
    shots = np.searchsorted(np.array(sorted(timeline.cuts), dtype=np.int64), grid, side="right")
    is_body = np.array([t.kind == "body" for t in tracks])
    starts = np.array([t.frames[0] for t in tracks])
    ends = np.array([t.frames[-1] for t in tracks])
    layers: list[_Layer] = []
    for step, frame in enumerate(map(int, grid)):
        there = map(int, np.flatnonzero((starts <= frame) & (frame <= ends)))
        here = np.array([i for i in there if nears[i][frame - starts[i]]], dtype=np.intp)
        now = np.array([boxes[i][frame - starts[i]] for i in map(int, here)]).reshape(-1, 4)
        value = _values(now, timeline)
        score, back, place = value.copy(), np.zeros(len(here), dtype=np.intp), np.zeros(len(here), dtype=np.intp)
        for steps in (1, 2):
            if steps > step or not len(here) or not len(layers[-steps].tracks):
                continue
            if shots[step] != shots[step - steps]:
                continue
            if steps > 1 and times[step] - times[step - steps] > LEAVE_OUT_S:
                continue
            past = layers[-steps]
            jump = _jump(past.boxes, now)
            is_same = past.tracks[:, None] == here[None]
            is_near = (_contained(past.boxes, now) >= HOP_INSIDE) & (jump <= HOP)
            is_hop = is_near & is_body[past.tracks][:, None] & is_body[here]
            price = JUMP_COST * np.minimum(jump, 2.0) ** 2 + (steps - 1) * LEAVE_OUT_COST
            price += np.where(is_same, 0.0, HOP_COST)
            gain = past.scores[:, None] - (past.values[:, None] + value[None]) / 2 * price
            gain = np.where((is_same & (jump <= 2.0)) | is_hop, gain, -np.inf)
            carried = gain.max(axis=0)
            is_better = carried > score - value
            score = np.where(is_better, carried + value, score)
            back = np.where(is_better, steps, back)
            place = np.where(is_better, gain.argmax(axis=0), place)
        layers.append(_Layer(here, now, value, score, back, place))
    step = max(range(len(layers)), key=lambda i: layers[i].scores.max(initial=-1.0))
    at = int(layers[step].scores.argmax())
    chain: list[_Step] = []
    while True:
        layer = layers[step]
        chain.append(_Step(int(grid[step]), tracks[int(layer.tracks[at])], layer.boxes[at]))
        if layer.back[at] == 0:
            return chain[::-1]
        step, at = step - int(layer.back[at]), int(layer.place[at])


def _path(chain: Sequence[_Step], timeline: VideoTimeline) -> Track:
    """The chain as a track of its own, with a box in every frame from its first to its last."""
    seen = np.array([at.frame for at in chain], dtype=np.int64)
    frames = np.arange(seen[0], seen[-1] + 1)
    known = np.array([at.box for at in chain])
    boxes = np.stack([np.interp(frames, seen, known[:, i]) for i in range(4)], axis=1)
    scores = np.full(len(frames), np.nan, dtype=np.float32)
    scores[seen - seen[0]] = 1.0
    return Track(0, "body", frames, boxes.astype(np.float32), scores)


def _held_open(body: Track) -> Track:
    """A body whose detected boxes also hold what lies between the detections before and after.

    In the air or upside down a dancer is found by half now and then, for one frame. The subject is kept, so a box
    that is too large hides no one: it is where the subject's outline is searched for.
    """
    seen = detected_rows(body)
    if len(seen) < 3:
        return body
    boxes = body.boxes.copy()
    before, at, after = seen[:-2], seen[1:-1], seen[2:]
    share = ((at - before) / (after - before))[:, None]
    between = (1 - share) * body.boxes[before] + share * body.boxes[after]
    boxes[at, :2] = np.minimum(boxes[at, :2], between[:, :2])
    boxes[at, 2:] = np.maximum(boxes[at, 2:], between[:, 2:])
    return replace(body, boxes=boxes)


def _is_own_face(face: Track, path: Track, is_linked: bool) -> bool:
    """Whether a face sits on the subject and moves along; one that was not linked to it before must do so better."""
    least, still_sides = (0.5, STILL_SIDES) if is_linked else (0.7, STILL_SIDES / 2)
    rows = _shared_rows(face, path)
    if len(rows) < least * len(detected_rows(face)):
        return False
    fit, _ = head_fits(face.boxes[rows], path.boxes[face.frames[rows] - path.frames[0]])
    return bool((fit > 0).mean() > least and moves_along(face, path, still_sides))


def _span_inside(track: Track, path: Track) -> tuple[int, int] | None:
    """First and last frame between which a body is on the subject or a piece of it; None if that is a lesser part."""
    shared_rows = _shared_rows(track, path)
    rows = detected_rows(track)
    mine = track.boxes[shared_rows].astype(np.float64)
    theirs = path.boxes[track.frames[shared_rows] - path.frames[0]].astype(np.float64)
    is_same, is_inside = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    is_shared = np.isin(rows, shared_rows)
    is_same[is_shared] = aligned_overlaps(mine, theirs) >= SAME_IOU
    is_inside[is_shared] = aligned_overlaps(mine, theirs, of_smaller=True) >= PIECE_INSIDE
    if not is_same.sum() >= PIECE_SHARE * len(rows):
        if not moves_along(track, path, 0.3):
            return None
        is_same |= is_inside
    first, last = _best_stretch(np.where(is_same, 1.0, -2.0))
    if is_same[first : last + 1].sum() < PIECE_SHARE * len(rows):
        return None
    return int(track.frames[rows[first]]), int(track.frames[rows[last]])


def _best_stretch(values: Array) -> tuple[int, int]:
    """The first and last position of the stretch with the largest sum."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    lowest = np.minimum.accumulate(total)[:-1]
    last = int((total[1:] - lowest).argmax())
    return int(total[: last + 1].argmin()), last


def _has_other_face(person: Person, track: Track, path: Track) -> bool:
    """Whether the body's person has a face that is not the subject's, seen while the body is."""
    return any(
        t.kind == "face" and len(_shared_rows(t, track)) >= FACE_TIMES and not _is_own_face(t, path, True)
        for t in person.tracks
    )


def _cut(track: Track, span: tuple[int, int], next_id: int) -> list[Track]:
    """The part of a track that is on the chain, then what is left before and after, with new numbers."""
    seen = track.frames[detected_rows(track)]
    # The frames between the last detection on the chain and the next one off it stay with both: nothing gets bare.
    before, after = seen[seen < span[0]], seen[seen > span[1]]
    first = int(before[-1]) + 1 if len(before) else int(track.frames[0])
    last = int(after[0]) - 1 if len(after) else int(track.frames[-1])
    parts = [_part(track, first, last, track.track_id)]
    if len(before):
        parts.append(_part(track, int(track.frames[0]), span[0] - 1, next_id))
        next_id += 1
    if len(after):
        parts.append(_part(track, span[1] + 1, int(track.frames[-1]), next_id))
    return parts


def _part(track: Track, first: int, last: int, track_id: int) -> Track:
    rows = slice(first - int(track.frames[0]), last + 1 - int(track.frames[0]))
    return replace(
        track,
        track_id=track_id,
        frames=track.frames[rows],
        boxes=track.boxes[rows],
        scores=track.scores[rows],
        landmarks=None if track.landmarks is None else track.landmarks[rows],
        masks={f: m for f, m in track.masks.items() if first <= f <= last},
        heads=None if track.heads is None else track.heads[rows],
    )


def _bodies(track: Track) -> Array:
    """The boxes of a body; for a face, of the body that would belong to it."""
    boxes = track.boxes.astype(np.float64)
    if track.kind == "body":
        return boxes
    centre, tall = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3] - boxes[:, 1]
    top, half = boxes[:, 1] - ABOVE_FACE * tall, BODY_WIDTH / 2 * tall
    return np.stack([centre - half, top, centre + half, top + BODY_HEIGHT * tall], axis=1)


def _values(boxes: Array, timeline: VideoTimeline) -> Array:
    """Area x centrality of each box: shape n, in [0, 1]."""
    size = np.array([timeline.width, timeline.height], dtype=np.float64)
    low, high = np.clip(boxes[:, :2], 0, size), np.clip(boxes[:, 2:], 0, size)
    away = ((low + high) / 2 - size / 2) / (size / 2) / (SPREAD_X, SPREAD_Y)
    value: Array = (high - low).prod(axis=1) / size.prod() * np.exp(-0.5 * (away**2).sum(axis=1))
    return value


def _near_detections(track: Track, timeline: VideoTimeline) -> NDArray[np.bool_]:
    """Which rows of a track lie within `NEAR_S` of a detection."""
    times = np.asarray(timeline.times_s, dtype=np.float64)[track.frames]
    seen = times[detected_rows(track)]
    after = np.clip(np.searchsorted(seen, times), 0, len(seen) - 1)
    gap = np.minimum(np.abs(seen[after] - times), np.abs(times - seen[np.maximum(after - 1, 0)]))
    return np.asarray(gap <= NEAR_S)


def _shared_rows(track: Track, other: Track) -> NDArray[np.intp]:
    """Detected rows of `track` in frames that `other` has."""
    rows = detected_rows(track)
    frames = track.frames[rows]
    shared: NDArray[np.intp] = rows[(frames >= other.frames[0]) & (frames <= other.frames[-1])]
    return shared


def _contained(one: Array, two: Array) -> Array:
    """Share of the smaller box that lies in the larger one: shape n m."""
    return aligned_overlaps(one[:, None], two[None], of_smaller=True)


def _jump(one: Array, two: Array) -> Array:
    """How far apart boxes are: in mean sides, or in logarithms of the width or height, shape n m."""
    size, other = one[:, None, 2:] - one[:, None, :2], two[None, :, 2:] - two[None, :, :2]
    side = np.sqrt(np.sqrt(size.prod(axis=2) * other.prod(axis=2)))[..., None]
    centres = np.abs(one[:, None, :2] + one[:, None, 2:] - two[None, :, :2] - two[None, :, 2:]) / 2 / side
    jump: Array = np.concatenate([centres, np.abs(np.log(other / size))], axis=2).max(axis=2)
    return jump
