"""Which frames between two searched ones need a search of their own: where they show what neither of these shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.people.tracking.association import FOLLOWED, best_pairs, ways

View = NDArray[np.uint8]
Array = NDArray[np.float64]

# For so long (20 frames a second), a person may also move until their boxes no longer touch. A tracker that follows
# them covers all of the way then, and one that takes them for two people covers both ends of it.
_MOMENT_S, _TOUCHING = 0.1, 1.0
_JUMP = 3.0  # the largest way between two boxes that trackers may still take for one person, as `ways` measures it
_GROWTH = 0.7  # the largest logarithm of the ratio of their widths, or of their heights
# Least scores: of one of two boxes for a person who is followed, as trackers need it, and of both for one who jumps.
# Weaker faces in a crowd come and go: on breakdance and dance-twirl every other frame would be searched for them.
_SEEN, _SURE = 0.4, 0.5
# Beyond that, they jumped, unless a frame shows their picture at an end of the way: correlated so much, at most so far
# from one of the boxes, in widths and heights. In a crowd, where detections come and go, two people look like one who
# jumps. On the clips of dancers, pictures correlate by 0.8 to 0.99 where people are, mostly by 0.1 to 0.6 elsewhere.
_ALIKE, _NEAR_BY, _LEAST_CONTRAST = 0.8, 0.35, 3.0
# A place shows something that neither neighbor shows where it differs from both by this many grey values more than they
# differ from each other, over this share of a square of this side, in pixels of the frame and of the view. Faces that
# were put into one frame of seven clips were seen from 24 px on, most of those of 16 px too (720p: a third).
_LEVELS, _SHARE, _SIDE_PX, _LEAST_SIDE = 12, 0.4, 8, 5
# Where the body of a face is, from its middle: this many widths to both sides and heights up and down. Finders of faces
# alone would else search every frame in which a followed person swings an arm.
_BODY_HALF, _BODY_UP, _BODY_DOWN = 2.0, 1.0, 9.0
_NEAR = np.ones((3, 3), np.uint8)  # how far a place may move without being another: a pixel of the view


@dataclass(frozen=True, eq=False)
class Glance:
    """What is kept of a frame to decide whether it needs a search.

    Args:
        index: Index of the frame.
        time_s: Presentation time in seconds.
        view: The frame, small and grey.
        scale: Pixels of the view in one pixel of the frame.
        scene: Motion of the scene in the picture since the first frame, in pixels of the frame, shape 2.
    """

    index: int
    time_s: float
    view: View
    scale: float
    scene: Array

    @cached_property
    def envelope(self) -> tuple[View, View]:
        """The least and the largest value around every pixel."""
        return cv2.erode(self.view, _NEAR).astype(np.uint8), cv2.dilate(self.view, _NEAR).astype(np.uint8)

    def envelope_in(self, other: Glance) -> tuple[View, View]:
        """The same as the view of another frame would show it, whether a place moves with the scene or stands still."""
        low, high = self.envelope
        right, down = (round(way * self.scale) for way in (other.scene - self.scene).tolist())
        if not (right or down):
            return low, high
        path = np.array([[1, 0, right], [0, 1, down]], np.float64)
        size = self.view.shape[::-1]
        moved_low = cv2.warpAffine(low, path, size, flags=cv2.INTER_NEAREST, borderValue=(255,))
        moved_high = cv2.warpAffine(high, path, size, flags=cv2.INTER_NEAREST, borderValue=(0,))
        return np.minimum(low, moved_low).astype(np.uint8), np.maximum(high, moved_high).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Searched:
    """A frame that was searched.

    Args:
        glance: Time, place and view of the frame.
        detections: Detections in it.
    """

    glance: Glance
    detections: Sequence[Detection]

    def boxes(self, kind: str) -> tuple[Array, Array]:
        """Boxes of one kind on the scene of the first frame, shape n 4, and their scores, shape n."""
        some = [one for one in self.detections if one.kind == kind]
        boxes = np.array([one.box for one in some], np.float64).reshape(-1, 4) - np.tile(self.glance.scene, 2)
        return boxes, np.array([one.score for one in some], np.float64)


def next_search(before: Searched, between: Sequence[Glance], after: Searched, interval_s: float) -> int | None:
    """Which frame between two searched ones to search next.

    One is searched where the two are further apart in time than `interval_s`; where a person moved so far between them
    that they may be anywhere meanwhile; and where a frame shows something that neither of the two shows, at a place
    where these agree and no person is followed: a person who is in sight for one frame, is too fast to be followed, or
    came and went. So the density of the search goes by time and by what the pictures show, at any rate of frames.

    Args:
        before: The last searched frame before them.
        between: Frames of the same shot, in order, at least one.
        after: The next searched frame after them.
        interval_s: Longest time between two searched frames, in seconds, >= 0.

    Returns:
        Position in `between`; None: nothing between them needs a search.
    """
    apart_s = after.glance.time_s - before.glance.time_s
    if not 0 <= apart_s <= interval_s + 1e-6 or _has_jump(before, between, after):
        return len(between) // 2
    followed = list(_followed(before, after))
    shows = (at for at, one in enumerate(between) if shows_more(one, before.glance, after.glance, followed))
    return next(shows, None)


def shows_more(glance: Glance, before: Glance, after: Glance, followed: Sequence[Array] = ()) -> bool:
    """Whether a frame shows something, as large as the smallest face, that neither of two others shows.

    Args:
        glance: The frame.
        before: A frame before it.
        after: A frame after it.
        followed: Boxes ``x0 y0 x1 y1`` on the scene of the first frame, in pixels, that are not looked at.
    """
    view = glance.view
    if not view.shape == before.view.shape == after.view.shape:
        return True
    (low, high), (low_after, high_after) = before.envelope_in(glance), after.envelope_in(glance)
    beyond = cv2.max(
        cv2.subtract(cv2.min(low, low_after), view), cv2.subtract(view, cv2.max(high, high_after))
    )  # saturates at 0
    apart = cv2.max(cv2.subtract(low, high_after), cv2.subtract(low_after, high))
    is_new = (cv2.subtract(beyond, apart) > _LEVELS).astype(np.float32)
    for box in followed:
        x0, y0, x1, y1 = ((box + np.tile(glance.scene, 2)) * glance.scale).tolist()
        is_new[max(0, int(y0)) : max(0, int(np.ceil(y1))), max(0, int(x0)) : max(0, int(np.ceil(x1)))] = 0
    if not is_new.any():
        return False
    side = max(_LEAST_SIDE, 2 * round(_SIDE_PX * glance.scale / 2) + 1)
    shares = cv2.boxFilter(is_new, -1, (side, side), borderType=cv2.BORDER_CONSTANT)
    return float(shares.max()) > _SHARE


def _followed(before: Searched, after: Searched) -> Iterator[Array]:
    """What boxes of one person, seen in both frames, span, a tenth larger, and the bodies of faces; on the scene."""
    for kind in ("face", "body"):
        (boxes, scores), (others, other_scores) = before.boxes(kind), after.boxes(kind)
        is_near = (ways(boxes[:, None], others[None]) <= FOLLOWED) & (
            np.maximum(scores[:, None], other_scores) >= _SEEN
        )
        for i, j in zip(*np.nonzero(is_near), strict=True):
            low, high = np.minimum(boxes[i], others[j])[:2], np.maximum(boxes[i], others[j])[2:]
            yield np.concatenate([low - 0.1 * (high - low), high + 0.1 * (high - low)])
            if kind == "face":
                x, y = (low + high) / 2
                wide, tall = high - low
                yield np.array(
                    [x - _BODY_HALF * wide, y - _BODY_UP * tall, x + _BODY_HALF * wide, y + _BODY_DOWN * tall]
                )


def _has_jump(before: Searched, between: Sequence[Glance], after: Searched) -> bool:
    """Whether a person seen with high confidence in both frames has moved too far to be covered in those between."""
    is_moment = after.glance.time_s - before.glance.time_s <= _MOMENT_S + 1e-6
    most = _TOUCHING if is_moment else FOLLOWED
    for kind in ("face", "body"):
        (boxes, scores), (others, other_scores) = before.boxes(kind), after.boxes(kind)
        apart = ways(boxes[:, None], others[None])
        sizes, other_sizes = boxes[:, 2:] - boxes[:, :2], others[:, 2:] - others[:, :2]
        growth = np.abs(np.log(other_sizes[None] / sizes[:, None])).max(axis=2)
        rows, columns = np.nonzero((apart <= _JUMP) & (growth <= _GROWTH))
        for i, j in best_pairs(rows.tolist(), columns.tolist(), (-apart[rows, columns]).tolist()).items():
            if apart[i, j] <= most or min(scores[i], other_scores[j]) < _SURE:
                continue
            ends = (boxes[i], others[j])
            if not (is_moment and all(_shows_at_an_end(one, before.glance, after.glance, ends) for one in between)):
                return True
    return False


def _shows_at_an_end(glance: Glance, before: Glance, after: Glance, ends: tuple[Array, Array]) -> bool:
    """Whether a frame shows who moved from one box to another still in the first, or already in the second.

    It is enough to find what is in one of the boxes: if these are two people, tracks of both go on over this frame.
    """
    first, second = ends
    way = (second[:2] + second[2:] - first[:2] - first[2:]) / 2
    near = _NEAR_BY * np.minimum(first[2:] - first[:2], second[2:] - second[:2])
    for box, here, onward in ((first, before, way), (second, after, -way)):
        moved = _moved(box, here, glance, np.minimum(0, onward) - near, np.maximum(0, onward) + near)
        if moved is not None and any((np.abs(moved - end) <= near).all() for end in (np.zeros(2), onward)):
            return True
    return False


def _moved(box: Array, here: Glance, there: Glance, least: Array, most: Array) -> Array | None:
    """How far what a box holds in one frame has moved in another, on the scene in pixels; None where it is not found.

    Args:
        box: The box ``x0 y0 x1 y1`` on the scene of the first frame.
        here: The frame in which the box is.
        there: The frame in which its content is searched for.
        least: Least motion that is expected, to the right and down.
        most: Largest one.
    """
    if here.view.shape != there.view.shape:
        return None
    high, wide = here.view.shape
    corners = np.rint((box + np.tile(here.scene, 2)) * here.scale).clip(0, [wide, high, wide, high]).astype(int)
    x0, y0, x1, y1 = corners.tolist()
    pan = (there.scene - here.scene) * here.scale
    left, top = np.maximum(corners[:2] + np.floor(least * here.scale + pan).astype(int), 0).tolist()
    right, bottom = (corners[2:] + np.ceil(most * here.scale + pan).astype(int)).tolist()
    picture, window = here.view[y0:y1, x0:x1], there.view[top : max(0, bottom), left : max(0, right)]
    is_small = min(picture.shape) < _LEAST_SIDE or (np.array(window.shape) < picture.shape).any()
    if is_small or picture.std() < _LEAST_CONTRAST:
        return None
    _, alike, _, place = cv2.minMaxLoc(cv2.matchTemplate(window, picture, cv2.TM_CCOEFF_NORMED))
    found: Array = (np.array([left, top]) + place - corners[:2] - pan) / here.scale
    return found if alike >= _ALIKE else None
