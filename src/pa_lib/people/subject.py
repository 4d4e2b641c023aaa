"""Whom the video is about: the one person who clearly stands out is kept, passersby are hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Decision, PaLibError, Person, Track
from pa_lib.people.choose import NOBODY, AbstractChooser, Choice, Embeddings, Scene, count_of, id_list
from pa_lib.people.link import detected_rows, moves_along

Array = NDArray[np.float64]

# A standing person measured in their own face: the height and width of the body, and where it begins above the face.
# Medians of the linked faces and bodies on the shared clips: the face is 0.13 of the height.
BODY_HEIGHT, BODY_WIDTH, ABOVE_FACE = 7.5, 3.0, 0.4
# Distance from the centre, in half frames, at which somebody counts 0.6 of what they would in the middle. Across it is
# strict; up and down lenient, as heads are high and bodies low.
SPREAD_X, SPREAD_Y = 0.7, 1.2
# Time from a detection that counts as presence, in seconds.
NEAR_S = 0.15
# How many of the first are tried as the subject's first fragment.
SEEDS = 6
# A fragment of the subject has this share of the smaller box inside the other, in this share of its detections.
INSIDE, OFTEN = 0.6, 0.35


@dataclass(frozen=True)
class KeepSubject(AbstractChooser):
    r"""Keeps the one person the video is about and hides everybody else; hides all where nobody clearly stands out.

    .. math:: s_p = \frac1T \sum_t \frac{\text{area}_{p,t}}{\text{area of the frame}} \,
              e^{-\frac12 (d_x / 0.7)^2 - \frac12 (d_y / 1.2)^2}

    with the distance :math:`d` of the box's centre from the frame's, in half frames: area x centrality x duration.
    Somebody of whom only the face was found counts with the body that would belong to it, within the frame.

    A dancer's track breaks where they are upside down or blurred. Bodies without a face of their own that lie inside
    the subject and move with it, or take over where it was lost, are the subject, too. Faces never are, unless
    `link_people` found them on a body that is: what is left in doubt is hidden.

    Args:
        margin: How many times the next person's score the subject must reach.
        min_share: Least score: somebody far away in an empty street is nobody's subject.

    Source: the three factors are those of the task's description; weights and thresholds are ours, from the shared
    clips (a dancer before a crowd: 4x and more; equals side by side: below 1.7x).
    """

    margin: float = 2.0
    min_share: float = 0.01

    def __post_init__(self) -> None:
        if not (np.isfinite(self.margin) and self.margin >= 1):
            raise PaLibError(f"keep_subject margin={self.margin}: expected a factor from 1 on")
        if not 0 <= self.min_share <= 1:
            raise PaLibError(f"keep_subject min_share={self.min_share}: expected a share of the frame in [0, 1]")

    def choose(self, people: Sequence[Person], scene: Scene, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        if not people:
            return Choice((), NOBODY)
        scores = {p.person_id: salience([p], scene) for p in people}
        ranked = sorted(people, key=lambda p: (-scores[p.person_id], p.person_id))
        # A subject in fragments may rank behind its own largest fragment: the best of a few beginnings is taken.
        wholes = [self._all_of(p, people, scene) for p in ranked[:SEEDS]]
        whole = max(wholes, key=lambda some: salience(some, scene))
        first = max(whole, key=lambda p: (scores[p.person_id], -p.person_id))
        subject, score = {p.person_id for p in whole}, salience(whole, scene)
        others = [p.person_id for p in people if p.person_id not in subject]
        second = max(others, key=lambda i: (scores[i], -i), default=None)
        factor = score / max(scores[second], 1e-12) if second is not None else float("inf")
        if score < self.min_share or factor < self.margin:
            why = (
                f"nobody is large enough to be the subject ({score:.2%} of the picture, {self.min_share:.0%} needed)"
                if score < self.min_share
                else f"person {first.person_id} leads person {second} by only {factor:.1f}x, {self.margin:g}x needed"
            )
            decisions = [Decision(p.person_id, True, "nobody stands out", scores[p.person_id]) for p in people]
            return Choice(tuple(decisions), f"{count_of(len(people))} found; everybody is hidden: {why}")
        lead = f"stands out {factor:.1f}x over the next" if second is not None else "alone in the video"
        decisions = []
        for person in people:
            is_hidden = person.person_id not in subject
            own = lead if person is first else f"part of person {first.person_id}"
            reason = f"{score / max(scores[person.person_id], 1e-12):.1f}x behind the subject" if is_hidden else own
            decisions.append(Decision(person.person_id, is_hidden, reason, scores[person.person_id]))
        parts = f" (with {id_list(subject - {first.person_id})})" if len(subject) > 1 else ""
        return Choice(
            tuple(decisions),
            f"{count_of(len(people))} found; kept person {first.person_id}{parts}, who is {lead}"
            if second is None
            else f"{count_of(len(people))} found; kept person {first.person_id}{parts}, who {lead}; "
            f"the other {len(others)} hidden",
        )

    def _all_of(self, first: Person, people: Sequence[Person], scene: Scene) -> list[Person]:
        """The subject with all its fragments."""
        subject = [first]
        bodies = [t for t in first.tracks if t.kind == "person"]
        rest = [p for p in people if p is not first and all(t.kind == "person" for t in p.tracks)]
        is_growing = bool(bodies)
        while is_growing:
            is_growing = False
            for person in list(rest):
                if all(_is_part(t, bodies) or _takes_over(t, bodies, scene) for t in person.tracks):
                    subject.append(person)
                    bodies += person.tracks
                    rest.remove(person)
                    is_growing = True
        return subject


def salience(fragments: Sequence[Person], scene: Scene) -> float:
    """Area x centrality x duration of somebody, in [0, 1]: 1 fills the frame from the first frame to the last.

    Only the time near detections counts: margins and bridged gaps would make a few false ones weighty.

    Args:
        fragments: The people that are this somebody, usually one; in each frame the largest body counts.
        scene: The video.
    """
    frames, boxes = _bodies(
        [t for person in fragments for t in person.tracks], np.asarray(scene.times_s, dtype=np.float64)
    )
    size = np.array([scene.width, scene.height], dtype=np.float64)
    low, high = np.clip(boxes[:, :2], 0, size), np.clip(boxes[:, 2:], 0, size)
    area = (high - low).prod(axis=1) / size.prod()
    away = ((low + high) / 2 - size / 2) / (size / 2) / (SPREAD_X, SPREAD_Y)
    value = area * np.exp(-0.5 * (away**2).sum(axis=1))
    return float(value[frames < scene.n_frames].sum() / max(scene.n_frames, 1))


def _bodies(tracks: Sequence[Track], times_s: Array) -> tuple[NDArray[np.int64], Array]:
    """A box of the whole body for every frame somebody is in: the largest found, else what the face implies."""
    best: dict[int, Array] = {}
    for track in sorted(tracks, key=lambda t: t.kind != "person"):
        seen = times_s[track.frames[detected_rows(track)]]
        now = times_s[track.frames]
        after = np.clip(np.searchsorted(seen, now), 0, len(seen) - 1)
        span = np.minimum(np.abs(seen[after] - now), np.abs(now - seen[np.maximum(after - 1, 0)])) <= NEAR_S
        boxes = track.boxes[span].astype(np.float64)
        if track.kind == "face":
            centre, tall = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3] - boxes[:, 1]
            top = boxes[:, 1] - ABOVE_FACE * tall
            half = BODY_WIDTH / 2 * tall
            boxes = np.stack([centre - half, top, centre + half, top + BODY_HEIGHT * tall], axis=1)
        for frame, box in zip(track.frames[span].tolist(), boxes, strict=True):
            known = best.get(frame)
            if known is None or (
                track.kind == "person" and (box[2:] - box[:2]).prod() > (known[2:] - known[:2]).prod()
            ):
                best[frame] = box
    frames = np.array(sorted(best), dtype=np.int64)
    return frames, np.array([best[f] for f in frames.tolist()]).reshape(-1, 4)


def _is_part(track: Track, bodies: Sequence[Track]) -> bool:
    """Whether a body and the subject lie inside each other wherever both are seen, and move together."""
    rows = detected_rows(track)
    shares = []
    for row in rows:
        box = track.boxes[row].astype(np.float64)
        inside = [
            _contained(box, body.boxes[r].astype(np.float64))
            for body in bodies
            if (r := body.row(int(track.frames[row]))) is not None
        ]
        if inside:
            shares.append(max(inside))
    if not shares or (np.array(shares) > INSIDE).mean() < OFTEN or len(shares) < OFTEN * len(rows):
        return False
    return any(moves_along(track, body, still_sides=0.3) for body in bodies)


def _takes_over(track: Track, bodies: Sequence[Track], scene: Scene) -> bool:
    """Whether a body begins where the subject was just lost, or ends where it is about to be found."""
    times = np.asarray(scene.times_s, dtype=np.float64)
    seen = track.frames[detected_rows(track)]
    known = np.concatenate([body.frames[detected_rows(body)] for body in bodies])
    # Most of it has to lie where the subject is not seen; two bodies seen at once are two bodies.
    if np.isin(seen, known).mean() > 0.2:
        return False
    for body in bodies:
        rows = detected_rows(body)
        for one, two, at, other in (
            (body, track, rows[-1], detected_rows(track)[0]),
            (track, body, detected_rows(track)[-1], rows[0]),
        ):
            gap = times[two.frames[other]] - times[one.frames[at]]
            if -0.5 <= gap <= 0.5 and _iou(one.boxes[at].astype(np.float64), two.boxes[other].astype(np.float64)) > 0.3:
                return True
    return False


def _contained(one: Array, two: Array) -> float:
    """Share of the smaller box that lies in the larger one."""
    return _overlap(one, two) / max(float(min((one[2:] - one[:2]).prod(), (two[2:] - two[:2]).prod())), 1e-9)


def _overlap(one: Array, two: Array) -> float:
    return float(np.clip(np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2]), 0, None).prod())


def _iou(one: Array, two: Array) -> float:
    shared = _overlap(one, two)
    return shared / max(float((one[2:] - one[:2]).prod() + (two[2:] - two[:2]).prod()) - shared, 1e-9)
