"""From a video file to an anonymized one: read, find, track, choose, mask, anonymize, composite, write, report.

The file is decoded twice. The first pass looks for people, so that they can be followed in both directions and chosen
by what they do in the whole video; the second pass hides them. A chooser that compares faces takes one pass more
between the two, and ``stage=find`` one for the sheet of people. No pass keeps more than a window of frames.

It fails closed: a frame that cannot be protected is redacted whole or ends the run. No output file is written before
every frame in it is accounted for, and a run that fails changes no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pa_lib.contracts import FaceNetwork, Person, ProgressCallback
from pa_lib.errors import DamagedInputError, InputError, ProtectionError, SettingError
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people import (
    AbstractChooser,
    AbstractFinder,
    AbstractMasker,
    AbstractTracker,
    Embeddings,
    TracksRecord,
    check_source,
    read_tracks,
    stage_tracks,
)
from pa_lib.pipeline.passes import SearchSettings, compare_faces, no_progress, read_reported, search_people
from pa_lib.pipeline.protect import OnFailure, ProtectedFrame, protect_frames, replacements_of
from pa_lib.reports.frame_log import FrameLog
from pa_lib.reports.people_sheet import PeopleSheet
from pa_lib.reports.run_page import stage_run_page
from pa_lib.reports.run_record import RunReport
from pa_lib.reports.thumbnails import ThumbnailCollector
from pa_lib.video import (
    Limits,
    VideoInfo,
    VideoWriter,
    WriteSettings,
    check_output,
    commit_together,
    default_output,
    fingerprint,
    probe,
)

Stage = Literal["all", "find"]


@dataclass(frozen=True)
class RunSettings:
    """What differs from run to run.

    Args:
        tracks: Tracks file of the same video. The video is not searched again, and the decisions in the file hold.
        is_chosen_again: Whether the chooser decides again among the people in `tracks`.
        stage: Last stage of the run: ``find`` stops after the tracks file and a numbered sheet of the people in the
            video.
        on_failure: Treatment of a frame that cannot be protected: ``redact`` blanks it, ``abort`` ends the run.
        seed: Seed of everything random; the same seed gives the same result.
        is_overwrite: Whether existing results may be replaced.
        is_damaged_accepted: Whether a file that is visibly cut short or damaged is worked on at all.
        is_before_shown: Whether original pixels of hidden people are put into the report.
        config: The configuration, as it is recorded in the report.

    Raises:
        SettingError: A value is none of the choices.
    """

    tracks: Path | None = None
    is_chosen_again: bool = False
    stage: Stage = "all"
    on_failure: OnFailure = "redact"
    seed: int = 0
    is_overwrite: bool = True
    is_damaged_accepted: bool = False
    is_before_shown: bool = False
    config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("stage", self.stage, ("all", "find")),
            ("on_failure", self.on_failure, ("redact", "abort")),
        ):
            if value not in choices:
                raise SettingError(f"{name}: got '{value}', expected {' or '.join(choices)}")


@dataclass(frozen=True)
class RunOutcome:
    """The results of one run.

    Args:
        summary: Summary in a few lines: frames by status, and who was hidden and kept.
        files: Files that were written, by kind: ``video``, ``tracks``, ``report``, ``page``, ``people``.
        n_redacted: Number of frames that could not be protected and were redacted whole.
    """

    summary: str
    files: dict[str, Path]
    n_redacted: int = 0


class AnonymizationPipeline:
    """Anonymizes whole files with parts that the caller brings.

    Args:
        finder: Finder of faces, bodies or both in single frames.
        tracker: Tracker that joins detections into tracks without gaps.
        chooser: Chooser that decides who is hidden.
        masker: Masker that decides which pixels are replaced.
        module: Anonymizer that replaces them, any system of `pa_lib.modules`.
        identity: Function that builds the face network; called only if the chooser compares faces.
        search: Density of the search.
        limits: Limits on what is decoded.
        write: Codec, quality, audio and metadata of the output.
    """

    def __init__(
        self,
        finder: AbstractFinder,
        tracker: AbstractTracker,
        chooser: AbstractChooser,
        masker: AbstractMasker,
        module: AbstractAnonymizer,
        *,
        identity: Callable[[], FaceNetwork] | None = None,
        search: SearchSettings | None = None,
        limits: Limits | None = None,
        write: WriteSettings | None = None,
    ) -> None:
        self.finder = finder
        self.tracker = tracker
        self.chooser = chooser
        self.masker = masker
        self.module = module
        self.identity = identity
        self.search = search or SearchSettings()
        self.limits = limits or Limits()
        self.write = write or WriteSettings()

    def run(
        self,
        source: Path,
        output: Path | None = None,
        settings: RunSettings | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> RunOutcome:
        """Anonymize one file.

        Args:
            source: A video, GIF, image, or folder of images.
            output: Name of the result; the tracks file and the reports are named after it. In a folder the result gets
                its usual name, ``clip.anonymized.mp4``; None puts that beside the source.
            settings: Settings that differ from run to run.
            on_progress: Callback after every frame of every pass.

        Raises:
            PaLibError: The file cannot be anonymized. No file is written or changed then.
        """
        settings, on_progress = settings or RunSettings(), on_progress or no_progress
        started = datetime.now().astimezone()
        info = self._checked_input(source, settings)
        files = self._checked_output(info, output, settings)
        sha256 = fingerprint(source)
        if settings.tracks is None:
            record = self._find(info, sha256, settings, on_progress)
        else:
            record = read_tracks(settings.tracks)
            check_source(record, sha256)
            if settings.is_chosen_again:
                record = self._choose(info, record, on_progress)
        if settings.stage == "find":
            return self._write_people(info, record, files, settings, on_progress)
        return self._write_video(info, record, files, settings, started, on_progress)

    def _checked_input(self, source: Path, settings: RunSettings) -> VideoInfo:
        """The source, refused if it is damaged and that was not accepted."""
        info = probe(source, self.limits)
        if info.faults and not settings.is_damaged_accepted:
            raise DamagedInputError(
                f"input {source} is damaged: {'; '.join(info.faults)}; copy it again from its source, or set "
                "is_damaged_accepted=true to anonymize what is left of it"
            )
        return info

    def _checked_output(self, info: VideoInfo, output: Path | None, settings: RunSettings) -> dict[str, Path]:
        """The names of the results, checked before any work is done."""
        if output is None or output.is_dir():
            output = default_output(info, output, self.write)
        files = {"tracks": _beside(output, "tracks.json"), "people": _beside(output, "people.png")}
        if settings.stage == "all":
            files = {
                "video": output,
                "tracks": files["tracks"],
                "report": _beside(output, "report.json"),
                "page": _beside(output, "report.html"),
            }
        # The tracks file that this run goes by may have its own name: its decisions are written again, not lost.
        own = None if settings.tracks is None else settings.tracks.resolve()
        old = [path for path in files.values() if path.exists() and path.resolve() != own]
        if old and not settings.is_overwrite:
            raise SettingError(f"output {old[0]} exists; choose another name or set is_overwrite=true")
        check_output(output, info, self.write)
        return files

    # -- who is in the video, and who of them is hidden ----------------------------------------------------------------

    def _find(self, info: VideoInfo, sha256: str, settings: RunSettings, on_progress: ProgressCallback) -> TracksRecord:
        """Search, track, link and choose: one pass, and another one if faces are compared."""
        found = search_people(info, self.finder, self.tracker, self.search, on_progress)
        chooser, embeddings = self._with_faces(info, found.people, on_progress)
        choice = chooser.choose(found.people, found.timeline, embeddings)
        self.finder.release()
        made_with = {"people": settings.config["people"]} if settings.config else {}
        return TracksRecord.of(info, sha256, found.findings, found.people, choice, made_with)

    def _choose(self, info: VideoInfo, record: TracksRecord, on_progress: ProgressCallback) -> TracksRecord:
        """Other decisions about the people of a tracks file: one pass if faces are compared, else none."""
        chooser, embeddings = self._with_faces(info, record.people, on_progress)
        return record.decided(chooser.choose(record.people, record.timeline, embeddings))

    def _with_faces(
        self, info: VideoInfo, people: Sequence[Person], on_progress: ProgressCallback
    ) -> tuple[AbstractChooser, Embeddings | None]:
        """The chooser with its photos embedded, and embeddings of all faces; None where it compares none."""
        if not self.chooser.needs_identity:
            return self.chooser, None
        if self.identity is None:
            raise SettingError(f"{type(self.chooser).__name__} compares faces: give it a face network, identity=...")
        network = self.identity()
        return self.chooser.learned(network, self.finder), compare_faces(info, people, network, on_progress)

    # -- results -------------------------------------------------------------------------------------------------------

    def _write_people(
        self,
        info: VideoInfo,
        record: TracksRecord,
        files: dict[str, Path],
        settings: RunSettings,
        on_progress: ProgressCallback,
    ) -> RunOutcome:
        """Write the tracks file and the numbered people of the video as one picture."""
        sheet = PeopleSheet(
            record.people,
            record.decisions,
            info.width,
            info.height,
            record.times_s,
            info.path.name,
            replacements_of(record, self.module, settings.seed),
        )
        needed = sheet.needed_frames
        for frame in read_reported(info, "drawing people", on_progress, record.n_frames):
            if frame.index in needed and frame.picture is not None:
                sheet.offer(frame.index, frame.picture.rgb())
        _check_unchanged(info, record)
        with sheet.stage(files["people"]) as people, stage_tracks(files["tracks"], record) as tracks:
            commit_together([people], tracks)
        return RunOutcome(f"{info.path.name}: {record.summary}", files)

    def _write_video(
        self,
        info: VideoInfo,
        record: TracksRecord,
        files: dict[str, Path],
        settings: RunSettings,
        started: datetime,
        on_progress: ProgressCallback,
    ) -> RunOutcome:
        """Write the anonymized video and all that belongs to it. The video gets its name last."""
        log, pictures = FrameLog(), ThumbnailCollector(record.n_frames)
        frames = read_reported(info, "hiding people", on_progress, record.n_frames)
        protected = protect_frames(frames, info, record, self.masker, self.module, settings.seed)
        with closing(protected), VideoWriter(files["video"], info, self.write) as writer:
            for done in protected:
                if done.record.status == "redacted" and settings.on_failure == "abort":
                    raise ProtectionError(
                        f"frame {done.record.index} could not be protected ({done.record.fault}); nothing was written. "
                        "on_failure=redact blanks such frames"
                    )
                writer.write(done.frame)
                log.append(done.record)
                _offer(pictures, done, settings.is_before_shown)
            if len(log) != record.n_frames:
                raise InputError(
                    f"input {info.path} gave {record.n_frames} frames when it was searched and {len(log)} now; "
                    "was it changed? nothing was written"
                )
            _check_unchanged(info, record)
            report = RunReport.of(
                info,
                record,
                log,
                output_name=files["video"].name,
                tracks_name=files["tracks"].name,
                started=started,
                config=settings.config or {},
                warnings=self.module.notes,
                replacements=replacements_of(record, self.module, settings.seed),
            )
            with (
                stage_tracks(files["tracks"], record) as tracks,
                report.stage_json(files["report"]) as rows,
                stage_run_page(report, files["page"], pictures.thumbnails()) as page,
            ):
                writer.commit(len(log), [tracks, rows, page])
        summary = f"{info.path.name}: {report.verdict}\n{record.summary}"
        return RunOutcome(summary, files, n_redacted=report.counts["redacted"])


def _check_unchanged(info: VideoInfo, record: TracksRecord) -> None:
    """Refuses an input that was replaced while it was worked on: people would be hidden where they had been before."""
    if fingerprint(info.path) != record.sha256:
        raise InputError(f"input {info.path} was changed while it was worked on; run again. Nothing was written")


def _offer(pictures: ThumbnailCollector, done: ProtectedFrame, is_before_shown: bool) -> None:
    is_important = done.record.status == "redacted"
    if pictures.wants(done.record.index, important=is_important):
        assert done.frame.picture is not None
        before = done.source.rgb() if is_before_shown and done.source is not None else None
        pictures.offer(done.record.index, done.frame.picture.rgb(), before, is_important)


def _beside(output: Path, suffix: str) -> Path:
    """``out.mp4`` -> ``out.tracks.json``."""
    return output.with_name(f"{output.stem if output.suffix else output.name}.{suffix}")
