"""Which people of a clip are generated together: smallest first, in batches of equal length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pa_lib.contracts import ClipMasks, PersonMask


@dataclass(frozen=True, eq=False)
class Appearance:
    """One person in one clip: the frames in which they are hidden, and their masks there."""

    person_id: int
    frames: tuple[int, ...]
    masks: tuple[tuple[PersonMask, ...], ...]


def appearances(masks: ClipMasks) -> list[Appearance]:
    """All people hidden in a clip, from the smallest mean area of their masks to the largest."""
    people = []
    by_person = sorted(masks.people, key=lambda mask: (mask.person_id, mask.frame))
    for person_id, own in groupby(by_person, key=lambda mask: mask.person_id):
        frames = {frame: tuple(group) for frame, group in groupby(own, key=lambda mask: mask.frame)}
        people.append(Appearance(person_id, tuple(frames), tuple(frames.values())))
    area = {
        person.person_id: sum(mask.alpha.numel() for frame in person.masks for mask in frame) / len(person.frames)
        for person in people
    }
    return sorted(people, key=lambda person: (area[person.person_id], person.person_id))


def batches(people: Sequence[Appearance], n_crops: int) -> Iterator[list[Appearance]]:
    """People with as many frames as each other, as many as fit: no padding, no person depends on the others."""
    pending: dict[int, list[Appearance]] = {}
    for person in people:
        pending.setdefault(len(person.frames), []).append(person)
    for n_frames, group in sorted(pending.items()):
        size = max(1, n_crops // n_frames)
        for start in range(0, len(group), size):
            yield group[start : start + size]
