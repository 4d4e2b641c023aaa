"""A network of video features small enough to be followed by hand, where other processes can import it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pa_lib.pretrained import AbstractVideoFeatures


class ColourFeatures(AbstractVideoFeatures):
    """Mean colour of a clip, and how much it changes from the first frame to the last."""

    name = "colour"
    n_dimensions = 6
    min_frames = 2

    def __init__(self, gain: float = 1.0, name: str = "colour") -> None:
        super().__init__()
        self.gain = gain
        self.name = name  # type: ignore[misc]
        self.asked = 0

    def forward(self, frames: Tensor) -> Tensor:
        self.asked += len(frames)
        self.check_frames(frames)
        colours = frames.double().mean((3, 4)) * self.gain
        return torch.cat([colours.mean(1), colours[:, -1] - colours[:, 0]], 1)

    def protocol(self) -> dict[str, Any]:
        return {"network": "colour", "gain": self.gain}
