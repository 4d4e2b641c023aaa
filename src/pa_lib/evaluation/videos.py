"""Originals and what was made of them, frame beside frame, in windows that metrics are fed with.

The masks are made again from the original's frames and the tracks file, by the same code and the same masker as when
the video was anonymized, so that they are the same to the last pixel. Memory does not grow with the video.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.contracts import Kind, ProgressCallback, Result, Sighting
from pa_lib.errors import InputError
from pa_lib.evaluation.maskers import Maskers
from pa_lib.evaluation.pairs import ClipPair
from pa_lib.evaluation.recorded import recorded_replacements
from pa_lib.evaluation.shard import no_progress, under
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people import AbstractMasker, TracksRecord, check_source, read_tracks
from pa_lib.pipeline.protect import Masking, ProtectedFrame, beside, info_of_hidden, protect_frames
from pa_lib.pipeline.replaced import Extending, extended_frame, named
from pa_lib.reports.evaluation_record import MeasuredClip, MeasuredFile
from pa_lib.reports.run_record import RunReport
from pa_lib.video import Frame, Limits, VideoInfo, VideoWriter, WriteSettings, fingerprint, probe, read_frames

WINDOW = 16
"""New frames in a window; every later window begins with the last frame of the one before."""
_RATE_TOLERANCE = 0.02  # formats round times: a GIF to hundredths of a second, Matroska to thousandths
_MANY = 1_000_000  # frames, where a file does not state their number


class OpenedPair:
    """Two videos that fit each other, with what is known about the people in them.

    Args:
        pair: The files.
        clip: Number of the clip in rows of metrics.
        maskers: Choice of the masker that makes the masks; None: the recorded one, else the default.
        limits: Limits on what is read.
        module: System that the video was anonymized with, see `MaskMaker`; None: what the report says of it.
        seed: Seed of the module; where the report says what that is, its seed counts.

    Raises:
        InputError: Sizes or rates differ, the tracks file or report belongs to another video, or the report does not
            say how the system of its run extended the masks.
    """

    def __init__(
        self,
        pair: ClipPair,
        clip: int = 0,
        maskers: Maskers | None = None,
        *,
        limits: Limits | None = None,
        module: Extending | None = None,
        seed: int = 0,
    ) -> None:
        self.pair, self.clip = pair, clip
        limits = limits or Limits()
        self.before, self.after = probe(pair.original, limits), probe(pair.anonymized, limits)
        check_alike(self.before, self.after)
        self.sha256 = fingerprint(pair.original)
        self.record = None if pair.tracks is None else _read_record(pair.tracks, self.sha256)
        report = _read_report(pair, self.sha256)
        self.redacted: frozenset[int] = frozenset()
        if report is not None:
            self.redacted = frozenset(np.flatnonzero(report.frames.is_redacted).tolist())
        self.masks: MaskMaker | None = None
        self.masker_settings: Mapping[str, Any] | None = None
        self.masker_from: str | None = None
        if self.record is not None and pair.tracks is not None:
            maskers = maskers or Maskers()
            masker, self.masker_settings, self.masker_from = maskers.of(report, self.record, pair.tracks)
            if module is None and report is not None:
                module, seed = recorded_replacements(report, pair.report or pair.tracks, maskers.trusted)
            self.masks = MaskMaker(self.before, self.record, masker, self.redacted, module, seed)
        self.n_frames = self.n_undecodable = 0

    @property
    def has_masks(self) -> bool:
        """Whether people are known."""
        return self.masks is not None

    def results(self, on_progress: ProgressCallback | None = None) -> Iterator[Result]:
        """The videos side by side, window after window; counts on the way.

        Raises:
            InputError: One of them has fewer frames.
        """
        yield from windows(self._moments(on_progress or under("", no_progress)), self.clip)

    def measured(self) -> MeasuredClip:
        """The record of the two videos, complete after `results`."""
        return MeasuredClip(
            clip=self.clip,
            name=self.pair.original.name,
            original=measured_file(self.before, self.sha256),
            anonymized=measured_file(self.after, fingerprint(self.pair.anonymized)),
            n_frames=self.n_frames,
            n_undecodable=self.n_undecodable,
            n_redacted=len(self.redacted),
            tracks_sha256=None if self.pair.tracks is None else fingerprint(self.pair.tracks),
            masker=self.masker_settings,
            masker_from=self.masker_from,
            n_hidden=None if self.record is None else sum(one.is_hidden for one in self.record.decisions),
        )

    def _moments(self, on_progress: ProgressCallback) -> Iterator[Moment | None]:
        total = self.record.n_frames if self.record is not None else self.before.n_frames_estimate
        done = 0
        for three, two in zip_longest(beside(read_frames(self.before)), read_frames(self.after)):
            one = None if three is None else three[1]
            if three is None or one is None or two is None:
                raise InputError(
                    f"{self.pair.original.name} and {self.pair.anonymized.name} are not equally long: "
                    f"the {'original' if one is None else 'anonymized'} one ends after {done} frames; was one of them "
                    "cut, or made of another file?"
                )
            done += 1
            if one.picture is None or two.picture is None:
                self.n_undecodable += 1
                yield None
            else:
                self.n_frames += 1
                mask = None if self.masks is None else self.masks.of(*three)
                people = () if self.masks is None else self.masks.people_at(one.index)
                yield Moment(one.picture.rgb(), two.picture.rgb(), mask, people)
            on_progress("measuring", done, total if total is None else max(total, done))
        on_progress("measuring", done, done)
        if self.record is not None and done != self.record.n_frames:
            raise InputError(
                f"{self.pair.original.name} has {done} frames, its tracks file knows {self.record.n_frames}; "
                "was it changed?"
            )


class MaskMaker:
    """Where people are hidden in the frames of a video, as `pa-anonymize` hid them.

    Args:
        info: Description of the original video.
        record: Tracks of the people, and who is hidden.
        masker: Masker that decides which pixels are replaced.
        redacted: Frames that the run blanked whole.
        module: System that the video was anonymized with, which may have extended the masks; None: as they are.
        seed: Seed of the module.
    """

    def __init__(
        self,
        info: VideoInfo,
        record: TracksRecord,
        masker: AbstractMasker,
        redacted: frozenset[int] = frozenset(),
        module: Extending | None = None,
        seed: int = 0,
    ) -> None:
        self.info, self.record, self.redacted = info, record, redacted
        self._masking = Masking(record, masker, info)
        self.module, self.seed = module, seed
        self._known = {} if module is None else named(info_of_hidden(record), module, seed)
        self._is_hidden = {decision.person_id: decision.is_hidden for decision in record.decisions}

    def of(self, before: Frame | None, frame: Frame, after: Frame | None) -> Tensor:
        """The mask of a frame between two: shape h w, float32 in [0, 1]; all ones where the frame is blanked whole."""
        masked = self._masking.of(before, frame, after)
        if self.module is not None:
            masked = extended_frame(masked, self.module, self._known, self.seed)
        if masked.fault is not None or frame.index in self.redacted:
            return torch.ones(self.info.height, self.info.width)
        return masked.union()

    def people_at(self, index: int) -> tuple[Sighting, ...]:
        """Who is in a frame; clip and frame are left at 0."""
        hidden, kept = self.record.present_at(index)
        sightings = []
        for person_id, track, row in (*hidden, *kept):
            x0, y0, x1, y1 = (float(side) for side in track.boxes[row])
            kind: Kind = track.kind
            points = None
            if track.landmarks is not None and np.isfinite(track.landmarks[row]).all():
                points = tuple((float(x), float(y)) for x, y in track.landmarks[row])
            sightings.append(Sighting(0, 0, person_id, (x0, y0, x1, y1), points, self._is_hidden[person_id], kind))
        return tuple(sightings)


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame of the original beside one of the result.

    Args:
        source: Frame of the original, shape h w 3, uint8 RGB.
        anonymized: The same frame of the anonymized video, shape h w 3, uint8 RGB.
        mask: Mask of the hidden people, shape h w, float32 in [0, 1]; None if unknown.
        people: People in the frame; clip and frame are set by `windows`.
    """

    source: NDArray[np.uint8]
    anonymized: NDArray[np.uint8]
    mask: Tensor | None = None
    people: tuple[Sighting, ...] = ()


def windows(moments: Iterable[Moment | None], clip: int, size: int = WINDOW) -> Iterator[Result]:
    """Results of at most `size` new frames, each but the first beginning with the last frame of the one before.

    Args:
        moments: The frames in order; None is a gap, across which no frames are compared.
        clip: Number of the clip in the results.
        size: Number of new frames in a result, >= 1.
    """
    held: list[Moment] = []
    context = 0
    for moment in moments:
        if moment is None:
            if len(held) > context:
                yield _result(held, clip, context)
            held, context = [], 0
            continue
        held.append(moment)
        if len(held) == size + context:
            yield _result(held, clip, context)
            held, context = held[-1:], 1
    if len(held) > context:
        yield _result(held, clip, context)


def composited_results(
    source: Path,
    output: Path,
    record: TracksRecord,
    masker: AbstractMasker,
    module: AbstractAnonymizer,
    *,
    clip: int = 0,
    seed: int = 0,
    limits: Limits | None = None,
    write: WriteSettings | None = None,
    on_progress: ProgressCallback | None = None,
) -> Iterator[Result]:
    """Anonymize a video, and give every window as it is before it is encoded; the file is there after the last one.

    Args:
        source: The video.
        output: File for the anonymized video.
        record: Tracks of the people, and who is hidden.
        masker: Masker that decides which pixels are replaced.
        module: The anonymizer.
        clip: Number of the clip in the results.
        seed: Seed of the module.
        limits: Limits on what is read.
        write: Codec and quality of the file.
        on_progress: Callback with (task, frames done, frames in all).
    """
    info = probe(source, limits or Limits())
    check_source(record, fingerprint(source))
    masks = MaskMaker(info, record, masker, module=module, seed=seed)
    with VideoWriter(output, info, write or WriteSettings()) as writer:

        def moments() -> Iterator[Moment | None]:
            n_done = 0
            for before, done, after in beside(protect_frames(read_frames(info), info, record, masker, module, seed)):
                writer.write(done.frame)
                n_done += 1
                if on_progress is not None:
                    on_progress("anonymizing, measuring", n_done, record.n_frames)
                if done.source is None or done.frame.picture is None:
                    yield None
                    continue
                is_blank = done.record.status == "redacted"
                mask = torch.ones(info.height, info.width)
                if not is_blank:
                    earlier, later = (None if one is None else _source_of(one) for one in (before, after))
                    mask = masks.of(earlier, _source_of(done), later)
                yield Moment(done.source.rgb(), done.frame.picture.rgb(), mask, masks.people_at(done.frame.index))

        yield from windows(moments(), clip)
        writer.commit(record.n_frames)


def _source_of(done: ProtectedFrame) -> Frame:
    """A frame as it was before it was protected."""
    return replace(done.frame, picture=done.source)


def measured_file(info: VideoInfo, sha256: str) -> MeasuredFile:
    """The record of one file."""
    return MeasuredFile(info.path.name, sha256, info.width, info.height, round(float(info.fps), 4), info.codec)


def _result(moments: Sequence[Moment], clip: int, context: int) -> Result:
    def stacked(pictures: list[NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)[None]

    height, width = moments[0].source.shape[:2]
    is_known = moments[0].mask is not None
    masks = torch.zeros(1, len(moments), 1, height, width)
    for at, moment in enumerate(moments):
        if moment.mask is not None:
            masks[0, at, 0] = moment.mask
    people = tuple(replace(one, frame=at) for at, moment in enumerate(moments) for one in moment.people)
    return Result(
        stacked([moment.source for moment in moments]),
        stacked([moment.anonymized for moment in moments]),
        masks,
        torch.tensor([clip]),
        people=people if is_known else None,
        context=context,
    )


def check_alike(before: VideoInfo, after: VideoInfo) -> None:
    """Refuses two videos whose frames cannot be compared.

    Raises:
        InputError: Sizes or rates differ.
    """
    names = f"{before.path.name} and {after.path.name}"
    if (before.width, before.height) != (after.width, after.height):
        raise InputError(
            f"{names} are not of one size: {before.width} x {before.height} and {after.width} x {after.height} px; "
            "scale one of them, or compare what belongs together"
        )
    is_timed = "image" not in before.container and "image" not in after.container
    if before.is_variable_rate and after.is_variable_rate:
        return  # an average depends on the length of the last frame, which files state differently
    n_frames = min(before.n_frames_estimate or _MANY, after.n_frames_estimate or _MANY)
    tolerance = max(_RATE_TOLERANCE, 1 / n_frames)  # the same, in a short clip
    if is_timed and abs(before.fps - after.fps) > tolerance * before.fps:
        raise InputError(
            f"{names} are not of one rate: {before.fps:.4g} and {after.fps:.4g} frames per second; their frames are "
            "not of the same moments"
        )


def _read_record(tracks: Path, sha256: str) -> TracksRecord:
    record = read_tracks(tracks)
    check_source(record, sha256)
    return record


def _read_report(pair: ClipPair, sha256: str) -> RunReport | None:
    if pair.report is None:
        return None
    report = RunReport.read_json(pair.report)
    if report.source.sha256 != sha256:
        raise InputError(
            f"{pair.report} is the report of another video ({report.source.name}); move it away, or give the video it "
            "belongs to"
        )
    return report
