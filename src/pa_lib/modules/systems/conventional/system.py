"""Blur, mosaic, fill and noise: nothing is learned; learned systems are compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from pa_lib.contracts import Clip, ClipMasks, PersonMask
from pa_lib.errors import SettingError
from pa_lib.functional.conventional import blur, fill, mean_outside, mosaic, noise, region_size
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.modules.systems.sizes import check_same_size

Method = Literal["blur", "mosaic", "fill", "noise"]
_METHODS: tuple[Method, ...] = ("blur", "mosaic", "fill", "noise")
_COMPUTED_FROM_THE_PERSON: tuple[Method, ...] = ("blur", "mosaic")
_WEAKEST, _STRONGEST = 0.5, 10.0

_BLUR_SIGMA = 0.15  # of the region's size at strength 1
_MOSAIC_CELL = 0.15  # of the region's size at strength 1
_RING = 0.15  # of the region's size: how far around it a fill looks for its colour
_NARROWEST_RING_PX = 4


class ConventionalAnonymizer(AbstractAnonymizer):
    """Hides each person by a blur, a mosaic, one colour or noise.

    Works person by person on crops: its cost grows with the people and their area, not with the frame. Every crop is
    cut from the source, so the order of people does not matter for what they turn into; where two overlap, the larger
    region is written last, since its blur or its cells are coarser.

    Args:
        method: ``blur`` and ``mosaic`` look mild and are weak (see `functional.conventional`): they are computed from
            the person. ``fill`` and ``noise`` use no hidden pixel at all.
        strength: Only for blur and mosaic, 0.5 to 10; 1 is a blur with a sigma of 0.15, or a cell, of the region's size
            (the root of its area), so about 7 cells across. 2 is twice as coarse. Without effect on the others.
            Measured on 200 people of LFW with dlib's network, which names 90.5 % of them untouched: at 0.5 it names
            1 % (blur) and 0.5 % (mosaic), at 1 no more than chance (0.5 %). Given the known photos blurred in the
            same way it names 4.5 % at 1 and 2 % at 2, with no training at all; a network trained for it does far
            better.
        color: Only for fill: red, green and blue in 0..255, or ``surroundings``: the mean of the ring around the person
            outside of all masks.
        is_flickering: Only for noise: whether it is drawn for every frame. Still noise costs far fewer bits.

    Raises:
        SettingError: A setting is unknown or out of range.

    >>> import torch
    >>> frames = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
    >>> masks = ClipMasks((PersonMask(1, 0, 0, 0, torch.ones(2, 2)),), n_frames=1, height=4, width=4)
    >>> hidden = ConventionalAnonymizer("fill", color=(9, 9, 9)).anonymize(Clip(frames), masks)
    >>> hidden.frames[0, 0].tolist()
    [[9, 9, 2, 3], [9, 9, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    """

    window_frames = 1

    def __init__(
        self,
        method: Method = "blur",
        strength: float = 1.0,
        color: Sequence[int] | Literal["surroundings"] = "surroundings",
        is_flickering: bool = False,
    ) -> None:
        if method not in _METHODS:
            raise SettingError(
                f"unknown method {method!r} of the conventional anonymizer; choose {', '.join(_METHODS)}"
            )
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not _is_within(strength):
            raise SettingError(
                f"strength {strength!r} of the conventional anonymizer is out of range; "
                f"choose a number from {_WEAKEST} (weak) to {_STRONGEST} (coarse), 1 is usual"
            )
        self.method = method
        self.strength = float(strength)
        self.color = None if color == "surroundings" else _checked_color(color)
        self.is_flickering = is_flickering

    @property
    def is_non_interfering(self) -> bool:
        """Whether the method uses no hidden pixel: fill and noise."""
        return self.method not in _COMPUTED_FROM_THE_PERSON

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        """Replace the people under the masks; see `AbstractAnonymizer.anonymize`."""
        check_same_size(clip, masks)
        frames = clip.frames.clone()
        for index in range(len(frames)):
            people = sorted(masks.in_frame(index), key=_size_then_who)
            for mask in people:
                rows, columns = _window(mask)
                if not mask.alpha.numel():
                    continue
                replaced = self._replace(clip, mask, people, seed)
                region = frames[index, :, rows, columns]
                torch.where(mask.alpha.to(region.device) > 0, replaced, region, out=region)
        return Clip(frames, clip.first_frame, clip.fps)

    def _replace(self, clip: Clip, mask: PersonMask, people: Sequence[PersonMask], seed: int) -> UInt8[Tensor, "3 h w"]:
        """What stands in for the whole crop around one person."""
        frame = clip.frames[mask.frame]
        rows, columns = _window(mask)
        crop = frame[:, rows, columns]
        size = region_size(*mask.alpha.shape)
        if self.method == "blur":
            return blur(crop, self.strength * _BLUR_SIGMA * size)
        if self.method == "mosaic":
            return mosaic(crop, self.strength * _MOSAIC_CELL * size)
        if self.method == "noise":
            moment = (clip.first_frame + mask.frame,) if self.is_flickering else ()
            return noise(crop, (seed, mask.person_id, *moment), origin=(mask.top, mask.left))
        return fill(crop, self.color or _color_around(frame, mask, people, size))


def _size_then_who(mask: PersonMask) -> tuple[float, int, int, int]:
    return region_size(*mask.alpha.shape), mask.person_id, mask.top, mask.left


def _window(mask: PersonMask) -> tuple[slice, slice]:
    height, width = mask.alpha.shape
    return slice(mask.top, mask.top + height), slice(mask.left, mask.left + width)


def _color_around(
    frame: UInt8[Tensor, "3 h w"], mask: PersonMask, people: Sequence[PersonMask], size: float
) -> tuple[int, int, int]:
    """Mean colour of the ring around one person, without a hidden pixel."""
    ring = max(_NARROWEST_RING_PX, round(_RING * size))
    height, width = mask.alpha.shape
    rows = slice(max(0, mask.top - ring), min(frame.shape[1], mask.top + height + ring))
    columns = slice(max(0, mask.left - ring), min(frame.shape[2], mask.left + width + ring))
    return mean_outside(frame[:, rows, columns], _hidden_in(rows, columns, people))


def _hidden_in(rows: slice, columns: slice, people: Sequence[PersonMask]) -> Bool[Tensor, "h w"]:
    """Every pixel of a window of the frame that any mask touches."""
    hidden = torch.zeros(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool)
    for mask in people:
        height, width = mask.alpha.shape
        top, bottom = max(rows.start, mask.top), min(rows.stop, mask.top + height)
        left, right = max(columns.start, mask.left), min(columns.stop, mask.left + width)
        if top < bottom and left < right:
            alpha = mask.alpha[top - mask.top : bottom - mask.top, left - mask.left : right - mask.left]
            hidden[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] |= (
                alpha > 0
            ).cpu()
    return hidden


def _is_within(strength: float) -> bool:
    return _WEAKEST <= strength <= _STRONGEST


def _checked_color(color: Sequence[int] | str) -> tuple[int, int, int]:
    parts = () if isinstance(color, str) else tuple(color)
    if len(parts) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in parts):
        raise SettingError(
            f"color {color!r} is neither 'surroundings' nor three whole numbers in 0..255, for red, green, blue"
        )
    red, green, blue = parts
    return (red, green, blue)
