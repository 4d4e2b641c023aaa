"""Frames in, protected frames out: mask, anonymize, composite, and redact whatever goes wrong on the way."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
import torch

from pa_lib.contracts import Clip, ClipMasks, PersonMask
from pa_lib.functional import composite
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people import AbstractMasker, TracksRecord
from pa_lib.pipeline.frame_log import FrameRecord
from pa_lib.video import Frame, Picture, VideoInfo, redacted_picture

OnFailure = Literal["redact", "abort"]


@dataclass(frozen=True, eq=False)
class ProtectedFrame:
    """A frame that may be written.

    Args:
        frame: Always with a picture.
        record: What became of it.
        source: The picture before, None where it could not be decoded.
    """

    frame: Frame
    record: FrameRecord
    source: Picture | None


@dataclass(frozen=True, eq=False)
class _Masked:
    """A frame with those who are hidden in it, or with the reason why it cannot be protected."""

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

    A frame is redacted where it could not be decoded, where nobody could look for people in it, where its mask or its
    anonymization failed, and where the anonymizer gave back anything but finite frames of the right shape.

    Args:
        frames: The source.
        info: What `frames` were read from.
        record: Who is where, and who is hidden.
        masker: Decides which pixels are replaced.
        module: Replaces them, a window of frames at a time.
        seed: Handed to the module.
    """
    masked = (_masked(frame, record, masker, info) for frame in frames)
    for window in _windows(masked, module.window_frames, set(record.cuts)):
        yield from _anonymized(window, info, module, seed)


def _masked(frame: Frame, record: TracksRecord, masker: AbstractMasker, info: VideoInfo) -> _Masked:
    is_searched = frame.index in record.searched
    fault = frame.fault or record.faults.get(frame.index)
    if fault is None and frame.index >= record.n_frames:
        fault = "nobody looked for people in this frame"
    if fault is not None or frame.picture is None:
        return _Masked(frame, is_searched, fault=fault or "no picture")
    hidden, kept = record.present_at(frame.index)
    if not hidden:
        return _Masked(frame, is_searched)
    try:
        result = masker.mask(frame.picture.rgb(), hidden, kept, grid=info.chroma_grid)
    except Exception as error:  # whatever it was, the frame is not protected
        return _Masked(frame, is_searched, fault=f"mask: {_told(error)}")
    return _Masked(frame, is_searched, result.masks, result.fallbacks)


def _windows(frames: Iterable[_Masked], size: int, cuts: set[int]) -> Iterator[list[_Masked]]:
    """Runs of at most `size` frames of one shot."""
    window: list[_Masked] = []
    for item in frames:
        if window and (len(window) == size or item.frame.index in cuts):
            yield window
            window = []
        window.append(item)
    if window:
        yield window


def _anonymized(
    window: list[_Masked], info: VideoInfo, module: AbstractAnonymizer, seed: int
) -> Iterator[ProtectedFrame]:
    """The frames of one window, anonymized where anybody is hidden."""
    replacements: dict[int, Picture] = {}
    fault = None
    try:
        replacements = _replacements(window, info, module, seed)
    except Exception as error:  # whatever it was, nobody in this window is protected
        fault = f"anonymizer: {_told(error)}"
    for item in window:
        index, source = item.frame.index, item.frame.picture
        n_hidden = len({mask.person_id for mask in item.people})
        record = FrameRecord(
            index,
            item.frame.time_s,
            "untouched",
            n_hidden=n_hidden,
            searched=item.is_searched,
            fallbacks=item.fallbacks,
        )
        problem = item.fault or (fault if item.people else None)
        if problem is not None or source is None:
            record = replace(record, status="redacted", mask_area=1.0, fault=problem)
            picture = redacted_picture(info.format)
        elif item.people:
            record = replace(record, status="anonymized", mask_area=_area(item.people, info))
            picture = replacements[index]
        else:
            picture = source
        yield ProtectedFrame(item.frame.with_picture(picture), record, source)


def _replacements(window: list[_Masked], info: VideoInfo, module: AbstractAnonymizer, seed: int) -> dict[int, Picture]:
    """Frame index -> anonymized picture, for every frame of a window in which somebody is hidden.

    Frames that cannot be protected end a window: what a system sees is consecutive.
    """
    done: dict[int, Picture] = {}
    for run in _runs(window):
        if not any(item.people for item in run):
            continue
        pictures = [item.frame.picture for item in run if item.frame.picture is not None]
        frames = torch.from_numpy(np.stack([picture.rgb() for picture in pictures])).permute(0, 3, 1, 2)
        people = tuple(replace(mask, frame=at) for at, item in enumerate(run) for mask in item.people)
        masks = ClipMasks(people, len(run), info.height, info.width)
        clip = Clip(frames, run[0].frame.index, info.fps)
        anonymized = module.anonymize(clip, masks, seed=seed)
        for at, (item, picture) in enumerate(zip(run, pictures, strict=True)):
            if item.people:
                alpha = masks.union(at)
                pixels = composite(frames[at : at + 1], anonymized.frames[at : at + 1], alpha[None, None])
                rgb = np.ascontiguousarray(pixels[0].permute(1, 2, 0).numpy())
                done[item.frame.index] = picture.replaced(rgb, alpha.numpy() > 0)
    return done


def _runs(window: list[_Masked]) -> Iterator[list[_Masked]]:
    for is_usable, items in groupby(window, lambda item: item.fault is None):
        if is_usable:
            yield list(items)


def _area(people: tuple[PersonMask, ...], info: VideoInfo) -> float:
    """Share of the frame that is replaced."""
    single = ClipMasks(tuple(replace(mask, frame=0) for mask in people), 1, info.height, info.width)
    return float((single.union(0) > 0).float().mean())


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
