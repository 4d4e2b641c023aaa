"""Which pixels hide the people of one frame: boxes, ellipses or silhouettes, grown, softened, on the chroma grid.

Every masker hides too much rather than too little: rasters cover what they touch, boxes that end at the frame's border
reach over it, shapes are grown before their edge is softened, and a silhouette that cannot be right becomes a box.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pa_lib.contracts import Box, Outlines, Presence, Silhouettes
from pa_lib.errors import ProtectionError, SettingError
from pa_lib.functional.boxes import bounding_box
from pa_lib.functional.masks import Patch, box_raster
from pa_lib.people.mask_shapes import (
    Canvas,
    Edge,
    FrameMasks,
    MaskRequest,
    checked_scales,
    edited_mask,
    ellipse_around,
    grown,
    part_inside,
)
from pa_lib.people.outlines import Moment, Moments, heads_of, steady_outline
from pa_lib.people.sparing import KeptBody, Sparing, is_sighted, measured_box

__all__ = [
    "AbstractMasker",
    "BoxMasker",
    "EllipseMasker",
    "FrameMasks",
    "MaskRequest",
    "SilhouetteMasker",
    "Silhouettes",
]

# A silhouette is accepted if it looks like a person who fills the box. On the 116 annotated people of at least 30 px in
# 31 COCO pictures these limits accept 100; the masks of these cover 99.4 % of the pixels on average (1st-worst 76 %);
# over all 116 it would be 93.4 %, with whole people missed. The rest become boxes.
_LEAST_SHARE = 0.35  # of the box
_LEAST_SPAN = 0.95  # of the box's height, and of its width
_LEAST_END_SHARE = 0.15  # of the top fifth of the box, where the head is, and of the bottom fifth
_REACH = 0.1  # how far a silhouette may leave its box, as a share of each side: arms, and boxes that lag behind


_KEPT_CERTAINTY = 0.5  # from which value of the network on a pixel is the kept person's
_OWN_CERTAINTY = 0.8  # the same where a hidden face may be that no detector sees
_KEPT_FACE_SCALE = 1.2  # of a kept face's box: the face itself with a little hair, not what is beside the head


class AbstractMasker(ABC):
    """Decides which pixels hide the people of one frame."""

    @property
    def looks_around(self) -> bool:
        """Whether it has a use for the frames before and after (`MaskRequest.moments`)."""
        return False

    @abstractmethod
    def mask(self, request: MaskRequest) -> FrameMasks:
        """Cover the hidden people of one frame.

        Where a track carries its own silhouette for this frame (`Track.masks`, from an edited tracks file), that is
        taken, whatever the masker; it is grown and softened like any other.

        Args:
            request: The frame, the people to cover, and the people who stay.

        Returns:
            The masks, clipped to the frame, and where the masker had to fall back to something coarser.

        Raises:
            ValueError: A box is not finite or is turned inside out. Such a frame cannot be protected person by person.
            PaLibError: A silhouette of the tracks file does not fit the frame.
        """


def _covered(request: MaskRequest, edge: Edge, shape: Callable[[Presence, Canvas], Patch | None]) -> FrameMasks:
    """Every hidden person of a frame under one kind of shape, or under the silhouette of an edited tracks file."""
    canvas = Canvas(request)
    for presence in request.hidden:
        canvas.add(presence, canvas.edited(presence) or shape(presence, canvas), edge)
    return canvas.result()


class BoxMasker(AbstractMasker):
    """Hides every person by a box.

    Args:
        face_scale: Ratio of the size of the hidden box to that of the face detector's, >= 1. Detectors frame a face
            from brow to chin; 1.6 holds hair and ears too.
        body_scale: Ratio of the size of the hidden box to that of the body's, >= 1; boxes of bodies are whole.
        dilation_px: Growth of every shape beyond that, in pixels.
        feather_px: Width of the soft edge in pixels. It goes inward only and may not be wider than `dilation_px`, so
            whatever the shape covered before it was grown is wholly replaced.

    Raises:
        PaLibError: A setting is out of range.
    """

    def __init__(
        self, face_scale: float = 1.6, body_scale: float = 1.1, dilation_px: float = 4.0, feather_px: float = 4.0
    ) -> None:
        self.scales = checked_scales(face_scale, body_scale)
        self.edge = Edge(dilation_px, feather_px)

    def mask(self, request: MaskRequest) -> FrameMasks:
        """Cover the hidden people by boxes; see `AbstractMasker.mask`."""
        return _covered(request, self.edge, self._shape)

    def _shape(self, presence: Presence, canvas: Canvas) -> Patch | None:
        box = grown(canvas.box(presence), self.scales[presence.track.kind])
        return box_raster(box, canvas.height, canvas.width)


class EllipseMasker(AbstractMasker):
    """Hides every person by an ellipse.

    Args:
        face_scale: Ratio of the axes of the ellipse to the sides of the face detector's box, >= 1. Inspected on a
            hundred faces: 1.5 covers hair, ears and chin, 1.3 leaves the outline of the hair; 1.6 has room for the
            motion of a head between two searches. The narrow box of a face in profile is taken as wide as a head is
            deep.
        body_scale: Ratio of the axes of the ellipse to the sides of the body's box, >= 1. 1.42 is the least that holds
            the corners of the box.
        dilation_px: Growth of every shape in pixels, see `BoxMasker`.
        feather_px: Width of the soft edge in pixels, see `BoxMasker`.

    Raises:
        PaLibError: A setting is out of range.
    """

    def __init__(
        self, face_scale: float = 1.6, body_scale: float = 1.42, dilation_px: float = 4.0, feather_px: float = 4.0
    ) -> None:
        self.scales = checked_scales(face_scale, body_scale)
        self.edge = Edge(dilation_px, feather_px)

    def mask(self, request: MaskRequest) -> FrameMasks:
        """Cover the hidden people by ellipses; see `AbstractMasker.mask`."""
        return _covered(request, self.edge, self._shape)

    def _shape(self, presence: Presence, canvas: Canvas) -> Patch | None:
        kind = presence.track.kind
        return ellipse_around(canvas.box(presence), kind, self.scales[kind], canvas.height, canvas.width)


class SilhouetteMasker(AbstractMasker):
    """Hides bodies by their silhouette and faces by an ellipse.

    A silhouette that cannot be right (it covers too little of the box, leaves out one of its sides, or the top where
    the head is) is replaced by the box, and the result says so. A hidden person whose face is tracked is covered by
    the ellipse as well, whatever the silhouette says.

    Args:
        network: Network that finds the silhouette in a box, for example `pa_lib.pretrained.SelfieSegmentation`.
        face_scale: Size of the ellipse around a face, see `EllipseMasker`.
        body_scale: Size of the box for bodies that fall back to it, see `BoxMasker`.
        threshold: Value of the network from which a pixel is the person's, in (0, 1). Low: on COCO 0.1 covers 99.4 % of
            the people in plausible silhouettes, 0.5 covers 98.7 % and passes fewer as plausible.
        dilation: Least growth of a silhouette, as a share of the shorter side of the box: the network sees every person
            at the same size, so its errors grow with the person.
        dilation_px: Growth of every shape in pixels, see `BoxMasker`. 2 px more than the feather: silhouettes of people
            of 20-90 px leave limbs out.
        feather_px: Width of the soft edge in pixels, see `BoxMasker`.
        spare_kept: Whether a kept person who stands further in front is cut out of the masks of the hidden people:
            where the network marks the kept person, and where a detector saw their face. Off by default in Python,
            because the network marks *any* person in a box: of what it gave back, a dancer before a distant crowd owned
            85 %, a breakdancer among the crowd half, and the rest showed clothes and limbs of people who were to be
            hidden. On in the command's config, where the subject is to stay. Faces are what must never show: nothing is
            ever cut from a hidden face that a detector sees, and from the top of a hidden body's box, where a face may
            be that no detector sees, only a kept face that one does see.

    Raises:
        PaLibError: A setting is out of range.
    """

    def __init__(
        self,
        network: Silhouettes,
        *,
        face_scale: float = 1.6,
        body_scale: float = 1.1,
        threshold: float = 0.1,
        dilation: float = 0.05,
        dilation_px: float = 6.0,
        feather_px: float = 4.0,
        spare_kept: bool = False,
    ) -> None:
        if not 0 < threshold < 1:
            raise SettingError(f"threshold of the silhouette masker is {threshold}, expected a number between 0 and 1")
        self.network = network
        self.scales = checked_scales(face_scale, body_scale)
        self.edge = Edge(dilation_px, feather_px)
        self.body_edge = Edge(dilation_px, feather_px, dilation)
        self.threshold = threshold
        self.spare_kept = spare_kept

    @property
    def looks_around(self) -> bool:
        """True with a network that separates people: the outlines of kept people are steadied."""
        return self.spare_kept and isinstance(self.network, Outlines)

    def mask(self, request: MaskRequest) -> FrameMasks:
        """Cover the hidden people by silhouettes and face ellipses; see `AbstractMasker.mask`."""
        canvas = Canvas(request)
        sparing = self.sparing(request, canvas)
        for presence in request.hidden:
            spared = sparing.within(presence) if sparing is not None else None
            if presence.track.kind == "face":
                canvas.add(presence, canvas.edited(presence) or self._head(presence, canvas), self.edge, spared)
            else:
                shape = canvas.edited(presence) or self._silhouette(request.image, presence, canvas)
                canvas.add(presence, shape, self.body_edge, spared)
        return canvas.result({} if sparing is None else sparing.in_front(request.hidden))

    def _head(self, presence: Presence, canvas: Canvas) -> Patch | None:
        return ellipse_around(canvas.box(presence), "face", self.scales["face"], canvas.height, canvas.width)

    def _silhouette(self, image: NDArray[np.uint8], presence: Presence, canvas: Canvas) -> Patch | None:
        """The body's silhouette, or its box where the silhouette is not plausible."""
        box = canvas.box(presence)
        inside = box_raster(box, canvas.height, canvas.width)
        if inside is None:
            return None
        seen = self._seen(image, box, self.threshold, canvas)
        why_not = _implausible(part_inside(seen, inside).numpy())
        if why_not is None:
            return seen
        canvas.fall_back(presence, f"the silhouette {why_not}, so the box is hidden")
        return box_raster(grown(box, self.scales["body"]), canvas.height, canvas.width)

    def _seen(self, image: NDArray[np.uint8], box: Box, threshold: float, canvas: Canvas) -> Patch:
        """What the network takes for a person in and just around a box."""
        (top, left, likely), *_ = self.network.silhouette(image, [box])
        if not np.isfinite(likely).all():
            raise ProtectionError("the silhouette network gave NaN or infinity")
        patch = Patch(top, left, torch.from_numpy(np.ascontiguousarray(likely > threshold)))
        reach = box_raster(grown(box, 1 + 2 * _REACH), canvas.height, canvas.width)
        return patch if reach is None else Patch(reach.top, reach.left, part_inside(patch, reach))

    def _kept_body(self, presence: Presence, request: MaskRequest, canvas: Canvas) -> KeptBody:
        """A kept person with their outline: by the tracks file, or by the network."""
        edited = edited_mask(presence, canvas.height, canvas.width)
        if edited is not None:
            return KeptBody(presence, edited)
        if not isinstance(self.network, Outlines):
            return KeptBody(presence, self._seen(request.image, presence.box, _KEPT_CERTAINTY, canvas))
        moments = request.moments
        if moments is None:
            people = {one.person_id: one for one in (*request.hidden, *request.kept)}
            heads = heads_of((person_id, canvas.poses.get(person_id)) for person_id in people)
            moments = Moments(None, Moment(request.image, request.kept, heads), None)
        top, left, likely = steady_outline(self.network, moments, presence)
        shape, own = (Patch(top, left, torch.from_numpy(likely > least)) for least in (_KEPT_CERTAINTY, _OWN_CERTAINTY))
        return KeptBody(presence, shape, own)

    def sparing(self, request: MaskRequest, canvas: Canvas) -> Sparing | None:
        """The shapes of the kept people, and the hidden faces that stay hidden in any case; None: nothing is spared."""
        if not (self.spare_kept and request.kept):
            return None
        height, width = canvas.height, canvas.width
        bodies, faces = [], []
        for other in request.kept:
            if other.track.kind == "body":
                bodies.append(self._kept_body(other, request, canvas))
            elif is_sighted(other, reach=1):
                faces.append(ellipse_around(measured_box(other), "face", _KEPT_FACE_SCALE, height, width))
        sighted = [one for one in request.hidden if one.track.kind == "face" and is_sighted(one)]
        heads = [head for one in sighted if (head := self._head(one, canvas)) is not None]
        return Sparing(
            bodies,
            [face for face in faces if face is not None],
            heads,
            {one.person_id for one in sighted},
            (height, width),
        )


def _implausible(silhouette: NDArray[np.bool_]) -> str | None:
    """Why a silhouette, cut to its box, cannot be that of the person in it; None where it can."""
    height = len(silhouette)
    share = float(silhouette.mean())
    if share < _LEAST_SHARE:
        return f"covers {share:.0%} of the box"
    box = bounding_box(silhouette)
    assert box is not None  # its share is above 0
    tall, wide = ((span.stop - span.start) / size for span, size in zip(box, silhouette.shape, strict=True))
    if min(tall, wide) < _LEAST_SPAN:
        return f"spans {tall:.0%} of the box's height and {wide:.0%} of its width"
    fifth = max(1, height // 5)
    top, bottom = float(silhouette[:fifth].mean()), float(silhouette[-fifth:].mean())
    if min(top, bottom) < _LEAST_END_SHARE:
        return f"covers {top:.0%} of the top and {bottom:.0%} of the bottom of the box"
    return None
