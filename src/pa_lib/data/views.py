"""The part of a portrait that is seen in a frame, and the silhouette of the person in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from pa_lib.contracts import Box
from pa_lib.pretrained import SelfieSegmentation


@dataclass(frozen=True)
class View:
    """The square of an image that fills the frame.

    Centre in px of the image (its corner at 0 0), frame px per px, and the side of the frame in px.
    """

    x: float
    y: float
    scale: float
    side: int

    @staticmethod
    def of(picture: Tensor, box: Box, side: int) -> View:
        """The largest square of an image around a box, `side` px in the frame."""
        height, width = picture.shape[-2:]
        square = min(height, width)
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        return View(
            min(max(x, square / 2), width - square / 2),
            min(max(y, square / 2), height - square / 2),
            side / square,
            side,
        )

    def placed(self, x: float, y: float) -> Tensor:
        """A point of the image, in px of the frame, counted from its centre."""
        return torch.tensor([(x - self.x) * self.scale, (y - self.y) * self.scale])

    @property
    def square(self) -> Box:
        """The square, in px of the image."""
        half = self.side / self.scale / 2
        return self.x - half, self.y - half, self.x + half, self.y + half

    def sampled(
        self,
        picture: Float[Tensor, "c _ _"],
        points: Float[Tensor, "t h w 2"],
        beyond: Literal["reflection", "zeros"] = "reflection",
    ) -> Float[Tensor, "t c h w"]:
        """The picture at points of the frame; beyond its border mirrored, or 0."""
        height, width = picture.shape[-2:]
        source = picture[None]
        if self.scale < 1:  # shrunk with a filter first: bilinear sampling of a larger picture would alias
            size = max(1, round(height * self.scale)), max(1, round(width * self.scale))
            source = interpolate(source, size, mode="bilinear", antialias=True)
        at = points / self.scale + torch.tensor([self.x, self.y])
        at = 2 * at / torch.tensor([width, height]) - 1
        n = len(points)
        return grid_sample(source.expand(n, -1, -1, -1), at, padding_mode=beyond, align_corners=False)


class Silhouettes:
    """Silhouettes of portraits by the shipped network, each computed once in every process that makes clips."""

    def __init__(self) -> None:
        self._network = SelfieSegmentation(margin=0.0, n_threads=1)
        self._found: dict[int, NDArray[np.uint8]] = {}

    def of(self, number: int, picture: Float[Tensor, "3 h w"], view: View) -> Float[Tensor, "1 h w"]:
        """How far each pixel of an image belongs to the person, in [0, 1]; 0 outside of the view's square.

        Args:
            number: Number of the portrait, under which the silhouette is kept.
            picture: The image, RGB in [0, 1].
            view: The square that is looked at.
        """
        if number not in self._found:
            image = (picture * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
            ((top, left, part),) = self._network.silhouette(image, [view.square])
            whole = np.zeros(image.shape[:2], np.uint8)
            whole[top : top + part.shape[0], left : left + part.shape[1]] = np.round(part * 255)
            self._found[number] = whole
        return torch.from_numpy(self._found[number])[None].float() / 255

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_found": {}}  # workers find their own
