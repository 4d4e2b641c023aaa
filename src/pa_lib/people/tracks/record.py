"""The tracks file: who was found where and who is hidden, as JSON that people may read and edit and runs may reuse.

One line per person and per box, so that an editor and a diff show what changed. To change who is hidden, flip
``"hidden"`` of that person; the next run with ``tracks=...`` follows the file and does not search the video again.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Decision, Person, PersonInfo, Presence, Replacement, Track
from pa_lib.errors import InputError
from pa_lib.people.choosers.base import Choice, VideoTimeline
from pa_lib.video.staging import StagedFile

if TYPE_CHECKING:
    from pa_lib.people.find import Findings
    from pa_lib.people.poses import PoseTrack
    from pa_lib.video.info import VideoInfo

SCHEMA = "pa_lib.tracks"
# Version 1, which is still read, called the kind ``body`` ``person`` and knew neither attributes nor replacements.
VERSION = 2
# A hundredth of a pixel is finer than any detector; scores and times are as fine as they are read.
_PX, _SCORE, _SECONDS = 2, 4, 6
_FRAMES_PER_BUCKET = 256


@dataclass(frozen=True, eq=False)
class TracksRecord:
    """Everything a second pass over the same video needs.

    Args:
        name: File name of the video.
        sha256: Fingerprint of the video; the record holds for no other file.
        width: Width of the upright frame in pixels.
        height: Height of the upright frame in pixels.
        n_frames: Number of frames.
        fps: Average frame rate in frames per second.
        times_s: Presentation time of each frame in seconds, shape n_frames.
        people: All people in the video.
        decisions: Decision for each person, in the same order.
        summary: Summary of the chooser in one line.
        searched: Indices of the frames that were searched for people.
        faults: Reason why a frame could not be searched, by index of the frame.
        cuts: First frame of each new shot.
        settings: Settings that it was made with, for people to read.
    """

    name: str
    sha256: str
    width: int
    height: int
    n_frames: int
    fps: float
    times_s: NDArray[np.float64]
    people: tuple[Person, ...]
    decisions: tuple[Decision, ...]
    summary: str = ""
    searched: frozenset[int] = frozenset()
    faults: Mapping[int, str] = field(default_factory=dict)
    cuts: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        info: VideoInfo,
        sha256: str,
        findings: Findings,
        people: Sequence[Person],
        choice: Choice,
        settings: Mapping[str, Any] | None = None,
    ) -> TracksRecord:
        """The record of a search, rounded as the file will be, so that both passes see the same numbers.

        Args:
            info: The video.
            sha256: Fingerprint of the video.
            findings: Result of the search, with the frames that were searched.
            people: All people that were found.
            choice: Decision of who is hidden.
            settings: Settings that it was made with; plain JSON values.
        """
        return cls(
            name=info.path.name,
            sha256=sha256,
            width=info.width,
            height=info.height,
            n_frames=findings.n_frames,
            fps=float(info.fps),
            times_s=np.asarray(np.round(findings.times_s, _SECONDS), dtype=np.float64),
            people=tuple(replace(p, tracks=tuple(map(_rounded, p.tracks))) for p in choice.people or people),
            decisions=choice.decisions,
            summary=choice.summary,
            searched=frozenset(findings.detections),
            faults=dict(findings.faults),
            cuts=tuple(findings.cuts),
            settings=dict(settings or {}),
        )

    def decided(self, choice: Choice) -> TracksRecord:
        """The same video with other decisions."""
        people = self.people if choice.people is None else choice.people
        return replace(self, people=people, decisions=choice.decisions, summary=choice.summary)

    def wished(self, names: Mapping[int, str]) -> TracksRecord:
        """The same video with other wishes: person id -> name of what is to take the person's place."""

        def changed(person: Person) -> Person:
            if person.person_id not in names:
                return person
            wish = replace(person.info.replacement or Replacement(), double=names[person.person_id])
            return replace(person, info=replace(person.info, replacement=wish))

        return replace(self, people=tuple(map(changed, self.people)))

    @cached_property
    def info(self) -> dict[int, PersonInfo]:
        """Person id -> what is known of the person besides their place; others are absent."""
        return {person.person_id: person.info for person in self.people if person.info != PersonInfo()}

    @property
    def timeline(self) -> VideoTimeline:
        """Size, times and shots of the video, for choosers."""
        return VideoTimeline(self.width, self.height, self.n_frames, self.times_s, self.cuts)

    def present_at(self, frame: int) -> tuple[list[Presence], list[Presence]]:
        """Who is in a frame.

        Args:
            frame: Index of the frame in the video.

        Returns:
            The people to hide and the people to keep.
        """
        both: tuple[list[Presence], list[Presence]] = ([], [])
        for person_id, is_hidden, track in self._buckets.get(frame // _FRAMES_PER_BUCKET, ()):
            row = track.row(frame)
            if row is not None:
                both[0 if is_hidden else 1].append(Presence(person_id, track, row))
        return both

    @property
    def hidden(self) -> tuple[Person, ...]:
        """The people who are hidden, in the order of the file."""
        hidden = {decision.person_id for decision in self.decisions if decision.is_hidden}
        return tuple(person for person in self.people if person.person_id in hidden)

    @cached_property
    def poses(self) -> dict[int, PoseTrack]:
        """Person id -> poses of the head in all frames in which the person is.

        Of heads that coincide one is placed, and none that another person covers.
        """
        # All import torch, and most readers of a tracks file do without.
        from pa_lib.people.coincidence import without_coinciding
        from pa_lib.people.covering import without_covered
        from pa_lib.people.poses import head_poses

        found = {person.person_id: head_poses(person, self.times_s, self.height) for person in self.people}
        return without_covered(without_coinciding(found, self.times_s), self.people, self.times_s)

    @cached_property
    def _buckets(self) -> dict[int, list[tuple[int, bool, Track]]]:
        """Tracks by stretch of the video, so that a frame of a long video need not search all tracks."""
        hidden = {d.person_id: d.is_hidden for d in self.decisions}
        buckets: dict[int, list[tuple[int, bool, Track]]] = defaultdict(list)
        for person in self.people:
            for track in person.tracks:
                first, last = (int(track.frames[i]) // _FRAMES_PER_BUCKET for i in (0, -1))
                for bucket in range(first, last + 1):
                    buckets[bucket].append((person.person_id, hidden[person.person_id], track))
        return dict(buckets)


def write_tracks(path: Path, record: TracksRecord) -> None:
    """Writes a tracks file; it appears complete or not at all.

    Args:
        path: File to write.
        record: The record to write.

    Raises:
        PaLibError: If the place cannot be written.
    """
    with stage_tracks(path, record) as staged:
        staged.commit()


def stage_tracks(path: Path, record: TracksRecord) -> StagedFile:
    """Writes a tracks file that gets its name by `StagedFile.commit` or `commit_together`.

    Args:
        path: File to write.
        record: The record to write.

    Raises:
        PaLibError: If the place cannot be written.
    """
    # The name of a video need not be UTF-8, and readers of JSON refuse an escape for what is not.
    return StagedFile.holding(Path(path), (line.encode(errors="replace") for line in _lines(record)))


def read_tracks(path: Path) -> TracksRecord:
    """Reads a tracks file, also one that was edited.

    Args:
        path: The file.

    Raises:
        InputError: If it is missing, is no tracks file, is of a newer version, or says what cannot be; the message
            names the place in the file.
    """
    from pa_lib.people.tracks.schema import parse  # pydantic takes a tenth of a second that other runs can do without

    path = Path(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"tracks file {path}: {error.strerror or error}") from error
    return parse(text, path)


def check_source(record: TracksRecord, sha256: str) -> None:
    """Refuses to use the record of one video on another.

    Args:
        record: The record, from `read_tracks`.
        sha256: Fingerprint of the video at hand.

    Raises:
        InputError: If they do not belong together.
    """
    if record.sha256 != sha256:
        raise InputError(
            f"the tracks file belongs to another video: it was made for {record.name} with sha256 "
            f"{record.sha256[:12]}…, this one has {sha256[:12]}…; run without tracks= to search this video"
        )


def _rounded(track: Track) -> Track:
    """A track with the numbers its file will hold."""

    def rounded(values: NDArray[np.float32], digits: int) -> NDArray[np.float32]:
        return np.round(values.astype(np.float64), digits).astype(np.float32)

    return replace(
        track,
        boxes=rounded(track.boxes, _PX),
        scores=rounded(track.scores, _SCORE),
        landmarks=None if track.landmarks is None else rounded(track.landmarks, _PX),
        heads=None if track.heads is None else rounded(track.heads, _PX),
    )


def _lines(record: TracksRecord) -> Iterator[str]:
    """The file, a line or a few at a time: memory does not grow with the video."""
    source = {
        "name": record.name,
        "sha256": record.sha256,
        "width": record.width,
        "height": record.height,
        "n_frames": record.n_frames,
        "fps": round(record.fps, _SECONDS),
    }
    search = {
        "searched": sorted(record.searched),
        "faults": {str(frame): record.faults[frame] for frame in sorted(record.faults)},
        "cuts": list(record.cuts),
    }
    yield f'{{\n"schema": "{SCHEMA}",\n"version": {VERSION},\n'
    yield f'"source": {_json(source)},\n"settings": {_json(dict(record.settings))},\n'
    yield f'"summary": {_json(record.summary)},\n'
    yield '"people": [\n'
    decisions = {d.person_id: d for d in record.decisions}
    yield from _separated(record.people, lambda person: [_json(_person_row(person, decisions[person.person_id]))])
    yield '],\n"tracks": [\n'
    yield from _separated([t for p in record.people for t in p.tracks], _track_lines)
    yield f'],\n"search": {_json(search)},\n"times_s": '
    yield _json([round(float(t), _SECONDS) for t in record.times_s])
    yield "\n}\n"


def _person_row(person: Person, decision: Decision) -> dict[str, Any]:
    row: dict[str, Any] = {
        "person_id": person.person_id,
        "hidden": decision.is_hidden,
        "reason": decision.reason,
        "score": float(decision.score) if math.isfinite(decision.score) else None,
        "tracks": [t.track_id for t in person.tracks],
    }
    if person.info.attributes:
        row["attributes"] = {name: asdict(attribute) for name, attribute in person.info.attributes.items()}
    if person.info.replacement is not None:
        wish = person.info.replacement
        row["replacement"] = {"double": wish.double, "attributes": dict(wish.attributes)}
    return row


def _track_lines(track: Track) -> Iterator[str]:
    yield f'{{"track_id": {track.track_id}, "kind": "{track.kind}", "boxes": [\n'
    yield from _separated(range(len(track.frames)), lambda row: [_json(_box_row(track, row))])
    yield "]"
    for name, numbers in (("landmarks", track.landmarks), ("heads", track.heads)):
        if numbers is not None:
            yield f', "{name}": {{'
            yield from _separated(*_keyed(track, numbers.reshape(len(numbers), -1)))
            yield "}"
    if track.masks:
        yield ', "masks": {'
        yield from _separated(sorted(track.masks), lambda frame: [f'"{frame}": {_json(track.masks[frame])}'])
        yield "}"
    yield "}"


def _keyed(track: Track, numbers: NDArray[np.float32]) -> tuple[NDArray[np.intp], Callable[[Any], Any]]:
    """The rows in which all numbers are known, and the line of each."""
    known = np.flatnonzero(np.isfinite(numbers).all(axis=1))
    return known, lambda row: [f'"{track.frames[row]}": {_json(_round_all(numbers[row], _PX))}']


def _box_row(track: Track, row: int) -> list[float | int | None]:
    score = float(track.scores[row])
    return [
        int(track.frames[row]),
        *_round_all(track.boxes[row], _PX),
        round(score, _SCORE) if math.isfinite(score) else None,
    ]


def _round_all(values: NDArray[np.float32], digits: int) -> list[float]:
    return [round(float(v), digits) for v in values]


def _separated(items: Any, lines: Callable[[Any], Any]) -> Iterator[str]:
    """The lines of each item, with a comma and a new line between items."""
    is_first = True
    for item in items:
        if not is_first:
            yield ",\n"
        is_first = False
        yield from lines(item)
    yield "\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
