"""Where a face sits on its body, and whether it goes where the body goes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Box, Track
from pa_lib.functional.head_outline import HEAD_UP, ExpectedHead
from pa_lib.people.tracking.motion import Array, to_centre_size

# Where the centre of a face lies in the box of its body, as fractions of the body's width and height. Raised arms and
# bows bring a head down to the middle; the share of the width leaves room for an outstretched arm on one side.
HEAD_REGION = (0.08, -0.1, 0.92, 0.5)
# Height of the face over height of the body: about 1/9 for a standing person, 1/2 for a portrait cut at the chest.
FACE_HEIGHT = (0.06, 0.75)
# When a face is held not to move along with a body: see `moves_along`.
LEAST_FRAMES = 4
STILL_SIDES = 1.2
LEAST_SLOPE = 0.15
_SPEED_OF = 3  # detections at an end of a track that say how fast it goes beyond
# The scale of a head (see `HeadPose`) over the height of the box of its body, by the shape of the box: the wider it is
# for its height, the more of the legs is hidden, cut off or bent. Never less than for a body that stands, whose head is
# 1/7.5 of it, nor more than for a portrait. On 331 bodies of the shared clips whose face is seen, sizes are by 8 % too
# small in the median, errors 14 %; with one share for all bodies and another for those that the frame cuts off it was
# 25 % and 27 %.
_SCALE, _SHAPE, _STANDING, _PORTRAIT = 0.15, 1.4, 0.04, 0.145


def detected_rows(track: Track) -> NDArray[np.intp]:
    """The rows in which a detector saw the track; all of them where no score says so."""
    rows = np.flatnonzero(np.isfinite(track.scores))
    return rows if len(rows) else np.arange(len(track.frames))


def measured_boxes(track: Track, rows: NDArray[np.intp] | None = None) -> Array:
    """Boxes by centre and size, of the size that was detected: between detections the size goes evenly.

    In between, the box of a track covers all places where its face or body may be, which where the camera turns are
    many times as wide as the face is. The measured box lies in its middle; before the first and after the last
    detection it lies where the track's own speed in the picture leads, at most its own size beyond that box.

    Args:
        track: A face or a body.
        rows: Rows that are asked for; None: all.

    >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 90, 10], [80, 0, 90, 10], [80, 0, 140, 10]], np.float32)
    >>> scores = np.array([0.9, np.nan, 0.9, np.nan], np.float32)
    >>> measured_boxes(Track(1, "face", np.arange(4), boxes, scores)).tolist()
    [[5.0, 5.0, 10.0, 10.0], [45.0, 5.0, 10.0, 10.0], [85.0, 5.0, 10.0, 10.0], [125.0, 5.0, 10.0, 10.0]]
    """
    asked = np.arange(len(track.frames)) if rows is None else rows
    known = detected_rows(track)
    boxes, seen = (to_centre_size(track.boxes[at].astype(np.float64)) for at in (asked, known))
    covered = boxes.copy()
    for side in (2, 3):
        boxes[:, side] = np.interp(asked, known, seen[:, side])
    free = np.maximum(covered[:, 2:] - boxes[:, 2:], 0) / 2 + boxes[:, 2:]
    for beyond, end, step in ((asked < known[0], 0, 1), (asked > known[-1], -1, -1)):
        if len(known) > 1 and beyond.any():
            other = max(-len(known), -_SPEED_OF) if step < 0 else min(len(known), _SPEED_OF) - 1
            speed = (seen[end, :2] - seen[other, :2]) / (known[end] - known[other])
            led = seen[end, :2] + (asked[beyond] - known[end])[:, None] * speed
            boxes[beyond, :2] = np.clip(led, covered[beyond, :2] - free[beyond], covered[beyond, :2] + free[beyond])
    return boxes


def head_fits(faces: Array | NDArray[np.float32], bodies: Array | NDArray[np.float32]) -> tuple[Array, Array]:
    """How well faces sit on bodies, 0 to 1, and their share of the bodies' heights.

    Args:
        faces: Boxes of faces ``x0 y0 x1 y1`` in pixels, shape ... 4.
        bodies: Boxes of bodies in the same form, broadcast against `faces`.
    """
    face, body = np.broadcast_arrays(np.asarray(faces, dtype=np.float64), np.asarray(bodies, dtype=np.float64))
    size = np.maximum(body[..., 2:] - body[..., :2], 1.0)
    place = ((face[..., :2] + face[..., 2:]) / 2 - body[..., :2]) / size
    u, v = place[..., 0], place[..., 1]
    ratio = (face[..., 3] - face[..., 1]) / size[..., 1]
    x0, y0, x1, y1 = HEAD_REGION
    is_head = (x0 <= u) & (u <= x1) & (y0 <= v) & (v <= y1) & (FACE_HEIGHT[0] <= ratio) & (ratio <= FACE_HEIGHT[1])
    # Best in the middle near the top; a floor of 0.2 keeps every agreeing frame a vote.
    fit = 0.2 + 0.8 * np.exp(-(((u - 0.5) / 0.25) ** 2) - (np.maximum(v - 0.15, 0.0) / 0.2) ** 2)
    return np.where(is_head, fit, 0.0), ratio


def eyes_of_bodies(boxes: Array, height: int) -> tuple[Array, NDArray[np.bool_]]:
    """Where heads are if boxes hold upright bodies, by their size and shape alone.

    Args:
        boxes: Boxes of bodies by centre and size in pixels, shape n 4.
        height: Height of the frame in pixels: a body that ends there is cut off.

    Returns:
        x and y of the middle between the eyes and the logarithm of the scale, in pixels, shape n 3; and which bodies
        are cut off, shape n.
    """
    x, y, width, tall = boxes.T
    is_cut = y + tall / 2 >= height - np.maximum(2.0, 0.02 * tall)
    shape = np.maximum(width, 1e-6) / np.maximum(tall, 1e-6)
    scale = np.maximum(tall * np.clip(_SCALE * shape**_SHAPE, _STANDING, _PORTRAIT), 0.5)
    return np.stack([x, y - tall / 2 + HEAD_UP * scale, np.log(scale)], axis=1), is_cut


def expected_head(box: Box, height: int) -> ExpectedHead:
    """The same for one box, as `head_in_outline` wants it.

    >>> x, y, scale, is_cut = expected_head((100.0, 50.0, 160.0, 250.0), height=480)
    >>> round(x), round(y, 1), round(scale, 1), is_cut
    (130, 63.3, 8.0, False)
    """
    eyes, is_cut = eyes_of_bodies(to_centre_size(np.array([box], dtype=np.float64)), height)
    return ExpectedHead(float(eyes[0, 0]), float(eyes[0, 1]), float(np.exp(eyes[0, 2])), bool(is_cut[0]))


def moves_along(inner: Track, outer: Track, still_sides: float = STILL_SIDES) -> bool:
    """Whether a box inside another one goes where that one goes, as a head does with its body.

    The slope of the inner box's position over the outer one's, by least squares in both axes together: near 1 for a
    head and its body, near 0 for a bystander behind a moving person. True where the outer box hardly moves (there
    is nothing to see) or the two are seen together fewer than `LEAST_FRAMES` times.

    Measured on the shared clips: own faces 0.2 to 1.3 where the body moves by more than a face; bystanders' faces in
    the box of a break dancer -0.05 to 0.04.

    Args:
        inner: Boxes of the face, or of the smaller body.
        outer: Boxes of the body.
        still_sides: Largest motion of an outer box that counts as still, in sides of the inner one.
    """
    common = np.intersect1d(inner.frames[detected_rows(inner)], outer.frames[detected_rows(outer)])
    if len(common) < LEAST_FRAMES:
        return True
    a = inner.boxes[common - inner.frames[0]].astype(np.float64)
    b = outer.boxes[common - outer.frames[0]].astype(np.float64)
    side = float(np.sqrt((a[:, 2:] - a[:, :2]).prod(axis=1)).mean())
    ours = (a[:, :2] + a[:, 2:]) / 2
    theirs = np.stack([(b[:, 0] + b[:, 2]) / 2, b[:, 1]], axis=1)
    ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    power = float((theirs**2).sum())
    if np.sqrt(power / len(common)) < still_sides * side:
        return True
    return bool((ours * theirs).sum() / power >= LEAST_SLOPE)
