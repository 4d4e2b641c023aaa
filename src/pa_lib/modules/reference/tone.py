"""What a placed reference lacks of the black and of the skin that are seen around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from kornia.color import lab_to_rgb, rgb_to_lab
from torch import Tensor

from pa_lib.contracts import Box, HeadPose
from pa_lib.functional.skin import skin_hue
from pa_lib.functional.smoothing import local_lines
from pa_lib.modules.reference.base import PersonInCrops
from pa_lib.modules.reference.light import unmultiplied

# Places are in scales of the head's pose: eyes at 0 0, mouth at 0 1. Shoulders reach to about 3.5, hands to 11.
_AROUND = (-5.0, -4.0, 5.0, 11.0)  # what is measured
_FINE = 96  # most pixels on its longer side: the neck below a mask is then still 6 of them high
_FACE = (0.75, 0.15, 0.8)  # half the width, top and bottom of what is skin in any face: below the eyes, above the mouth
_NEAR = 8.0  # down to here black is searched for: on the person, and what stands beside them
_OPAQUE = 0.95
_LEAST_FACE, _LEAST_SEEN = 8, 100  # pixels, below which nothing is said

# Filmed heads end in the dark where the visible pixels around them do: a difference of 0.3 of Lab's L in the median of
# 80 portraits of the training split; in two clips of a hazy hall, nearly all heads end above them.
_DARK = 0.01  # share of the pixels that is black
_MOST_BLACK = 0.25  # beyond it nothing dark is to be seen, which is no haze; the haziest clip has 0.22
_BLACK_OF_SKIN = 0.5  # most that black may have of the level of skin
_TINT = 1.2  # ratio of the channels of a black, beyond which it is the color of a thing and not that of the haze
_FLAT = 0.05  # difference of skin and black below which a head has no contrast to change
_MOST_GAIN = 2.0

# Chosen on the portraits of the training split and on seven clips, by the distance of the skin to that of the filmed
# head: 14.4 of Lab without a change, 12.8 with these, and at most 13.4 with other values that were tried.
_SHARE = 0.8  # of the difference to visible skin that is made up for: a double keeps some skin of their own
_DARKER = 0.6  # of a difference in lightness by which visible skin is darker: chins and bodies shade necks and arms
_LEAST_CHROMA, _MOST_CHROMA = 6.0, 42.0  # in haze skin has 8; wood, brick and fire have more than 42
_AB_AWAY, _L_AWAY = 12.0, 25.0  # standard deviations of visible skin from the lit double's, in Lab
_LEAST_LIKENESS = 0.1  # below it a color is none of skin, however much there is of it: a dark shirt is not dark skin
_MODE = (12.0, 8.0, 8.0)  # standard deviations in L, a, b of one skin in one light
_ROUNDS = 3  # of the search for it
_NECK = (0.05, 1.0)  # area, in squares of the scale, that is half believed, and the most that it is believed
_BODY = (0.2, 0.7)  # arms may lie in another light than the face, and things beside a body may have the color of skin


@dataclass(frozen=True, eq=False)
class Tone:
    r"""Change of the colors of a reference, :math:`y_c = g_c x_c + o_c`: light is a factor, and haze an offset.

    Args:
        gain: Factor of each frame and channel, shape t 3.
        offset: Offset of each frame and channel, shape t 3.
    """

    gain: Float[Tensor, "t 3"]
    offset: Float[Tensor, "t 3"]

    @staticmethod
    def none(n_frames: int) -> Tone:
        """No change."""
        return Tone(torch.ones(n_frames, 3), torch.zeros(n_frames, 3))

    def __call__(self, colors: Float[Tensor, "n 3 h w"], frame: int | None = None) -> Float[Tensor, "n 3 h w"]:
        """Colors with the change, in [0, 1].

        Args:
            colors: RGB in [0, 1], not multiplied by alpha.
            frame: Row of the frame that they are of; None where they are of all frames, one after the other.
        """
        rows = slice(None) if frame is None else slice(frame, frame + 1)
        gain, offset = (part[rows, :, None, None].to(colors) for part in (self.gain, self.offset))
        return (gain * colors + offset).clamp(0, 1)


def missing_tone(
    person: PersonInCrops, own: Float[Tensor, "t 4 s s"], lit: Float[Tensor, "t 4 s s"], smoothing: float
) -> Tone:
    r"""What is missing, from visible pixels around the person, and from the reference itself.

    Two levels of the reference, its black d and its skin s, are brought to two levels of the scene in each channel:

    .. math:: g = \frac{t - b}{s - d}, \quad o = t - g s

    The skin t is :math:`s + 0.8\,c\,(k - s)` in Lab, with the visible skin k on neck, arms and hands, and what it is
    believed, c, from its area; without any, s. Where k is darker than s, it is 0.6 of that in lightness. Visible skin
    is what has the hue of skin and is near the reference's own in its light; of that, the most frequent color. The
    black b is d within limits: not below the visible black f around the head, which is the floor of haze, nor of that
    more than half of t, and, where it is above f, not above :math:`e\,t / w`, the black e that the reference has in its
    own light, where its skin is w. So what a light lifted without a haze goes down again.

    Args:
        person: The person; without surroundings nothing is missing.
        own: The reference in its own light, on the crops' grid, from the front: color times alpha, and alpha.
        lit: The same in the light of the scene.
        smoothing: Standard deviation in frames of a Gaussian by which the numbers are smoothed, >= 0.

    Ours.
    """
    around = person.around
    posed = [row for row, pose in enumerate(person.poses) if pose is not None]
    tone = Tone.none(len(person.poses))
    if around is None or not posed:
        return tone
    own, lit = own.cpu(), lit.cpu()
    seen: dict[int, Tensor] = {}
    for row in sorted({*posed[:: max(1, int(smoothing / 2))], posed[-1]}):  # light is even over half the smoothing
        pose = person.poses[row]
        assert pose is not None
        head = _Head.of(own[row], lit[row], pose, person.crops.geometry.box(row))
        scene = None if head is None else _Scene.of(*_view(person, row, pose), pose)
        if head is not None and scene is not None:
            seen[row] = _levels(head, scene)
    if seen:
        numbers = _over_time(seen, posed, smoothing)
        tone.gain[posed], tone.offset[posed] = numbers[:, :3], numbers[:, 3:]
    return tone


@dataclass(frozen=True, eq=False)
class _Head:
    """Levels of a reference, each RGB: skin and black in the scene's light, and in its own."""

    skin: Float[Tensor, " 3"]
    black: Float[Tensor, " 3"]
    own_skin: Float[Tensor, " 3"]
    own_black: Float[Tensor, " 3"]

    @staticmethod
    def of(own: Float[Tensor, "4 s s"], lit: Float[Tensor, "4 s s"], pose: HeadPose, box: Box) -> _Head | None:
        """None where too little of a face lies within the crop."""
        x, y = _places(pose, box, own.shape[-1], own.shape[-1])
        wide, top, bottom = _FACE
        is_opaque = own[3] > _OPAQUE
        is_face = is_opaque & (x.abs() < wide) & (y > top) & (y < bottom)
        if int(is_face.sum()) < _LEAST_FACE:
            return None
        levels = []
        for picture in (lit, own):
            colors = unmultiplied(picture[None])[0]
            levels += [colors[:, is_face].median(1).values, _dark(colors[:, is_opaque])]
        return _Head(*levels)


@dataclass(frozen=True, eq=False)
class _Scene:
    """What is visible around a head.

    Args:
        pixels: RGB in [0, 1].
        x, y: Places in scales of the head.
        cell: Area of a pixel in squares of the scale.
    """

    pixels: Float[Tensor, "3 n"]
    x: Float[Tensor, " n"]
    y: Float[Tensor, " n"]
    cell: float

    @staticmethod
    def of(
        pixels: Float[Tensor, "3 h w"], hidden: Bool[Tensor, "h w"], box: Box, step: int, pose: HeadPose
    ) -> _Scene | None:
        """None where nothing is visible."""
        if bool(hidden.all()):
            return None
        x0, y0, _, _ = box
        height, width = hidden.shape
        x, y = _places(pose, (x0, y0, x0 + step * width, y0 + step * height), height, width)
        return _Scene(pixels[:, ~hidden], x[~hidden], y[~hidden], (step / pose.scale) ** 2)

    def black(self) -> Float[Tensor, " 3"] | None:
        """Level that the darkest pixels near the head have in each channel, as far as it is that of haze."""
        near = self.pixels[:, self.y < _NEAR]
        if near.shape[1] < _LEAST_SEEN:
            return None
        level = near.quantile(_DARK, 1)
        return level.minimum(_TINT * level.min()).clamp(max=_MOST_BLACK)

    def skin(self, like: Float[Tensor, " 3"]) -> tuple[Float[Tensor, " 3"], float]:
        """Lab color of the visible skin that is most like another one, and how far it is to be believed, in [0, 1]."""
        colors = rgb_to_lab(self.pixels[None, :, None])
        hue, chroma = (part[0, 0, 0] for part in skin_hue(colors))
        lab = colors[0, :, 0]
        away = (lab - like[:, None]) / torch.tensor([_L_AWAY, _AB_AWAY, _AB_AWAY])[:, None]
        likeness = hue * _bell(away.norm(dim=0))
        likeness = likeness * torch.sigmoid((chroma - _LEAST_CHROMA) / 1.5) * torch.sigmoid((_MOST_CHROMA - chroma) / 2)
        likeness = torch.where(likeness < _LEAST_LIKENESS, 0.0, likeness)
        sideways = self.x.abs()
        neck = _bell((sideways - 0.8) / 0.4) * _between(self.y, (1.2, 0.5), (3.0, 0.7))
        body = _bell((sideways - 2.5) / 1.2) * _between(self.y, (3.5, 0.5), (6.0, 4.0))
        found = torch.zeros(3)
        total, doubt = 0.0, 1.0
        for part, (half, most) in ((neck, _NECK), (body, _BODY)):
            color, mass = _mode(lab, part * likeness)
            area = mass * self.cell
            trust = most * area / (area + half)
            found, total, doubt = found + trust * color, total + trust, doubt * (1 - trust)
        return (found / total if total > 0 else like), 1 - doubt


def _levels(head: _Head, scene: _Scene) -> Float[Tensor, " 6"]:
    """Gain and offset of one frame."""
    lab = rgb_to_lab(head.skin.view(1, 3, 1, 1)).view(3)
    visible, trust = scene.skin(lab)
    away = visible - lab
    away[0] *= _DARKER if away[0] < 0 else 1.0
    moved = lab + _SHARE * trust * away
    skin = lab_to_rgb(moved.view(1, 3, 1, 1), clip=True).view(3).clamp(0, 1) if trust > 0 else head.skin
    black, floor = head.black, scene.black()
    if floor is not None:
        floor = floor.minimum(_BLACK_OF_SKIN * skin)
        most = head.own_black * skin / head.own_skin.clamp(min=_FLAT)
        black = black.minimum(most.maximum(floor)).maximum(floor)
    span = head.skin - head.black
    gain = ((skin - black).clamp(min=0) / span.clamp(min=_FLAT)).clamp(max=_MOST_GAIN)
    gain = torch.where(span < _FLAT, 1.0, gain)
    return torch.cat([gain, skin - gain * head.skin])


def _over_time(seen: dict[int, Tensor], posed: Sequence[int], smoothing: float) -> Float[Tensor, "t 6"]:
    """Numbers of all frames with a pose: on lines between those of some, then smoothed."""
    rows = [*seen]
    known = torch.stack([*seen.values()]).double().numpy()
    numbers = torch.from_numpy(np.stack([np.interp(posed, rows, column) for column in known.T], 1))
    if smoothing > 0 and len(posed) > 1:
        numbers = local_lines(torch.tensor(posed).double(), smoothing) @ numbers
    return numbers.float()


def _view(person: PersonInCrops, row: int, pose: HeadPose) -> tuple[Tensor, Tensor, Box, int]:
    """Visible pixels around a head, where pixels are hidden, the box, and the distance of the pixels."""
    assert person.around is not None
    x0, y0, x1, y1 = (pose.scale * at for at in _AROUND)
    step = max(1, math.ceil((x1 - x0) / _FINE))
    box = (pose.x + x0, pose.y + y0, pose.x + x1, pose.y + y1)
    return *person.around.visible(row, box, step), step


def _places(pose: HeadPose, box: Box, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Place of each pixel of a box on the head, in scales along the line of the eyes, and across."""
    x0, y0, x1, y1 = box
    right = (x0 + (torch.arange(width) + 0.5) * ((x1 - x0) / width) - pose.x)[None] / pose.scale
    down = (y0 + (torch.arange(height) + 0.5) * ((y1 - y0) / height) - pose.y)[:, None] / pose.scale
    cosine, sine = math.cos(math.radians(pose.roll)), math.sin(math.radians(pose.roll))
    return cosine * right + sine * down, cosine * down - sine * right


def _dark(colors: Float[Tensor, "3 n"]) -> Float[Tensor, " 3"]:
    return colors.quantile(_DARK, 1)


def _mode(lab: Float[Tensor, "3 n"], weight: Float[Tensor, " n"]) -> tuple[Float[Tensor, " 3"], float]:
    """Most frequent color, by mean shift from the mean, and the weight of the colors around it."""
    spread, near = torch.tensor(_MODE)[:, None], weight
    mean = torch.zeros(3)
    for _ in range(1 + _ROUNDS):
        mass = float(near.sum())
        if mass <= 1e-6:
            return mean, 0.0
        mean = (lab * near).sum(1) / near.sum()
        near = weight * _bell(((lab - mean[:, None]) / spread).norm(dim=0))
    return mean, float(near.sum())


def _bell(away: Tensor) -> Tensor:
    """1 up to 0, and a Gaussian beyond."""
    return torch.exp(-(away.clamp(min=0) ** 2) / 2)


def _between(values: Tensor, first: tuple[float, float], last: tuple[float, float]) -> Tensor:
    """1 from one value to another, each with the width of the slope beyond it."""
    return _bell((first[0] - values) / first[1]) * _bell((values - last[0]) / last[1])
