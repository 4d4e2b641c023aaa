"""Masks of whole heads: of everybody, also of people without a face to be seen."""

from __future__ import annotations

from dataclasses import replace

from pa_lib.contracts import Presence
from pa_lib.errors import SettingError
from pa_lib.functional.masks import Patch
from pa_lib.people.mask import AbstractMasker, SilhouetteMasker
from pa_lib.people.mask_shapes import (
    Canvas,
    Edge,
    FrameMasks,
    MaskRequest,
    checked_scales,
    ellipse_around,
    joined,
    whole_head,
)


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
            for pose in {canvas.pose(one): None for one in shown}:
                covered.append(whole_head(pose, self.growth, canvas.height, canvas.width))
            spared = None if sparing is None else sparing.within(shown[0])
            canvas.add(shown[0], joined(covered), self.edge, spared, kind="face")
        heads = canvas.result({} if sparing is None else sparing.in_front(request.hidden))
        below = FrameMasks((), ())
        if self.covers_bodies and self.silhouettes is not None:
            bodies = [one for one in request.hidden if one.track.kind == "body"]
            below = self.silhouettes.mask(replace(request, hidden=bodies))
        return FrameMasks((*below.masks, *heads.masks), (*below.fallbacks, *heads.fallbacks), heads.spared)

    def _face(self, presence: Presence, canvas: Canvas) -> Patch | None:
        return ellipse_around(canvas.box(presence), "face", self.scales["face"], canvas.height, canvas.width)
