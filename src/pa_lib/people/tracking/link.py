"""From tracks to people: which face belongs to which body, and which fragments are of the same person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pa_lib.contracts import Person, Track
from pa_lib.functional.boxes import aligned_overlaps
from pa_lib.people.tracking.heads import detected_rows, head_fits, moves_along

Array = NDArray[np.float64]

# A face fragment is added to a person whose face is known if its share of the body's height is about the same.
FACE_HEIGHT_AGREES = 1.7
# Fragments of one body: longest silence between them in seconds, nearness in sides of the box, and ratio of the areas.
BODY_GAP_S = 1.5
BODY_NEAR = 0.4
BODY_AREA_AGREES = 1.6


def link_people(
    tracks: Sequence[Track], times_s: NDArray[np.float64] | None = None, cuts: Iterable[int] = ()
) -> list[Person]:
    """Gathers tracks into people: a face with the body it sits on, and the fragments of one body with each other.

    A face belongs to a body if its centre is in the body's head region, at a believable size, in most of the frames
    both are in; where several bodies would do, the assignment with the most agreeing frames in all wins. A body
    may take several faces that follow each other in time (a person who turns around), never two at once. Links are
    made in doubt only where neither answer shows a person: kept people are kept with all of their tracks, so a wrong
    link shows a passerby and a missing one only hides the subject's face.

    Args:
        tracks: Tracks of faces and bodies, as `KalmanTracker.track` gives them.
        times_s: Time of every frame of the video, in seconds, increasing; None: 25 frames a second.
        cuts: First frame of each new shot: no person is followed across one.

    Returns:
        People in order of first appearance, numbered from 1. Every track is in exactly one of them.
    """
    n_frames = max((int(t.frames[-1]) + 1 for t in tracks), default=0)
    times = np.arange(n_frames) / 25.0 if times_s is None else np.asarray(times_s, dtype=np.float64)
    edges = np.array(sorted(set(cuts)), dtype=np.int64)
    faces = [t for t in tracks if t.kind == "face"]
    bodies = _continued([t for t in tracks if t.kind == "body"], times, edges)
    owned = _faces_of_bodies(faces, bodies)
    groups: list[list[Track]] = [[*body, *(faces[i] for i in owned.get(b, []))] for b, body in enumerate(bodies)]
    taken = {i for mine in owned.values() for i in mine}
    groups += [[face] for i, face in enumerate(faces) if i not in taken]
    groups.sort(key=lambda g: (min(int(t.frames[0]) for t in g), min(t.track_id for t in g)))
    return [
        Person(number, tuple(sorted(group, key=lambda t: t.track_id))) for number, group in enumerate(groups, start=1)
    ]


def _continued(bodies: Sequence[Track], times: Array, edges: NDArray[np.int64]) -> list[list[Track]]:
    """Joins bodies that end with bodies that begin soon after at the same place and size, or that alternate."""
    tracks = sorted(bodies, key=lambda t: (int(t.frames[0]), t.track_id))
    root = list(range(len(tracks)))

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    candidates: list[tuple[float, int, int]] = []
    for i, one in enumerate(tracks):
        for j in range(i + 1, len(tracks)):
            two = tracks[j]
            if times[two.frames[0]] > times[one.frames[-1]] + BODY_GAP_S:
                break
            if np.searchsorted(edges, one.frames[0], side="right") != np.searchsorted(
                edges, two.frames[0], side="right"
            ):
                continue
            agreement = max(_follows(one, two, times), _alternates(one, two))
            if agreement > 0:
                candidates.append((agreement, i, j))
    members: dict[int, list[int]] = {i: [i] for i in range(len(tracks))}
    for agreement, i, j in sorted(candidates, key=lambda c: (-c[0], c[1], c[2])):
        del agreement
        a, b = find(i), find(j)
        if a == b or any(_are_together(tracks[m], tracks[n]) for m in members[a] for n in members[b]):
            continue
        root[max(a, b)] = min(a, b)
        members[min(a, b)] += members.pop(max(a, b))
    return [[tracks[m] for m in sorted(some)] for _, some in sorted(members.items())]


def _follows(one: Track, two: Track, times: Array) -> float:
    """How well `two` goes on where `one` ended (0: not at all, 1: exactly): no overlap of what was detected."""
    rows, later = detected_rows(one), detected_rows(two)
    end, start = rows[-1], later[0]
    gap = times[two.frames[start]] - times[one.frames[end]]
    if not 0 < gap <= BODY_GAP_S:
        return 0.0
    return _nearness(one.boxes[end], two.boxes[start])


def _nearness(box: Array | NDArray[np.float32], other: Array | NDArray[np.float32]) -> float:
    a, b = np.asarray(box, dtype=np.float64), np.asarray(other, dtype=np.float64)
    size_a, size_b = a[2:] - a[:2], b[2:] - b[:2]
    ratio = abs(float(np.log(size_a.prod() / size_b.prod()))) / np.log(BODY_AREA_AGREES)
    side = float(np.sqrt(min(size_a.prod(), size_b.prod())))
    away = float(np.abs((a[:2] + a[2:]) - (b[:2] + b[2:])).max()) / 2 / side / BODY_NEAR
    return max(0.0, 1.0 - max(float(ratio), away))


def _alternates(one: Track, two: Track) -> float:
    """How well two tracks share one place in turns: a detector that sees two people sees both at once now and then."""
    first, last = max(one.frames[0], two.frames[0]), min(one.frames[-1], two.frames[-1])
    if last - first < 2:
        return 0.0
    frames = np.arange(first, last + 1)
    boxes = (track.boxes[frames - track.frames[0]].astype(np.float64) for track in (one, two))
    overlap = aligned_overlaps(*boxes)
    if float((overlap > 0.4).mean()) <= 0.5 or _are_together(one, two):
        return 0.0
    return float(overlap.mean())


def _are_together(one: Track, two: Track) -> bool:
    """Whether a detector saw both in the same frames more than by exception: then they are two."""
    a, b = one.frames[detected_rows(one)], two.frames[detected_rows(two)]
    first, last = max(one.frames[0], two.frames[0]), min(one.frames[-1], two.frames[-1])
    a, b = a[(a >= first) & (a <= last)], b[(b >= first) & (b <= last)]
    both = len(np.intersect1d(a, b))
    return both > 1 and both > 0.34 * min(len(a), len(b))


def _faces_of_bodies(faces: Sequence[Track], bodies: Sequence[Sequence[Track]]) -> dict[int, list[int]]:
    """For each body the faces it owns.

    People who never meet are assigned apart: the cost of an assignment grows with the cube of the people in it, and an
    hour of passersby would be thousands.
    """
    if not faces or not bodies:
        return {}
    since = np.array([min(t.frames[0] for t in body) for body in bodies])
    until = np.array([max(t.frames[-1] for t in body) for body in bodies])
    values: dict[tuple[int, int], tuple[float, float]] = {}
    for f, face in enumerate(faces):
        for b in map(int, np.flatnonzero((since <= face.frames[-1]) & (until >= face.frames[0]))):
            value, height = _agreement(face, bodies[b])
            if value > 0:
                values[f, b] = value, height
    rows, columns = ([key[i] for key in values] for i in (0, 1))
    n = len(faces) + len(bodies)
    links = coo_matrix((np.ones(len(values)), (rows, [len(faces) + b for b in columns])), shape=(n, n))
    _, group = connected_components(links, directed=False)
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for f, b in values:
        groups[int(group[f])].append((f, b))
    owned: dict[int, list[int]] = {}
    for pairs in groups.values():
        owned |= _assigned_faces(faces, {pair: values[pair] for pair in pairs})
    return owned


def _assigned_faces(faces: Sequence[Track], pairs: dict[tuple[int, int], tuple[float, float]]) -> dict[int, list[int]]:
    """Rounds of optimal assignment among people who meet, until no body gains a face."""
    some, others = sorted({f for f, _ in pairs}), sorted({b for _, b in pairs})
    values = np.zeros((len(some), len(others)))
    heights = np.ones_like(values)
    for (f, b), (value, height) in pairs.items():
        values[some.index(f), others.index(b)] = value
        heights[some.index(f), others.index(b)] = height
    owned: dict[int, list[int]] = {}
    while values.max() > 0:
        for i, j in zip(*map(np.ndarray.tolist, linear_sum_assignment(-values)), strict=True):
            if values[i, j] <= 0:
                continue
            mine = owned.setdefault(j, [])
            mine.append(i)
            values[i, :] = 0
            for k in np.flatnonzero(values[:, j]).tolist():
                ratio = heights[k, j] / heights[mine[0], j]
                if _share_time(faces[some[i]], faces[some[k]]) or abs(np.log(ratio)) > np.log(FACE_HEIGHT_AGREES):
                    values[k, j] = 0
    return {others[j]: sorted(some[i] for i in mine) for j, mine in owned.items()}


def _agreement(face: Track, body: Sequence[Track]) -> tuple[float, float]:
    """Number of frames that speak for a face on a body, weighted by how well it sits; and its share of the height.

    Zero unless it sits there in the majority of the frames in which the face was seen and the body known.
    """
    rows = detected_rows(face)
    fit, ratio = np.full(len(rows), -1.0), np.full(len(rows), np.nan)
    for track in body:
        at = face.frames[rows] - track.frames[0]
        both = np.flatnonzero((at >= 0) & (at < len(track.frames)))
        here, share = head_fits(face.boxes[rows[both]], track.boxes[at[both]])
        better = here > fit[both]
        fit[both[better]], ratio[both[better]] = here[better], share[better]
    fit, ratio = fit[fit >= 0], ratio[fit >= 0]
    if not len(fit) or (fit > 0).mean() <= 0.5:
        return 0.0, float("nan")
    if not any(moves_along(face, track) for track in body if _overlaps(face, track)):
        return 0.0, float("nan")
    return float(fit.sum() * (fit > 0).mean()), float(np.median(ratio[fit > 0]))


def _overlaps(one: Track, two: Track) -> bool:
    return bool(one.frames[0] <= two.frames[-1] and two.frames[0] <= one.frames[-1])


def _share_time(one: Track, two: Track) -> bool:
    """Whether two faces were seen at the same time, so that they cannot be one."""
    a, b = one.frames[detected_rows(one)], two.frames[detected_rows(two)]
    return bool(len(np.intersect1d(a, b)))
