"""Doubles as references: heads of people who do not exist, placed by the pose of the head that they replace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pa_lib.contracts import Box, ClipMasks, HeadPose, PersonInfo, PersonMask, Replacement
from pa_lib.errors import SettingError
from pa_lib.functional.masks import Patch, trim
from pa_lib.modules.reference.base import (
    AbstractPlaced,
    AbstractReference,
    PersonInCrops,
    Relit,
    checked_smoothing,
)
from pa_lib.modules.reference.light import AbstractLight, unmultiplied
from pa_lib.modules.reference.light_transform import LightTransform
from pa_lib.modules.reference.texture import Texture, missing_texture
from pa_lib.modules.reference.tone import Tone, missing_tone

_SLACK_DEG = 10.0  # by which another view must be nearer before it is taken: views do not change to and fro
_REACH = 4.5  # farthest that a head with its hair and neck reaches from the eyes, in scales; the bank: 4.27
_LEAST_ALPHA = 0.02  # below it a picture covers nothing


_WITHOUT_NETWORK = "doubles stand before an inpainted background: no network joins them to the scene"


class Casting(Protocol):
    """Whose head a person gets, and pictures of it."""

    def names_of(self, people: Sequence[int], seed: int, wishes: Mapping[int, str]) -> Mapping[int, str]:
        """Names of the doubles of people, who get different ones while there are enough; wishes are fulfilled."""
        ...

    def yaws(self, name: str) -> Sequence[float]:
        """Directions in degrees from which there are pictures of a double."""
        ...

    def render(self, name: str, yaw: float, pose: HeadPose, box: Box, side: int) -> Float[Tensor, "4 s s"]:
        """The picture from one direction, placed in a square box: color times alpha, and alpha, in [0, 1]."""
        ...


class DoublesReference(AbstractReference, nn.Module):
    """A double for every person, the same wherever that person appears.

    Which doubles the people of a video get is drawn from the seed and their numbers, unless there are wishes:
    `replacements` is asked for all of them, and the names come back as wishes. Someone without a name has one drawn
    alone. Where no pose is known there is no picture, and the network generates a head without one.

    Args:
        light: Brings doubles into the light of the scene; None for a `LightTransform`, which learns.
        bank: Archive of doubles; None for the one that ships with pa_lib.
        light_smoothing: See `AbstractReference`.
        dissolve: Number of frames in which one view of a head becomes the next one, >= 1.
        is_base: See `AbstractReference`.
        is_result: See `AbstractReference`.
        has_source_texture: Whether doubles are made as blurred, and all that is generated as grainy, as what is visible
            around it: a sharp and clean head is seen at once in a soft or grainy film.
        has_source_tone: Whether doubles in their light get the black and the skin that are visible around them, see
            `missing_tone`.
        has_clean_plate: See `AbstractReference`.
        casting: Casts in the place of the bank; for tests, and for heads of one's own.

    Raises:
        SettingError: A setting is out of range.
    """

    def __init__(
        self,
        light: AbstractLight | None = None,
        bank: str | Path | None = None,
        light_smoothing: float = 6.0,
        dissolve: int = 5,
        is_base: bool = False,
        is_result: bool = False,
        has_source_texture: bool = True,
        has_source_tone: bool = True,
        has_clean_plate: bool = True,
        casting: Casting | None = None,
    ) -> None:
        super().__init__()
        if dissolve < 1:
            raise SettingError(f"dissolve of the doubles is {dissolve}, expected a number of frames from 1")
        self.light = LightTransform() if light is None else light
        if self.light.origin is not None:  # all weights are the light's
            self.comes_from(self.light.origin.path, self.light.origin.sha256)
        self.bank = bank
        self.light_smoothing = checked_smoothing(light_smoothing)
        self.dissolve = dissolve
        self.is_base = is_base
        self.is_result = is_result
        self.has_source_texture = has_source_texture
        self.has_source_tone = has_source_tone
        self.has_clean_plate = has_clean_plate
        self._casting = casting
        self.notes = (_WITHOUT_NETWORK,) if is_result else ()

    @property
    def casting(self) -> Casting:
        """The casting; the bank is opened when it is first asked."""
        if self._casting is None:
            from pa_lib.modules.reference.casting import BankCasting

            self._casting = BankCasting(self.bank)
        return self._casting

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        """Doubles for all people of a video, different ones while there are enough."""
        wishes = {
            person_id: info.replacement.double
            for person_id, info in people.items()
            if info.replacement is not None and info.replacement.double is not None
        }
        return self.casting.names_of(list(people), seed, wishes)

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> ClipMasks:
        """The masks of heads, with all that their doubles cover in any view that they may show."""
        return replace(masks, people=tuple(self._extended(mask, masks, seed) for mask in masks.people))

    def _extended(self, mask: PersonMask, masks: ClipMasks, seed: int) -> PersonMask:
        pose, info = mask.pose, masks.info.get(mask.person_id)
        if pose is None or mask.kind != "face":
            return mask
        name = self._name(mask.person_id, seed, None if info is None else info.replacement)
        yaws = self.casting.yaws(name)
        most = min(_apart(yaw, pose.yaw) for yaw in yaws) + _SLACK_DEG
        reach = _REACH * pose.scale
        left, top, side = math.floor(pose.x - reach), math.floor(pose.y - reach), math.ceil(2 * reach) + 1
        box = (float(left), float(top), float(left + side), float(top + side))
        shown = [yaw for yaw in yaws if _apart(yaw, pose.yaw) <= most]
        alpha = torch.stack([self.casting.render(name, yaw, pose, box, side)[3] for yaw in shown]).amax(0)
        rows = slice(max(-top, 0), max(masks.height - top, 0))  # none of a head outside of the frame, on any side
        columns = slice(max(-left, 0), max(masks.width - left, 0))
        alpha = torch.where(alpha < _LEAST_ALPHA, 0.0, alpha)[rows, columns]
        covered = trim(Patch(max(top, 0), max(left, 0), alpha)) if alpha.numel() else None
        return mask if covered is None else _joined(mask, covered)

    def place(self, person: PersonInCrops) -> AbstractPlaced:
        """The double of one person in every frame, in the light of the crops."""
        cast = self._cast(person)
        crops = person.crops
        side = crops.pixels.shape[-1]
        boxes = [crops.geometry.box(at) for at in range(len(person.poses))]
        shown = [cast.square(at, box, side) for at, box in enumerate(boxes)]
        front = [
            shown[at] if cast.is_facing(at) else cast.square(at, box, side, is_facing=True)
            for at, box in enumerate(boxes)
        ]
        raw, facing = torch.stack(shown).to(self._device), torch.stack(front).to(self._device)
        pixels, hidden = crops.pixels[None].to(self._device), crops.hidden[None].to(self._device)
        with torch.no_grad():
            # Light is found on a face, as it has learned to, and so it is the same for every view of a head.
            relit = self.relit(pixels, hidden, facing[None])
            chart = relit.places.chart(side, side)
            tone = Tone.none(len(boxes))
            if self.has_source_tone:
                tone = missing_tone(person, facing, relit.reference[0], self.light_smoothing)
            colors = tone(self.light.lit(relit.numbers, unmultiplied(raw), chart))
        grid = torch.cat([colors * raw[:, 3:], raw[:, 3:]], 1)
        sharp = PlacedDouble(cast, self.light, relit, tone, grid, boxes)
        if not self.has_source_texture:
            return sharp
        return PlacedDouble(cast, self.light, relit, tone, grid, boxes, missing_texture(person, sharp))

    def _cast(self, person: PersonInCrops) -> _Cast:
        views: list[dict[float, float]] = [{} for _ in person.poses]
        name = ""
        if any(pose is not None for pose in person.poses):
            name = self._name(person.person_id, person.seed, person.wish)
            views = dissolving(self.casting.yaws(name), person.poses, self.dissolve)
        return _Cast(self, name, views, person.poses)

    def _name(self, person_id: int, seed: int, wish: Replacement | None) -> str:
        wishes = {} if wish is None or wish.double is None else {person_id: wish.double}
        return self.casting.names_of([person_id], seed, wishes)[person_id]

    @property
    def _device(self) -> torch.device:
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))


class PlacedDouble(AbstractPlaced):
    """One double in every frame of a person."""

    def __init__(
        self,
        cast: _Cast,
        light: AbstractLight,
        relit: Relit,
        tone: Tone,
        grid: Float[Tensor, "t 4 s s"],
        boxes: Sequence[Box],
        texture: Texture | None = None,
    ) -> None:
        self._texture = texture or Texture()
        self.grid = grid
        self._cast = cast
        self._light = light
        self._relit = relit
        self._tone = tone
        self._boxes = boxes

    @torch.no_grad()
    def picture(self, frame: int, box: Box, height: int, width: int) -> Float[Tensor, "4 h w"]:
        """See `AbstractPlaced.picture`. Pixels must be square."""
        x0, y0, x1, y1 = box
        side = max(height, width)
        length = max(x1 - x0, y1 - y0)
        raw = self._cast.square(frame, (x0, y0, x0 + length, y0 + length), side)[None, :, :height, :width]
        raw = self._texture.sharp_as_film(raw).to(self.grid)
        left, top, right, bottom = self._boxes[frame]
        sides = (right - left, bottom - top) * 2
        part = tuple((at - start) / size for at, start, size in zip(box, (left, top) * 2, sides, strict=True))
        places = self._relit.places
        own = type(places)(places.centre[frame : frame + 1], places.radius[frame : frame + 1])
        chart = own.chart(height, width, part)  # type: ignore[arg-type]  # four numbers
        lit = self._light.lit(self._relit.numbers[frame : frame + 1], unmultiplied(raw), chart)
        return torch.cat([self._tone(lit, frame) * raw[:, 3:], raw[:, 3:]], 1)[0]

    def grain(self, frame: int, height: int, width: int) -> Float[Tensor, "h w"]:
        """See `AbstractPlaced.grain`; drawn from seed, person and frame."""
        return self._texture.grain(frame, height, width)


class _Cast:
    """One double with the views that are shown in each frame."""

    def __init__(
        self,
        reference: DoublesReference,
        name: str,
        views: Sequence[Mapping[float, float]],
        poses: Sequence[HeadPose | None],
    ) -> None:
        self._reference, self._name, self._views, self._poses = reference, name, views, poses

    @property
    def _front(self) -> Mapping[float, float]:
        return {min(self._reference.casting.yaws(self._name), key=abs): 1.0}

    def is_facing(self, frame: int) -> bool:
        """Whether the view from the front is shown in a frame, or no view at all."""
        return self._poses[frame] is None or self._views[frame] == self._front

    def square(self, frame: int, box: Box, side: int, is_facing: bool = False) -> Float[Tensor, "4 s s"]:
        """The head in a square of a frame, in its own light; transparent where there is no pose.

        Args:
            frame: Row in the crops.
            box: The square in pixels of the frame.
            side: Side of the picture in pixels.
            is_facing: Whether the view is the front, however the head is turned.
        """
        pose = self._poses[frame]
        picture = torch.zeros(4, side, side)
        if pose is not None:
            for yaw, share in (self._front if is_facing else self._views[frame]).items():
                picture += share * self._reference.casting.render(self._name, yaw, pose, box, side)
        return picture.clamp(0, 1)


def dissolving(yaws: Sequence[float], poses: Sequence[HeadPose | None], n_frames: int) -> list[dict[float, float]]:
    """The views that are shown in each frame, and the share of each; shares add up to 1.

    A view stays until another one is nearer by 10 degrees, and becomes the next one over `n_frames` frames.

    Args:
        yaws: Directions of the views in degrees, at least one.
        poses: Poses of the head; frames without one show no view.
        n_frames: Length of a change in frames.

    >>> turned = [HeadPose(0, 0, 1, yaw=yaw) for yaw in (0, 20, 25, 40, 40)]
    >>> [[*frame] for frame in dissolving([0, 45], turned, 1)]
    [[0], [0], [0], [45], [45]]
    """
    shown: list[float] = []
    present = [at for at, pose in enumerate(poses) if pose is not None]
    for at in present:
        pose: Any = poses[at]
        nearest = min(yaws, key=lambda yaw: _apart(yaw, pose.yaw))
        is_kept = shown and _apart(shown[-1], pose.yaw) <= _apart(nearest, pose.yaw) + _SLACK_DEG
        shown.append(shown[-1] if is_kept else nearest)
    shares: list[dict[float, float]] = [{} for _ in poses]
    for row, at in enumerate(present):
        first = max(row - (n_frames - 1) // 2, 0)
        around = shown[first : row + n_frames // 2 + 1]
        for yaw in around:
            shares[at][yaw] = shares[at].get(yaw, 0.0) + 1 / len(around)
    return shares


def _joined(mask: PersonMask, covered: Patch) -> PersonMask:
    """A mask with another patch: the larger alpha of both."""
    (height, width), (rows, columns) = mask.alpha.shape, covered.mask.shape
    top, left = min(mask.top, covered.top), min(mask.left, covered.left)
    bottom, right = max(mask.top + height, covered.top + rows), max(mask.left + width, covered.left + columns)
    alpha = mask.alpha.new_zeros(bottom - top, right - left)
    alpha[mask.top - top :, mask.left - left :][:height, :width] = mask.alpha
    part = alpha[covered.top - top :, covered.left - left :][:rows, :columns]
    torch.maximum(part, covered.mask.to(part), out=part)
    return replace(mask, top=top, left=left, alpha=alpha)


def _apart(one: float, other: float) -> float:
    return abs((one - other + 180) % 360 - 180)
