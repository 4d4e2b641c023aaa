"""The walk over a real file: read, find, track, choose, mask, anonymize, composite, write, report.

The file is decoded twice. The first pass only looks for people, so that they can be followed in both directions and
chosen by what they do in the whole video; the second pass hides them. Neither keeps more than a window of frames.

It fails closed: a frame that cannot be protected is redacted whole or ends the run, and nothing carries the output's
name before every frame in it is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Person
from pa_lib.errors import PaLibError
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people import (
    AbstractChooser,
    AbstractFinder,
    AbstractMasker,
    Choice,
    KalmanTracker,
    Scene,
    TracksRecord,
    check_source,
    embed_people,
    find_people,
    link_people,
    read_tracks,
    write_tracks,
)
from pa_lib.pipeline.protect import OnFailure, ProtectedFrame, protect_frames
from pa_lib.reports.frame_log import FrameLog
from pa_lib.reports.people_sheet import PeopleSheet
from pa_lib.reports.run_page import write_run_page
from pa_lib.reports.run_record import RunReport, SourceRecord, people_records
from pa_lib.reports.thumbnails import ThumbnailCollector
from pa_lib.video import (
    Frame,
    Limits,
    VideoInfo,
    VideoWriter,
    WriteSettings,
    check_output,
    default_output,
    fingerprint,
    probe,
    read_frames,
)

Progress = Callable[[str, int, int | None], None]
Stage = Literal["all", "find"]


@dataclass(frozen=True)
class SearchSettings:
    """How densely a video is searched for people.

    Args:
        stride: Every n-th frame is searched; tracks fill the frames between.
        batch: Frames handed to the finder at a time.
        cut_threshold: Mean change of a grey thumbnail, in [0, 1], from which a frame begins a new shot.
    """

    stride: int = 2
    batch: int = 1
    cut_threshold: float = 0.14


@dataclass(frozen=True)
class RunSettings:
    """What differs from run to run.

    Args:
        tracks: A tracks file of the same video. Nobody is searched for again, and the decisions in it hold.
        is_chosen_again: With `tracks`: the chooser decides anew among the people in it.
        stage: ``find`` stops after the tracks file and a numbered sheet of the people in the video.
        on_failure: What happens to a frame that cannot be protected: ``redact`` blanks it, ``abort`` ends the run.
        seed: The same seed gives the same result.
        is_overwrite: Whether an existing output may be replaced.
        is_damaged_accepted: Whether a file that is visibly cut short or damaged is worked on at all.
        is_before_shown: Put original pixels of hidden people into the report.
        config: What to record in the report as the configuration.

    Raises:
        PaLibError: For a value that is none of the choices.
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
                raise PaLibError(f"{name}: got '{value}', expected {' or '.join(choices)}")


@dataclass(frozen=True)
class Outcome:
    """What one run left behind.

    Args:
        summary: A few lines for people: frames by status, and who was hidden and kept.
        files: What was written, by what it is: ``video``, ``tracks``, ``report``, ``page``, ``people``.
        n_redacted: Frames that could not be protected and were redacted whole.
    """

    summary: str
    files: dict[str, Path]
    n_redacted: int = 0


class AnonymizationPipeline:
    """Anonymize whole files with parts that the caller brings.

    Args:
        finder: Sees faces, people or both in single frames.
        tracker: Joins sightings into tracks without gaps.
        chooser: Decides who is hidden.
        masker: Decides which pixels that takes.
        module: Paints something else there; any system of `pa_lib.modules`.
        identity: Makes the face network; called only where the chooser compares faces.
        search: How densely the video is searched.
        limits: What is refused before it is decoded.
        write: Codec, quality, audio and metadata of the output.
    """

    def __init__(
        self,
        finder: AbstractFinder,
        tracker: KalmanTracker,
        chooser: AbstractChooser,
        masker: AbstractMasker,
        module: AbstractAnonymizer,
        *,
        identity: Callable[[], Any] | None = None,
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
        on_progress: Progress | None = None,
    ) -> Outcome:
        """Anonymize one file.

        Args:
            source: A video, GIF, image, or folder of images.
            output: Where the result goes; the tracks file and the reports are named after it. A folder takes a result
                of the usual name, ``clip.anonymized.mp4``; None puts that beside the source.
            settings: What differs from run to run.
            on_progress: Called with (stage, frames done, frames in all or None).

        Raises:
            PaLibError: Where the file cannot be anonymized; nothing carries the output's name then.
        """
        settings = settings or RunSettings()
        tell = on_progress or (lambda stage, done, total: None)
        started = datetime.now().astimezone()
        info = probe(source, self.limits)
        if info.faults and not settings.is_damaged_accepted:
            raise PaLibError(
                f"input {source} is damaged: {'; '.join(info.faults)}; copy it again from its source, or set "
                "is_damaged_accepted=true to anonymize what is left of it"
            )
        output = self._output(info, output, settings)
        sha256 = fingerprint(source)
        if settings.tracks is None:
            record = self._find(info, sha256, settings, tell)
        else:
            record = read_tracks(settings.tracks)
            check_source(record, sha256)
            if settings.is_chosen_again:
                record = record.decided(self._choose(info, record.people, record.times_s, record.cuts, tell))
        if settings.stage == "find":
            files = {"tracks": _beside(output, "tracks.json"), "people": _beside(output, "people.png")}
            write_tracks(files["tracks"], record)
            self._draw_people(info, record, files["people"], tell)
            return Outcome(f"{info.path.name}: {record.summary}", files)

        files = {
            "video": output,
            "tracks": _beside(output, "tracks.json"),
            "report": _beside(output, "report.json"),
            "page": _beside(output, "report.html"),
        }
        report = self._hide(info, sha256, record, files, settings, started, tell)
        summary = f"{info.path.name}: {report.verdict}\n{record.summary}"
        return Outcome(summary, files, n_redacted=report.counts["redacted"])

    def _output(self, info: VideoInfo, output: Path | None, settings: RunSettings) -> Path:
        """The output's full name, checked before any work is done."""
        if output is None or output.is_dir():
            output = default_output(info, output, self.write)
        if output.exists() and not settings.is_overwrite:
            raise PaLibError(f"output {output} exists; choose another name or set is_overwrite=true")
        check_output(output, info, self.write)
        return output

    # -- first pass: who is in the video ---------------------------------------------------------------------------

    def _find(self, info: VideoInfo, sha256: str, settings: RunSettings, tell: Progress) -> TracksRecord:
        """Search, track, link and choose."""
        findings = find_people(
            _counted(read_frames(info), info, "finding people", tell),
            self.finder,
            stride=self.search.stride,
            batch=self.search.batch,
            cut_threshold=self.search.cut_threshold,
        )
        tracks = self.tracker.track(findings, info.width, info.height)
        people = link_people(tracks, findings.times_s, findings.cuts)
        choice = self._choose(info, people, findings.times_s, findings.cuts, tell)
        self.finder.release()
        made_with = {"people": settings.config["people"]} if settings.config else {}
        return TracksRecord.of(info, sha256, findings, people, choice, made_with)

    def _choose(
        self,
        info: VideoInfo,
        people: Sequence[Person],
        times_s: NDArray[np.float64],
        cuts: Sequence[int],
        tell: Progress,
    ) -> Choice:
        """Who is hidden; takes one more pass over the video where faces must be compared."""
        embeddings = None
        if self.chooser.needs_identity:
            if self.identity is None:
                raise PaLibError(f"{type(self.chooser).__name__} compares faces: give it a face network, identity=...")
            network = self.identity()
            self.chooser.learn(network, self.finder)
            embeddings = embed_people(_counted(read_frames(info), info, "comparing faces", tell), people, network)
        return self.chooser.choose(
            people, Scene(info.width, info.height, len(times_s), times_s, tuple(cuts)), embeddings
        )

    def _draw_people(self, info: VideoInfo, record: TracksRecord, path: Path, tell: Progress) -> None:
        """The numbered people of the video as one picture."""
        sheet = PeopleSheet(record.people, record.decisions, info.width, info.height, record.times_s, info.path.name)
        wanted = sheet.wanted_frames
        for frame in _counted(read_frames(info), info, "drawing people", tell):
            if frame.index in wanted and frame.picture is not None:
                sheet.offer(frame.index, frame.picture.rgb())
        sheet.save(path)

    # -- second pass: hide them ------------------------------------------------------------------------------------

    def _hide(
        self,
        info: VideoInfo,
        sha256: str,
        record: TracksRecord,
        files: dict[str, Path],
        settings: RunSettings,
        started: datetime,
        tell: Progress,
    ) -> RunReport:
        """Write the anonymized video and all that belongs to it. The video gets its name last."""
        log, pictures = FrameLog(), ThumbnailCollector(record.n_frames)
        frames = _counted(read_frames(info), info, "hiding people", tell, record.n_frames)
        protected = protect_frames(frames, info, record, self.masker, self.module, settings.seed)
        with closing(protected), VideoWriter(files["video"], info, self.write) as writer:
            for done in protected:
                if done.record.status == "redacted" and settings.on_failure == "abort":
                    raise PaLibError(
                        f"frame {done.record.index} could not be protected ({done.record.fault}); nothing was written. "
                        "on_failure=redact blanks such frames"
                    )
                writer.write(done.frame)
                log.append(done.record)
                _offer(pictures, done, settings.is_before_shown)
            if len(log) != record.n_frames:
                raise PaLibError(
                    f"input {info.path} gave {record.n_frames} frames when it was searched and {len(log)} now; "
                    "was it changed? nothing was written"
                )
            report = _report(info, sha256, record, files, log, settings, started, self.module.notes)
            try:
                write_tracks(files["tracks"], record)
                report.write_json(files["report"])
                write_run_page(report, files["page"], pictures.thumbnails())
                writer.commit(len(log))
            except BaseException:
                for name in ("tracks", "report", "page"):
                    files[name].unlink(missing_ok=True)
                raise
        return report


def _offer(pictures: ThumbnailCollector, done: ProtectedFrame, is_before_shown: bool) -> None:
    is_important = done.record.status == "redacted"
    if pictures.wants(done.record.index, important=is_important):
        assert done.frame.picture is not None
        before = done.source.rgb() if is_before_shown and done.source is not None else None
        pictures.offer(done.record.index, done.frame.picture.rgb(), before, is_important)


def _report(
    info: VideoInfo,
    sha256: str,
    record: TracksRecord,
    files: Mapping[str, Path],
    log: FrameLog,
    settings: RunSettings,
    started: datetime,
    remarks: Sequence[str],
) -> RunReport:
    finished = datetime.now().astimezone()
    return RunReport(
        source=SourceRecord(
            name=info.path.name,
            sha256=sha256,
            width=info.width,
            height=info.height,
            fps=info.fps,
            n_frames=record.n_frames,
            duration_s=info.duration_s,
            codec=info.codec,
            audio=info.audio,
        ),
        output_name=files["video"].name,
        started=started,
        finished=finished,
        elapsed_s=(finished - started).total_seconds(),
        frames=log,
        people=people_records(record.people, record.decisions, record.stride),
        chooser_summary=record.summary,
        cuts=record.cuts,
        config=settings.config or {},
        exit_code=3 if log.counts["redacted"] else 0,
        warnings=(*info.faults, *info.remarks, *remarks),
        tracks_name=files["tracks"].name,
    )


def _counted(
    frames: Iterable[Frame], info: VideoInfo, stage: str, tell: Progress, total: int | None = None
) -> Iterator[Frame]:
    """The same frames, with progress told after each."""
    total = total or info.n_frames_estimate
    done = 0
    for frame in frames:
        yield frame
        done = frame.index + 1
        tell(stage, done, total if total is None else max(total, done))
    tell(stage, done, done)


def _beside(output: Path, suffix: str) -> Path:
    """``out.mp4`` -> ``out.tracks.json``."""
    return output.with_name(f"{output.stem if output.suffix else output.name}.{suffix}")
