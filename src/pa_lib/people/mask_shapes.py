"""What maskers are made of: the box of a track at a frame, ellipses around heads, edges, the masks of one frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from pa_lib.contracts import Box, HeadPose, Image, Kind, PersonMask, Presence
from pa_lib.errors import SettingError
from pa_lib.functional.head_pose import head_ellipse
from pa_lib.functional.masks import (
    Patch,
    dilate,
    ellipse_raster,
    feather_inward,
    from_run_lengths,
    pad,
    snap_to_grid,
    tilted_ellipse_raster,
    trim,
    union,
)
from pa_lib.people.outlines import Moments
from pa_lib.people.poses import pose_of_box

# Boxes end a little inside the frame although the person does not: detectors work on a coarser grid than pixels.
_BORDER_PX, _BORDER_SHARE = 2.0, 0.02
# Heads in profile are as deep as they are high, but the box of a face in profile is narrow.
_HEAD_ASPECT = 0.8


@dataclass(frozen=True, eq=False)
class MaskRequest:
    """One frame whose hidden people are to be covered.

    Args:
        image: The frame, shape h w 3, uint8 RGB.
        hidden: The people to cover, with their track and its row at this frame.
        kept: The other people in the frame.
        frame: Index of the frame within the clip, for the masks.
        grid: Rows and columns of a chroma cell of the video. Alpha is constant within each cell.
        poses: Person id -> pose of the head; None or a missing person: implied by the box of each track.
        moments: The frame between its neighbours, for outlines that are steady in time; None: the frame alone counts.
    """

    image: Image
    hidden: Sequence[Presence]
    kept: Sequence[Presence] = ()
    frame: int = 0
    grid: tuple[int, int] = (1, 1)
    poses: Mapping[int, HeadPose] | None = None
    moments: Moments | None = None


class FrameMasks(NamedTuple):
    """Who is hidden where in one frame.

    Args:
        masks: Masks of every track of a hidden person that reaches into the frame.
        fallbacks: Explanation in one short sentence of each mask that is not of the kind that was asked for.
        spared: Person id -> where kept people stand in front of that hidden person: a system that needs more than the
            masks takes nothing there. People without any are absent.
    """

    masks: tuple[PersonMask, ...]
    fallbacks: tuple[str, ...]
    spared: Mapping[int, Patch] = MappingProxyType({})


@dataclass(frozen=True)
class Edge:
    """How a shape is grown and softened.

    Args:
        dilation_px: Growth of the shape in pixels.
        feather_px: Width of the soft edge in pixels, inward; at most `dilation_px`.
        dilation: Least growth, as a share of the shorter side of the person's box.

    Raises:
        SettingError: A setting is out of range.
    """

    dilation_px: float
    feather_px: float
    dilation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dilation_px", "feather_px", "dilation"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingError(f"{name} of a masker is {value}, expected a number >= 0")
        if self.feather_px > self.dilation_px:
            raise SettingError(
                f"feather_px {self.feather_px:g} is wider than dilation_px {self.dilation_px:g}, so the person's own "
                "pixels would show through the soft edge; raise dilation_px or lower feather_px"
            )

    def finish(self, patch: Patch, box: Box, height: int, width: int) -> Patch:
        """From a bool shape to alpha. One pixel more than the growth is padded, so that the feather sees an outside."""
        radius = max(self.dilation_px, self.dilation * min(box[2] - box[0], box[3] - box[1]))
        patch = pad(patch, math.ceil(radius) + 1, height, width)
        alpha = feather_inward(dilate(patch.mask, radius), self.feather_px)
        return trim(Patch(patch.top, patch.left, alpha)) or Patch(patch.top, patch.left, alpha)


class Canvas:
    """Gathers the masks of one frame.

    Args:
        request: The frame and the people in it.
    """

    def __init__(self, request: MaskRequest) -> None:
        self.frame, self.grid = request.frame, request.grid
        self.poses = request.poses or {}
        self.height, self.width = request.image.shape[:2]
        self._masks: list[PersonMask] = []
        self._fallbacks: list[str] = []

    def box(self, presence: Presence) -> Box:
        """The track's box at this frame, over the border where it ends there."""
        return over_border(presence.box, self.height, self.width)

    def edited(self, presence: Presence) -> Patch | None:
        """The track's own silhouette at this frame; None, with a note, where it hides nothing."""
        _, track, row = presence
        patch = edited_mask(presence, self.height, self.width)
        if patch is None and int(track.frames[row]) in track.masks:
            self.fall_back(presence, "its mask in the tracks file is empty, so it is masked again")
        return patch

    def pose(self, presence: Presence) -> HeadPose:
        """The pose of the person's head; by the box of the track where no other is known."""
        return self.poses.get(presence.person_id) or pose_of_box(presence.track, presence.row, self.height)

    def fall_back(self, presence: Presence, why: str) -> None:
        """Note why a person is not hidden by the shape that was asked for."""
        self._fallbacks.append(f"person {presence.person_id}, track {presence.track.track_id}: {why}")

    def add(
        self,
        presence: Presence,
        shape: Patch | None,
        edge: Edge,
        spared: Patch | None = None,
        kind: Kind | None = None,
    ) -> None:
        """Grow and soften a shape and put it on the grid.

        Args:
            presence: The person that it hides.
            shape: Bool mask; None if the person is outside of the frame.
            edge: Growth and soft edge of the shape.
            spared: Pixels to leave out. They are cut last, out of the finished alpha: a feather along the cut would
                show the hidden person through.
            kind: Kind of what the shape covers; None: that of the track.
        """
        if shape is None:
            return
        patch: Patch | None = edge.finish(shape, self.box(presence), self.height, self.width)
        if spared is not None and patch is not None:
            patch.mask[part_inside(spared, patch)] = 0
            patch = trim(patch)
        if patch is None:
            return
        top, left, alpha = snap_to_grid(patch, self.grid, self.height, self.width)
        kind = kind or presence.track.kind
        self._masks.append(PersonMask(presence.person_id, self.frame, top, left, alpha.contiguous(), kind))

    def result(self, spared: Mapping[int, Patch] = MappingProxyType({})) -> FrameMasks:
        """Everything that was added.

        Args:
            spared: Pixels where kept people stand in front, see `FrameMasks`.
        """
        return FrameMasks(tuple(self._masks), tuple(self._fallbacks), spared)


def edited_mask(presence: Presence, height: int, width: int) -> Patch | None:
    """The track's own silhouette at this frame, from an edited tracks file; None where it has none or an empty one."""
    _, track, row = presence
    counts = track.masks.get(int(track.frames[row]))
    return None if counts is None else trim(Patch(0, 0, from_run_lengths(counts, height, width)))


def over_border(box: Box, height: int, width: int) -> Box:
    """A box that ends at the frame's border is taken to go on beyond it, so the last row and column are covered.

    >>> over_border((1.0, 30.0, 20.0, 99.0), height=100, width=200)
    (-2.0, 30.0, 20.0, 102.0)
    """
    x0, y0, x1, y1 = box
    near_x, near_y = max(_BORDER_PX, _BORDER_SHARE * (x1 - x0)), max(_BORDER_PX, _BORDER_SHARE * (y1 - y0))
    return (
        min(x0, -near_x) if x0 <= near_x < x1 else x0,
        min(y0, -near_y) if y0 <= near_y < y1 else y0,
        max(x1, width + near_x) if x0 < width - near_x <= x1 else x1,
        max(y1, height + near_y) if y0 < height - near_y <= y1 else y1,
    )


def grown(box: Box, scale_x: float, scale_y: float | None = None) -> Box:
    """A box of another size with the same centre.

    >>> grown((0.0, 0.0, 10.0, 20.0), 1.5)
    (-2.5, -5.0, 12.5, 25.0)
    """
    x0, y0, x1, y1 = box
    more_x = (x1 - x0) * (scale_x - 1) / 2
    more_y = (y1 - y0) * ((scale_x if scale_y is None else scale_y) - 1) / 2
    return x0 - more_x, y0 - more_y, x1 + more_x, y1 + more_y


def ellipse_around(box: Box, kind: Kind, scale: float, height: int, width: int) -> Patch | None:
    """The ellipse around a body, or around the whole head of a face.

    >>> ellipse_around((40.0, 40.0, 50.0, 60.0), "face", 1.5, 100, 100).mask.shape  # 16 wide, not 10: a profile
    torch.Size([30, 24])
    """
    return ellipse_raster(head_box(box, scale) if kind == "face" else grown(box, scale), height, width)


def head_box(face: Box, scale: float) -> Box:
    """The box of a face grown to that of its head: no narrower and no lower than a head is.

    >>> head_box((40.0, 40.0, 50.0, 60.0), 1.5)
    (33.0, 35.0, 57.0, 65.0)
    """
    width, tall = face[2] - face[0], face[3] - face[1]
    if width <= 0 or tall <= 0:
        return grown(face, scale)
    return grown(face, scale * max(1.0, _HEAD_ASPECT * tall / width), scale * max(1.0, _HEAD_ASPECT * width / tall))


def whole_head(pose: HeadPose, growth: float, height: int, width: int) -> Patch | None:
    """The ellipse that a pose implies around the whole head: hair, ears, chin and the top of the neck.

    >>> whole_head(HeadPose(50.0, 50.0, 10.0), 1.0, 100, 100).mask.shape
    torch.Size([49, 38])
    """
    x, y, across, along, tilt = head_ellipse(pose, growth)
    return tilted_ellipse_raster((x, y), (across, along), tilt, height, width)


def joined(patches: Sequence[Patch | None]) -> Patch | None:
    """All patches that are there as one; None without any."""
    there = [patch for patch in patches if patch is not None]
    return union(there) if there else None


def part_inside(patch: Patch, window: Patch) -> Bool[Tensor, "h w"]:
    """What a bool mask covers of the place of another patch, at that patch's size. A copy."""
    rows, columns = window.mask.shape
    part = torch.zeros(rows, columns, dtype=torch.bool)
    top, bottom = max(patch.top, window.top), min(patch.top + patch.mask.shape[0], window.top + rows)
    left, right = max(patch.left, window.left), min(patch.left + patch.mask.shape[1], window.left + columns)
    if top < bottom and left < right:
        source = patch.mask[top - patch.top : bottom - patch.top, left - patch.left : right - patch.left]
        part[top - window.top : bottom - window.top, left - window.left : right - window.left] = source
    return part


def checked_scales(face_scale: float, body_scale: float) -> dict[Kind, float]:
    """The growth of both kinds of boxes, if it is one."""
    for name, scale in (("face_scale", face_scale), ("body_scale", body_scale)):
        if not (math.isfinite(scale) and 1 <= scale <= 5):
            raise SettingError(f"{name} of a masker is {scale}, expected a number from 1 (the detector's box) to 5")
    return {"face": face_scale, "body": body_scale}
