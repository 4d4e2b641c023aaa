"""Outlines of kept people: of one person among others, steadied by the frames before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Box, Disc, HeadPose, Image, OutlinePrompt, Outlines, Presence
from pa_lib.errors import ProtectionError
from pa_lib.functional.head_pose import head_ellipse

Likely = NDArray[np.float32]

_BACKGROUND = 0.3  # weight of background beside other people
_LEAST = 1e-6  # of a sum that is divided by
_BOX_REACH = 2  # frames before and after whose boxes are joined
_FLOW_PX = 160  # longer side of the part of a frame in which motion is found
_LEAST_FLOW_PX = 16  # of either side: smaller parts have no motion that could be found


class Outline(NamedTuple):
    r"""How far pixels belong to a person rather than to another.

    .. math:: x = \frac{p}{p + q + \beta (1 - p - q)}, \quad \beta = 0.3

    with the probabilities p of this person and q of others. Background counts less: if it is taken for the person, it
    is shown, and no other person with it; if a limb is taken for it, the person is hidden.

    Args:
        top, left: Position of ``likely[0, 0]`` in the frame, in pixels.
        likely: Values x, shape h w in [0, 1], wholly inside the frame.
    """

    top: int
    left: int
    likely: Likely

    @classmethod
    def of(cls, top: int, left: int, shares: NDArray[np.float32]) -> Outline:
        """By the probabilities that a network gives, shape 2 h w; see `contracts.Outlines`."""
        this, other = shares
        likely: Likely = this / np.maximum(this + other + _BACKGROUND * (1 - this - other), _LEAST)
        return cls(top, left, likely)

    def whole(self, height: int, width: int) -> Likely:
        """The same, as large as the frame."""
        frame = np.zeros((height, width), np.float32)
        rows, columns = self.likely.shape
        frame[self.top : self.top + rows, self.left : self.left + columns] = self.likely
        return frame


@dataclass(eq=False)
class Moment:
    """One frame and the people in it.

    Args:
        image: The frame, shape h w 3, uint8 RGB.
        kept: The people who stay.
        heads: Person id -> middle and radius of the head in pixels, of everybody.
    """

    image: Image
    kept: Sequence[Presence]
    heads: Mapping[int, Disc] = field(default_factory=dict)
    _alone: dict[int, Outline] = field(default_factory=dict)  # track id -> outline, as this frame alone shows it

    def of(self, track_id: int) -> Presence | None:
        """A kept person by their track; None where they are not in the frame."""
        return next((one for one in self.kept if one.track.track_id == track_id), None)

    def alone(self, network: Outlines, presence: Presence) -> Outline:
        """The outline of a kept person as this frame alone shows it; found once."""
        track_id = presence.track.track_id
        if track_id not in self._alone:
            self._alone[track_id] = self.asked(network, presence, None)
        return self._alone[track_id]

    def asked(self, network: Outlines, presence: Presence, believed: Likely | None) -> Outline:
        """The outline of a kept person, given what is believed of it."""
        others = [head for person_id, head in self.heads.items() if person_id != presence.person_id]
        prompt = OutlinePrompt(_box_around(presence), self.heads.get(presence.person_id), others)
        (top, left, shares), *_ = network.outlines(self.image, [prompt], [believed])
        if not np.isfinite(shares).all():
            raise ProtectionError("the outline network gave NaN or infinity")
        return Outline.of(top, left, shares)


class Moments(NamedTuple):
    """A frame between its neighbours.

    Args:
        before: The frame before; None at the beginning of a shot, and where it was not decoded.
        here: The frame.
        after: The frame after; None at the end of a shot, and where it was not decoded.
    """

    before: Moment | None
    here: Moment
    after: Moment | None


def steady_outline(network: Outlines, moments: Moments, presence: Presence) -> Outline:
    r"""The outline of a kept person, never smaller than what the frames before and after agree on.

    .. math:: y = \max(f(x, \tfrac12 (b + a)), \min(b, a))

    with x the frame, f the network given a believed outline, and b and a the outlines of the frames before and after as
    each of these shows it alone, moved to this frame by optical flow. At the ends of a shot, and where the person is in
    one of the two only, that one is what is believed, and nothing is agreed on.

    Args:
        network: Network that separates people.
        moments: The frame and its neighbours.
        presence: The person in this frame.
    """
    here = moments.here
    moved = []
    for near in (moments.before, moments.after):
        same = None if near is None else near.of(presence.track.track_id)
        if near is not None and same is not None:
            moved.append(_moved(near.alone(network, same), near.image, here.image))
    if not moved:
        return here.alone(network, presence)
    believed: Likely = np.stack(moved).mean(0)
    found = here.asked(network, presence, believed)
    if len(moved) < 2:
        return found
    height, width = here.image.shape[:2]
    whole = np.maximum(found.whole(height, width), np.minimum(*moved))
    return Outline(0, 0, whole)


def heads_of(poses: Iterable[tuple[int, HeadPose | None]]) -> dict[int, Disc]:
    """Person id -> middle and radius of the head, of the poses that are known."""
    found = {}
    for person_id, pose in poses:
        if pose is not None:
            x, y, across, along, _ = head_ellipse(pose)
            found[person_id] = (float(x), float(y), float((across + along) / 2))
    return found


def _box_around(presence: Presence) -> Box:
    """The box that holds the person in the frames just around this one: detectors lose limbs now and then."""
    _, track, row = presence
    near = track.boxes[max(0, row - _BOX_REACH) : row + _BOX_REACH + 1]
    x0, y0, x1, y1 = (float(side) for side in (*near[:, :2].min(0), *near[:, 2:].max(0)))
    return x0, y0, x1, y1


def _moved(outline: Outline, near: Image, here: Image) -> Likely:
    """An outline of a neighbouring frame where its pixels are in this one, as large as the frame."""
    height, width = here.shape[:2]
    moved = np.zeros((height, width), np.float32)
    rows, columns = outline.likely.shape
    top, bottom, left, right = outline.top, outline.top + rows, outline.left, outline.left + columns
    if rows == 0 or columns == 0:
        return moved
    scale = min(1.0, _FLOW_PX / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    likely = outline.likely
    if min(size) >= _LEAST_FLOW_PX:
        parts = (
            cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA) for image in (here, near)
        )
        grey_here, grey_near = (cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) for part in parts)
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(grey_here, grey_near, None)
        y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
        small = cv2.resize(likely, size, interpolation=cv2.INTER_AREA)
        there = cv2.remap(small, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        likely = cv2.resize(there, (columns, rows), interpolation=cv2.INTER_LINEAR)
    moved[top:bottom, left:right] = likely
    return moved
