"""People are chosen by reference photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Decision, FaceNetwork, Person
from pa_lib.errors import SettingError
from pa_lib.paths import path_of
from pa_lib.people.choosers.base import NO_PEOPLE, AbstractChooser, Choice, Embeddings, VideoTimeline, count_of

if TYPE_CHECKING:
    from pa_lib.people.finders import AbstractFinder


class KeepMatching(AbstractChooser):
    """Keeps the people on reference photos, hides the others. A face that cannot be compared is hidden.

    Args:
        photos: Pictures with one face each of the people to keep; several of one person make it more reliable.
        max_distance: Largest Euclidean distance between two faces of one person; None takes the network's own
            ``same_person_distance``.
    """

    needs_identity = True

    def __init__(self, photos: Sequence[str | Path], max_distance: float | None = None) -> None:
        if isinstance(photos, str | Path):
            photos = [photos]
        if not photos:
            raise SettingError("keep_matching got no photos: name at least one picture of each person to keep")
        if max_distance is not None and not (math.isfinite(max_distance) and max_distance > 0):
            raise SettingError(f"keep_matching max_distance={max_distance}: expected a number above 0")
        self.photos = tuple(path_of(photo) for photo in photos)
        self.max_distance = max_distance

    def learned(self, network: FaceNetwork, finder: AbstractFinder) -> KeepEmbedded:
        """See `AbstractChooser.learned`; each photo must show exactly one face."""
        from pa_lib.people.identify import embed_photos

        limit = float(network.same_person_distance) if self.max_distance is None else self.max_distance
        return KeepEmbedded([photo.name for photo in self.photos], embed_photos(self.photos, network, finder), limit)

    def choose(self, people: Sequence[Person], timeline: VideoTimeline, embeddings: Embeddings | None = None) -> Choice:
        """Refused: photos are compared by what `learned` returns."""
        raise SettingError("keep_matching does not know the photos' faces yet: choose with what `learned` returns")


class KeepEmbedded(AbstractChooser):
    """Keeps the people whose faces are near known ones; see `KeepMatching`.

    Args:
        names: Names of the known faces for the reasons, e.g. those of the photos.
        references: Embeddings of the known faces, one row per name.
        max_distance: Largest Euclidean distance between two faces of one person, > 0.
    """

    needs_identity = True

    def __init__(self, names: Sequence[str], references: NDArray[np.float32], max_distance: float) -> None:
        self.names, self.references, self.max_distance = tuple(names), references, max_distance

    def choose(self, people: Sequence[Person], timeline: VideoTimeline, embeddings: Embeddings | None = None) -> Choice:
        """See `AbstractChooser.choose`."""
        if embeddings is None:
            raise SettingError("keep_matching got no embeddings of the people; pass those of their faces")
        decisions = []
        for person in people:
            faces = embeddings.get(person.person_id)
            if faces is None or not len(faces):
                decisions.append(Decision(person.person_id, True, "no face to compare"))
                continue
            distances = np.linalg.norm(faces[:, None] - self.references[None], axis=2)
            # The median over a person's faces: one blurred frame that happens to be near keeps no one.
            distance = float(np.median(distances, axis=0).min())
            which = self.names[int(np.median(distances, axis=0).argmin())]
            is_near = distance <= self.max_distance
            reason = (
                f"{'matches' if is_near else 'nearest is'} {which} at {distance:.2f}, limit {self.max_distance:.2f}"
            )
            decisions.append(Decision(person.person_id, not is_near, reason, distance))
        kept = [d for d in decisions if not d.is_hidden]
        names = ", ".join(f"person {d.person_id} ({d.reason})" for d in kept)
        summary = (
            NO_PEOPLE
            if not people
            else f"{count_of(len(people))} found; kept {names}; the other {len(people) - len(kept)} hidden"
            if kept
            else f"{count_of(len(people))} found; no person matches the photos, everybody is hidden"
        )
        return Choice(tuple(decisions), summary)
