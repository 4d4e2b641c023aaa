"""A small U-Net that corrects a guess of a face."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class _Block(nn.Module):
    """Two 3x3 convolutions and a skip, norms before them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, inputs), nn.GroupNorm(8, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.silu(self.norm1(x)))
        out: Tensor = self.skip(x) + self.conv2(functional.silu(self.norm2(y)))
        return out


class RestorationUNet(nn.Module):
    """Pictures and a first guess in, a better guess out; before it is trained, the first guess itself.

    Args:
        inputs: Number of channels beside the three of the guess.
        widths: Number of channels at full size, half size, and so on; multiples of 8.

    >>> guess = torch.rand(1, 3, 16, 16)
    >>> bool((RestorationUNet(3, (8, 16))(torch.rand(1, 3, 16, 16), guess) == guess).all())
    True
    """

    def __init__(self, inputs: int, widths: Sequence[int] = (24, 48, 96, 144)) -> None:
        super().__init__()
        # At half the size from the start: a face's full size costs most and holds least.
        self.stem = nn.Conv2d(4 * (inputs + 3), widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip((widths[0], *widths), widths, strict=False))
        self.up = nn.ModuleList(_Block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.out = nn.Conv2d(widths[0], 12, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, seen: Float[Tensor, "b k s s"], guess: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
        """A better guess. The side is a multiple of 2 to the power of the number of widths."""
        x = self.stem(functional.pixel_unshuffle(torch.cat([seen, guess], 1) * 2 - 1, 2))
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.avg_pool2d(x, 2))
            kept.append(x)
        for block, same in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), same], 1))
        return guess + functional.pixel_shuffle(self.out(functional.silu(x)), 2)
