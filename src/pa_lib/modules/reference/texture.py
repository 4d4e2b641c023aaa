"""What a placed reference lacks of the sharpness, blur and grain of the film around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from jaxtyping import Bool, Float
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn.functional import max_pool2d

from pa_lib.functional.draws import normal
from pa_lib.functional.texture import REACH_PX, blur_px, grain
from pa_lib.modules.reference.base import AbstractPlaced, PersonInCrops

_LOOKS = 5  # frames that are measured: film does not change from frame to frame
_MOST_BLUR_PX = 2.5  # beyond it the scene is out of focus, not the film
_MOST_SHARPENING_PX = 0.6  # what reducing a picture to pixels takes; more would bring out the grain of pictures
_LEAST_PX = 0.2  # below it neither is seen
_MOST_GRAIN = 0.05
_GRAIN = 0x6A1  # last key of its draws
_LUMA = (0.299, 0.587, 0.114)  # Rec. 601


@dataclass(frozen=True)
class Texture:
    """Blur and grain to be added to the picture of a reference, or blur to be taken away.

    Args:
        blur: Standard deviation of a Gaussian blur in pixels, >= 0.
        sharpening: Standard deviation of a blur that is undone, in pixels, >= 0; one of the two is 0.
        noise: Standard deviation of the grain, of pixels in [0, 1].
        keys: Numbers from which the grain of every frame is drawn, one sequence per row.
    """

    blur: float = 0.0
    sharpening: float = 0.0
    noise: float = 0.0
    keys: Sequence[Sequence[int]] = ()

    def sharp_as_film(self, picture: Float[Tensor, "1 4 h w"]) -> Float[Tensor, "1 4 h w"]:
        r"""Color times alpha, and alpha, blurred; or sharpened, by :math:`x + (x - G_\sigma * x)`.

        In frequencies the latter is :math:`2 - e^{-\sigma^2 \omega^2 / 2}`, which undoes a blur in first order.
        """
        sigma = max(self.blur, self.sharpening)
        radius = min(math.ceil(3 * sigma), min(picture.shape[-2:]) - 1)
        if sigma < _LEAST_PX or radius < 1:
            return picture
        soft: Tensor = gaussian_blur2d(picture, 2 * radius + 1, (sigma, sigma))
        if self.sharpening > self.blur:
            soft = 2 * picture - soft
        soft = soft.clamp(0, 1)
        return torch.cat([soft[:, :3].minimum(soft[:, 3:]), soft[:, 3:]], 1)

    def grain(self, row: int, height: int, width: int) -> Float[Tensor, "h w"]:
        """Grain of a frame."""
        if not self.noise:
            return torch.zeros(height, width)
        return self.noise * normal((height, width), *self.keys[row], _GRAIN)


def missing_texture(person: PersonInCrops, sharp: AbstractPlaced) -> Texture:
    """What is missing, from visible pixels around the person, and from the reference itself.

    Variances of blurs and of noises add up: what is missing, or too much, is the root of their difference.

    Args:
        person: The person; without surroundings nothing is missing.
        sharp: The reference as it is.
    """
    around = person.around
    posed = [row for row, pose in enumerate(person.poses) if pose is not None]
    if around is None or not posed:
        return Texture()
    film: list[tuple[float | None, float]] = []
    own: list[tuple[float | None, float]] = []
    for row in posed[:: max(1, len(posed) // _LOOKS)]:
        pixels, hidden, box = around.visible(row, person.crops.geometry.box(row))
        if min(hidden.shape) <= 2 * REACH_PX:
            continue
        picture = sharp.picture(row, box, *hidden.shape).cpu()
        for measured, seen, unknown in ((film, pixels, hidden), (own, picture[:3], picture[3] < 0.99)):
            luma, where = _luma(seen), ~_near(unknown)
            measured.append((blur_px(luma, where), grain(luma, where)))
    keys = [(person.seed, person.person_id, number) for number in around.frame_numbers]
    noise = min(_root(_median([one for _, one in film]), _median([one for _, one in own])), _MOST_GRAIN)
    blurs = [_median([one for one, _ in measured if one is not None]) for measured in (film, own)]
    is_known = min(blurs) > 0
    blur = min(_root(*blurs), _MOST_BLUR_PX) if is_known else 0.0
    sharpening = min(_root(*reversed(blurs)), _MOST_SHARPENING_PX) if is_known else 0.0
    return Texture(blur, sharpening, noise, keys)


def _near(where: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Grown by what a measure reaches."""
    grown: Tensor = max_pool2d(where.float()[None, None], 2 * REACH_PX + 1, 1, REACH_PX)[0, 0] > 0
    return grown


def _luma(pixels: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    return (torch.tensor(_LUMA)[:, None, None] * pixels).sum(0)


def _median(values: Sequence[float]) -> float:
    return median(values) if values else 0.0


def _root(whole: float, part: float) -> float:
    return math.sqrt(max(whole**2 - part**2, 0.0))
