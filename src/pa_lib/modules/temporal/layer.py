"""What every layer over time is: a change that is added to its input, nothing at first."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from pa_lib.errors import SettingError


class AbstractTemporalLayer(nn.Module, ABC):
    """Adds a change to its input, in which every frame has seen others of its clip."""

    def forward(self, x: Float[Tensor, "bt c h w"], frames: int) -> Float[Tensor, "bt c h w"]:
        """The input with the change.

        Args:
            x: Frames of the clips, one clip after the other.
            frames: Number of frames of each clip, t.

        Raises:
            SettingError: The first dimension of `x` is no multiple of `frames`.
        """
        if frames < 1 or len(x) % frames:
            raise SettingError(
                f"{len(x)} images are not whole clips of {frames} frames; give whole clips, one after the other"
            )
        return x + self.change(x, frames)

    @abstractmethod
    def change(self, x: Float[Tensor, "bt c h w"], frames: int) -> Float[Tensor, "bt c h w"]:
        """What is added to the input; zero in a new layer."""


def zero_linear(channels: int) -> nn.Linear:
    """The last layer of a change. Weights and bias start at zero, so that a new temporal layer changes nothing."""
    layer = nn.Linear(channels, channels)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is not above a limit.

    >>> largest_divisor(192, 32), largest_divisor(36, 8)
    (32, 6)
    """
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)
