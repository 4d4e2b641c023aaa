"""The interface of networks that embed a clip as one vector, for distances between sets of videos."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from pa_lib.functional.hashing import weights_sha256


class AbstractVideoFeatures(nn.Module, ABC):
    """A frozen network: clips in, one vector for each out. Numbers of different networks cannot be compared."""

    name: ClassVar[str]  # goes into the names of values
    n_dimensions: int
    min_frames: int = 1  # what the network takes
    max_frames: int | None = None

    @abstractmethod
    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b d"]:
        """Features of clips: one row of `n_dimensions` for each.

        Args:
            frames: Frames, RGB in [0, 1], of any size; each network resizes as its `protocol` states.

        Raises:
            ValueError: Another shape, or a number of frames that the network does not take.
        """

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Which network, the sha256 of its weights, and what becomes of pixels on their way in: plain JSON values."""

    def train(self, mode: bool = True) -> AbstractVideoFeatures:
        """Stays in evaluation mode: it is frozen, and its batch norms must not see a batch."""
        del mode
        return super().train(False)

    def check_frames(self, frames: Tensor) -> None:
        """Refuse what is no batch of clips of a length that the network takes."""
        if frames.ndim != 5 or frames.shape[2] != 3 or not frames.is_floating_point():
            raise ValueError(f"frames are {frames.dtype} of shape {tuple(frames.shape)}, expected floats b t 3 h w")
        t = frames.shape[1]
        if t < self.min_frames or (self.max_frames is not None and t > self.max_frames):
            most = "or more" if self.max_frames in (None, self.min_frames) else f"to {self.max_frames}"
            expected = self.min_frames if self.max_frames == self.min_frames else f"{self.min_frames} {most}"
            raise ValueError(f"clips have {t} frames, {self.name} expects {expected}; set clip_frames")


def state_sha256(network: nn.Module) -> str:
    """Sha256 of a network's names, shapes and numbers, whatever kind of file they came from.

    >>> state_sha256(nn.Identity())[:8]
    'e3b0c442'
    """
    return weights_sha256(network.state_dict())
