"""Frames in, protected frames out: mask, anonymize, composite, and redact whatever goes wrong on the way."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.contracts import Clip, ClipMasks, PersonInfo, PersonMask, Replacement
from pa_lib.errors import ProtectionError
from pa_lib.functional import Patch, composite, snap_to_grid
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people import AbstractMasker, MaskRequest, TracksRecord
from pa_lib.reports.frame_log import FrameRecord
from pa_lib.video import Frame, Picture, VideoInfo, redacted_picture

OnFailure = Literal["redact", "abort"]


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


@dataclass(frozen=True, eq=False)
class MaskedFrame:
    """A frame with the people who are hidden in it, or with the reason why it cannot be protected."""

    frame: Frame
    is_searched: bool
    people: tuple[PersonMask, ...] = ()
    fallbacks: tuple[str, ...] = ()
    fault: str | None = None


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
    anonymization failed, and where the anonymizer returned anything but finite frames of the right shape.

    Args:
        frames: Frames of the source.
        info: Description of the video that `frames` were read from.
        record: Tracks of the people, and who is hidden.
        masker: Masker that decides which pixels are replaced.
        module: Anonymizer that replaces them, a window of frames at a time.
        seed: Seed of the module.
    """
    known = with_replacements(record, module, seed)
    masked = (extended_frame(masked_frame(frame, record, masker, info), module, info, known, seed) for frame in frames)
    held: dict[int, Tensor] = {}  # frames that come again in the next window, as this one has anonymized them
    for window in _windows(masked, module.window_frames, module.overlap_frames, set(record.cuts)):
        made, fault = {}, None
        try:
            made = _anonymized(window.items, info, module, seed, known)
        except Exception as error:  # whatever it was, this window is not protected
            fault = f"anonymizer: {_error_text(error)}"
        made = held | made | _cross_faded(held, made)
        n_done = len(window.items) - window.n_held
        for item in window.items[:n_done]:
            yield _protected(item, made.get(item.frame.index), fault, info)
        held = {index: made[index] for item in window.items[n_done:] if (index := item.frame.index) in made}


def masked_frame(frame: Frame, record: TracksRecord, masker: AbstractMasker, info: VideoInfo) -> MaskedFrame:
    """Who is hidden where in a frame; a fault if that is unknown, and then the whole frame has to be redacted."""
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
        result = masker.mask(MaskRequest(frame.picture.rgb(), hidden, kept, grid=info.chroma_grid, poses=poses))
        masks = tuple(replace(mask, pose=poses.get(mask.person_id)) for mask in result.masks)
        return MaskedFrame(frame, is_searched, masks, result.fallbacks)
    except Exception as error:  # whatever it was, the frame is not protected
        return MaskedFrame(frame, is_searched, fault=f"mask: {_error_text(error)}")


def replacements_of(record: TracksRecord, module: AbstractAnonymizer, seed: int) -> Mapping[int, str]:
    """Person id -> name of what takes the person's place, where the system has names.

    Raises:
        PaLibError: A replacement that is wished for is unknown to the system.
    """
    return module.replacements({one.person_id: one.info for one in record.hidden}, seed=seed)


def with_replacements(record: TracksRecord, module: AbstractAnonymizer, seed: int) -> dict[int, PersonInfo]:
    """Person id -> what is known of the person, with the name of what takes their place where the system gives one.

    Raises:
        PaLibError: A replacement that is wished for is unknown to the system.
    """
    known = dict(record.info)
    for person_id, name in replacements_of(record, module, seed).items():
        info = known.get(person_id, PersonInfo())
        known[person_id] = replace(info, replacement=replace(info.replacement or Replacement(), double=name))
    return known


def extended_frame(
    item: MaskedFrame, module: AbstractAnonymizer, info: VideoInfo, known: Mapping[int, PersonInfo], seed: int
) -> MaskedFrame:
    """The frame with the masks that the system needs; a fault where it fails, or gives up a pixel that was hidden.

    Args:
        item: The frame as the masker has masked it.
        module: The anonymizer.
        info: Description of the video.
        known: Knowledge of each person, from `with_replacements`.
        seed: Seed of the module.
    """
    if not item.people or item.fault is not None:
        return item
    masks = _clip_masks(tuple(replace(mask, frame=0) for mask in item.people), 1, info, known)
    try:
        extended = module.extended(masks, seed=seed)
        if extended is masks:
            return item
        if bool((extended.union(0) < masks.union(0)).any()):
            raise ProtectionError("the extended masks do not cover what the masks cover")
        return replace(item, people=tuple(_on_grid(mask, info) for mask in extended.people))
    except Exception as error:  # whatever it was, the frame is not protected
        return replace(item, people=(), fault=f"mask: {_error_text(error)}")


def _on_grid(mask: PersonMask, info: VideoInfo) -> PersonMask:
    """The mask with the same alpha in every chroma cell, the largest one: systems know nothing of chroma."""
    patch = Patch(mask.top, mask.left, mask.alpha)
    top, left, alpha = snap_to_grid(patch, info.chroma_grid, info.height, info.width)
    return replace(mask, top=top, left=left, alpha=alpha.contiguous())


class _Window(NamedTuple):
    """What a system sees at a time; the last `n_held` frames come again at the start of the next window."""

    items: list[MaskedFrame]
    n_held: int


def _windows(frames: Iterable[MaskedFrame], size: int, overlap: int, cuts: set[int]) -> Iterator[_Window]:
    """Runs of at most `size` frames of one shot, each beginning with the last `overlap` frames of the one before."""
    items: list[MaskedFrame] = []
    for item in frames:
        if items and item.frame.index in cuts:
            yield _Window(items, 0)
            items = []
        elif len(items) == size:
            yield _Window(items, overlap)
            items = items[size - overlap :]
        items.append(item)
    if items:
        yield _Window(items, 0)


def _cross_faded(held: dict[int, Tensor], made: dict[int, Tensor]) -> dict[int, Tensor]:
    """Frames that two windows hold, passing from the first window's pixels to the second one's."""
    both = sorted(held.keys() & made.keys())
    steps = [(at + 1) / (len(both) + 1) for at in range(len(both))]
    return {
        index: torch.lerp(held[index].float(), made[index].float(), step).round().to(torch.uint8)
        for index, step in zip(both, steps, strict=True)
    }


def _protected(item: MaskedFrame, made: Tensor | None, fault: str | None, info: VideoInfo) -> ProtectedFrame:
    """One frame as it may be written: with the system's pixels under the masks, or the whole frame redacted."""
    index, source = item.frame.index, item.frame.picture
    n_hidden = len({mask.person_id for mask in item.people})
    record = FrameRecord(
        index, item.frame.time_s, "untouched", n_hidden=n_hidden, searched=item.is_searched, fallbacks=item.fallbacks
    )
    problem = item.fault
    if problem is None and item.people and made is None:
        problem = fault or "the anonymizer did not reach this frame"
    if problem is not None or source is None:
        record = replace(record, status="redacted", mask_area=1.0, fault=problem)
        return ProtectedFrame(item.frame.with_picture(redacted_picture(info.format)), record, source)
    if item.people and made is not None:
        is_hidden = _hidden(item.people, info)
        record = replace(record, status="anonymized", mask_area=float(is_hidden.mean()))
        rgb = np.ascontiguousarray(made.permute(1, 2, 0).numpy())
        return ProtectedFrame(item.frame.with_picture(source.replaced(rgb, is_hidden)), record, source)
    return ProtectedFrame(item.frame.with_picture(source), record, source)


def _anonymized(
    items: list[MaskedFrame],
    info: VideoInfo,
    module: AbstractAnonymizer,
    seed: int,
    known: Mapping[int, PersonInfo],
) -> dict[int, Tensor]:
    """Frame index -> the frame with the system's pixels under the masks, 3 h w, where anyone is hidden.

    Frames that cannot be protected end a run: what a system sees is consecutive.
    """
    done: dict[int, Tensor] = {}
    for run in _runs(items):
        if not any(item.people for item in run):
            continue
        pictures = [item.frame.picture.rgb() for item in run if item.frame.picture is not None]
        frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        people = tuple(replace(mask, frame=at) for at, item in enumerate(run) for mask in item.people)
        masks = _clip_masks(people, len(run), info, known)
        clip = Clip(frames, run[0].frame.index, info.fps)
        anonymized = module.anonymize(clip, masks, seed=seed)
        for at, item in enumerate(run):
            if item.people:
                one = slice(at, at + 1)
                done[item.frame.index] = composite(frames[one], anonymized.frames[one], masks.union(at)[None, None])[0]
    return done


def _clip_masks(
    people: tuple[PersonMask, ...], n_frames: int, info: VideoInfo, known: Mapping[int, PersonInfo]
) -> ClipMasks:
    """The masks with what is known of the people in them."""
    hidden = {mask.person_id for mask in people}
    about = {person_id: each for person_id, each in known.items() if person_id in hidden}
    return ClipMasks(people, n_frames, info.height, info.width, about)


def _runs(window: list[MaskedFrame]) -> Iterator[list[MaskedFrame]]:
    for is_usable, items in groupby(window, lambda item: item.fault is None):
        if is_usable:
            yield list(items)


def _hidden(people: tuple[PersonMask, ...], info: VideoInfo) -> NDArray[np.bool_]:
    """The pixels of one frame, h w, that any mask touches."""
    single = ClipMasks(tuple(replace(mask, frame=0) for mask in people), 1, info.height, info.width)
    hidden: NDArray[np.bool_] = (single.union(0) > 0).numpy()
    return hidden


def _error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
