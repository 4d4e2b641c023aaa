"""Masks that do not give the silhouette away: grown at random, or made a box, with or without the body below."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from pa_lib.errors import SettingError
from pa_lib.functional.boxes import bounding_box
from pa_lib.functional.draws import uniform
from pa_lib.modules.slot import Recorded

_DRAWING_A_MASK, _DRAWING_A_BODY, _JITTERING = (
    0x3A5C5,
    0xB0D1,
    0x73E3,
)  # last keys of their own: callers draw noise from the same keys
# Where a body is hidden below a head: its width over the head's, and at which share of the head's height it begins.
_LEAST_BODY, _MOST_BODY, _NECK = 1.0, 2.5, 0.7


class MaskAugmentation(Recorded):
    """Grows a clip's masks by a random square, or makes each the box around it, or a body; never takes a pixel away.

    A network that always sees exact silhouettes learns to fill the mask completely, and so copies the outline of the
    person who is replaced. One draw per clip: all frames are changed in the same way, or the outline would flicker.
    The exception is `jitter`.

    Args:
        max_dilation: Largest growth of a mask to every side, as a share of the shorter side of the crop, in [0, 1]. The
            growth is uniform in whole pixels from 0 to that.
        box_probability: Probability that the masks of a clip become boxes, in [0, 1].
        body_probability: Probability that the body below a head is hidden too, in [0, 1]: everything below in a strip
            one head to two and a half heads wide. For masks of heads, where whole people are hidden and heads are
            generated.
        jitter: Largest random growth of each of the four sides of every frame's mask, drawn frame by frame, as a share
            of the shorter side of the crop, in [0, 1], in whole pixels. Masks of detected people jitter; temporal
            layers trained with it learn not to follow.

    Raises:
        SettingError: A setting is out of range.

    Ours: the paper gives no augmentation; numbers follow what video inpainting does.

    >>> masks = torch.zeros(1, 1, 1, 4, 4)
    >>> masks[..., 0, 0] = masks[..., 1, 2] = 1
    >>> MaskAugmentation(box_probability=1.0)(masks, [(0, 0)])[0, 0, 0].int().tolist()
    [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """

    def __init__(
        self,
        max_dilation: float = 0.1,
        box_probability: float = 0.2,
        body_probability: float = 0.0,
        jitter: float = 0.0,
    ) -> None:
        shares = {
            "max_dilation": max_dilation,
            "box_probability": box_probability,
            "body_probability": body_probability,
            "jitter": jitter,
        }
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise SettingError(f"{name} of the mask augmentation is {value}, expected a share from 0 to 1")
        self.max_dilation = max_dilation
        self.box_probability = box_probability
        self.body_probability = body_probability
        self.jitter = jitter

    def __call__(self, masks: Float[Tensor, "b t 1 h w"], keys: Sequence[Sequence[int]]) -> Float[Tensor, "b t 1 h w"]:
        """New masks of the same shape, nowhere below the old ones.

        Args:
            masks: Masks with values in [0, 1], 1 = the person; not changed.
            keys: One key of randomness per clip, a sequence of integers, on which alone its draw depends.

        Raises:
            ValueError: There are not as many keys as clips.
        """
        if len(keys) != len(masks):
            raise ValueError(f"{len(keys)} keys were given for {len(masks)} clips; expected one sequence per clip")
        return torch.stack([self._changed(clip, tuple(own)) for clip, own in zip(masks, keys, strict=True)])

    def _changed(self, masks: Float[Tensor, "t 1 h w"], keys: tuple[int, ...]) -> Float[Tensor, "t 1 h w"]:
        side = min(masks.shape[-2:])
        whole = masks
        if self.body_probability:
            is_body, width = uniform((2,), *keys, _DRAWING_A_BODY).tolist()
            if is_body < self.body_probability:
                whole = torch.maximum(masks, _bodies(masks, _LEAST_BODY + (_MOST_BODY - _LEAST_BODY) * width))
        which, how_much = uniform((2,), *keys, _DRAWING_A_MASK).tolist()
        if which < self.box_probability:
            changed = torch.maximum(_boxes(masks), whole)
        else:
            changed = _grown(whole, (_whole_pixels(self.max_dilation * side, how_much),) * 4)
        if not self.jitter:
            return changed
        growth = uniform((len(masks), 4), *keys, _JITTERING).tolist()
        reaches = [[_whole_pixels(self.jitter * side, share) for share in frame] for frame in growth]
        return torch.cat([_grown(frame[None], reach) for frame, reach in zip(changed, reaches, strict=True)])


def _whole_pixels(most: float, share: float) -> int:
    """0 to `most`, all equally likely where the share is uniform in [0, 1)."""
    return min(round(most), int(share * (round(most) + 1)))


def _bodies(masks: Float[Tensor, "t 1 h w"], width: float) -> Float[Tensor, "t 1 h w"]:
    """1 from each frame's neck down, `width` heads wide around the middle of the head."""
    height_px, width_px = masks.shape[-2:]
    bodies = torch.zeros_like(masks)
    for mask, body in zip(masks[:, 0], bodies[:, 0], strict=True):
        box = bounding_box(mask)
        if box is not None:
            rows, columns = box
            neck = rows.start + round(_NECK * (rows.stop - rows.start))
            middle, half = (columns.start + columns.stop) / 2, width * (columns.stop - columns.start) / 2
            body[min(neck, height_px) :, max(round(middle - half), 0) : min(round(middle + half), width_px)] = 1
    return bodies


def _boxes(masks: Float[Tensor, "t 1 h w"]) -> Float[Tensor, "t 1 h w"]:
    """1 within the bounding box of each frame's mask."""
    rows, columns = (masks > 0).any(-1, keepdim=True), (masks > 0).any(-2, keepdim=True)
    return (_between(rows, -2) & _between(columns, -1)).to(masks.dtype)


def _between(is_set: Tensor, dim: int) -> Tensor:
    """From the first set place to the last along a dimension."""
    before, after = is_set.cumsum(dim), is_set.flip(dim).cumsum(dim).flip(dim)
    return (before > 0) & (after > 0)


def _grown(masks: Float[Tensor, "t 1 h w"], reach: Sequence[int]) -> Float[Tensor, "t 1 h w"]:
    """The largest value within reach: masks grow by that number of pixels to the left, to the right, up and down."""
    left, right, up, down = reach
    if not any(reach):
        return masks.clone()
    # A pixel is reached from the other side: what grows to the left is seen by looking to the right.
    wide = max_pool2d(pad(masks, (right, left, 0, 0)), (1, 1 + left + right), stride=1)
    return max_pool2d(pad(wide, (0, 0, down, up)), (1 + up + down, 1), stride=1)
