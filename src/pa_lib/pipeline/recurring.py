"""The same replacement for a person in all videos of one run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import PersonInfo, Replacement
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people import Appearance, Embeddings, TracksRecord, same_people
from pa_lib.pipeline.run import SearchedVideo

_Key = tuple[int, int]  # number of the video, number of the person in it


NOTE = "hidden faces in {where} were compared: which double a person has depends on who they look like"


def shared(
    videos: Sequence[SearchedVideo],
    photos: Mapping[str, NDArray[np.float32]],
    max_distance: float,
    module: AbstractAnonymizer,
) -> list[SearchedVideo]:
    """The videos of a run with one wish for a person in all of them, as `cast_run` gives it.

    Args:
        videos: The videos; those without embeddings stay as they are.
        photos: Name of a replacement -> embeddings of the person who is to get it.
        max_distance: Largest distance between two faces of one person.
        module: System that gives the names, by the seed of the first video.

    Raises:
        PaLibError: A replacement that is wished for is unknown to the system.
    """
    compared = {place: video for place, video in enumerate(videos) if video.faces is not None}
    records = [video.record for video in compared.values()]
    people = recurring(records, [video.faces or {} for video in compared.values()], photos, max_distance)
    cast = cast_run(people, records, module, videos[0].settings.seed)
    where = f"{len(compared)} videos of this run" if len(compared) > 1 else "this video"
    note = NOTE.format(where=f"{where} and photos" if photos else where)
    done = {
        place: replace(
            video, record=cast[at], faces=None, notes=(*video.notes, note), remarks=tuple(_remarks(at, people, cast))
        )
        for at, (place, video) in enumerate(compared.items())
    }
    return [done.get(place, video) for place, video in enumerate(videos)]


def recurring(
    records: Sequence[TracksRecord],
    faces: Sequence[Embeddings],
    photos: Mapping[str, NDArray[np.float32]],
    max_distance: float,
) -> list[list[Appearance]]:
    """The hidden people of all videos of a run, the appearances of each together.

    Args:
        records: Records of the videos.
        faces: Embeddings of the faces in each video.
        photos: Name of a replacement -> embeddings of the person who is to get it.
        max_distance: Largest distance between two faces of one person.

    Returns:
        Groups in an order that depends on what the videos hold, not on the order in which they are given. Videos are
        numbered as given; photos have the number -1.
    """
    appearances = [Appearance(-1, at, photos[name], name) for at, name in enumerate(sorted(photos))]
    for at in sorted(range(len(records)), key=lambda at: (records[at].sha256, records[at].name)):
        for person in records[at].hidden:
            wish = person.info.replacement
            double = None if wish is None else wish.double
            appearances.append(Appearance(at, person.person_id, faces[at].get(person.person_id), double))
    return same_people(appearances, max_distance)


def cast_run(
    people: Sequence[Sequence[Appearance]], records: Sequence[TracksRecord], module: AbstractAnonymizer, seed: int
) -> list[TracksRecord]:
    """The records with a wish for all hidden people: one name for each person of the run, and not that of another one.

    A wish of the user is fulfilled first. It holds for all appearances of the person, except in a video where another
    person has that name. The system draws the other names, as for one video with all people of the run in it. Where the
    run has more people than the system has names, people of one video get different ones nevertheless, while there are
    enough for those they appear with.

    Args:
        people: Appearances of each person, from `recurring`.
        records: Records of the videos, numbered as the appearances are.
        module: System that gives the names.
        seed: Seed of the names that are drawn.

    Raises:
        PaLibError: A replacement that is wished for is unknown to the system.
    """
    names, drawn = _wished(people)
    infos = {(at, one.person_id): one.info for at, record in enumerate(records) for one in record.hidden}
    asked: dict[int, list[_Key]] = {}
    for keys in drawn:  # two copies of a video hold the same people
        asked.setdefault(_number(records, keys[0]), []).extend(keys)
    known = {_key_of(name): PersonInfo(replacement=Replacement(name)) for name in sorted(set(names.values()))}
    known |= {number: infos[keys[0]] for number, keys in asked.items()}
    found = module.replacements(known, seed=seed)
    names |= {key: found[number] for number, keys in asked.items() for key in keys}
    _part(names, list(asked.values()))
    return [
        record.wished({one.person_id: names[at, one.person_id] for one in record.hidden})
        for at, record in enumerate(records)
    ]


def _remarks(video: int, people: Sequence[Sequence[Appearance]], records: Sequence[TracksRecord]) -> Iterator[str]:
    """Who of one video is in others, too, with the same name there."""
    names = {
        (at, one.person_id): one.info.replacement.double
        for at, record in enumerate(records)
        for one in record.hidden
        if one.info.replacement is not None
    }
    for person in people:
        for own in (one.key for one in person if one.video == video):
            same = [key for key in (one.key for one in person) if key != own and names.get(key) == names[own]]
            if same:
                places = ", ".join(f"{records[at].name} (person {number})" for at, number in same)
                yield f"person {own[1]} is {names[own]}, as in {places}"


def _wished(people: Sequence[Sequence[Appearance]]) -> tuple[dict[_Key, str], list[list[_Key]]]:
    """The names that users have chosen, and the appearances of each person whose name is to be drawn."""
    names = {one.key: one.wish for person in people for one in person if one.wish is not None}
    drawn: list[list[_Key]] = []
    for person in people:
        keys = [one.key for one in person if one.wish is None]
        wish = next((one.wish for one in person if one.wish is not None), None)
        if wish is not None:
            taken = {video for (video, _), name in names.items() if name == wish}
            names |= {key: wish for key in keys if key[0] not in taken}
            keys = [key for key in keys if key[0] in taken]
        if keys:
            drawn.append(keys)
    return names, drawn


def _part(names: dict[_Key, str], drawn: Sequence[Sequence[_Key]]) -> None:
    """Gives people another name who share theirs with one they appear with, if there is one that none of those has."""
    for keys in drawn:
        videos = {video for video, _ in keys}
        beside = {name for key, name in names.items() if key[0] in videos and key not in keys}
        counts = Counter(names.values())
        free = sorted(counts.keys() - beside, key=lambda name: (counts[name], name))
        if free and names[keys[0]] in beside:
            names.update(dict.fromkeys(keys, free[0]))


def _number(records: Sequence[TracksRecord], key: _Key) -> int:
    """A number for a person of the run that does not depend on the order of the videos."""
    return _key_of(f"{records[key[0]].sha256} {key[1]}")


def _key_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
