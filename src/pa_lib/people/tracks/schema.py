"""Schema of the tracks file: every line of an edited file is checked before it is used."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, ValidationInfo, field_validator

from pa_lib.contracts import Attribute, Decision, Kind, Person, PersonInfo, Replacement, Track, stored_kind
from pa_lib.errors import InputError
from pa_lib.people.tracks.record import SCHEMA, VERSION, TracksRecord

Count = Annotated[int, Field(ge=0)]
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=65_535)]  # beyond any video; how many pixels may be read is the reader's to limit
Seconds = Annotated[float, Field(ge=-1e10, le=1e10, allow_inf_nan=False)]  # also times since 1970
BoxRow = tuple[Count, Coordinate, Coordinate, Coordinate, Coordinate, Score | None]


class Strict(BaseModel):
    """A part of the file in which unknown fields and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Source(Strict):
    """The video that the file belongs to."""

    name: str
    sha256: str
    width: Side
    height: Side
    n_frames: Count
    fps: Annotated[float, Field(ge=0, allow_inf_nan=False)]


Value = str | FiniteFloat
Name = Annotated[str, Field(min_length=1)]


class AttributeEntry(Strict):
    """A property of a person's looks."""

    value: Value
    confidence: Score | None = None
    method: str = ""


class ReplacementEntry(Strict):
    """A wish for what takes a person's place."""

    double: Name | None = None
    attributes: dict[Name, Value] = {}


class PersonEntryOfVersion1(Strict):
    """A person and the decision about them, before they had attributes."""

    person_id: Annotated[int, Field(ge=1)]
    hidden: bool
    reason: str = ""
    score: FiniteFloat | None = None
    tracks: Annotated[list[int], Field(min_length=1)]

    @property
    def info(self) -> PersonInfo:
        """What is known of the person besides their place."""
        return PersonInfo()


class PersonEntry(PersonEntryOfVersion1):
    """A person, the decision about them, what is known of their looks, and what is wished for in their place."""

    attributes: dict[Name, AttributeEntry] = {}
    replacement: ReplacementEntry | None = None

    @property
    def info(self) -> PersonInfo:
        """What is known of the person besides their place."""
        wish = self.replacement
        return PersonInfo(
            {name: Attribute(each.value, each.confidence, each.method) for name, each in self.attributes.items()},
            None if wish is None else Replacement(wish.double, wish.attributes),
        )


class TrackEntry(Strict):
    """One face or body, a row ``frame, x0, y0, x1, y1, score`` for each frame; the score is null between detections."""

    track_id: Annotated[int, Field(ge=1)]
    kind: Literal["face", "body"]
    boxes: Annotated[list[BoxRow], Field(min_length=1)]
    landmarks: dict[str, Annotated[list[Coordinate], Field(min_length=10, max_length=10)]] | None = None
    masks: dict[str, list[Count]] = {}
    heads: dict[str, Annotated[list[Coordinate], Field(min_length=4, max_length=4)]] | None = None

    @field_validator("boxes")
    @classmethod
    def _box_in_every_frame(cls, rows: list[BoxRow], info: ValidationInfo) -> list[BoxRow]:
        for one, two in pairwise(rows):
            if two[0] <= one[0]:
                raise ValueError(f"frame {two[0]} stands after frame {one[0]}; sort the rows")
            if two[0] != one[0] + 1:
                raise ValueError(f"no box between frames {one[0]} and {two[0]}; a track has one in every frame")
        for frame, x0, y0, x1, y1, _ in rows:
            is_wide, is_tall = np.float32(x1) > np.float32(x0), np.float32(y1) > np.float32(y0)  # as a track holds them
            if not (is_wide and is_tall):
                raise ValueError(f"frame {frame}: the box {x0:g} {y0:g} {x1:g} {y1:g} needs x0 < x1 and y0 < y1")
        return rows

    def track(self, width: int, height: int) -> Track:
        """The contract's track."""
        first, last = self.boxes[0][0], self.boxes[-1][0]
        numbers = np.array([[np.nan if v is None else v for v in row[1:]] for row in self.boxes], dtype=np.float64)
        landmarks, heads = (self._by_row(name, first, last) for name in ("landmarks", "heads"))
        masks = {}
        for key, runs in self.masks.items():
            frame = self._frame(key, "masks", first, last)
            if sum(runs) != width * height:
                raise ValueError(
                    f"track {self.track_id}: the mask of frame {frame} covers {sum(runs)} pixels, "
                    f"expected {width * height}"
                )
            masks[frame] = list(runs)
        return Track(
            self.track_id,
            cast("Kind", stored_kind(self.kind)),
            np.arange(first, last + 1, dtype=np.int64),
            numbers[:, :4].astype(np.float32),
            numbers[:, 4].astype(np.float32),
            None if landmarks is None else landmarks.reshape(-1, 5, 2),
            masks,
            heads,
        )

    def _by_row(self, name: str, first: int, last: int) -> NDArray[np.float32] | None:
        """Numbers that are given for some frames, as an array; NaN in the others."""
        given = getattr(self, name)
        if given is None:
            return None
        rows = np.full((len(self.boxes), 10 if name == "landmarks" else 4), np.nan, dtype=np.float32)
        for key, values in given.items():
            rows[self._frame(key, name, first, last) - first] = values
        for frame, row in enumerate(rows, start=first):
            if name == "heads" and not (np.isnan(row[0]) or (row[2] > row[0] and row[3] > row[1])):
                raise ValueError(f"track {self.track_id}: the head of frame {frame} needs x0 < x1 and y0 < y1")
        return rows

    def _frame(self, key: str, what: str, first: int, last: int) -> int:
        frame = _frame_number(key)
        if not first <= frame <= last:
            raise ValueError(f"track {self.track_id}: {what} of frame {key!r}, expected {first} to {last}")
        return frame


class Search(Strict):
    """Frames that were searched, frames that could not be, and the first frame of each new shot."""

    searched: list[Count]
    faults: dict[str, str] = {}
    cuts: list[Count] = []


class TracksFile(Strict):
    """People of a video: where each of them is, and who is hidden."""

    schema_: Annotated[str, Field(alias="schema")]
    version: int
    source: Source
    settings: dict[str, Any] = {}
    summary: str = ""
    people: list[PersonEntry]
    tracks: list[TrackEntry]
    search: Search
    times_s: list[Seconds]


class TrackEntryOfVersion1(TrackEntry):
    """One face or body, when bodies were called persons."""

    kind: Literal["face", "person"]  # type: ignore[assignment]


class TracksFileOfVersion1(TracksFile):
    """What pa_lib wrote before version 2."""

    people: list[PersonEntryOfVersion1]  # type: ignore[assignment]
    tracks: list[TrackEntryOfVersion1]  # type: ignore[assignment]


_READERS: dict[Any, type[TracksFile]] = {1: TracksFileOfVersion1, VERSION: TracksFile}


class _Head(BaseModel):
    """The part that says whether the rest can be read."""

    schema_: Annotated[Any, Field(alias="schema")] = None
    version: Any = None


def tracks_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of tracks files of the current version, for editors and other tools.

    >>> sorted(tracks_schema()["required"])
    ['people', 'schema', 'search', 'source', 'times_s', 'tracks', 'version']
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TracksFile.model_json_schema(by_alias=True)}


def parse(text: bytes, path: Path) -> TracksRecord:
    """The record in the text of a tracks file.

    Args:
        text: Content of the file, JSON in UTF-8.
        path: File that errors name.

    Raises:
        InputError: One line that names the place and what is expected there.
    """
    try:
        head = _Head.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"tracks file {path} is not JSON or was cut short: {_first_problem(error)}") from None
    if head.schema_ != SCHEMA:
        raise InputError(
            f'tracks file {path} has the schema {head.schema_!r}, expected "{SCHEMA}": is it a tracks file?'
        )
    if head.version not in tuple(_READERS):
        is_newer = isinstance(head.version, int) and head.version > VERSION
        raise InputError(
            f"tracks file {path} has version {head.version!r}, this pa_lib reads {' and '.join(map(str, _READERS))}"
            + ("; upgrade pa_lib" if is_newer else "; run again without tracks= to make a new one")
        )
    try:
        json.loads(text, object_pairs_hook=_without_repeated_keys, parse_int=str, parse_float=str)
        return _record(_READERS[head.version].model_validate_json(text))
    except ValidationError as error:
        raise InputError(f"tracks file {path}: {_first_problem(error)}") from None
    except ValueError as error:
        raise InputError(f"tracks file {path}: {error}") from None


def _record(file: TracksFile) -> TracksRecord:
    source = file.source
    n_frames = source.n_frames
    tracks: dict[int, Track] = {}
    for stored in file.tracks:
        if stored.track_id in tracks:
            raise ValueError(f"two tracks have the number {stored.track_id}")
        if stored.boxes[-1][0] >= n_frames:
            raise ValueError(
                f"track {stored.track_id} reaches frame {stored.boxes[-1][0]}, the video has {n_frames} frames"
            )
        tracks[stored.track_id] = stored.track(source.width, source.height)
    owners: dict[int, int] = {}
    people = []
    for person in file.people:
        for number in person.tracks:
            if number not in tracks:
                raise ValueError(f"person {person.person_id} has track {number}, which is not in the file")
            if number in owners:
                raise ValueError(f"track {number} belongs to persons {owners[number]} and {person.person_id}")
            owners[number] = person.person_id
        people.append(Person(person.person_id, tuple(tracks[number] for number in person.tracks), person.info))
    ids = [p.person_id for p in people]
    if len(set(ids)) != len(ids):
        raise ValueError(f"two people have the number {next(i for i in ids if ids.count(i) > 1)}")
    orphans = sorted(set(tracks) - set(owners))
    if orphans:  # no decision would cover them, and they would be seen
        raise ValueError(f"track {orphans[0]} belongs to no person; add it to a person or remove it")
    if len(file.times_s) != n_frames:
        raise ValueError(f"times_s has {len(file.times_s)} entries, the video has {n_frames} frames")
    for frame, (one, two) in enumerate(pairwise(file.times_s), start=1):
        if two < one:
            raise ValueError(f"times_s: frame {frame} is at {two:g} s, before frame {frame - 1} at {one:g} s")
    faults = {}
    for key, reason in file.search.faults.items():
        frame = _frame_number(key)
        if not 0 <= frame < n_frames:
            raise ValueError(f"search.faults: frame {key!r}, the video has {n_frames} frames")
        faults[frame] = reason
    for name, frames in (("searched", file.search.searched), ("cuts", file.search.cuts)):
        if any(b <= a for a, b in pairwise(frames)) or any(f >= n_frames for f in frames):
            raise ValueError(f"search.{name}: expected increasing frames below {n_frames}")
    return TracksRecord(
        name=source.name,
        sha256=source.sha256,
        width=source.width,
        height=source.height,
        n_frames=n_frames,
        fps=source.fps,
        times_s=np.array(file.times_s, dtype=np.float64),
        people=tuple(people),
        decisions=tuple(
            Decision(p.person_id, p.hidden, p.reason, float("nan") if p.score is None else p.score) for p in file.people
        ),
        summary=file.summary,
        searched=frozenset(file.search.searched),
        faults=faults,
        cuts=tuple(file.search.cuts),
        settings=file.settings,
    )


def _frame_number(key: str) -> int:
    """The number that a key is, or -1; only one spelling is a number, so that no frame has two entries."""
    is_number = key.isascii() and key.isdigit() and len(key) < 10 and (key == "0" or key[0] != "0")
    return int(key) if is_number else -1


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object in which a key stands twice: readers of JSON take the last one, people see the first."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            first, value = pairs[0]
            beginning = f"{first!r}: {value}" if isinstance(value, str) else repr(first)
            raise ValueError(f"the key {key!r} stands twice in the object that begins with {beginning[:60]}; keep one")
        seen.add(key)


def _first_problem(error: ValidationError) -> str:
    """The first of the errors, as place and reason."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = str(first["msg"]).removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place + ': ' if place else ''}{reason}{more}"
