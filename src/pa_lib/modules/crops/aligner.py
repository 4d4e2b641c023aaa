"""One person in a window of frames as square crops, and the way back into the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from pa_lib.contracts import Box, PersonMask
from pa_lib.errors import SettingError
from pa_lib.functional.crops import Interpolation, cut_and_hide, extent, resample, square_boxes
from pa_lib.modules.fit import Fitting

Own = Sequence[PersonMask | Sequence[PersonMask] | None]
"""One person's masks, an entry per frame: one, several, or none. Their own `frame` is not looked at."""

Enlarge = Callable[[int, Box, tuple[int, int, int, int]], Tensor]
"""Row of a crop, a box of it in its pixels, and the same box in whole pixels of the frame -> the pixels, 3 h w."""

_WHOLE = 0.999
_ROUNDING = 1e-6  # px of a crop, by which a square that just holds its mask may miss it


@dataclass(frozen=True, eq=False)
class CropGeometry:
    """Where the crops of a person lie.

    Args:
        boxes: Square boxes ``x0 y0 x1 y1`` in pixels of the frame, shape t 4; may lie between pixels and beyond the
            frame.
    """

    boxes: Float[Tensor, "t 4"]

    def box(self, frame: int) -> Box:
        """The box of one frame."""
        x0, y0, x1, y1 = self.boxes[frame].tolist()
        return x0, y0, x1, y1


@dataclass(frozen=True, eq=False)
class Crops:
    """One person, cut out of a window.

    Args:
        pixels: Pixels of the crops, shape t 3 s s, float32 in [0, 1]. Black where a person is hidden and beyond the
            frame.
        hidden: Mask of all hidden people, shape t 1 s s, 1 at every pixel that a hidden pixel contributes to, else 0.
            Where it is 0, `pixels` are the source's.
        own: Mask of this person, shape t 1 s s, 1 at every pixel that a masked pixel of the person contributes to, else
            0; <= `hidden`.
        geometry: Position of the crops in the frames.
    """

    pixels: Float[Tensor, "t 3 s s"]
    hidden: Float[Tensor, "t 1 s s"]
    own: Float[Tensor, "t 1 s s"]
    geometry: CropGeometry

    def beyond(self, height: int, width: int) -> Float[Tensor, "t 1 s s"]:
        """Mask of what lies beyond the frame, wholly or in part.

        Args:
            height: Height of the frame in pixels.
            width: Width of the frame in pixels.
        """
        side, frame = self.pixels.shape[-1], torch.ones(1, 1, 1).expand(1, height, width)
        boxes = [self.geometry.box(row) for row in range(len(self.pixels))]
        inside = torch.stack([resample(frame, box, side, side, has_black_bars=True) for box in boxes])
        return (inside < _WHOLE).to(self.pixels)


class CropAligner(Fitting):
    """Cuts one person out of every frame as a square that the person fills alike, with black where the frame ends.

    The square lies around everything of the person's masks above 0. It depends on masks alone, and at
    `temporal_smoothing` 0 on those of its own frame alone, so windows that overlap cut alike.

    Args:
        side: Side length of the crops in pixels; a multiple of what the autoencoder requires.
        expansion: Ratio of the side of the square to the longer side of the person's box, >= 1. Ours: 1.2 to 1.3 shows
            what surrounds a person while the person still fills most of the crop.
        temporal_smoothing: Smoothing of centres and sides over time: standard deviation of a Gaussian in frames (see
            `functional.crops.square_boxes`); 0 = none. Detected boxes jitter, and generated faces would jitter with
            them. Smoothed squares depend on the other frames given, so windows that overlap may cut differently.

    Raises:
        SettingError: A setting is out of range.

    Source: squares with black bars are the paper's figure; sizes and filters are ours.

    >>> frames = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    >>> mask = PersonMask(1, 0, 2, 2, torch.ones(4, 4))
    >>> crops = CropAligner(side=8, expansion=2.0).align(frames, [mask], torch.zeros(1, 8, 8, dtype=torch.bool))
    >>> crops.geometry.boxes.tolist(), int(crops.own.sum()), float(crops.pixels.sum())
    ([[0.0, 0.0, 8.0, 8.0]], 16, 144.0)
    """

    def __init__(self, side: int = 64, expansion: float = 1.25, temporal_smoothing: float = 0.0) -> None:
        if side < 1:
            raise SettingError(f"side of the crops is {side} px, expected at least 1")
        if not 1 <= expansion < float("inf"):
            raise SettingError(f"expansion of the crops is {expansion}, expected at least 1 (1.25 is usual)")
        if not 0 <= temporal_smoothing < float("inf"):
            raise SettingError(
                f"temporal_smoothing of the crops is {temporal_smoothing}, expected a number of frames, 0 or more"
            )
        self.side = side
        self.expansion = expansion
        self.temporal_smoothing = temporal_smoothing

    def provides(self) -> Mapping[str, Any]:
        """The side length of the crops, as ``crop_side``."""
        return {"crop_side": self.side}

    def align(
        self,
        frames: UInt8[Tensor, "n 3 h w"],
        own: Own,
        hidden: Bool[Tensor, "n h w"],
        rows: Sequence[int] | None = None,
    ) -> Crops:
        """Cut one person out of every frame, or out of some.

        Args:
            frames: Frames with values in 0..255. Pixels under a mask are not used.
            own: Masks of the person, an entry per frame. A frame without any is cut as the nearest frame that has one.
            hidden: Mask of all hidden people (alpha above 0). The person's own masks count as hidden in any case.
            rows: Rows of `frames` and `hidden` that `own` has entries for; None: all of them.

        Returns:
            Float crops on the device of `frames`.

        Raises:
            SettingError: The person is in none of the frames.
            ValueError: Sizes do not fit each other, or a mask reaches beyond the frame.
        """
        total, _, height, width = frames.shape
        rows = range(total) if rows is None else rows
        if len(own) != len(rows) or tuple(hidden.shape) != (total, height, width):
            raise ValueError(
                f"{len(rows)} frames of {width} x {height} came with masks for {len(own)} frames "
                f"and hidden pixels of shape {tuple(hidden.shape)}"
            )
        masks_of = [_listed(masks) for masks in own]
        geometry = CropGeometry(self._boxes(masks_of))
        cuts = []
        for index, (row, masks) in enumerate(zip(rows, masks_of, strict=True)):
            masked = _covered(masks, height, width).to(frames.device)
            all_hidden = hidden[row].to(frames.device)
            cuts.append(cut_and_hide(frames[row], all_hidden, masked, geometry.box(index), self.side))
        pixels, hides, is_own = (torch.stack(parts) for parts in zip(*cuts, strict=True))
        return Crops(pixels, hides, is_own, geometry)

    def _boxes(self, own: Sequence[Sequence[PersonMask]]) -> Float[Tensor, "t 4"]:
        nowhere = (float("nan"),) * 4
        boxes = torch.tensor([_extent(masks) or nowhere for masks in own], dtype=torch.float64).reshape(-1, 4)
        if not bool(boxes.isfinite().any()):
            raise SettingError(f"the person to crop is hidden in none of {len(own)} frames; leave the person out")
        return square_boxes(boxes, self.expansion, self.temporal_smoothing)


@dataclass(frozen=True, eq=False)
class Piece:
    """What goes into a frame in the place of one person.

    Args:
        top, left: Position in the frame in pixels.
        pixels: Pixels in 0..255.
        where: Mask of those of them that are written.
    """

    top: int
    left: int
    pixels: UInt8[Tensor, "3 h w"]
    where: Bool[Tensor, "h w"]

    def paste(self, frame: UInt8[Tensor, "3 height width"]) -> None:
        """Write it into a frame, **in place**."""
        rows, columns = self.where.shape
        region = frame[:, self.top : self.top + rows, self.left : self.left + columns]
        region.copy_(torch.where(self.where.to(frame.device), self.pixels.to(frame.device), region))


class Reintegrator:
    """Puts the crops of one person back where they came from, under that person's mask and nowhere else.

    Args:
        interpolation: ``bicubic`` (sharper) or ``bilinear``. Both widen their kernel where a crop shrinks.

    Raises:
        SettingError: The interpolation is unknown.
    """

    def __init__(self, interpolation: Interpolation = "bicubic") -> None:
        if interpolation not in ("bicubic", "bilinear"):
            raise SettingError(f"unknown interpolation {interpolation!r} of crops; choose bicubic or bilinear")
        self.interpolation = interpolation

    def paste(
        self,
        frames: UInt8[Tensor, "t 3 h w"],
        pixels: Float[Tensor, "t 3 s s"],
        geometry: CropGeometry,
        own: Own,
        enlarge: Enlarge | None = None,
    ) -> UInt8[Tensor, "t 3 h w"]:
        """Write the crops into `frames`, **in place**: people after people fill one copy, not one each.

        Wherever the person's alpha is above 0 the pixel is ``round(255 * crop)``, clamped; blending by alpha is the
        caller's. Every other pixel is left untouched.

        Args:
            frames: Frames with values in 0..255; changed in place.
            pixels: Generated crops, values about in [0, 1].
            geometry: Position of the crops, from `CropAligner.align`.
            own: Masks of the person, an entry per frame.
            enlarge: Resizes in the place of the interpolation, for a system that knows more than the crops hold.

        Returns:
            `frames` itself.

        Raises:
            ValueError: Sizes do not fit, a crop holds NaN or infinity, or a box does not hold its mask. A person who
                could not be replaced must not pass.
        """
        n_frames, _, height, width = frames.shape
        if n_frames != len(pixels):
            raise ValueError(f"{n_frames} frames came with {len(pixels)} crops")
        pieces = self.pieces(pixels, geometry, own, (height, width), enlarge)
        for frame, piece in zip(frames, pieces, strict=True):
            if piece is not None:
                piece.paste(frame)
        return frames

    def pieces(
        self,
        pixels: Float[Tensor, "t 3 s s"],
        geometry: CropGeometry,
        own: Own,
        size: tuple[int, int],
        enlarge: Enlarge | None = None,
    ) -> list[Piece | None]:
        """What `paste` writes into each frame, to be kept until it is written; None where the person is not.

        Args:
            pixels: See `paste`.
            geometry: See `paste`.
            own: See `paste`.
            size: Height and width of the frames in pixels.
            enlarge: See `paste`.

        Raises:
            ValueError: See `paste`.
        """
        if not len(pixels) == len(geometry.boxes) == len(own):
            raise ValueError(
                f"{len(pixels)} crops came with {len(geometry.boxes)} boxes and masks for {len(own)} frames"
            )
        if not bool(pixels.isfinite().all()):
            raise ValueError("the crops to paste hold NaN or infinity")
        found: list[Piece | None] = []
        for index, masks in enumerate(map(_listed, own)):
            where, box = _covered(masks, *size), _extent(masks)
            if box is None:
                found.append(None)
                continue
            part = _part(pixels.shape[-1], geometry.box(index), box)
            x0, y0, x1, y1 = box
            if enlarge is None:
                seen = resample(pixels[index].float(), part, y1 - y0, x1 - x0, self.interpolation)
            else:
                seen = enlarge(index, part, box)
                if not bool(seen.isfinite().all()):
                    raise ValueError("the enlarged crops to paste hold NaN or infinity")
            # a copy of the mask: a view would keep all of its frame
            found.append(Piece(y0, x0, (seen.clamp(0, 1) * 255).round().byte(), where[y0:y1, x0:x1].clone()))
        return found


def _part(side: int, square: Box, box: tuple[int, int, int, int]) -> Box:
    """The part of a crop, in its pixels, that shows a box of the frame."""
    left, top, right, bottom = (
        side * (at - square[axis]) / (square[2] - square[0]) for axis, at in zip((0, 1, 0, 1), box, strict=True)
    )
    if min(left, top) < -_ROUNDING or max(right, bottom) > side + _ROUNDING:
        raise ValueError(f"the square {square} of a crop does not hold its person's mask {box}")
    return max(left, 0.0), max(top, 0.0), min(right, float(side)), min(bottom, float(side))


def _listed(masks: PersonMask | Sequence[PersonMask] | None) -> Sequence[PersonMask]:
    if masks is None:
        return ()
    return (masks,) if isinstance(masks, PersonMask) else masks


def _covered(masks: Sequence[PersonMask], height: int, width: int) -> Bool[Tensor, "h w"]:
    """Where any of the masks is above 0, on the CPU."""
    covered = torch.zeros(height, width, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, _places(masks), strict=True):
        if min(top, left) < 0 or bottom > height or right > width:
            raise ValueError(f"the mask of person {mask.person_id} reaches beyond its frame of {width} x {height}")
        covered[top:bottom, left:right] |= (mask.alpha > 0).cpu()
    return covered


def _extent(masks: Sequence[PersonMask]) -> tuple[int, int, int, int] | None:
    """Box of everything above 0 in any of the masks."""
    boxes = [box for mask in masks if (box := extent(mask.top, mask.left, mask.alpha)) is not None]
    if not boxes:
        return None
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _places(masks: Sequence[PersonMask]) -> Iterator[tuple[int, int, int, int]]:
    for mask in masks:
        rows, columns = mask.alpha.shape
        yield mask.top, mask.left, mask.top + rows, mask.left + columns
