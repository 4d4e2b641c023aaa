"""From a video file to an anonymized one: read, find, track, choose, mask, anonymize, composite, write, report.

The file is decoded twice. The first pass looks for people, so that they can be followed in both directions and chosen
by what they do in the whole video; the second pass hides them. A chooser that compares faces takes one pass more
between the two, as does a recognizer, and ``stage=find`` one for the sheet of people. No pass keeps more than a window
of frames.

Several files are independent of each other, unless a recognizer compares the people in them: then all are searched
before the first is written.

It fails closed: a frame that cannot be protected is redacted whole or ends the run. No output file is written before
every frame in it is accounted for, and a run that fails changes no file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import FaceNetwork, Person, PersonInfo, ProgressCallback, Replacement
from pa_lib.errors import DamagedInputError, InputError, ProtectionError, SettingError
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people import (
    AbstractChooser,
    AbstractFinder,
    AbstractMasker,
    AbstractTracker,
    Embeddings,
    FaceRecognizer,
    TracksRecord,
    check_source,
    embed_photos,
    read_tracks,
    stage_tracks,
)
from pa_lib.pipeline.checks import untracked
from pa_lib.pipeline.passes import SearchSettings, compare_faces, no_progress, read_reported, search_people
from pa_lib.pipeline.protect import ProtectedFrame, protect_frames, replacements_of
from pa_lib.pipeline.recurring import shared
from pa_lib.pipeline.run import RunOutcome, RunSettings, SearchedVideo
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
    deinterlacing,
    fingerprint,
    is_taken,
    probe,
    stem_of,
)

_MAX_REASONS = 3


class AnonymizationPipeline:
    """Anonymizes whole files with parts that the caller brings.

    Args:
        finder: Finder of faces, bodies or both in single frames.
        tracker: Tracker that joins detections into tracks without gaps.
        chooser: Chooser that decides who is hidden.
        masker: Masker that decides which pixels are replaced.
        module: Anonymizer that replaces them, any system of `pa_lib.modules`.
        identity: Function that builds the face network; called only if the chooser or the recognizer compares faces.
        recognizer: Recognizes people who are in several videos of a run, so that their replacement is the same in all
            of them; None keeps videos independent of each other.
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
        recognizer: FaceRecognizer | None = None,
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
        self.recognizer = recognizer
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
        video = self.find(source, output, settings, on_progress)
        return self.finish(self.recognized([video])[0], on_progress)

    def find(
        self,
        source: Path,
        output: Path | None = None,
        settings: RunSettings | None = None,
        on_progress: ProgressCallback | None = None,
        *,
        is_alone: bool = True,
    ) -> SearchedVideo:
        """The first half of `run`: who is in the video, and who of them is hidden.

        Args:
            source: See `run`.
            output: See `run`.
            settings: See `run`.
            on_progress: See `run`.
            is_alone: Whether this is the only video of the run. False embeds faces for `recognized`.

        Raises:
            PaLibError: The file cannot be anonymized.
        """
        settings, on_progress = settings or RunSettings(), on_progress or no_progress
        is_compared = self.recognizer is not None and (not is_alone or bool(self.recognizer.photos))
        if is_compared:
            self.check_recognizer()
        started = datetime.now().astimezone()
        info = self._checked_input(source, settings)
        files, notes = self._checked_output(info, output, settings)
        sha256 = fingerprint(source)
        faces: Embeddings | None = None
        if settings.tracks is None:
            record, faces = self._searched(info, sha256, settings, on_progress)
        else:
            record = read_tracks(settings.tracks)
            check_source(record, sha256)
            if settings.is_chosen_again:
                record, faces = self._choose(info, record, on_progress)
        if not is_compared:
            faces = None
        elif faces is None:
            faces = compare_faces(info, record.hidden, self._network, on_progress)
        return SearchedVideo(info, record, files, settings, started, datetime.now().astimezone(), faces, notes)

    def check_recognizer(self) -> None:
        """Refuse, before any search, a recognizer whose photos cannot be used, or beside a system without names.

        Raises:
            PaLibError: The reason.
        """
        if self.recognizer is None:
            return
        wishes = {at: PersonInfo(replacement=Replacement(name)) for at, name in enumerate(self._photos, start=1)}
        if not self.module.replacements({0: PersonInfo(), **wishes}):
            raise SettingError(
                f"{type(self.module).__name__} has no names for what takes a person's place, and a recognizer gives a "
                "person the same one in several videos; use module=doubles, or leave the recognizer out"
            )

    def recognized(self, videos: Sequence[SearchedVideo]) -> list[SearchedVideo]:
        """The videos of a run, with the same replacement for a person in all of them, where there is a recognizer.

        The replacements are wishes in the records then, so that tracks files name them. They depend on the seed of the
        first video, on the videos, and on who hidden people look like, not on the order of the videos.

        Args:
            videos: Videos from `find`.

        Raises:
            PaLibError: A replacement that is wished for is unknown to the system.
        """
        if self.recognizer is None or all(video.faces is None for video in videos):
            return list(videos)
        limit = self.recognizer.max_distance or float(self._network.same_person_distance)
        return shared(videos, self._photos, limit, self.module)

    def finish(self, video: SearchedVideo, on_progress: ProgressCallback | None = None) -> RunOutcome:
        """The second half of `run`: hide people and write the results.

        Args:
            video: Video from `find` or `recognized`.
            on_progress: See `run`.

        Raises:
            PaLibError: The file cannot be anonymized. No file is written or changed then.
        """
        on_progress = on_progress or no_progress
        if video.settings.stage == "find":
            return self._write_people(video, on_progress)
        return self._write_video(video, on_progress)

    def _checked_input(self, source: Path, settings: RunSettings) -> VideoInfo:
        """The source, refused if it is damaged and that was not accepted."""
        info = replace(probe(source, self.limits), is_scaled=settings.other_sizes == "scale")
        if settings.is_deinterlaced:
            info = deinterlacing(info)
        if info.faults and not settings.is_damaged_accepted:
            raise DamagedInputError(
                f"input {source} is damaged: {'; '.join(info.faults)}; copy it again from its source, or set "
                "is_damaged_accepted=true to anonymize what is left of it"
            )
        return info

    def _checked_output(
        self, info: VideoInfo, output: Path | None, settings: RunSettings
    ) -> tuple[dict[str, Path], tuple[str, ...]]:
        """The names of the results, checked before any work is done, and what the video will not have of its source."""
        if output is None or os.path.isdir(output):
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
        old = [path for path in files.values() if is_taken(path) and path.resolve() != own]
        if old and not settings.is_overwrite:
            raise SettingError(f"output {old[0]} exists; choose another name or set is_overwrite=true")
        notes = check_output(output, info, self.write)
        return files, notes if settings.stage == "all" else ()

    # -- who is in the video, and who of them is hidden ----------------------------------------------------------------

    def _searched(
        self, info: VideoInfo, sha256: str, settings: RunSettings, on_progress: ProgressCallback
    ) -> tuple[TracksRecord, Embeddings | None]:
        """Search, track, link and choose: one pass, and another one if faces are compared, which come back then."""
        found = search_people(info, self.finder, self.tracker, self.search, on_progress)
        chooser, embeddings = self._with_faces(info, found.people, on_progress)
        choice = chooser.choose(found.people, found.timeline, embeddings)
        self.finder.release()
        made_with = {"people": settings.config["people"]} if settings.config else {}
        record = TracksRecord.of(info, sha256, found.findings, found.people, choice, made_with)
        lost = untracked(found.findings, record.people, self.tracker.start_score)
        return replace(record, faults={**lost, **record.faults}), embeddings

    def _choose(
        self, info: VideoInfo, record: TracksRecord, on_progress: ProgressCallback
    ) -> tuple[TracksRecord, Embeddings | None]:
        """Other decisions about the people of a tracks file: one pass if faces are compared, else none."""
        chooser, embeddings = self._with_faces(info, record.people, on_progress)
        return record.decided(chooser.choose(record.people, record.timeline, embeddings)), embeddings

    def _with_faces(
        self, info: VideoInfo, people: Sequence[Person], on_progress: ProgressCallback
    ) -> tuple[AbstractChooser, Embeddings | None]:
        """The chooser with its photos embedded, and embeddings of all faces; None where it compares none."""
        if not self.chooser.needs_identity:
            return self.chooser, None
        chooser = self.chooser.learned(self._network, self.finder)
        return chooser, compare_faces(info, people, self._network, on_progress)

    @cached_property
    def _network(self) -> FaceNetwork:
        if self.identity is None:
            comparing = self.chooser if self.chooser.needs_identity else self.recognizer
            raise SettingError(f"{type(comparing).__name__} compares faces: give it a face network, identity=...")
        return self.identity()

    @cached_property
    def _photos(self) -> dict[str, NDArray[np.float32]]:
        """Embeddings of the recognizer's photos, by the name of the replacement."""
        photos = {} if self.recognizer is None else self.recognizer.photos
        return {name: embed_photos(given, self._network, self.finder) for name, given in photos.items()}

    # -- results -------------------------------------------------------------------------------------------------------

    def _write_people(self, video: SearchedVideo, on_progress: ProgressCallback) -> RunOutcome:
        """Write the tracks file and the numbered people of the video as one picture."""
        info, record, files = video.info, video.record, video.files
        sheet = PeopleSheet(
            record.people,
            record.decisions,
            info.width,
            info.height,
            record.times_s,
            info.path.name,
            replacements_of(record, self.module, video.settings.seed),
        )
        needed = sheet.needed_frames
        for frame in read_reported(info, "drawing people", on_progress, record.n_frames):
            if frame.index in needed and frame.picture is not None:
                sheet.offer(frame.index, frame.picture.rgb())
        _check_unchanged(info, record)
        with sheet.stage(files["people"]) as people, stage_tracks(files["tracks"], record) as tracks:
            commit_together([people], tracks)
        return RunOutcome("\n".join((f"{info.path.name}: {record.summary}", *video.remarks)), files)

    def _write_video(self, video: SearchedVideo, on_progress: ProgressCallback) -> RunOutcome:
        """Write the anonymized video and all that belongs to it. The video gets its name last."""
        info, record, files, settings = video.info, video.record, video.files, video.settings
        waited = datetime.now().astimezone() - video.searched  # for the search of the other videos of the run
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
                started=video.started,
                waited_s=waited.total_seconds(),
                config=settings.config or {},
                warnings=(*self.module.notes, *video.notes),
                replacements=replacements_of(record, self.module, settings.seed),
            )
            with (
                stage_tracks(files["tracks"], record) as tracks,
                report.stage_json(files["report"]) as rows,
                stage_run_page(report, files["page"], pictures.thumbnails()) as page,
            ):
                writer.commit(len(log), [tracks, rows, page])
        remarks = (*(f"note: {warning}" for warning in report.warnings), *video.remarks)
        summary = "\n".join((f"{info.path.name}: {report.verdict}", record.summary, *_reasons(log), *remarks))
        return RunOutcome(summary, files, n_redacted=report.counts["redacted"])


def _reasons(log: FrameLog) -> list[str]:
    """The commonest reasons why frames were redacted, one line each."""
    reasons = Counter(log[int(index)].fault for index in np.flatnonzero(log.is_redacted))
    return [f"{n:,} redacted: {reason}" for reason, n in reasons.most_common(_MAX_REASONS)]


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
    """``out.mp4`` -> ``out.tracks.json``; of a folder ``photos.v2`` the whole name stays."""
    return output.with_name(f"{stem_of(output)}.{suffix}")
