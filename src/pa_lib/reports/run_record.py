"""The record of one run: the status of every frame and person, as JSON.

Its page is drawn in `pa_lib.reports.run_page`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from pa_lib.contracts import Decision, Kind, Person, Track, stored_kind
from pa_lib.errors import InputError, PaLibError, SettingError
from pa_lib.paths import AS_ESCAPES
from pa_lib.reports.frame_log import FrameLog, Status
from pa_lib.reports.json import plain, read_content, record_of
from pa_lib.reports.software import software_versions
from pa_lib.video.staging import StagedFile

if TYPE_CHECKING:
    from pa_lib.people import TracksRecord
    from pa_lib.video import VideoInfo

SCHEMA = "pa_lib.report"
SCHEMA_VERSION = 1
_ADVICE = "run the video again"


@dataclass(frozen=True)
class SourceRecord:
    """The video that was read.

    Args:
        name: File name without its folder, which may name a person.
        sha256: Hash of the file, hex.
        width, height: Size of the upright frame in pixels.
        fps: Average frame rate in frames per second.
        n_frames: Number of frames that were read.
        duration_s: Duration in seconds; None where the file does not state it.
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

    @classmethod
    def of(cls, info: VideoInfo, sha256: str, n_frames: int) -> SourceRecord:
        """The record of a video.

        Args:
            info: The video.
            sha256: Fingerprint of the video.
            n_frames: Number of frames that were read.
        """
        return cls(
            info.path.name,
            sha256,
            info.width,
            info.height,
            info.fps,
            n_frames,
            info.duration_s,
            info.codec,
            info.audio,
        )


@dataclass(frozen=True)
class TrackRecord:
    """Where one face or body was followed.

    Args:
        track_id: Id of the track in the tracks file.
        kind: Kind of the track, ``face`` or ``body``.
        first_frame, last_frame: First and last frame of the track, both included.
        n_detected: Number of frames in which a detector saw it.
        n_filled: Number of frames in which its box was filled in.
        mean_score: Mean confidence of the detector, in [0, 1]; None where none is known.
        detected_runs: First and last frame of every stretch in which each searched frame showed it.
    """

    track_id: int
    kind: Annotated[Kind, BeforeValidator(stored_kind)]
    first_frame: int
    last_frame: int
    n_detected: int
    n_filled: int
    mean_score: float | None
    detected_runs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, track: Track, searched: Collection[int] = ()) -> TrackRecord:
        """Summary of a track.

        Args:
            track: The track.
            searched: Indices of the frames that were searched; empty: all.

        Raises:
            InputError: The track has no frames.
        """
        if len(track.frames) == 0:
            raise InputError(f"track {track.track_id} has no frames: remove it from the tracks file")
        is_detected = np.isfinite(track.scores)
        seen = track.frames[is_detected]
        turn = np.searchsorted(np.array(sorted(searched)), seen) if searched else seen
        breaks = np.flatnonzero(np.diff(turn) > 1)
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
    """A person in the video and the decision about them.

    Args:
        person_id: Id of the person in the tracks file and on the sheet of people.
        is_hidden: Whether the person was anonymized; False = kept.
        reason: Reason of the decision, one short phrase.
        score: Score that the chooser ranked by; None where it did not rank.
        tracks: Tracks of the person, at least one.
        replacement: Name of what took the person's place; None where the system has no names, and for kept people.
    """

    person_id: int
    is_hidden: bool
    reason: str
    score: float | None
    tracks: tuple[TrackRecord, ...]
    replacement: str | None = None

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
    people: Iterable[Person],
    decisions: Iterable[Decision],
    searched: Collection[int] = (),
    replacements: Mapping[int, str] | None = None,
) -> tuple[PersonRecord, ...]:
    """Records of all people in the video, in the order given.

    Args:
        people: The people that the tracker found.
        decisions: Decision for each of them.
        searched: Indices of the frames that were searched; empty: all. Where one of them does not show a person, the
            boxes there are shown as filled in.
        replacements: Person id -> name of what took the person's place; None where the system has no names.

    Raises:
        SettingError: A person has no decision, or more than one.
    """
    by_id: dict[int, Decision] = {}
    for decision in decisions:
        if decision.person_id in by_id:
            raise SettingError(f"person {decision.person_id} has two decisions: leave one")
        by_id[decision.person_id] = decision
    records = []
    for person in people:
        if person.person_id not in by_id:
            raise SettingError(f"person {person.person_id} has no decision: every person found must be hidden or kept")
        decision = by_id[person.person_id]
        records.append(
            PersonRecord(
                person_id=person.person_id,
                is_hidden=decision.is_hidden,
                reason=decision.reason,
                score=float(decision.score) if math.isfinite(decision.score) else None,
                tracks=tuple(TrackRecord.of(track, searched) for track in person.tracks),
                replacement=(replacements or {}).get(person.person_id),
            )
        )
    return tuple(records)


@dataclass(frozen=True, eq=False)
class RunReport:
    """The record of one run.

    Args:
        source: Record of the source.
        output_name: File name of the output.
        started, finished: Beginning and end of the run by the wall clock, with a time zone.
        elapsed_s: Duration in seconds by a clock that is never set back.
        frames: Log of every frame.
        people: The people in the video, and who was hidden.
        chooser_summary: Summary of the chooser in one line: who was kept, and by what margin.
        cuts: Index of the first frame of every new shot.
        versions: Version of each package.
        config: The resolved settings, plain dicts, lists and scalars.
        warnings: Warnings, one line each.
        tracks_name: File name of the tracks file that was written beside the output, if one was.

    Raises:
        PaLibError: A frame of the source is not accounted for.
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
    warnings: tuple[str, ...] = ()
    tracks_name: str | None = None

    def __post_init__(self) -> None:
        if len(self.frames) != self.source.n_frames:
            raise PaLibError(
                f"{self.source.name} has {self.source.n_frames} frames, but {len(self.frames)} are accounted for: "
                "do not use the output, and report this as a bug"
            )

    @classmethod
    def of(
        cls,
        info: VideoInfo,
        record: TracksRecord,
        frames: FrameLog,
        *,
        output_name: str,
        tracks_name: str,
        started: datetime,
        config: Mapping[str, Any],
        waited_s: float = 0.0,
        warnings: Sequence[str] = (),
        replacements: Mapping[int, str] | None = None,
    ) -> RunReport:
        """The report of a run that ends now.

        Args:
            info: The video that was read.
            record: Tracks of the people, and who was hidden.
            frames: Log of every frame.
            output_name: File name of the result.
            tracks_name: File name of the tracks file beside it.
            started: Beginning of the run, with a time zone.
            config: The resolved settings, plain dicts, lists and scalars.
            waited_s: Part of the time since then in which other files were worked on, in seconds.
            warnings: Further warnings for the user, one line each, beside those about the file.
            replacements: Person id -> name of what took the person's place; None where the system has no names.
        """
        finished = datetime.now().astimezone()
        return cls(
            source=SourceRecord.of(info, record.sha256, record.n_frames),
            output_name=output_name,
            started=started,
            finished=finished,
            elapsed_s=(finished - started).total_seconds() - waited_s,
            frames=frames,
            people=people_records(record.people, record.decisions, record.searched, replacements),
            chooser_summary=record.summary,
            cuts=record.cuts,
            config=config,
            warnings=(*info.faults, *info.notes, *warnings),
            tracks_name=tracks_name,
        )

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
        with self.stage_json(path) as staged:
            staged.commit()

    def stage_json(self, path: Path) -> StagedFile:
        """The file of `write_json`, written and waiting for its name."""
        return StagedFile.holding(path, (part.encode(errors=AS_ESCAPES) for part in self._json_parts()))

    @classmethod
    def read_json(cls, path: Path) -> RunReport:
        """Reads what `write_json` wrote.

        Raises:
            InputError: The file is missing, or of another schema.
            DamagedInputError: A field is missing or wrong.
        """
        return record_of(cls, read_content(path, SCHEMA, SCHEMA_VERSION, _ADVICE), path, _ADVICE)

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
        head |= {each.name: plain(getattr(self, each.name)) for each in fields(self) if each.name != "frames"}
        yield json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
        yield ',\n  "frames": '
        yield from self.frames.json_parts()
        yield "\n}\n"
