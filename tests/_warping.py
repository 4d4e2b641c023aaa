"""Flow that a test knows by itself, importable by the processes that metrics are handed to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pa_lib.pretrained import AbstractOpticalFlow

BothWays = tuple[Tensor, Tensor]


class ShiftFlow(AbstractOpticalFlow):
    """Everything moves by the same vector, px, and back by another one, its opposite if none is given."""

    def __init__(self, x: float = 0.0, y: float = 0.0, back: tuple[float, float] | None = None) -> None:
        self.there, self.back = (x, y), back or (-x, -y)

    def both_ways(self, frames: Tensor) -> Iterator[BothWays]:
        for _ in range(len(frames) - 1):
            forward, backward = (
                torch.tensor(way, dtype=torch.float32).view(2, 1, 1).expand(2, *frames.shape[2:]) for way in self.ways()
            )
            yield forward, backward

    def ways(self) -> tuple[tuple[float, float], tuple[float, float]]:
        return self.there, self.back

    def protocol(self) -> dict[str, Any]:
        return {"network": "shift", "ways": [list(way) for way in self.ways()]}


class GivenFlow(AbstractOpticalFlow):
    """Flow of one clip that is known beforehand; the way back is the way there, turned round."""

    def __init__(self, flow: Tensor) -> None:
        self.flow = flow

    def both_ways(self, frames: Tensor) -> Iterator[BothWays]:
        assert len(frames) == len(self.flow) + 1
        yield from ((flow, -flow) for flow in self.flow)

    def protocol(self) -> dict[str, Any]:
        return {"network": "given"}
