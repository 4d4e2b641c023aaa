"""References to learn from without pairs: a portrait's own head, cut out and relit, and the portrait in a scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from pa_lib.errors import SettingError

_CHIN = 1.75  # below the eyes, in distances from the eyes to the mouth: of an average face
_WIDEST = 2.2  # of hair to either side, in the same unit; a silhouette that is wider holds shoulders
_STEEPEST = 1.5  # of the light's fall across a head, so that no edge of a picture burns out


class Portrait(NamedTuple):
    """What is known of a portrait as it is seen in the frames of a clip.

    Args:
        silhouette: Share to which each pixel belongs to the person, shape t 1 h w in [0, 1].
        is_photo: Mask of the photograph, 1 in it, 0 in padding and beyond the picture, shape t 1 h w.
        chart: Place (x, y) of each pixel on the head, shape t 2 h w: the middle between the eyes is 0 0, the middle of
            the mouth 0 1, however large and turned the head is.
        unit_px: Distance from the eyes to the mouth in pixels, shape t, > 0.
    """

    silhouette: Float[Tensor, "t 1 h w"]
    is_photo: Float[Tensor, "t 1 h w"]
    chart: Float[Tensor, "t 2 h w"]
    unit_px: Float[Tensor, " t"]


@dataclass(frozen=True)
class Tone:
    r"""Light and color of a picture, all of which can be undone where nothing is clipped.

    .. math:: y = \kappa\, e^{g + s \cdot p} \left(m + \sigma (x^\gamma - m)\right), \quad m = \overline{x^\gamma}

    with the mean m over the three colors of a pixel, and p the pixel's place on the head (halved, at most 1.5).

    Args:
        gamma: Exponent :math:`\gamma`, > 0.
        saturation: Factor :math:`\sigma` of the distance to grey, > 0.
        cast: Factors :math:`\kappa` of red, green and blue, > 0.
        gain: Logarithm g of the brightness.
        slope: Fall (x, y) of the light across the head, s, in logarithms per two units of the chart.
    """

    gamma: float
    saturation: float
    cast: tuple[float, float, float]
    gain: float
    slope: tuple[float, float]

    def __call__(self, pixels: Float[Tensor, "t 3 h w"], chart: Float[Tensor, "t 2 h w"]) -> Float[Tensor, "t 3 h w"]:
        """The picture in this light, not limited to 1."""
        bright = pixels.clamp(min=0) ** self.gamma
        mean = bright.mean(1, keepdim=True)
        toned = mean + self.saturation * (bright - mean)
        fall = (torch.tensor(self.slope)[:, None, None] * chart / 2).sum(1, keepdim=True).clamp(-_STEEPEST, _STEEPEST)
        return toned * torch.tensor(self.cast)[:, None, None] * torch.exp(self.gain + fall)


class Referenced(NamedTuple):
    """A clip to learn from.

    Args:
        frames: The clip in the light of a scene, black where it is no photograph, shape t 3 h w in [0, 1].
        mask: Mask of the part that is hidden, wider than the reference, shape t 1 h w, 0 or 1.
        reference: The head in other light, color times alpha, and alpha, shape t 4 h w in [0, 1].
    """

    frames: Float[Tensor, "t 3 h w"]
    mask: Float[Tensor, "t 1 h w"]
    reference: Float[Tensor, "t 4 h w"]


@dataclass(frozen=True)
class PortraitReference:
    """A portrait's own head as the reference, and the portrait in dim, hazy, colored or one-sided light as the target.

    The head reaches down to between chin and collar. What is behind the person gets a color of its own, since no wall
    says what color the light has. Padding becomes black and is never hidden, as what lies beyond a frame of a video.
    Everything is drawn once for a clip, so that light stays as it is from frame to frame.

    Args:
        scene_p: Probability that the light of the portrait is changed at all.
        dim: Largest loss of brightness, as a logarithm: 1.2 leaves 30 %.
        saturation: Least and most saturation of the scene; a fifth of the clips lies beyond.
        cast: Standard deviation of the light's warmth, as a logarithm of red over green and of green over blue: lamps
            and daylight differ by little else. All of the scene has it, for the camera's white balance is one.
        one_sided: Standard deviation of the light's fall across the head, as a logarithm from its middle to its edge.
        haze_p: Probability of haze.
        haze: Largest share of haze in the picture, in [0, 0.9].
        background: Standard deviation of the color of what is behind the person, as logarithms.
        behind_p: Probability that what is behind the person is as bright as it likes, and partly of one color: a wood
            in the shade behind a person in the sun, a wall, a window. Only the person then shows how bright it is.
        relit: Largest change of the reference's own brightness, as a logarithm; its color changes with it.
        margin: Largest width of the part of the mask that the reference does not fill, as a share of the side.

    Raises:
        SettingError: A setting is out of range.

    Ours; the ranges follow clips of a hazy hall, a car, a kitchen and a street.
    """

    scene_p: float = 0.9
    dim: float = 1.2
    saturation: Sequence[float] = (0.8, 1.2)
    cast: float = 0.16
    one_sided: float = 0.5
    haze_p: float = 0.4
    haze: float = 0.6
    background: float = 0.2
    behind_p: float = 0.5
    relit: float = 0.2
    margin: float = 0.08

    def __post_init__(self) -> None:
        if len(self.saturation) != 2 or not 0 < self.saturation[0] <= self.saturation[1]:
            raise SettingError(f"reference saturation {[*self.saturation]}: expected the least and the most, above 0")
        limits = {"scene_p": 1.0, "behind_p": 1.0, "haze_p": 1.0, "haze": 0.9, "margin": 0.5}
        for name in (field.name for field in fields(self) if field.name != "saturation"):
            value = getattr(self, name)
            if not 0 <= value <= limits.get(name, math.inf):
                raise SettingError(f"reference {name} {value}: expected 0 to {limits.get(name, 'any number')}")

    def __call__(
        self,
        still: Float[Tensor, "t 3 h w"],
        frames: Float[Tensor, "t 3 h w"],
        portrait: Portrait,
        generator: torch.Generator,
    ) -> Referenced:
        """A reference and its target.

        Args:
            still: The portrait as it is seen in each frame, in [0, 1], in its own light.
            frames: The same with whatever changes from frame to frame.
            portrait: Silhouette, padding and place of the head.
            generator: Source of randomness, from which every call takes as many numbers.
        """
        chance = torch.rand(28, generator=generator).tolist()
        bell = torch.randn(19, generator=generator).tolist()
        alpha = self._head(portrait, chance[0:2])
        mask = self._hidden(alpha, portrait, chance[2:8], bell[0:2])
        double = self._double(chance[8:12], bell[2:7])(still, portrait.chart).clamp(0, 1)
        target = frames
        if chance[12] < self.scene_p:
            target = self._scene(frames, portrait, chance[13:28], bell[7:19])
        return Referenced(
            target.clamp(0, 1) * portrait.is_photo,
            mask * (portrait.is_photo == 1),
            torch.cat([double * alpha, alpha], 1),
        )

    def _head(self, portrait: Portrait, chance: list[float]) -> Float[Tensor, "t 1 h w"]:
        """The silhouette down to a soft edge between chin and collar, as hard as a matte may be."""
        x, y = portrait.chart[:, :1], portrait.chart[:, 1:]
        collar = _CHIN + 0.1 + 0.5 * chance[0]
        unit = portrait.unit_px[:, None, None, None]
        matte = (0.5 + (1 + 2 * chance[1]) * (portrait.silhouette - 0.5)).clamp(0, 1)
        head = matte * torch.sigmoid(2 * (collar - y) * unit) * (x.abs() < _WIDEST)
        head = head * portrait.is_photo
        return torch.where(head > 0.02, head, 0.0)  # tails of the edge would widen the mask

    def _hidden(
        self, alpha: Float[Tensor, "t 1 h w"], portrait: Portrait, chance: list[float], bell: list[float]
    ) -> Float[Tensor, "t 1 h w"]:
        """The reference, grown; in three of five clips also an ellipse around the head, as placed by a pose."""
        side = min(alpha.shape[-2:])
        reach = 1 + int(chance[0] * self.margin * side)
        mask = (max_pool2d(alpha, 2 * reach + 1, 1, reach) > 0).float()
        if chance[1] < 0.6:
            x, y = portrait.chart[:, :1], portrait.chart[:, 1:]
            wide, high = 1.7 + 0.8 * chance[2], 2.1 + 0.7 * chance[3]
            ellipse = ((x - 0.1 * bell[0]) / wide) ** 2 + ((y - 0.1 * bell[1]) / high) ** 2
            mask = torch.maximum(mask, (ellipse < 1).float())
        return mask

    def _double(self, chance: list[float], bell: list[float]) -> Tone:
        extent = self.relit
        span = [2 * value - 1 for value in chance]
        return Tone(
            math.exp(extent * span[0]),
            1 + 0.8 * extent * span[1],
            _cast(bell[:3], 0.2 * extent),
            extent * span[2],
            (0.5 * extent * bell[3], 0.25 * extent * bell[4]),
        )

    def _scene(
        self, frames: Tensor, portrait: Portrait, chance: list[float], bell: list[float]
    ) -> Float[Tensor, "t 3 h w"]:
        least, most = self.saturation
        saturation = least + (most - least) * chance[1]
        if chance[0] < 0.2:
            saturation = 0.25 + (1.25 * most - 0.25) * chance[1]
        angle, fall = 2 * math.pi * chance[2], self.one_sided * bell[0]
        cast = _lamp(bell[1], bell[2], self.cast)
        tone = Tone(
            math.exp(0.5 * (2 * chance[3] - 1)),
            saturation,
            cast,
            0.1 - (self.dim + 0.1) * chance[4] ** 2,  # a camera exposes most of them well
            (fall * math.cos(angle), 0.5 * fall * math.sin(angle)),
        )
        lit = tone(frames, portrait.chart)
        if chance[9] < self.behind_p:
            behind = self._elsewhere(frames, portrait, cast, chance[10:15], bell[9:12])
        else:
            behind = tone(frames, torch.zeros_like(portrait.chart)) * math.exp(0.4 * (2 * chance[5] - 1))
        behind = behind * torch.tensor(_cast(bell[4:7], self.background))[:, None, None]
        scene = portrait.silhouette * lit + (1 - portrait.silhouette) * behind
        if chance[6] < self.haze_p:
            share = self.haze * chance[7] ** 2
            color = (0.1 + 0.8 * chance[8]) * torch.tensor(_cast([bell[7], bell[8], bell[0]], 0.1))
            scene = scene.clamp(0, 1) * (1 - share) + share * color[:, None, None]
        return scene

    def _elsewhere(
        self,
        frames: Tensor,
        portrait: Portrait,
        cast: tuple[float, float, float],
        chance: list[float],
        bell: list[float],
    ) -> Float[Tensor, "t 3 h w"]:
        """What is behind the person, as bright as it likes."""
        least, most = self.saturation
        tone = Tone(
            math.exp(0.5 * (2 * chance[0] - 1)),
            least + (1.5 * most - least) * chance[1],
            cast,
            0.4 - (self.dim + 0.8) * chance[2],
            (0.0, 0.0),
        )
        lit = tone(frames, torch.zeros_like(portrait.chart))
        plain = chance[3] ** 2
        color = (0.05 + 0.9 * chance[4]) * torch.tensor(cast) * torch.tensor(_cast(bell, self.background))
        return (1 - plain) * lit + plain * color[:, None, None]


def _lamp(warmth: float, tint: float, extent: float) -> tuple[float, float, float]:
    """Factors of three colors, whose mean is 1: from a bluish light to a reddish one, a little green or pink."""
    return _cast([warmth, 0.2 * tint, -warmth], extent)


def _cast(bell: list[float], extent: float) -> tuple[float, float, float]:
    """Factors of three colors, whose mean is 1."""
    factors = [math.exp(extent * value) for value in bell]
    mean = sum(factors) / 3
    red, green, blue = (factor / mean for factor in factors)
    return red, green, blue
