"""What parts give back, compared with what is known without them: no person is shown because a part was believed.

A part that fails raises, and the frame is redacted. One that answers wrongly does not: a masker without masks, a
tracker that loses people that the finder has seen, a system that returns the source. Each check here needs only what
the pipeline has anyway, costs little beside the part itself, and says in one line what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.contracts import Box, Kind, Person, PersonMask, Presence
from pa_lib.functional import Patch
from pa_lib.people import Findings, FrameMasks, MaskRequest
from pa_lib.people.mask_shapes import grown
from pa_lib.people.sparing import is_sighted

_COVERED = 0.99  # alpha from which nothing of a pixel can be seen: below a hundredth of it is left
_CORE = 0.5  # of a face's box: the part in the middle that every shape of every masker covers
_CORNER = (
    0.8  # squared distance from the middle, in half boxes, beyond which a face may be cut off by the frame's border
)
_SAMPLES = 9  # places along each side of the core that are looked at
_LEAST_SHARE = 0.005  # of the visible box of a body: much less than its head
_LEAST_PX = 4
_KEPT_REACH = 1.2  # how far kept people reach beyond their boxes, see `people.mask`

_SAME_LEVELS = 1  # difference up to which a pixel is as it was: rounding
_LEAST_CHANGED = 0.02  # share of a person's pixels that has to be other than it was
_LEAST_CONTRAST = 6.0  # standard deviation in levels below which nothing can be seen of what is left as it is
_SAMPLED_PX = 48  # rows and columns of a mask that are compared, at most


def untracked(findings: Findings, people: Iterable[Person], start_score: float) -> dict[int, str]:
    """Frames in which a detection lies in no track of a person, and what is wrong, by index of the frame.

    A detection has to lie in a track of its kind, which reaches as far as no other frame of the shot was searched: who
    is seen in one frame is there in the next, too, which was not searched. And a track has no gaps.

    Args:
        findings: Result of the search.
        people: All people, with the tracks that were made of it.
        start_score: Score from which on a detection counts, see `AbstractTracker.start_score`.
    """
    tracks = [track for person in people for track in person.tracks if len(track.frames)]
    faults: dict[int, str] = {}
    for track in tracks:
        if len(track.frames) == track.frames[-1] - track.frames[0] + 1:
            continue
        for one, two in pairwise(track.frames.tolist()):
            lost = f"track {track.track_id} has no box between frames {one} and {two}"
            faults |= dict.fromkeys(range(one + 1, two), lost)
    searched = np.array(sorted(findings.detections), np.int64)
    shots = np.array([0, *sorted(findings.cuts), findings.n_frames], np.int64)
    for kind in ("face", "body"):
        seen = [
            (at, detection)
            for at, frame in enumerate(searched.tolist())
            for detection in findings.detections[frame]
            if detection.kind == kind and detection.score >= start_score
        ]
        if not seen:
            continue
        at = np.array([one[0] for one in seen])
        frames = searched[at]
        boxes = np.array([one[1].box for one in seen], np.float64)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        shot = np.searchsorted(shots, frames, side="right")
        # From behind the searched frame before to ahead of the next one, within the shot.
        first = np.maximum(np.concatenate([[-1], searched])[at] + 1, shots[shot - 1])
        last = np.minimum(np.concatenate([searched, [findings.n_frames]])[at + 1] - 1, shots[shot] - 1)
        is_tracked = np.zeros(len(seen), bool)
        for track in tracks:
            if track.kind != kind:
                continue
            own = slice(*np.searchsorted(frames, [track.frames[0], track.frames[-1] + 1]))
            row = np.minimum(np.searchsorted(track.frames, frames[own]), len(track.frames) - 1)
            box = track.boxes[row].astype(np.float64)
            is_inside = (box[:, :2] - 1 <= middles[own]).all(1) & (middles[own] <= box[:, 2:] + 1).all(1)
            reach = np.searchsorted(track.frames, last[own], side="right") - np.searchsorted(track.frames, first[own])
            is_tracked[own] |= is_inside & (reach == last[own] - first[own] + 1)
        for index in np.flatnonzero(~is_tracked):
            lost = f"a {kind} that was detected in this frame, or in the searched one beside it, is in no track"
            faults |= dict.fromkeys(range(int(first[index]), int(last[index]) + 1), lost)
    return faults


def unmasked(found: FrameMasks, request: MaskRequest) -> str | None:
    """Why masks do not hide the people who are to be hidden in a frame; None where they do.

    Every mask is a part of the frame with an alpha in [0, 1]. The middle of every face that reaches into the frame is
    covered, and of who has no face there something as large as a head, where the top of the body is in the frame. What
    a silhouette of an edited tracks file covers is the user's own decision. Where kept people stand, only faces that
    are seen count.

    Args:
        found: Masks from the masker, and what it says that kept people cover.
        request: Request that it got.
    """
    masks, spared = found.masks, found.spared
    height, width = request.image.shape[:2]
    for mask in masks:
        if reason := _unusable(mask, height, width):
            return f"the mask of person {mask.person_id} {reason}"
    kept = [grown(one.box, _KEPT_REACH) for one in request.kept]
    faced = {one.person_id for one in request.hidden if one.track.kind == "face"}
    for presence in request.hidden:
        x0, y0, x1, y1 = box = presence.box
        if not (np.isfinite(box).all() and x0 < x1 and y0 < y1):
            return f"the box of person {presence.person_id} has no area"
        if min(x1, width) <= max(x0, 0) or min(y1, height) <= max(y0, 0):
            continue
        if int(presence.track.frames[presence.row]) in presence.track.masks:
            is_hidden = any(mask.person_id == presence.person_id for mask in masks)
        elif presence.track.kind == "face":
            is_hidden = _covers_face(masks, presence, kept, spared.get(presence.person_id), height, width)
        else:
            is_hidden = (
                presence.person_id in faced
                or presence.person_id in spared
                or _covers_head(masks, presence, kept, height, width)
            )
        if not is_hidden:
            return f"the {presence.track.kind} of person {presence.person_id} is not covered"
    return None


def unchanged(
    source: UInt8[Tensor, "3 h w"],
    made: UInt8[Tensor, "3 h w"],
    masks: Sequence[PersonMask],
    unchanged_kinds: Collection[Kind] = (),
) -> str | None:
    """Why the pixels of a system do not hide the people under the masks: they are the source's; None where they differ.

    Where the source shows nothing (a dark frame), anything may be the same.

    Args:
        source: The frame.
        made: The frame from the system.
        masks: Masks of the frame, as the system got them.
        unchanged_kinds: Kinds of masks that the system leaves as they are, see `AbstractAnonymizer.unchanged_kinds`.
    """
    people: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for mask in masks:
        if mask.kind in unchanged_kinds:
            continue
        rows, columns = mask.alpha.shape
        step = slice(None, None, max(1, rows // _SAMPLED_PX)), slice(None, None, max(1, columns // _SAMPLED_PX))
        is_hidden = mask.alpha[step] >= _COVERED
        part = slice(mask.top, mask.top + rows), slice(mask.left, mask.left + columns)
        before, after = (frame[:, *part][:, *step][:, is_hidden].int() for frame in (source, made))
        people.setdefault(mask.person_id, []).append((before, after))
    for person_id, parts in people.items():
        before, after = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        if before.shape[1] < _LEAST_PX or float(before.float().std(1).max()) < _LEAST_CONTRAST:
            continue
        is_other = (before - after).abs().amax(0) > _SAME_LEVELS
        if float(is_other.float().mean()) < _LEAST_CHANGED:
            return f"person {person_id} is as in the source"
    return None


def _unusable(mask: PersonMask, height: int, width: int) -> str | None:
    alpha = mask.alpha
    if alpha.ndim != 2 or not alpha.numel() or not alpha.is_floating_point():
        return f"has shape {tuple(alpha.shape)} and type {alpha.dtype}, expected numbers h w"
    rows, columns = alpha.shape
    if mask.top < 0 or mask.left < 0 or mask.top + rows > height or mask.left + columns > width:
        return "leaves the frame"
    least, most = (float(end) for end in torch.aminmax(alpha))
    return None if least >= 0 and most <= 1 else f"has alpha from {least:g} to {most:g}, expected 0 to 1"  # NaN, too


def _covers_face(
    masks: Sequence[PersonMask], face: Presence, kept: Sequence[Box], spared: Patch | None, height: int, width: int
) -> bool:
    """Whether the middle of a face's box is covered, or what of the box in the frame is nearest to its middle."""
    x0, y0, x1, y1 = face.box
    x, across, y, along = (x0 + x1) / 2, (x1 - x0) / 2, (y0 + y1) / 2, (y1 - y0) / 2
    places = np.linspace(-_CORE, _CORE, _SAMPLES)
    columns = np.unique(np.clip(np.floor(x + across * places), 0, width - 1)).astype(np.int64)
    rows = np.unique(np.clip(np.floor(y + along * places), 0, height - 1)).astype(np.int64)
    off_x, off_y = (columns + 0.5 - x) / across, (rows + 0.5 - y) / along
    away = off_x[None] ** 2 + off_y[:, None] ** 2
    nearest = float(away.min())
    if nearest > _CORNER and min(across, along) > 1:
        return True
    is_needed = away <= max(_CORE**2, nearest + 1e-9)
    if not is_sighted(face):
        for box in kept:  # a face that no detector sees may be behind a kept person
            is_behind = ((rows >= box[1] - 1) & (rows <= box[3]))[:, None] & (columns >= box[0] - 1)
            is_needed &= ~(is_behind & (columns <= box[2]))
        if spared is not None:
            is_needed &= ~_inside(spared, rows, columns)
    alpha = np.zeros((len(rows), len(columns)), np.float32)
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    for mask in masks:
        tall, wide = mask.alpha.shape
        if mask.top > bottom or mask.left > right or mask.top + tall <= top or mask.left + wide <= left:
            continue
        rows_in = slice(*np.searchsorted(rows, [mask.top, mask.top + tall]))
        columns_in = slice(*np.searchsorted(columns, [mask.left, mask.left + wide]))
        own: NDArray[np.float32] = mask.alpha.numpy()
        seen = own[(rows[rows_in] - mask.top)[:, None], columns[columns_in] - mask.left]
        np.maximum(alpha[rows_in, columns_in], seen, out=alpha[rows_in, columns_in])
    return bool((alpha[is_needed] >= _COVERED).all())


def _inside(patch: Patch, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of some pixels a bool mask marks."""
    tall, wide = patch.mask.shape
    y, x = rows - patch.top, columns - patch.left
    is_there = ((y >= 0) & (y < tall))[:, None] & (x >= 0) & (x < wide)
    marked: NDArray[np.bool_] = patch.mask.numpy()[np.clip(y, 0, tall - 1)[:, None], np.clip(x, 0, wide - 1)]
    return is_there & marked


def _covers_head(masks: Sequence[PersonMask], body: Presence, kept: Sequence[Box], height: int, width: int) -> bool:
    """Whether something of a body is covered that is as large as a head, if its top is in the frame."""
    x0, y0, x1, y1 = body.box
    x, y = (x0 + x1) / 2, y0 + 0.15 * (y1 - y0)
    if not (0 <= x < width and 0 <= y < height):
        return True
    if any(min(x1, right) > max(x0, left) and min(y1, bottom) > max(y0, top) for left, top, right, bottom in kept):
        return True
    own = [mask for mask in masks if mask.person_id == body.person_id]
    visible = (min(x1, width) - max(x0, 0)) * (min(y1, height) - max(y0, 0))
    needed = max(_LEAST_PX, _LEAST_SHARE * visible)
    return sum(int((mask.alpha >= _COVERED).sum()) for mask in own) >= needed
