"""Smooth random motion: curves over time that are slow against the frame rate, and a camera that moves along them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def smooth_curves(
    times: Float[Tensor, " t"], n: int, generator: torch.Generator, *, slowest: float = 120.0, fastest: float = 24.0
) -> Float[Tensor, "n t"]:
    """`n` random curves in [-1, 1], each a function of time alone: two sines of random period and phase.

    ``f(t) = 0.7 sin(2 pi t / p1 + a1) + 0.3 sin(2 pi t / p2 + a2)``, so that no step between frames is larger than
    ``2 pi / fastest``, however many frames a clip has.

    Args:
        times: Times at which the curves are evaluated, in frames.
        n: Number of curves.
        generator: Source of randomness for periods and phases.
        slowest: Longest period in frames.
        fastest: Shortest period in frames.
    """
    low, high = 1 / slowest, 1 / fastest
    rate = low + (high - low) * torch.rand(n, 2, 1, generator=generator)
    phase = torch.rand(n, 2, 1, generator=generator)
    weights = torch.tensor([0.7, 0.3])[:, None]
    return (weights * torch.sin(2 * math.pi * (rate * times + phase))).sum(1)


@dataclass(frozen=True, eq=False)
class Similarity:
    """Turn, scale and shift of the plane, one for each frame: ``y = scale R(angle) x + shift``.

    Args:
        angle: Angle of rotation in radians, shape t, from the x axis towards the y axis, which is clockwise on a
            screen.
        scale: Scale factor, shape t, > 0.
        shift: Translation (x, y), shape t 2.
    """

    angle: Float[Tensor, " t"]
    scale: Float[Tensor, " t"]
    shift: Float[Tensor, "t 2"]

    def __call__(self, points: Float[Tensor, "t h w 2"]) -> Float[Tensor, "t h w 2"]:
        """Where the points go."""
        return self._turned(points, self.angle) * self.scale[:, None, None, None] + self.shift[:, None, None]

    def inverse(self, points: Float[Tensor, "t h w 2"]) -> Float[Tensor, "t h w 2"]:
        """Where the points come from."""
        moved = (points - self.shift[:, None, None]) / self.scale[:, None, None, None]
        return self._turned(moved, -self.angle)

    def part(self, frames: slice) -> Similarity:
        """The same for some of the frames."""
        return Similarity(self.angle[frames], self.scale[frames], self.shift[frames])

    @staticmethod
    def _turned(points: Tensor, angle: Tensor) -> Tensor:
        cosine, sine = (f(angle)[:, None, None] for f in (torch.cos, torch.sin))
        x, y = points.unbind(-1)
        return torch.stack([cosine * x - sine * y, sine * x + cosine * y], -1)


def pixel_grid(n_frames: int, height: int, width: int) -> Float[Tensor, "t h w 2"]:
    """The (x, y) of every pixel's centre, px, counted from the centre of the picture; the same for every frame."""
    y = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
    return grid.expand(n_frames, height, width, 2)
