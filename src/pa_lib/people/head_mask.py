"""Masks of whole heads: of everybody, also of people without a face to be seen."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Presence, Track
from pa_lib.errors import SettingError
from pa_lib.functional.head_pose import head_ellipse
from pa_lib.functional.masks import Patch, swept_ellipse_raster
from pa_lib.people.mask import AbstractMasker, SilhouetteMasker
from pa_lib.people.mask_shapes import (
    Canvas,
    Edge,
    FrameMasks,
    MaskRequest,
    checked_scales,
    ellipse_around,
    head_box,
    joined,
    whole_head,
)
from pa_lib.people.tracking.heads import detected_rows, measured_boxes
from pa_lib.people.tracking.motion import to_centre_size

_STILL_PX = 1.0  # a box that is larger than a face by less than this to each side holds it at one place


class HeadMasker(AbstractMasker):
    """Hides the whole head of every person: hair, ears, chin and the top of the neck. Bodies stay visible, or not.

    A head is an ellipse around its pose, tilted with it, and one mask of kind ``face``. Where a face is tracked, the
    ellipse around the box of the face is covered as well, so that a wrong pose shows no face. A person without a face
    has a head too, where the box of the body implies it: people seen from behind, or too small for a face to be found.

    Args:
        silhouettes: Masker that knows the outlines of people; with its ``spare_kept`` kept people who stand in front
            are cut out of the heads by its rules. None spares no kept person.
        covers_bodies: Whether the bodies of the hidden people are covered too, by `silhouettes`.
        growth: Ratio of the axes of the ellipse to those of a usual head with hair, in [0.5, 3]. 1 holds all but hats
            and the widest hair of the shared clips.
        face_scale: Ratio of the axes of the ellipse around a face to the sides of its box, see `EllipseMasker`.
        dilation_px: Growth of every head in pixels, see `BoxMasker`.
        feather_px: Width of the soft edge in pixels, see `BoxMasker`.

    Raises:
        PaLibError: A setting is out of range.
    """

    def __init__(
        self,
        silhouettes: SilhouetteMasker | None = None,
        *,
        covers_bodies: bool = False,
        growth: float = 1.0,
        face_scale: float = 1.6,
        dilation_px: float = 2.0,
        feather_px: float = 2.0,
    ) -> None:
        if not 0.5 <= growth <= 3:
            raise SettingError(f"growth of the head masker is {growth}, expected a number from 0.5 to 3")
        if covers_bodies and silhouettes is None:
            raise SettingError("the head masker covers bodies by silhouettes: give it a SilhouetteMasker, silhouettes=")
        self.silhouettes = silhouettes
        self.covers_bodies = covers_bodies
        self.growth = growth
        self.scales = checked_scales(face_scale, 1.0)
        self.edge = Edge(dilation_px, feather_px)

    @property
    def looks_around(self) -> bool:
        """Where `silhouettes` does."""
        return self.silhouettes is not None and self.silhouettes.looks_around

    def mask(self, request: MaskRequest) -> FrameMasks:
        """Cover the heads of the hidden people, one mask each; see `AbstractMasker.mask`."""
        canvas = Canvas(request)
        sparing = None if self.silhouettes is None else self.silhouettes.sparing(request, canvas)
        people: dict[int, list[Presence]] = {}
        for presence in request.hidden:
            people.setdefault(presence.person_id, []).append(presence)
        for own in people.values():
            faces = [one for one in own if one.track.kind == "face"]
            shown = faces or own
            covered = [canvas.edited(one) or self._face(one, canvas) for one in faces]
            covered += [self._head(one, canvas) for one in shown]
            spared = None if sparing is None else sparing.within(shown[0])
            canvas.add(shown[0], joined(covered), self.edge, spared, kind="face")
        heads = canvas.result({} if sparing is None else sparing.in_front(request.hidden))
        below = FrameMasks((), ())
        if self.covers_bodies and self.silhouettes is not None:
            bodies = [one for one in request.hidden if one.track.kind == "body"]
            below = self.silhouettes.mask(replace(request, hidden=bodies))
        return FrameMasks((*below.masks, *heads.masks), (*below.fallbacks, *heads.fallbacks), heads.spared)

    def _face(self, presence: Presence, canvas: Canvas) -> Patch | None:
        """The ellipse around a face, at all places where the face may be."""
        box, room = canvas.box(presence), _Room.of(presence, canvas)
        if room is None:
            return ellipse_around(box, "face", self.scales["face"], canvas.height, canvas.width)
        x0, y0, x1, y1 = head_box((0.0, 0.0, *room.size), self.scales["face"])
        half = (x1 - x0) / 2, (y1 - y0) / 2
        return swept_ellipse_raster(room.places, half, 0.0, canvas.height, canvas.width)

    def _head(self, presence: Presence, canvas: Canvas) -> Patch | None:
        """The ellipse around the whole head, at all places where the head may be."""
        pose, room = canvas.pose(presence), _Room.of(presence, canvas)
        if room is None:
            return whole_head(pose, self.growth, canvas.height, canvas.width)
        x, y, across, along, tilt = head_ellipse(pose, self.growth * room.growth)
        places = room.places - room.places[0] + [x, y]
        return swept_ellipse_raster(places, (across, along), tilt, canvas.height, canvas.width)


class _Room(NamedTuple):
    """Where a face or a body may be in a frame in which no detector saw it: of one size, at several places.

    Args:
        places: Middles (x, y) of the face or body where it probably is, and at the corners of the box of the track.
        size: Width and height of the face or body in pixels: as was detected, times `growth`.
        growth: Ratio of that size to the detected one, >= 1: the box of a track grows in time.
    """

    places: NDArray[np.float64]
    size: tuple[float, float]
    growth: float

    @classmethod
    def of(cls, presence: Presence, canvas: Canvas) -> Self | None:
        """None where a detector saw it, or where the box holds no more than one place."""
        _, track, row = presence
        if np.isfinite(track.scores[row]):
            return None
        box = to_centre_size(np.array([canvas.box(presence)]))[0]
        probable = measured_boxes(track, np.array([row]))[0]
        growth = max(1.0, float((box[2:] / probable[2:]).min()))
        reach = np.maximum(box[2:] - growth * probable[2:], 0.0) / 2
        # Who moves, and is lost for longer than from one search to the next, may have gone on otherwise than evenly.
        away = int(np.abs(detected_rows(track) - row).min())
        reach += np.minimum(max(away - 1, 0) * _speed(track, row), probable[2:])
        corners = box[:2] + reach * [[-1, -1], [-1, 1], [1, -1], [1, 1]]
        places = np.concatenate([probable[None, :2], corners])
        if np.abs(places - box[:2]).max() < _STILL_PX:
            return None
        return cls(places, (growth * float(probable[2]), growth * float(probable[3])), growth)


def _speed(track: Track, row: int) -> NDArray[np.float64]:
    """Speed of the middle of a track's box around a row along x and y, in pixels a frame."""
    ends = [max(row - 1, 0), min(row + 1, len(track.frames) - 1)]
    middles = to_centre_size(track.boxes[ends].astype(np.float64))[:, :2]
    speed: NDArray[np.float64] = np.abs(middles[1] - middles[0]) / max(ends[1] - ends[0], 1)
    return speed
