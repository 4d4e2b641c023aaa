"""Masked frames in, replaced people out: names, extended masks, windows that overlap, compositing. Nothing is written.

Videos go through `replaced_frames`, whether they are written or only measured; single pictures through
`replaced_pictures`. Both do the same with what is under the masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pa_lib.contracts import Clip, ClipMasks, PersonInfo, PersonMask, Replacement
from pa_lib.errors import ProtectionError
from pa_lib.functional import Patch, composite, snap_to_grid
from pa_lib.modules.non_interference import mean_interference
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.people.mask_shapes import part_inside
from pa_lib.pipeline.checks import unchanged
from pa_lib.video import Frame, Picture

_SAMPLING = 8  # of windows in which non-interference is looked at: each is this many times as far on as the one before
_INTERFERENCE_LEVELS = 0.5  # a result that is the same but for the order of sums on another device


@runtime_checkable
class Extending(Protocol):
    """What extends masks and names replacements: a system, or the reference slot of one."""

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        """See `AbstractAnonymizer.replacements`."""
        ...

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> ClipMasks:
        """See `AbstractAnonymizer.extended`."""
        ...


@dataclass(frozen=True, eq=False)
class MaskedFrame:
    """A frame with the people who are hidden in it, or with the reason why it cannot be protected.

    Args:
        frame: The frame.
        is_searched: Whether it was searched for people.
        people: Masks of the hidden people.
        fallbacks: Notes of the masker, see `FrameMasks`.
        fault: Reason why the frame cannot be protected; None where it can.
        spared: Person id -> pixels of the frame that nothing but that person's own mask may cover, see `FrameMasks`.
    """

    frame: Frame
    is_searched: bool
    people: tuple[PersonMask, ...] = ()
    fallbacks: tuple[str, ...] = ()
    fault: str | None = None
    spared: Mapping[int, Patch] = field(default_factory=dict)

    def union(self) -> Float[Tensor, "h w"]:
        """The largest alpha at each pixel; all ones where the frame cannot be protected.

        Raises:
            ValueError: The frame has no picture, so its size is unknown.
        """
        if self.frame.picture is None:
            raise ValueError(f"frame {self.frame.index} has no picture to be masked")
        height, width = self.frame.picture.format.height, self.frame.picture.format.width
        if self.fault is not None:
            return torch.ones(height, width)
        return ClipMasks(tuple(_at(self.people, 0)), 1, height, width).union(0)


class ReplacedFrame(NamedTuple):
    """A masked frame and what the system made of it.

    Args:
        item: The frame with its extended masks.
        made: The frame with the system's pixels under the masks, shape 3 h w; None where no person is hidden, or the
            system failed.
        error: Error of the system, or what is wrong with its result; None where it did not fail.
    """

    item: MaskedFrame
    made: UInt8[Tensor, "3 h w"] | None
    error: Exception | None


def named(people: Mapping[int, PersonInfo], module: Extending, seed: int) -> dict[int, PersonInfo]:
    """What is known of people, with the names of what takes their places where the system gives them.

    Args:
        people: Person id -> what is known, for all hidden people of a video.
        module: The system.
        seed: Seed of the system.

    Raises:
        PaLibError: A replacement that is wished for is unknown to the system.
    """
    known = dict(people)
    for person_id, name in module.replacements(people, seed=seed).items():
        info = known.get(person_id, PersonInfo())
        known[person_id] = replace(info, replacement=replace(info.replacement or Replacement(), double=name))
    return known


def extended(
    masks: ClipMasks,
    module: Extending,
    seed: int,
    *,
    spared: Mapping[int, Patch] | None = None,
    grid: tuple[int, int] = (1, 1),
) -> ClipMasks:
    """The masks of one frame with all that the system needs beyond them.

    Args:
        masks: The masks of one frame.
        module: The system.
        seed: Seed of the system.
        spared: Person id -> pixels that only that person's own masks may cover.
        grid: Rows and columns of a chroma cell of the video: alpha is constant within each.

    Raises:
        ProtectionError: The system gives up a pixel that was hidden.
        Exception: Whatever the system raises.
    """
    found = module.extended(masks, seed=seed)
    if found is masks:
        return masks
    if bool((found.union(0) < masks.union(0)).any()):
        raise ProtectionError("the extended masks do not cover what the masks cover")
    people = [_spared(mask, masks, (spared or {}).get(mask.person_id)) for mask in found.people]
    return replace(found, people=tuple(_on_grid(mask, found, grid) for mask in people))


def replaced_pictures(
    frames: UInt8[Tensor, "n 3 h w"], masks: ClipMasks, module: AbstractAnonymizer, *, seed: int = 0
) -> UInt8[Tensor, "n 3 h w"]:
    """Pictures that have nothing to do with one another, in one call of the system, as `replaced_frames` has each.

    Args:
        frames: The pictures.
        masks: Masks of the people in them, each in one picture alone.
        module: The system.
        seed: Seed of the system.

    Raises:
        Exception: Whatever the system raises.
    """
    people: list[PersonMask] = []
    known: dict[int, PersonInfo] = {}
    for at in range(masks.n_frames):
        own = tuple(_at(masks.in_frame(at), 0))
        about = named({mask.person_id: masks.info.get(mask.person_id, PersonInfo()) for mask in own}, module, seed)
        single = _clip_masks(own, 1, (masks.height, masks.width), about)
        people += _at(extended(single, module, seed).people, at)
        known |= about
    masks = _clip_masks(tuple(people), masks.n_frames, (masks.height, masks.width), known)
    return _composited(Clip(frames.clone()), masks, module, seed, (frame[None] for frame in frames))[0]


def extended_frame(item: MaskedFrame, module: Extending, known: Mapping[int, PersonInfo], seed: int) -> MaskedFrame:
    """The frame with the masks that the system needs; a fault where it fails, or gives up a pixel that was hidden.

    Args:
        item: The frame as the masker has masked it.
        module: The system.
        known: Knowledge of each person, from `named`.
        seed: Seed of the system.
    """
    picture = item.frame.picture
    if not item.people or item.fault is not None or picture is None:
        return item
    form = picture.format
    masks = _clip_masks(tuple(_at(item.people, 0)), 1, (form.height, form.width), known)
    try:
        found = extended(masks, module, seed, spared=item.spared, grid=form.chroma_grid)
    except Exception as error:  # whatever it was, the frame is not protected
        return replace(item, people=(), fault=f"mask: {error_text(error)}")
    return item if found is masks else replace(item, people=found.people)


def replaced_frames(
    masked: Iterable[MaskedFrame],
    module: AbstractAnonymizer,
    known: Mapping[int, PersonInfo],
    seed: int,
    *,
    fps: float = 25.0,
    cuts: Set[int] = frozenset(),
    is_sampled: bool = False,
) -> Iterator[ReplacedFrame]:
    """Every frame once and in order, in windows as long as the system wants, which fade into each other.

    Args:
        masked: The frames of a video as the masker has masked them.
        module: The system.
        known: Knowledge of each person, from `named`.
        seed: Seed of the system.
        fps: Rate of the video in frames per second.
        cuts: First frame of each new shot: no window reaches over one.
        is_sampled: Whether a system's claim to be non-interfering is held against samples.
    """
    items = (extended_frame(item, module, known, seed) for item in masked)
    held: dict[int, Tensor] = {}  # frames that come again in the next window, as this one has anonymized them
    claim = _Claim(module, seed) if is_sampled and module.is_non_interfering else None
    for window in _windows(items, module.window_frames, module.overlap_frames, cuts):
        made: dict[int, Tensor] = {}
        faults: dict[int, Exception] = {}
        failure: Exception | None = None
        try:
            made, faults = _anonymized(window.items, module, known, seed, fps, claim)
        except Exception as error:  # whatever it was, this window is not anonymized
            failure = error
        made = held | made | _cross_faded(held, made)
        n_done = len(window.items) - window.n_held
        for item in window.items[:n_done]:
            index = item.frame.index
            yield ReplacedFrame(item, made.get(index), failure or faults.get(index))
        last = [item.frame.index for item in window.items[n_done:]]
        held = {index: made[index].clone() for index in last if index in made}  # a view would keep the whole window
        del window, made  # before the next one is read


def error_text(error: Exception) -> str:
    """An error as one line of a report."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class _Window(NamedTuple):
    """What a system sees at a time; the last `n_held` frames come again at the start of the next window."""

    items: list[MaskedFrame]
    n_held: int


def _windows(frames: Iterable[MaskedFrame], size: int, overlap: int, cuts: Set[int]) -> Iterator[_Window]:
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


def _anonymized(
    items: list[MaskedFrame],
    module: AbstractAnonymizer,
    known: Mapping[int, PersonInfo],
    seed: int,
    fps: float,
    claim: _Claim | None,
) -> tuple[dict[int, Tensor], dict[int, Exception]]:
    """Frame index -> the frame with the system's pixels under the masks, 3 h w, where people are hidden; or its fault.

    Frames that cannot be protected end a run: what a system sees is consecutive.
    """
    done: dict[int, Tensor] = {}
    faults: dict[int, Exception] = {}
    for run in _runs(items):
        if not any(item.people for item in run):
            continue
        pictures = [item.frame.picture for item in run if item.frame.picture is not None]
        frames = _frames(pictures)
        people = tuple(mask for at, item in enumerate(run) for mask in _at(item.people, at))
        height, width = frames.shape[2:]
        masks = _clip_masks(people, len(run), (height, width), known)
        sources = (_frames([picture]) for picture in pictures)  # again, one by one: the system may change its frames
        clip = Clip(frames, run[0].frame.index, fps)
        if claim is not None:
            claim.check(clip, masks)
        made, wrong = _composited(clip, masks, module, seed, sources)
        done |= {item.frame.index: made[at] for at, item in enumerate(run) if item.people and at not in wrong}
        faults |= {run[at].frame.index: error for at, error in wrong.items()}
    return done, faults


def _frames(pictures: Sequence[Picture]) -> UInt8[Tensor, "t 3 h w"]:
    """Pictures of one size, converted one after the other into the tensor that holds them all."""
    form = pictures[0].format
    frames = np.empty((len(pictures), form.height, form.width, 3), np.uint8)
    for frame, picture in zip(frames, pictures, strict=True):
        frame[:] = picture.rgb()
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def _composited(
    clip: Clip, masks: ClipMasks, module: AbstractAnonymizer, seed: int, sources: Iterable[UInt8[Tensor, "1 3 h w"]]
) -> tuple[UInt8[Tensor, "t 3 h w"], dict[int, Exception]]:
    """Every frame of the clip with the system's pixels under the masks, **in the clip's own frames**; and faults.

    One source and one alpha are held at a time.
    """
    made = module.anonymize_(clip, masks, seed=seed).frames.cpu()
    faults: dict[int, Exception] = {}
    for at, source in enumerate(sources):
        one = slice(at, at + 1)
        whole = composite(source, made[one], masks.union(at)[None, None])  # which refuses what does not fit
        if reason := unchanged(source[0], made[at], tuple(masks.in_frame(at)), module.unchanged_kinds):
            faults[at] = ProtectionError(reason)
        clip.frames[one] = whole
    return clip.frames, faults


class _Claim:
    """A system's claim that hidden pixels do not move its result, held against samples.

    Args:
        module: The system.
        seed: Seed of the system.
    """

    def __init__(self, module: AbstractAnonymizer, seed: int) -> None:
        self.module, self.seed = module, seed
        self._n_windows = 0
        self._broken: ProtectionError | None = None

    def check(self, clip: Clip, masks: ClipMasks) -> None:
        """Look at one frame of some of the windows: of the first, the 8th, the 64th, ...

        Raises:
            ProtectionError: Hidden pixels moved the result, now or before.
        """
        self._n_windows += 1
        if self._broken is None and self._n_windows == _SAMPLING ** round(math.log(self._n_windows, _SAMPLING)):
            at = masks.people[0].frame
            one = replace(masks, people=tuple(_at(masks.in_frame(at), 0)), n_frames=1)
            frame = replace(clip, frames=clip.frames[at : at + 1], first_frame=clip.first_frame + at)
            moved = mean_interference(self.module, frame, one, seed=self.seed)
            if not moved <= _INTERFERENCE_LEVELS:
                self._broken = ProtectionError(
                    f"{type(self.module).__name__} says that hidden pixels do not move its result, but others moved it "
                    f"by {moved:.1f} levels"
                )
        if self._broken is not None:
            raise self._broken


def _clip_masks(
    people: tuple[PersonMask, ...], n_frames: int, size: tuple[int, int], known: Mapping[int, PersonInfo]
) -> ClipMasks:
    """The masks with what is known of the people in them."""
    hidden = {mask.person_id for mask in people}
    about = {person_id: each for person_id, each in known.items() if person_id in hidden and each != PersonInfo()}
    return ClipMasks(people, n_frames, *size, about)


def _spared(mask: PersonMask, masks: ClipMasks, spared: Patch | None) -> PersonMask:
    """An extended mask without what it has beyond the person's own masks where others are to stay."""
    if spared is None:
        return mask
    own = replace(masks, people=tuple(one for one in masks.people if one.person_id == mask.person_id)).union(0)
    rows, columns = mask.alpha.shape
    least = own[mask.top : mask.top + rows, mask.left : mask.left + columns]
    is_spared = part_inside(spared, Patch(mask.top, mask.left, mask.alpha))
    return replace(mask, alpha=torch.where(is_spared, torch.minimum(mask.alpha, least), mask.alpha))


def _on_grid(mask: PersonMask, masks: ClipMasks, grid: tuple[int, int]) -> PersonMask:
    """The mask with the same alpha in every chroma cell, the largest one: systems know nothing of chroma."""
    patch = Patch(mask.top, mask.left, mask.alpha)
    top, left, alpha = snap_to_grid(patch, grid, masks.height, masks.width)
    return replace(mask, top=top, left=left, alpha=alpha.contiguous())


def _at(people: Iterable[PersonMask], frame: int) -> list[PersonMask]:
    return [replace(mask, frame=frame) for mask in people]


def _runs(window: list[MaskedFrame]) -> Iterator[list[MaskedFrame]]:
    for is_usable, items in groupby(window, lambda item: item.fault is None):
        if is_usable:
            yield list(items)
