"""Who is hidden: one decision for everybody found, made by what they do in the video or by what the user asks for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Decision, Person
from pa_lib.errors import PaLibError

if TYPE_CHECKING:
    from pa_lib.people.find import AbstractFinder

Embeddings = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Scene:
    """The video that people are chosen in.

    Args:
        width: Of the upright frame, px.
        height: The same.
        n_frames: Number of frames.
        times_s: Shape n_frames, time of each frame in seconds.
        cuts: First frame of each new shot.
    """

    width: int
    height: int
    n_frames: int
    times_s: NDArray[np.float64]
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What a chooser decided.

    Args:
        decisions: One for each person, in the order they were given.
        summary: One line for the terminal: who is kept, who is hidden, and by what margin.
        people: The people the decisions are about, where the chooser gathered their tracks anew; None: as given.
    """

    decisions: tuple[Decision, ...]
    summary: str
    people: tuple[Person, ...] | None = None


class AbstractChooser(ABC):
    """Decides who is hidden.

    Attributes:
        needs_identity: Whether `choose` needs to know faces: `learn` is called before it then, and it gets embeddings.
    """

    needs_identity: bool = False

    def learn(self, network: Any, finder: AbstractFinder) -> None:  # noqa: B027, most choosers compare nobody
        """Take in the faces to look for, with the networks that will see the video.

        Args:
            network: Has ``embed(image, landmarks n 5 2) -> n d`` and ``same_person_distance``.
            finder: Sees faces, with landmarks.
        """

    @abstractmethod
    def choose(self, people: Sequence[Person], scene: Scene, embeddings: Embeddings | None = None) -> Choice:
        """A decision for everybody.

        Args:
            people: Everybody found.
            scene: The video they are in.
            embeddings: Person id -> embeddings of their best faces, shape n d; people without a usable face are absent.

        Raises:
            PaLibError: If the user asked for what the video does not hold.
        """


@dataclass(frozen=True)
class HideAll(AbstractChooser):
    """Hides everybody."""

    def choose(self, people: Sequence[Person], scene: Scene, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        decisions = tuple(Decision(p.person_id, True, "everybody is hidden") for p in people)
        return Choice(decisions, f"{count_of(len(people))} found, everybody is hidden" if people else NOBODY)


@dataclass(frozen=True)
class KeepIds(AbstractChooser):
    """Keeps the people named by their number, hides the others.

    Args:
        ids: Numbers as on the sheet of people and in the tracks file.
    """

    ids: Sequence[int]

    def __post_init__(self) -> None:
        _check_ids(self.ids, "keep_ids")

    def choose(self, people: Sequence[Person], scene: Scene, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        kept = _known_ids(self.ids, people, "keep_ids")
        return decided(people, kept, "kept by number", "not among the numbers to keep")


@dataclass(frozen=True)
class HideIds(AbstractChooser):
    """Hides the people named by their number, keeps the others.

    Args:
        ids: Numbers as on the sheet of people and in the tracks file.
    """

    ids: Sequence[int]

    def __post_init__(self) -> None:
        _check_ids(self.ids, "hide_ids")

    def choose(self, people: Sequence[Person], scene: Scene, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        hidden = _known_ids(self.ids, people, "hide_ids")
        kept = {p.person_id for p in people} - hidden
        return decided(people, kept, "not among the numbers to hide", "hidden by number")


@dataclass(frozen=True)
class KeepAt(AbstractChooser):
    """Keeps whoever is clicked on, hides the others.

    Args:
        points: Triples of time in seconds and x, y in px of the upright frame.
        tolerance_s: How far from the time the person may be seen.
    """

    points: Sequence[Sequence[float]]
    tolerance_s: float = 0.5

    def __post_init__(self) -> None:
        _check_points(self.points, "keep_at")

    def choose(self, people: Sequence[Person], scene: Scene, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        kept = {_person_at(point, people, scene, self.tolerance_s, "keep_at") for point in self.points}
        return decided(people, kept, "pointed at", "not pointed at")


@dataclass(frozen=True)
class HideAt(AbstractChooser):
    """Hides whoever is clicked on, keeps the others.

    Args:
        points: Triples of time in seconds and x, y in px of the upright frame.
        tolerance_s: How far from the time the person may be seen.
    """

    points: Sequence[Sequence[float]]
    tolerance_s: float = 0.5

    def __post_init__(self) -> None:
        _check_points(self.points, "hide_at")

    def choose(self, people: Sequence[Person], scene: Scene, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        hidden = {_person_at(point, people, scene, self.tolerance_s, "hide_at") for point in self.points}
        return decided(people, {p.person_id for p in people} - hidden, "not pointed at", "pointed at")


class KeepMatching(AbstractChooser):
    """Keeps the people on reference photos, hides the others. A face that cannot be compared is hidden.

    Args:
        photos: Pictures with one face each, of everybody to keep; several of one person make it surer.
        max_distance: Largest Euclidean distance between two faces of one person; None: the network's own
            ``same_person_distance``.
    """

    needs_identity = True

    def __init__(self, photos: Sequence[str | Path], max_distance: float | None = None) -> None:
        if isinstance(photos, str | Path):
            photos = [photos]
        if not photos:
            raise PaLibError("keep_matching got no photos: name at least one picture of whom to keep")
        if max_distance is not None and not (math.isfinite(max_distance) and max_distance > 0):
            raise PaLibError(f"keep_matching max_distance={max_distance}: expected a number above 0")
        self.photos = tuple(Path(photo) for photo in photos)
        self.max_distance = max_distance
        self._references: NDArray[np.float32] | None = None

    def learn(self, network: Any, finder: AbstractFinder) -> None:
        """See `AbstractChooser.learn`; each photo must show exactly one face."""
        from pa_lib.people.identify import embed_photos

        self._references = embed_photos(self.photos, network, finder)
        if self.max_distance is None:
            self.max_distance = float(network.same_person_distance)

    def choose(self, people: Sequence[Person], scene: Scene, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        if self._references is None or self.max_distance is None or embeddings is None:
            raise ValueError("KeepMatching.choose needs `learn` before and embeddings of the people")
        decisions = []
        for person in people:
            faces = embeddings.get(person.person_id)
            if faces is None or not len(faces):
                decisions.append(Decision(person.person_id, True, "no face to compare"))
                continue
            distances = np.linalg.norm(faces[:, None] - self._references[None], axis=2)
            # The median over a person's faces: one blurred frame that happens to be near keeps nobody.
            distance = float(np.median(distances, axis=0).min())
            which = self.photos[int(np.median(distances, axis=0).argmin())].name
            is_near = distance <= self.max_distance
            reason = (
                f"{'matches' if is_near else 'nearest is'} {which} at {distance:.2f}, limit {self.max_distance:.2f}"
            )
            decisions.append(Decision(person.person_id, not is_near, reason, distance))
        kept = [d for d in decisions if not d.is_hidden]
        told = ", ".join(f"person {d.person_id} ({d.reason})" for d in kept)
        summary = (
            NOBODY
            if not people
            else f"{count_of(len(people))} found; kept {told}; the other {len(people) - len(kept)} hidden"
            if kept
            else f"{count_of(len(people))} found; nobody matches the photos, everybody is hidden"
        )
        return Choice(tuple(decisions), summary)


NOBODY = "nobody was found"


def count_of(people: int) -> str:
    """``1 person`` or ``n people``."""
    return "1 person" if people == 1 else f"{people} people"


def decided(people: Sequence[Person], kept: Iterable[int], keep_reason: str, hide_reason: str) -> Choice:
    """The choice that keeps these and hides the others."""
    ids = set(kept)
    decisions = tuple(
        Decision(p.person_id, p.person_id not in ids, keep_reason if p.person_id in ids else hide_reason)
        for p in people
    )
    if not people:
        return Choice((), NOBODY)
    return Choice(decisions, f"{count_of(len(people))} found; kept {id_list(ids)}; hidden {len(people) - len(ids)}")


def id_list(ids: Iterable[int], at_most: int = 20) -> str:
    """``1, 2, 5`` or ``nobody``; long lists are cut."""
    sorted_ids = sorted(ids)
    if not sorted_ids:
        return "nobody"
    more = f" and {len(sorted_ids) - at_most} more" if len(sorted_ids) > at_most else ""
    return ", ".join(map(str, sorted_ids[:at_most])) + more


def _check_ids(ids: Sequence[int], name: str) -> None:
    is_list = isinstance(ids, Sequence) and not isinstance(ids, str)
    if not is_list or not ids or any(isinstance(i, bool) or not isinstance(i, int) or i < 1 for i in ids):
        raise PaLibError(f"{name} ids={ids!r}: expected numbers of people from 1, e.g. people.chooser.ids=[1,3]")


def _known_ids(ids: Sequence[int], people: Sequence[Person], name: str) -> set[int]:
    there = {p.person_id for p in people}
    unknown = set(ids) - there
    if unknown:
        raise PaLibError(
            f"{name}: no person {id_list(unknown)} in this video; there are {id_list(there, 40)}. "
            "stage=find draws them with their numbers"
        )
    return set(ids)


def _check_points(points: Sequence[Sequence[float]], name: str) -> None:
    example = f"people.chooser.points=[[1.5,320,200]] for 1.5 s, x 320, y 200, with people/chooser={name}"
    is_list = isinstance(points, Sequence) and not isinstance(points, str)
    if not is_list or not points:
        raise PaLibError(f"{name} got no points: expected e.g. {example}")
    for point in points:
        try:
            numbers = [float(value) for value in point]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
            raise PaLibError(f"{name} point {point!r}: expected time in s, x and y in px, e.g. {example}")


def _person_at(point: Sequence[float], people: Sequence[Person], scene: Scene, tolerance_s: float, name: str) -> int:
    """The person whose smallest box holds the point, in the frame nearest in time in which any box does."""
    time_s, x, y = (float(value) for value in point)
    here = f"{name} point at {time_s:g} s, x {x:g}, y {y:g}"
    if not (0 <= x < scene.width and 0 <= y < scene.height):
        raise PaLibError(f"{here}: outside of the frame, which is {scene.width} x {scene.height} px")
    off = np.abs(np.asarray(scene.times_s, dtype=np.float64) - time_s)
    if not len(off) or off.min() > tolerance_s:
        last = float(scene.times_s[-1]) if len(off) else 0.0
        raise PaLibError(f"{here}: no such time, the video runs from {scene.times_s[0]:.2f} to {last:.2f} s")
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
    told = ", ".join(f"person {i} {near[i]:.0f} px away" for i in nearest)
    raise PaLibError(f"{here}: nobody there; {'near are ' + told if told else 'nobody is in the video at that time'}")
