"""The one interface of pictures that replacements go by, and the one that has none."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float64, UInt8
from torch import Tensor

from pa_lib.contracts import Box, ClipMasks, HeadPose, PersonInfo, Replacement
from pa_lib.errors import SettingError
from pa_lib.functional.clean_plate import clean_plate, moving_clean_plate
from pa_lib.functional.smoothing import local_lines
from pa_lib.modules.crops.aligner import Crops
from pa_lib.modules.reference.light import AbstractLight, HeadPlaces, LightScene
from pa_lib.modules.reference.scene_plate import ScenePlate, covered, part_of_scene, under
from pa_lib.modules.slot import Slot


class Surroundings:
    """What is visible around one person in whole frames, for what crops are too small to show.

    Args:
        frames: Frames of the clip, shape n 3 h w in 0..255. Hidden pixels are not handed on.
        hidden: All pixels that are hidden, shape n h w.
        rows: Rows of the frames in which the person is, t of them.
        first_frame: Number in the video of the first frame of the clip.
        motion: Motion of the camera over the clip, see `functional.camera.camera_motion`; None where it stands still.
    """

    def __init__(
        self,
        frames: UInt8[Tensor, "n 3 h w"],
        hidden: Bool[Tensor, "n h w"],
        rows: Sequence[int],
        first_frame: int = 0,
        motion: Float64[np.ndarray, "n 3 3"] | None = None,
    ) -> None:
        self._frames = frames
        self._hidden = hidden
        self._rows = rows
        self._motion = motion
        self.frame_numbers = [first_frame + row for row in rows]

    def visible(self, row: int, box: Box, step: int = 1) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "h w"], Box]:
        """The part of a frame in a box, as far as it lies within the frame.

        Args:
            row: Row of the person's crops.
            box: ``x0 y0 x1 y1`` in pixels of the frame.
            step: Distance of the pixels that are taken, the first of them at the box's corner.

        Returns:
            The pixels in [0, 1], black where they are hidden; where they are hidden; and the box in whole pixels. On
            the CPU. Without pixels where the box lies outside of the frame.
        """
        at = self._rows[row]
        height, width = self._hidden.shape[-2:]
        x0, y0 = min(max(math.floor(box[0]), 0), width), min(max(math.floor(box[1]), 0), height)
        x1, y1 = max(min(math.ceil(box[2]), width), x0), max(min(math.ceil(box[3]), height), y0)
        hidden = self._hidden[at, y0:y1:step, x0:x1:step].cpu()
        pixels = self._frames[at, :, y0:y1:step, x0:x1:step].cpu().float() / 255
        return torch.where(hidden, 0.0, pixels), hidden, (float(x0), float(y0), float(x1), float(y1))

    def clean_plate(self, boxes: Sequence[Box], bodies: Sequence[Box]) -> ScenePlate:
        """The background of the part of the scene that some boxes show, from all frames of the clip.

        Args:
            boxes: ``x0 y0 x1 y1`` in pixels of the frame, one for each of the person's frames.
            bodies: Box of the body in each of them, which takes no part in the completion; without area where it is
                unknown.
        """
        motion = None if self._motion is None else self._motion[[*self._rows]]
        height, width = self._hidden.shape[-2:]
        part = x0, y0, x1, y1 = part_of_scene(boxes, motion, height, width)
        wanted = covered([self._hidden[row] for row in self._rows], motion, part)
        if self._motion is None:
            frames, hidden = self._frames[:, :, y0:y1, x0:x1].cpu(), self._hidden[:, y0:y1, x0:x1].cpu()
            return ScenePlate(*clean_plate(frames, hidden), wanted, under(bodies, None, part), (x0, y0))
        plate = moving_clean_plate(self._frames, self._hidden, self._motion, part)
        return ScenePlate(*plate, wanted, under(bodies, motion, part), (x0, y0), motion, (height, width))


@dataclass(frozen=True, eq=False)
class PersonInCrops:
    """One person who is to be replaced.

    Args:
        person_id: Number of the person.
        seed: Seed of the run.
        poses: Pose of the head in each frame, in pixels of the frame; None where it is unknown.
        crops: Crops of the person, with nothing hidden in them.
        wish: Wish for the replacement; None leaves it to the system.
        around: The frames that the crops were cut from; None where only the crops are at hand.
    """

    person_id: int
    seed: int
    poses: Sequence[HeadPose | None]
    crops: Crops
    wish: Replacement | None = None
    around: Surroundings | None = None


@dataclass(frozen=True, eq=False)
class Relit:
    """References in the light of the scenes they stand in.

    Args:
        reference: Color times alpha, and alpha, shape b t 4 s s in [0, 1].
        numbers: The light of each frame, as the slot's `AbstractLight` has it, shape (b t) p.
        places: Places of the heads, (b t) of them.
    """

    reference: Float[Tensor, "b t 4 s s"]
    numbers: Float[Tensor, "n p"]
    places: HeadPlaces


class AbstractPlaced(ABC):
    """A reference of one person that is placed and lit, at any resolution.

    Attributes:
        grid: On the grid of the crops, shape t 4 s s: color times alpha, and alpha, in [0, 1].
    """

    grid: Float[Tensor, "t 4 s s"]

    @abstractmethod
    def picture(self, frame: int, box: Box, height: int, width: int) -> Float[Tensor, "4 h w"]:
        """Color times alpha, and alpha, of a part of a frame.

        Args:
            frame: Row in the crops.
            box: The part ``x0 y0 x1 y1`` in pixels of the frame.
            height: Height of the picture in pixels.
            width: Width of the picture in pixels.
        """

    def grain(self, frame: int, height: int, width: int) -> Float[Tensor, "h w"]:
        """Noise that is added to the result, as the source has it: none, unless a reference knows better."""
        return torch.zeros(height, width)


class AbstractReference(Slot, ABC):
    """Gives every person who is replaced a picture to go by. One with weights is a `torch.nn.Module` as well.

    It is given poses, masks and what is visible: no hidden pixels.

    Attributes:
        light: Brings the pictures into the light of the scene.
        light_smoothing: Standard deviation, in frames, of the Gaussian by which the light is smoothed over the frames
            of a person, >= 0: light that is found again in every frame would flicker.
        looks_at_hidden: Whether anything that it shows was computed from hidden pixels (an expression that was read off
            the hidden face, say). The system is not non-interfering then.
        has_clean_plate: Whether the background behind a person goes around the picture, where other frames of the
            window show it, see `BackgroundPlate`.
        is_base: Whether the network generates the difference from the picture before its background, see
            `LatentInpainter`; else all of what is hidden, and the picture is a condition alone.
        is_result: Whether the picture before an inpainted background is the result already, so that no network is asked
            to join the two: for comparison, and as long as there is no network that has learned it.
        notes: What a report says about it, one line each.
    """

    light: AbstractLight
    light_smoothing: float = 0.0
    has_clean_plate: bool = False
    is_base: bool = False
    is_result: bool = False
    looks_at_hidden: bool = False
    notes: tuple[str, ...] = ()

    @abstractmethod
    def place(self, person: PersonInCrops) -> AbstractPlaced:
        """The picture for one person, in every frame."""

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        """The name of each person's picture, for all people of a video; see `AbstractAnonymizer.replacements`."""
        return {}

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> ClipMasks:
        """The masks with what the pictures cover beyond them; see `AbstractAnonymizer.extended`."""
        return masks

    def relit(
        self,
        pixels: Float[Tensor, "b t 3 s s"],
        hidden: Float[Tensor, "b t 1 s s"],
        reference: Float[Tensor, "b t 4 s s"],
    ) -> Relit:
        """References in the light of their scenes.

        Args:
            pixels: The scenes, in [0, 1]; hidden pixels are not looked at.
            hidden: Mask of the hidden pixels, 1 = hidden, else 0.
            reference: Color times alpha, and alpha, in light of its own.
        """
        n_frames = pixels.shape[1]
        scene = LightScene(*(rearrange(part, "b t c h w -> (b t) c h w") for part in (pixels, hidden, reference)))
        numbers = rearrange(self.light.numbers(scene), "(b t) p -> b t p", t=n_frames)
        if self.light_smoothing > 0 and n_frames > 1:
            is_there = rearrange(scene.alpha.amax((1, 2, 3)) > 0, "(b t) -> b t", t=n_frames)
            numbers = torch.stack(
                [_over_time(*one, self.light_smoothing) for one in zip(numbers, is_there, strict=True)]
            )
        flat = rearrange(numbers, "b t p -> (b t) p")
        places = scene.places
        colors = self.light.lit(flat, scene.colors, places.chart(*pixels.shape[-2:]))
        lit = torch.cat([colors * scene.alpha, scene.alpha], 1)
        return Relit(rearrange(lit, "(b t) c h w -> b t c h w", t=n_frames), flat, places)


class NoReference(AbstractReference):
    """Nothing to go by: the network generates a head from what is around it alone."""

    def place(self, person: PersonInCrops) -> AbstractPlaced:
        """Not to be asked for."""
        raise NotImplementedError("there is no reference; choose module/reference=doubles")


def light_error(
    relit: Relit, frames: Float[Tensor, "b t 3 s s"], hidden: Float[Tensor, "b t 1 s s"]
) -> Float[Tensor, ""]:
    r"""How far references in the light of their scenes are from the scenes themselves, which hold the same heads.

    .. math:: \frac{1}{b} \sum_i \frac{\sum_p w_i(p)\, \overline{|y_i(p) - x_i(p)|}}{\sum_p w_i(p)}

    with the colors y of the reference and x of the scene; w is alpha times the mask, the bar a mean over RGB.

    Args:
        relit: The references in their light.
        frames: The scenes with nothing hidden, in [0, 1].
        hidden: Mask of the hidden pixels, 1 = hidden, else 0.
    """
    alpha = relit.reference[:, :, 3:]
    error = (relit.reference[:, :, :3] - alpha * frames).abs().mean(2, keepdim=True) * hidden
    weight = (alpha * hidden).sum((1, 2, 3, 4))
    return (error.sum((1, 2, 3, 4)) / weight.clamp(min=1)).mean()


def checked_smoothing(frames: float) -> float:
    """The setting as it came.

    Raises:
        SettingError: It is below 0 or not finite.
    """
    if not 0 <= frames < float("inf"):
        raise SettingError(f"light_smoothing of the reference is {frames}, expected a number of frames, 0 or more")
    return frames


def _over_time(numbers: Float[Tensor, "t p"], is_there: Tensor, sigma: float) -> Float[Tensor, "t p"]:
    """Smoothed where there is a picture; the others have no light."""
    (at,) = is_there.nonzero(as_tuple=True)
    smoothed = numbers.clone()
    if len(at):
        smoothed[at] = local_lines(at.double().cpu(), sigma).to(numbers) @ numbers[at]
    return smoothed
