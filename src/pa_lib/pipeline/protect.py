"""Frames in, protected frames out: mask, anonymize, composite, and redact whatever goes wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from pa_lib.contracts import PersonInfo
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people import AbstractMasker, MaskRequest, TracksRecord
from pa_lib.people.outlines import Moment, Moments, heads_of
from pa_lib.pipeline.checks import unmasked
from pa_lib.pipeline.replaced import MaskedFrame, ReplacedFrame, error_text, named, replaced_frames
from pa_lib.reports.frame_log import FrameRecord
from pa_lib.video import Frame, Picture, VideoInfo, redacted_picture

OnFailure = Literal["redact", "abort"]

Item = TypeVar("Item")

NO_HEAD = "filled: no head is to be seen"
"""What reports say of people without a head to be replaced in any frame, where other people get a name."""


@dataclass(frozen=True, eq=False)
class ProtectedFrame:
    """A frame that may be written.

    Args:
        frame: The protected frame, always with a picture.
        record: Row of the frame in the report.
        source: The picture of the source; None if it could not be decoded.
    """

    frame: Frame
    record: FrameRecord
    source: Picture | None


def protect_frames(
    frames: Iterable[Frame],
    info: VideoInfo,
    record: TracksRecord,
    masker: AbstractMasker,
    module: AbstractAnonymizer,
    seed: int,
) -> Generator[ProtectedFrame, None, None]:
    """Every frame once and in order: untouched, anonymized, or redacted whole.

    A frame is redacted where it could not be decoded, where it could not be searched for people, where its mask or its
    anonymization failed, where the anonymizer returned anything but finite frames of the right shape, and where masks
    or pixels do not hide who is hidden (`pa_lib.pipeline.checks`).

    Args:
        frames: Frames of the source.
        info: Description of the video that `frames` were read from.
        record: Tracks of the people, and who is hidden.
        masker: Masker that decides which pixels are replaced.
        module: Anonymizer that replaces them, a window of frames at a time.
        seed: Seed of the module.
    """
    masking = Masking(record, masker, info)
    masked = (masking.of(*three) for three in beside(frames))
    known = named(info_of_hidden(record), module, seed)
    for done in replaced_frames(
        masked, module, known, seed, fps=float(info.fps), cuts=set(record.cuts), is_sampled=True
    ):
        yield _protected(done, info)


def beside(items: Iterable[Item]) -> Iterator[tuple[Item | None, Item, Item | None]]:
    """Every item between the one before and the one after it; None where there is none.

    >>> list(beside("ab"))
    [(None, 'a', 'b'), ('a', 'b', None)]
    """
    before: Item | None = None
    here: Item | None = None
    for after in items:
        if here is not None:
            yield before, here, after
        before, here = here, after
    if here is not None:
        yield before, here, None


class Masking:
    """Masks of the frames of one video, each seen between its neighbours where the masker has a use for that.

    Args:
        record: Tracks of the people, and who is hidden.
        masker: Masker that decides which pixels are replaced.
        info: Description of the video.
    """

    def __init__(self, record: TracksRecord, masker: AbstractMasker, info: VideoInfo) -> None:
        self.record, self.masker, self.info = record, masker, info
        self._seen: dict[int, Moment] = {}  # by frame; of no more than three

    def of(self, before: Frame | None, frame: Frame, after: Frame | None) -> MaskedFrame:
        """Who is hidden where in a frame; see `masked_frame`."""
        return masked_frame(frame, self.record, self.masker, self.info, lambda: self._moments(before, frame, after))

    def _moments(self, before: Frame | None, frame: Frame, after: Frame | None) -> Moments | None:
        here = self._moment(frame) if self.masker.looks_around and all(self.record.present_at(frame.index)) else None
        if here is None:
            return None
        cuts = self.record.cuts
        earlier = self._moment(None if frame.index in cuts else before)
        later = self._moment(None if after is not None and after.index in cuts else after)
        self._seen = {index: one for index, one in self._seen.items() if abs(index - frame.index) <= 1}
        return Moments(earlier, here, later)

    def _moment(self, frame: Frame | None) -> Moment | None:
        if frame is None or frame.picture is None:
            return None
        if frame.index not in self._seen:
            hidden, kept = self.record.present_at(frame.index)
            poses = (
                (one, self.record.poses[one].at(frame.index)) for one in {one.person_id for one in (*hidden, *kept)}
            )
            self._seen[frame.index] = Moment(frame.picture.rgb(), kept, heads_of(poses))
        return self._seen[frame.index]


def masked_frame(
    frame: Frame,
    record: TracksRecord,
    masker: AbstractMasker,
    info: VideoInfo,
    around: Callable[[], Moments | None] = lambda: None,
) -> MaskedFrame:
    """Who is hidden where in a frame; a fault if that is unknown, and then the whole frame has to be redacted.

    Args:
        frame: The frame.
        record: Tracks of the people, and who is hidden.
        masker: Masker that decides which pixels are replaced.
        info: Description of the video.
        around: Function that gives the frame between its neighbours; None of it: the masker sees it alone.
    """
    is_searched = frame.index in record.searched
    fault = frame.fault or record.faults.get(frame.index)
    if fault is None and frame.index >= record.n_frames:
        fault = "this frame was not searched for people"
    if fault is not None or frame.picture is None:
        return MaskedFrame(frame, is_searched, fault=fault or "no picture")
    hidden, kept = record.present_at(frame.index)
    if not hidden:
        return MaskedFrame(frame, is_searched)
    try:
        found = {one.person_id: record.poses[one.person_id].at(frame.index) for one in hidden}
        poses = {person_id: pose for person_id, pose in found.items() if pose is not None}
        moments = around()
        image = frame.picture.rgb() if moments is None else moments.here.image
        request = MaskRequest(image, hidden, kept, grid=info.chroma_grid, poses=poses, moments=moments)
        result = masker.mask(request)
        if reason := unmasked(result, request):
            return MaskedFrame(frame, is_searched, fault=f"mask: {reason}")
        masks = tuple(replace(mask, pose=record.poses[mask.person_id].placed_at(frame.index)) for mask in result.masks)
        return MaskedFrame(frame, is_searched, masks, result.fallbacks, spared=result.spared)
    except Exception as error:  # whatever it was, the frame is not protected
        return MaskedFrame(frame, is_searched, fault=f"mask: {error_text(error)}")


def replacements_of(record: TracksRecord, module: AbstractAnonymizer, seed: int) -> Mapping[int, str]:
    """Person id -> name of what takes the person's place, where the system has names; `NO_HEAD` where it draws none.

    Raises:
        PaLibError: A replacement that is wished for is unknown to the system.
    """
    names = module.replacements(info_of_hidden(record), seed=seed)
    return {one: name if record.poses[one].is_placed.any() else NO_HEAD for one, name in names.items()}


def info_of_hidden(record: TracksRecord) -> dict[int, PersonInfo]:
    """Person id -> what is known of the person, for all hidden people in the order of the file."""
    return {one.person_id: one.info for one in record.hidden}


def _protected(done: ReplacedFrame, info: VideoInfo) -> ProtectedFrame:
    """One frame as it may be written: with the system's pixels under the masks, or the whole frame redacted."""
    item, made, error = done
    index, source = item.frame.index, item.frame.picture
    n_hidden = len({mask.person_id for mask in item.people})
    record = FrameRecord(
        index, item.frame.time_s, "untouched", n_hidden=n_hidden, searched=item.is_searched, fallbacks=item.fallbacks
    )
    problem = item.fault
    if problem is None and item.people and made is None:
        problem = f"anonymizer: {error_text(error)}" if error else "the anonymizer did not reach this frame"
    if problem is not None or source is None:
        record = replace(record, status="redacted", mask_area=1.0, fault=problem)
        return ProtectedFrame(item.frame.with_picture(redacted_picture(info.format)), record, source)
    if item.people and made is not None:
        is_hidden = (item.union() > 0).numpy()
        record = replace(record, status="anonymized", mask_area=float(is_hidden.mean()))
        rgb = np.ascontiguousarray(made.permute(1, 2, 0).numpy())
        return ProtectedFrame(item.frame.with_picture(source.replaced(rgb, is_hidden)), record, source)
    return ProtectedFrame(item.frame.with_picture(source), record, source)
