"""The one interface of what brings a reference into the light of a scene, and the plainest one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.modules.slot import Slot

_LEAST_ALPHA = 1e-3  # below it a color is not known
_FARTHEST = 1.5  # radii of the head, beyond which a place counts as no farther


@dataclass(frozen=True, eq=False)
class HeadPlaces:
    """Where heads lie in square pictures: a chart in which every head is about as large as every other.

    Args:
        centre: Middle (x, y) of each head as a share of the side, shape n 2.
        radius: Radius of the circle of each head's area, as a share of the side, shape n, > 0.
    """

    centre: Float[Tensor, "n 2"]
    radius: Float[Tensor, " n"]

    @staticmethod
    def of(alpha: Float[Tensor, "n 1 s s"]) -> HeadPlaces:
        """Centre and area of what is opaque; the middle of the picture where nothing is."""
        side = alpha.shape[-1]
        middles = (torch.arange(side, device=alpha.device, dtype=alpha.dtype) + 0.5) / side
        weight = alpha[:, 0]
        total = weight.sum((1, 2))
        x, y = ((weight.sum(axis) * middles).sum(1) for axis in (1, 2))
        is_there = total > 0
        shared = total.clamp(min=1e-6)
        centre = torch.where(is_there[:, None], torch.stack([x, y], 1) / shared[:, None], 0.5)
        radius = torch.where(is_there, (shared / math.pi).sqrt() / side, 0.5)
        return HeadPlaces(centre, radius)

    def chart(self, height: int, width: int, part: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Tensor:
        """Place (x, y) of each pixel of a part of the pictures, in radii from the centre, limited to 1.5.

        Args:
            height: Height of the part in pixels.
            width: Width of the part in pixels.
            part: Box ``x0 y0 x1 y1`` of the part, as shares of the side.

        Returns:
            Shape n 2 h w.
        """
        x0, y0, x1, y1 = part
        like = self.centre
        xs = x0 + (torch.arange(width).to(like) + 0.5) * ((x1 - x0) / width)
        ys = y0 + (torch.arange(height).to(like) + 0.5) * ((y1 - y0) / height)
        places = torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)])
        ahead = (places - like[:, :, None, None]) / self.radius[:, None, None, None]
        return ahead.clamp(-_FARTHEST, _FARTHEST)


@dataclass(frozen=True, eq=False)
class LightScene:
    """What a light is found from: pictures with a hole in them, and what is to stand in the hole.

    Args:
        pixels: The pictures, shape n 3 s s in [0, 1]. Hidden pixels are not looked at.
        hidden: Mask of the hidden pixels, 1 = hidden, else 0, shape n 1 s s.
        reference: Color times alpha, and alpha, in its own light, shape n 4 s s in [0, 1].
    """

    pixels: Float[Tensor, "n 3 s s"]
    hidden: Float[Tensor, "n 1 s s"]
    reference: Float[Tensor, "n 4 s s"]

    @property
    def visible(self) -> Float[Tensor, "n 3 s s"]:
        """The pictures, 0 where they are hidden."""
        return torch.where(self.hidden > 0, 0.0, self.pixels)

    @property
    def alpha(self) -> Float[Tensor, "n 1 s s"]:
        """Opacity of the reference."""
        return self.reference[:, 3:]

    @property
    def colors(self) -> Float[Tensor, "n 3 s s"]:
        """Colors of the reference, no longer multiplied; 0 where it is transparent."""
        return unmultiplied(self.reference)

    @property
    def places(self) -> HeadPlaces:
        """Where the references lie."""
        return HeadPlaces.of(self.alpha)


class AbstractLight(Slot, ABC):
    """Finds a few numbers that say what the light of a scene does to a reference, and applies them at any resolution.

    The numbers are a mean over neighbouring frames if smoothed, so they must mix: halfway between two of them lies a
    light between the two lights.
    """

    @abstractmethod
    def numbers(self, scene: LightScene) -> Float[Tensor, "n p"]:
        """What the light is, from what is visible; one row of numbers for each picture."""

    @abstractmethod
    def lit(
        self, numbers: Float[Tensor, "n p"], colors: Float[Tensor, "n 3 h w"], chart: Float[Tensor, "n 2 h w"]
    ) -> Float[Tensor, "n 3 h w"]:
        """Colors in this light.

        Args:
            numbers: Numbers of the light, from `numbers`.
            colors: RGB in [0, 1], not multiplied by alpha.
            chart: Place of each pixel on the head; see `HeadPlaces.chart`.

        Returns:
            In [0, 1].
        """

    def relit(self, scene: LightScene) -> Float[Tensor, "n 4 s s"]:
        """The references of a scene in its light: color times alpha, and alpha."""
        chart = scene.places.chart(*scene.pixels.shape[-2:])
        lit = self.lit(self.numbers(scene), scene.colors, chart)
        return torch.cat([lit * scene.alpha, scene.alpha], 1)


class NoLight(AbstractLight):
    """The reference stays in its own light: for comparison."""

    def numbers(self, scene: LightScene) -> Float[Tensor, "n p"]:
        """None at all: shape n 0."""
        return scene.pixels.new_zeros(len(scene.pixels), 0)

    def lit(
        self, numbers: Float[Tensor, "n p"], colors: Float[Tensor, "n 3 h w"], chart: Float[Tensor, "n 2 h w"]
    ) -> Float[Tensor, "n 3 h w"]:
        """The colors as they are."""
        return colors


def unmultiplied(reference: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Colors of a picture whose colors are multiplied by its alpha; 0 where it is transparent.

    >>> unmultiplied(torch.tensor([0.1, 0.2, 0.0, 0.4]).view(1, 4, 1, 1)).flatten()
    tensor([0.2500, 0.5000, 0.0000])
    """
    alpha = reference[:, 3:]
    colors = reference[:, :3] / alpha.clamp(min=_LEAST_ALPHA)
    return torch.where(alpha > _LEAST_ALPHA, colors, 0.0).clamp(0, 1)
