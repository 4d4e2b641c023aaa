"""The network that separates one person from others and from the background: a small U-Net that is prompted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, relu, scaled_dot_product_attention

from pa_lib.errors import SettingError
from pa_lib.functional.outline_prompt import N_PLANES

CLASSES = ("this", "other", "background")
STRIDE = 16  # sides of pictures are multiples of it
_GROUPS = 8
_HEADS = 4


class OutlineUNet(nn.Module):
    """A prompted crop in, three classes a pixel out: this person, other people, background.

    Four levels at 1/2 to 1/16 of the side, two residual blocks each on the way down (one at the finest, which costs
    most) and one on the way up; attention among all places of the lowest one, for what belongs to a person may lie on
    both sides of another. Group norms: a crop's outline does not depend on what else is in the batch.

    Args:
        widths: Channels of the levels, from the finest; multiples of 8.

    Raises:
        SettingError: Not four widths, or some that are no multiples of 8.

    Ours, after Ronneberger et al. 2015 (U-Net) and He et al. 2016 (residual blocks).

    >>> import torch
    >>> OutlineUNet((8, 8, 16, 16))(torch.rand(2, 7, 64, 64)).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        if len(widths) != 4 or any(width < _GROUPS or width % _GROUPS for width in widths):
            raise SettingError(f"widths {[*widths]} of the outline network: expected four multiples of {_GROUPS}")
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(old, new, 3, stride=2, padding=1), *(_Block(new) for _ in range(2 if level else 1)))
            for level, (old, new) in enumerate(zip((N_PLANES, *widths), widths, strict=False))
        )
        self.attention = _Attention(widths[-1])
        self.narrow = nn.ModuleList(nn.Conv2d(low, high, 1) for high, low in itertools.pairwise(widths))
        self.up = nn.ModuleList(_Block(width) for width in widths[:-1])
        self.classes = nn.Conv2d(widths[0], 4 * len(CLASSES), 3, padding=1)  # four pixels of full size at each place

    def forward(self, planes: Float[Tensor, "n c s s"]) -> Float[Tensor, "n k s s"]:
        """Logits of the classes.

        Args:
            planes: Picture and prompt, see `pa_lib.functional.outline_prompt.planes_of`; sides are multiples of 16.
        """
        x = planes * 2 - 1
        levels = []
        for level in self.down:
            x = level(x)
            levels.append(x)
        x = self.attention(levels.pop())
        for narrow, block in zip(reversed(self.narrow), reversed(self.up), strict=True):
            x = block(levels.pop() + _twice(narrow(x)))
        return pixel_shuffle(self.classes(x), 2)


class _Block(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = (nn.GroupNorm(_GROUPS, width) for _ in range(2))
        nn.init.zeros_(self.norm2.weight)  # begins as the identity

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.norm1(self.first(x)), inplace=True)
        return relu(x + self.norm2(self.second(y)))


class _Attention(nn.Module):
    """Every place sees every other one; beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.seen = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[-2]
        seen = self.seen(self.norm(x))
        q, k, v = rearrange(seen, "n (three heads c) h w -> three n heads (h w) c", three=3, heads=_HEADS)
        mixed = scaled_dot_product_attention(q, k, v)
        whole: Tensor = x + self.out(rearrange(mixed, "n heads (h w) c -> n (heads c) h w", h=rows))
        return whole


def _twice(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
