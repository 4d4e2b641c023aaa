"""Who is the same person in several videos of one run, by the likeness of faces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pa_lib.errors import SettingError
from pa_lib.paths import path_of

_NEVER = 1e9  # distance of those who are different people for sure: no mean over any number of pairs becomes small


@dataclass(frozen=True, eq=False)
class Appearance:
    """A person in one video.

    Args:
        video: Number of the video in the run; -1 for photos.
        person_id: Number of the person in that video.
        faces: Embeddings of the person's best faces, shape n d; None where no face can be compared.
        wish: Name of what is to take the person's place, as a user has chosen it; None without a wish.
    """

    video: int
    person_id: int
    faces: NDArray[np.float32] | None = None
    wish: str | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Number of the video and of the person in it."""
        return self.video, self.person_id


class FaceRecognizer:
    """Recognizes people in all videos of one run by their faces, as `KeepMatching` recognizes them on photos.

    Args:
        max_distance: Largest Euclidean distance between two faces of one person; None takes the network's own
            ``same_person_distance``.
        photos: Name of a replacement -> pictures with one face each of the person who is to get it. With photos, the
            people of a single video are compared, too.

    Raises:
        SettingError: A setting is out of range, or a replacement has no photos.
    """

    def __init__(
        self,
        max_distance: float | None = None,
        photos: Mapping[str, str | Path | Sequence[str | Path]] | None = None,
    ) -> None:
        if max_distance is not None and not (math.isfinite(max_distance) and max_distance > 0):
            raise SettingError(f"recognizer max_distance={max_distance}: expected a number above 0")
        self.max_distance = max_distance
        self.photos = {
            name: tuple(path_of(photo) for photo in ([given] if isinstance(given, str | Path) else given))
            for name, given in (photos or {}).items()
        }
        if empty := [name for name, given in self.photos.items() if not given]:
            raise SettingError(f"recognizer photos of {empty[0]}: got none, expected at least one picture")


def same_people(appearances: Sequence[Appearance], max_distance: float) -> list[list[Appearance]]:
    """The appearances of each person, by average linkage of the distances between faces.

    The distance of two appearances is the median over all pairs of their faces, so that one blurred frame that happens
    to be near joins no one. The nearest two groups are joined first, while the mean distance between their appearances
    is at most `max_distance`. Never joined are two people of one video, two with different wishes, and those without a
    face that can be compared.

    Args:
        appearances: People of all videos.
        max_distance: Largest distance between two appearances of one person, > 0.

    Returns:
        Groups in the order of their first members. They are the same in any order of `appearances`, unless distances
        are exactly equal.
    """
    # scipy takes a third of a second to import, which runs without a recognizer can do without.
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(appearances) < 2:
        return [[one] for one in appearances]
    distances = [
        _distance(one, two) for at, one in enumerate(appearances, start=1) for two in appearances[at:]
    ]  # in the order of scipy's condensed matrices
    labels = fcluster(linkage(np.array(distances), "average"), max_distance, criterion="distance")
    groups: dict[int, list[Appearance]] = {}
    for label, one in zip(labels.tolist(), appearances, strict=True):
        groups.setdefault(label, []).append(one)
    return list(groups.values())


def _distance(one: Appearance, two: Appearance) -> float:
    is_one_video = one.video == two.video
    has_two_wishes = one.wish is not None and two.wish is not None and one.wish != two.wish
    if is_one_video or has_two_wishes or one.faces is None or two.faces is None:
        return _NEVER
    return float(np.median(np.linalg.norm(one.faces[:, None] - two.faces[None], axis=2)))
