"""Masks that do not give the silhouette away: grown at random, or made a box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from pa_lib.contracts import PaLibError
from pa_lib.functional.draws import uniform

_DRAWING_A_MASK = 0x3A5C5  # a last key of its own: callers draw the noise of the same clip from the same keys


class MaskAugmentation:
    """Grows the masks of a clip by a random square, or makes each the box around it; never takes a pixel away.

    A network that always sees exact silhouettes learns to fill them to the brim, and so copies the outline of whoever
    is replaced. One draw per clip: its frames are changed alike, or the outline would flicker.

    Args:
        max_dilation: The most that a mask grows to every side, as a share of the shorter side of the crop, in [0, 1].
            The growth is uniform in whole pixels from 0 to that.
        box_probability: How often a clip's masks become boxes instead, in [0, 1].

    Raises:
        PaLibError: A setting is out of range.

    Ours: the paper gives no augmentation; numbers follow what video inpainting does.

    >>> masks = torch.zeros(1, 1, 1, 4, 4)
    >>> masks[..., 0, 0] = masks[..., 1, 2] = 1
    >>> MaskAugmentation(box_probability=1.0)(masks, [(0, 0)])[0, 0, 0].int().tolist()
    [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """

    def __init__(self, max_dilation: float = 0.1, box_probability: float = 0.2) -> None:
        for name, value in (("max_dilation", max_dilation), ("box_probability", box_probability)):
            if not 0 <= value <= 1:
                raise PaLibError(f"{name} of the mask augmentation is {value}, expected a share from 0 to 1")
        self.max_dilation = max_dilation
        self.box_probability = box_probability

    def __call__(self, masks: Float[Tensor, "b t 1 h w"], keys: Sequence[Sequence[int]]) -> Float[Tensor, "b t 1 h w"]:
        """New masks of the same shape, nowhere below the old ones.

        Args:
            masks: In [0, 1], 1 = the person; not changed.
            keys: One sequence of keys per clip, of which alone its draw depends.

        Raises:
            ValueError: There are not as many keys as clips.
        """
        if len(keys) != len(masks):
            raise ValueError(f"{len(keys)} keys were given for {len(masks)} clips; expected one sequence per clip")
        return torch.stack([self._changed(clip, tuple(own)) for clip, own in zip(masks, keys, strict=True)])

    def _changed(self, masks: Float[Tensor, "t 1 h w"], keys: tuple[int, ...]) -> Float[Tensor, "t 1 h w"]:
        which, how_much = uniform((2,), *keys, _DRAWING_A_MASK).tolist()
        if which < self.box_probability:
            return torch.maximum(_boxes(masks), masks)
        most = round(self.max_dilation * min(masks.shape[-2:]))
        return _grown(masks, min(most, int(how_much * (most + 1))))


def _boxes(masks: Float[Tensor, "t 1 h w"]) -> Float[Tensor, "t 1 h w"]:
    """1 within the bounding box of each frame's mask."""
    rows, columns = (masks > 0).any(-1, keepdim=True), (masks > 0).any(-2, keepdim=True)
    return (_between(rows, -2) & _between(columns, -1)).to(masks.dtype)


def _between(is_set: Tensor, dim: int) -> Tensor:
    """From the first set place to the last along a dimension."""
    before, after = is_set.cumsum(dim), is_set.flip(dim).cumsum(dim).flip(dim)
    return (before > 0) & (after > 0)


def _grown(masks: Float[Tensor, "t 1 h w"], reach: int) -> Float[Tensor, "t 1 h w"]:
    """The largest value within `reach` px along rows and columns, one after the other."""
    if reach == 0:
        return masks.clone()
    wide = max_pool2d(masks, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return max_pool2d(wide, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
