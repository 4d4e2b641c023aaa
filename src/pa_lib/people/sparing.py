"""What may be cut out of the masks of the hidden in one frame: kept people who stand in front of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pa_lib.contracts import Box, Presence
from pa_lib.functional.masks import Patch, box_raster, union
from pa_lib.people.mask_shapes import grown, part_inside
from pa_lib.people.tracking.heads import measured_boxes
from pa_lib.people.tracking.motion import to_corners

_HEAD_SHARE = 0.3  # of a body's box: the part at the top, where the head is
_REACH = 0.1  # how far that part goes beyond the box to its sides
_INSIDE = 0.6  # share of a hidden box within a kept one from which on it is behind, or a piece of the kept person
_FEET_REACH = (
    25  # frames in which the lowest place of the feet shows how near a person stands: dancers leave the ground
)
_SIGHTING_REACH = 2  # frames around a detection in which it still counts, the default stride


class KeptBody(NamedTuple):
    """A kept person, and the pixels that are theirs.

    Args:
        presence: The person.
        shape: Mask of what the network marks as the person.
        own: Mask of what is certainly no other person; None for a network that marks any person in the box.
    """

    presence: Presence
    shape: Patch
    own: Patch | None = None

    def in_front_of(self, hidden: Presence, *, is_face: bool) -> bool:
        """Whether the shape is before a hidden person, where they overlap.

        An outline of this person alone is: its pixels are the kept person's, so no other is visible there. One of any
        person is before those who stand higher up in the picture, or within it.
        """
        return self.own is not None or is_face or is_before(self.presence, hidden)


@dataclass(frozen=True)
class Sparing:
    """What may be cut out of the masks of the hidden in one frame.

    Args:
        bodies: Kept people with their outlines.
        faces: Ellipses of kept faces that a detector sees.
        heads: Ellipses of hidden faces that a detector sees.
        faced: Hidden people whose face a detector sees.
        size: Rows and columns of the frame.
    """

    bodies: Sequence[KeptBody]
    faces: Sequence[Patch]
    heads: Sequence[Patch]
    faced: set[int]
    size: tuple[int, int]

    def within(self, presence: Presence) -> Patch | None:
        """Where kept people stand in front of a hidden one. Hidden faces that are seen stay hidden everywhere.

        No other head can be where a kept face is seen. Bodies are in front as `KeptBody.in_front_of` says, and of a
        face that no detector sees just now, which is one that something covers. Where a hidden face may be that no
        detector sees, only what is certainly the kept person's is cut.
        """
        is_face, sighted = presence.track.kind == "face", is_sighted(presence)
        if is_face and sighted:
            return None
        front = [body for body in self.bodies if body.in_front_of(presence, is_face=is_face)]
        cuts = list(self.faces)
        if front:
            may_hold_face = not is_face and sighted and presence.person_id not in self.faced
            cuts.append(
                _without(union([body.shape for body in front]), [self._top_of(presence)] if may_hold_face else [])
            )
            cuts += [body.own for body in front if body.own is not None]
        return _without(union(cuts), self.heads) if cuts else None

    def in_front(self, hidden: Sequence[Presence]) -> dict[int, Patch]:
        """Person id -> where kept people stand in front of a hidden person, also of a face that is seen.

        Only what a system covers beyond the masks goes by it, so nothing of a hidden person is lost.
        """
        spared = {}
        for person_id in {one.person_id for one in hidden}:
            own = [one for one in hidden if one.person_id == person_id]
            own = [one for one in own if one.track.kind == "body"] or own
            front = [body.shape for body in self.bodies if any(body.in_front_of(one, is_face=False) for one in own)]
            if cuts := [*self.faces, *front]:
                spared[person_id] = union(cuts)
        return spared

    def _top_of(self, presence: Presence) -> Patch | None:
        x0, y0, x1, _ = grown(box := presence.box, 1 + 2 * _REACH)
        return box_raster((x0, y0, x1, box[1] + _HEAD_SHARE * (box[3] - box[1])), *self.size)


def is_sighted(presence: Presence, reach: int = _SIGHTING_REACH) -> bool:
    """Whether there is a detection of this person in this frame or one close to it."""
    _, track, row = presence
    return bool(np.isfinite(track.scores[max(0, row - reach) : row + reach + 1]).any())


def measured_box(presence: Presence) -> Box:
    """The box of the size that was detected: between detections, that of a track may hold all of a fast way."""
    _, track, row = presence
    x0, y0, x1, y1 = to_corners(measured_boxes(track, np.array([row])))[0].tolist()
    return x0, y0, x1, y1


def is_before(kept: Presence, hidden: Presence) -> bool:
    """Whether the kept person stands in front of the hidden one, by their boxes."""
    its, box = kept.box, hidden.box
    wide, high = min(box[2], its[2]) - max(box[0], its[0]), min(box[3], its[3]) - max(box[1], its[1])
    if min(wide, high) <= 0:
        return False
    _, track, row = kept
    feet = float(track.boxes[max(0, row - _FEET_REACH) : row + _FEET_REACH + 1, 3].max())
    return feet > box[3] or wide * high > _INSIDE * (box[2] - box[0]) * (box[3] - box[1])


def _without(patch: Patch, others: Sequence[Patch | None]) -> Patch:
    """What is left of a patch outside of the others. The patch is changed."""
    for other in others:
        if other is not None:
            patch.mask.logical_and_(~part_inside(other, patch))
    return patch
