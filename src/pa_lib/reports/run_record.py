"""The record of one run, as JSON for programs and as one self-contained page for people.

The page is drawn in `pa_lib.reports.run_page`; the log of frames is in `pa_lib.reports.frame_log`, the pictures in
`pa_lib.reports.thumbnails`. All that a caller needs can be imported from here.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from pa_lib import __version__
from pa_lib.contracts import Decision, Kind, Person, Track, stored_kind
from pa_lib.errors import PaLibError
from pa_lib.reports.frame_log import STATUSES, FrameLog, FrameRecord, Status
from pa_lib.reports.thumbnails import Thumbnail, ThumbnailCollector
from pa_lib.video.staging import StagedFile

__all__ = [
    "FrameLog",
    "FrameRecord",
    "PersonRecord",
    "RunReport",
    "SourceRecord",
    "Status",
    "Thumbnail",
    "ThumbnailCollector",
    "TrackRecord",
    "people_records",
    "software_versions",
]

SCHEMA = "pa_lib.report"
SCHEMA_VERSION = 1
FRAME_COLUMNS = {
    "index": "position in the video, from 0",
    "time_s": "presentation time in seconds; null where the file does not say",
    "status": f"one of {', '.join(STATUSES)}",
    "mask_area": "share of the frame that was replaced, 0..1",
    "n_hidden": "number of people hidden in the frame",
    "searched": "1 where the finder looked at this very frame, 0 where boxes come from the tracker",
    "fallbacks": "what was done in place of the first choice",
    "fault": "what went wrong; null where nothing did",
}


@dataclass(frozen=True)
class SourceRecord:
    """The video that was read.

    Args:
        name: File name without its folder, which may name a person.
        sha256: Of the file, hex.
        width, height: Size of the upright frame in px.
        fps: Average rate in frames per second.
        n_frames: Frames that were read.
        duration_s: Seconds; None where the file does not say.
        codec: Name of the video codec.
        audio: Codec name of every audio track.
    """

    name: str
    sha256: str
    width: int
    height: int
    fps: float
    n_frames: int
    duration_s: float | None
    codec: str
    audio: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrackRecord:
    """Where one face or body was followed.

    Args:
        track_id: As in the tracks file.
        kind: ``face`` or ``body``.
        first_frame, last_frame: Both belong to the track.
        n_detected: Frames in which a detector saw it.
        n_filled: Frames in which its box was filled in.
        mean_score: Mean detector confidence in [0, 1]; None where none is known.
        detected_runs: First and last frame of every stretch without a longer gap between detections than the finder's
            stride.
    """

    track_id: int
    kind: Kind
    first_frame: int
    last_frame: int
    n_detected: int
    n_filled: int
    mean_score: float | None
    detected_runs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, track: Track, stride: int = 1) -> TrackRecord:
        """Summary of a track, found on every `stride`-th frame.

        Raises:
            PaLibError: The track has no frames.
        """
        if len(track.frames) == 0:
            raise PaLibError(f"track {track.track_id} has no frames: remove it from the tracks file")
        is_detected = np.isfinite(track.scores)
        seen = track.frames[is_detected]
        breaks = np.flatnonzero(np.diff(seen) > stride)
        starts = seen[np.concatenate([[0], breaks + 1])] if len(seen) else seen
        ends = seen[np.concatenate([breaks, [len(seen) - 1]])] if len(seen) else seen
        return cls(
            track_id=track.track_id,
            kind=track.kind,
            first_frame=int(track.frames[0]),
            last_frame=int(track.frames[-1]),
            n_detected=len(seen),
            n_filled=len(track.frames) - len(seen),
            mean_score=round(float(track.scores[is_detected].mean()), 4) if len(seen) else None,
            detected_runs=tuple(zip(starts.tolist(), ends.tolist(), strict=True)),
        )


@dataclass(frozen=True)
class PersonRecord:
    """Somebody in the video and what was decided about them.

    Args:
        person_id: As in the tracks file and on the sheet of people.
        is_hidden: True = anonymized, False = kept.
        reason: Why, one short phrase.
        score: What the chooser ranked by; None where it did not rank.
        tracks: At least one.
    """

    person_id: int
    is_hidden: bool
    reason: str
    score: float | None
    tracks: tuple[TrackRecord, ...]

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """First and last frame of every stretch in which any of the tracks is there."""
        spans: list[tuple[int, int]] = []
        for first, last in sorted((track.first_frame, track.last_frame) for track in self.tracks):
            if spans and first <= spans[-1][1] + 1:
                spans[-1] = (spans[-1][0], max(last, spans[-1][1]))
            else:
                spans.append((first, last))
        return tuple(spans)

    @property
    def n_frames(self) -> int:
        """Frames in which the person is there."""
        return sum(last - first + 1 for first, last in self.spans)


def people_records(
    people: Iterable[Person], decisions: Iterable[Decision], stride: int = 1
) -> tuple[PersonRecord, ...]:
    """Everybody in the video with their decision, in the order given.

    Args:
        people: Whom the tracker found.
        decisions: One for each of them.
        stride: The finder's, in frames: longer gaps between detections are shown as filled in.

    Raises:
        PaLibError: Somebody has no decision, or more than one.
    """
    by_id: dict[int, Decision] = {}
    for decision in decisions:
        if decision.person_id in by_id:
            raise PaLibError(f"person {decision.person_id} has two decisions: leave one")
        by_id[decision.person_id] = decision
    records = []
    for person in people:
        if person.person_id not in by_id:
            raise PaLibError(f"person {person.person_id} has no decision: everybody found must be hidden or kept")
        decision = by_id[person.person_id]
        records.append(
            PersonRecord(
                person_id=person.person_id,
                is_hidden=decision.is_hidden,
                reason=decision.reason,
                score=float(decision.score) if math.isfinite(decision.score) else None,
                tracks=tuple(TrackRecord.of(track, stride) for track in person.tracks),
            )
        )
    return tuple(records)


def software_versions() -> dict[str, str]:
    """Versions that decide what a run computes; a package that is absent is left out."""
    versions = {"pa_lib": __version__, "python": platform.python_version()}
    for name in ("torch", "av", "onnxruntime", "opencv-python-headless", "numpy", "facenet-pytorch"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True, eq=False)
class RunReport:
    """Everything that is to be said about one run.

    Args:
        source: What was read.
        output_name: File name of what was written.
        started, finished: Wall clock, with a time zone.
        elapsed_s: Seconds by a clock that is never set back.
        frames: What became of every frame.
        people: Who is in the video and who was hidden.
        chooser_summary: One line: who was kept, and by what margin.
        cuts: First frame of every new shot.
        versions: Package -> version.
        config: The resolved settings, plain dicts, lists and scalars.
        exit_code: What the process returns.
        warnings: One line each.
        tracks_name: File name of the tracks file that was written beside the output, if one was.

    Raises:
        PaLibError: A frame of the source is not accounted for, or redacted frames come with exit code 0.
    """

    source: SourceRecord
    output_name: str
    started: datetime
    finished: datetime
    elapsed_s: float
    frames: FrameLog
    people: tuple[PersonRecord, ...] = ()
    chooser_summary: str = ""
    cuts: tuple[int, ...] = ()
    versions: Mapping[str, str] = field(default_factory=software_versions)
    config: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    warnings: tuple[str, ...] = ()
    tracks_name: str | None = None

    def __post_init__(self) -> None:
        if len(self.frames) != self.source.n_frames:
            raise PaLibError(
                f"{self.source.name} has {self.source.n_frames} frames, but {len(self.frames)} are accounted for: "
                "do not use the output, and report this as a bug"
            )
        if self.exit_code == 0 and self.counts["redacted"]:
            raise PaLibError(f"{self.counts['redacted']} frames were redacted: the exit code must not be 0")

    @property
    def counts(self) -> dict[Status, int]:
        """Number of frames of each status."""
        return self.frames.counts

    @property
    def n_hidden(self) -> int:
        """Number of people hidden."""
        return sum(person.is_hidden for person in self.people)

    @property
    def frames_per_second(self) -> float:
        """Speed of the whole run."""
        return len(self.frames) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def verdict(self) -> str:
        """The outcome in one line.

        For example ``250 of 250 frames accounted for; 3 people hidden, 1 kept; 0 redacted``.
        """
        people = "1 person" if self.n_hidden == 1 else f"{self.n_hidden} people"
        return (
            f"{len(self.frames):,} of {self.source.n_frames:,} frames accounted for; "
            f"{people} hidden, {len(self.people) - self.n_hidden} kept; {self.counts['redacted']:,} redacted"
        )

    def write_json(self, path: Path) -> None:
        """Writes the whole record: one row for every frame. Appears complete or not at all.

        Raises:
            PaLibError: The file cannot be written.
        """
        _write(path, self._json_parts())

    def write_html(self, path: Path, thumbnails: Sequence[Thumbnail] = ()) -> None:
        """Writes the page for people, which needs no other file and no network. Appears complete or not at all.

        Args:
            path: Where to.
            thumbnails: Pictures of the output, from a `ThumbnailCollector`.

        Raises:
            PaLibError: The file cannot be written.
        """
        from pa_lib.reports.run_page import render  # jinja2 takes 60 ms, and most imports of this file draw no page

        _write(path, [render(self, thumbnails)])

    @classmethod
    def read_json(cls, path: Path) -> RunReport:
        """Reads what `write_json` wrote.

        Raises:
            PaLibError: The file is missing, or it is no report of this version.
        """
        from pydantic import TypeAdapter  # 0.1 s, and only readers need it

        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PaLibError(f"{path} cannot be read as a report: {error}") from error
        found = (content.get("schema"), content.get("schema_version")) if isinstance(content, dict) else None
        if found != (SCHEMA, SCHEMA_VERSION):
            raise PaLibError(f"{path} has the schema {found}: expected {SCHEMA} version {SCHEMA_VERSION}")
        try:
            table = content["frames"]
            for track in (track for person in content["people"] for track in person["tracks"]):
                track["kind"] = stored_kind(track["kind"])
            frame_type = TypeAdapter(FrameRecord)
            log = FrameLog()
            for row in table["rows"]:
                cells = dict(zip(table["columns"], row, strict=True))
                time_s = math.nan if cells["time_s"] is None else cells["time_s"]
                log.append(frame_type.validate_python({**cells, "time_s": time_s}))
            types = get_type_hints(cls)
            values = {
                each.name: TypeAdapter(types[each.name]).validate_python(content[each.name])
                for each in fields(cls)
                if each.name != "frames"
            }
        except (KeyError, TypeError, ValueError) as error:  # pydantic's error is a ValueError
            raise PaLibError(f"{path} is damaged: {' '.join(str(error).split())}; run the video again") from error
        return cls(frames=log, **values)

    def _json_parts(self) -> Iterator[str]:
        # Row by row: a list of 100,000 rows would take 50 MB.
        head: dict[str, Any] = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "counts": self.counts,
            "n_searched": self.frames.n_searched,
            "frames_per_second": round(self.frames_per_second, 3),
        }
        for each in fields(self):
            if each.name != "frames":
                head[each.name] = _plain(getattr(self, each.name))
        yield json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
        yield ',\n  "frames": {\n    "about": "one row for every frame of the source, in its order",\n'
        yield f'    "columns": {json.dumps(list(FRAME_COLUMNS))},\n    "meaning": {json.dumps(FRAME_COLUMNS)},\n'
        yield '    "rows": ['
        for record in self.frames:
            row = [
                record.index,
                round(record.time_s, 6) if math.isfinite(record.time_s) else None,
                record.status,
                round(record.mask_area, 7),
                record.n_hidden,
                int(record.searched),
                record.fallbacks,
                record.fault,
            ]
            yield ("," if record.index else "") + "\n      " + json.dumps(row, ensure_ascii=False)
        yield "\n    ]\n  }\n}\n"


def _plain(value: object) -> Any:
    """The value in what JSON knows; everything else by its name, and numbers that JSON lacks as null."""
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return str(value)


def _write(path: Path, parts: Iterable[str]) -> None:
    """The parts as UTF-8, under the final name only when all of them are on the disk."""
    with StagedFile(path) as staged:
        try:
            with staged.path.open("wb") as file:
                file.writelines(part.encode() for part in parts)
        except OSError as error:
            raise PaLibError(f"{path} cannot be written ({error.strerror or error}); free some space") from error
        staged.commit()
