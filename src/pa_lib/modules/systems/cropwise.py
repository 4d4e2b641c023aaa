"""The loop over people's crops that every system which generates crops has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from pa_lib.contracts import Box, Clip, ClipMasks, Kind, PersonMask
from pa_lib.functional.camera import camera_motion
from pa_lib.functional.crops import cut_and_hide
from pa_lib.modules.crops.aligner import CropAligner, Crops, Enlarge, Piece, Reintegrator
from pa_lib.modules.crops.appearances import Appearance, appearances, batches
from pa_lib.modules.inpainting.request import InpaintingRequest
from pa_lib.modules.reference.background import BackgroundPlate
from pa_lib.modules.reference.base import AbstractPlaced, PersonInCrops, Surroundings
from pa_lib.modules.reference.detail import enlarged
from pa_lib.modules.systems.base import AbstractAnonymizer
from pa_lib.modules.systems.bodies import Body, layers
from pa_lib.modules.systems.sizes import check_same_size


class CropwiseAnonymizer(AbstractAnonymizer):
    """Cuts every person out of a window of frames, has the crops generated, and puts them back.

    A system that inherits from it, and before it from `AbstractLearnedAnonymizer` or `torch.nn.Module`, sets the
    attributes below and overrides `generate`.

    Attributes:
        crops: Cuts people out of frames.
        reintegrator: Puts crops back into frames.
        body: What becomes of masks of kind ``body``, see `Body`.
    """

    crops: CropAligner
    reintegrator: Reintegrator
    body: Body

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where crops are generated; a `LightningModule` has it."""

    @property
    @abstractmethod
    def crops_per_batch(self) -> int:
        """Number of crops (people times frames) that are generated in one batch."""

    @property
    @abstractmethod
    def looks_at_hidden(self) -> bool:
        """Whether `generate` is given the crops with the people in them."""

    @abstractmethod
    def generate(self, request: InpaintingRequest) -> Float[Tensor, "b t 3 h w"]:
        """Crops with something new where `hidden` is 1, in [0, 1].

        Args:
            request: The crops, one clip per person, black where a person is hidden. Its source is None unless the
                system `looks_at_hidden`.
        """

    @property
    def has_clean_plate(self) -> bool:
        """Whether the background that other frames show goes around references; see `AbstractReference`."""
        return False

    def place(self, people: Sequence[PersonInCrops]) -> Sequence[AbstractPlaced] | None:
        """A picture to go by for each person; None where the system has none."""
        return None

    @property
    def is_non_interfering(self) -> bool:
        """True unless the system looks at hidden pixels, or bodies are shown or computed from them."""
        return not self.looks_at_hidden and self.body in ("generate", "fill")

    @property
    def unchanged_kinds(self) -> frozenset[Kind]:
        """Bodies, where they are kept."""
        return frozenset({"body"}) if self.body == "keep" else frozenset()

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        """Replace the people under the masks; see `AbstractAnonymizer.anonymize`."""
        return self._anonymized(clip, masks, seed, is_in_place=False)

    def anonymize_(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        """Replace the people under the masks, in the clip's own frames; see `AbstractAnonymizer.anonymize_`."""
        return self._anonymized(clip, masks, seed, is_in_place=True)

    def _anonymized(self, clip: Clip, masks: ClipMasks, seed: int, *, is_in_place: bool) -> Clip:
        check_same_size(clip, masks)
        layered = layers(clip, masks, self.body, seed)
        people = appearances(layered.generated)
        motion = camera_motion(clip.frames, layered.hidden) if people and self.has_clean_plate else None
        pieces: dict[int, list[tuple[Piece | None, bool]]] = {}
        for group in batches(people, self.crops_per_batch):  # of each group nothing else is kept
            made = self._replaced(clip, masks, layered.hidden, motion, group, seed)
            pieces |= {one.person_id: own for one, own in zip(group, made, strict=True)}
        frames = layered.below
        if frames is clip.frames and not is_in_place:
            frames = frames.clone()
        for is_shown in (False, True):  # where a person has no picture there is a fill, which covers no other's picture
            for one in people:  # the largest last: a person who is nearer covers the others
                for at, (piece, has_picture) in zip(one.frames, pieces[one.person_id], strict=True):
                    if piece is not None and has_picture == is_shown:
                        piece.paste(frames[at])
        return Clip(frames, clip.first_frame, clip.fps)

    def _replaced(
        self,
        clip: Clip,
        masks: ClipMasks,
        hidden: Bool[Tensor, "t h w"],
        motion: Float64[np.ndarray, "t 3 3"] | None,
        group: Sequence[Appearance],
        seed: int,
    ) -> list[list[tuple[Piece | None, bool]]]:
        """For each person of a group: what goes into each frame, and whether a picture is placed in it."""
        cut = [self.crops.align(clip.frames, one.masks, hidden, one.frames) for one in group]
        around = [Surroundings(clip.frames, hidden, one.frames, clip.first_frame, motion) for one in group]
        in_crops = [_in_crops(*each, masks, seed) for each in zip(group, cut, around, strict=True)]
        placed = self.place(in_crops)
        behind = None
        if placed is not None and self.has_clean_plate:
            behind = [BackgroundPlate(one.crops, each, one.poses) for one, each in zip(in_crops, around, strict=True)]
        request = InpaintingRequest(
            torch.stack([crops.pixels for crops in cut]).to(self.device),
            torch.stack([crops.hidden for crops in cut]).to(self.device),
            [(seed, one.person_id) for one in group],
            [[clip.first_frame + at for at in one.frames] for one in group],
            source=self._uncovered(clip, group, cut) if self.looks_at_hidden else None,
            reference=self._grids(placed),
            beyond=None if placed is None else self._beyond(cut, hidden),
            background=self._grids(behind),
        )
        pixels = self.generate(request).cpu()
        nothing = [None] * len(group)
        height, width = clip.frames.shape[2:]
        replaced = []
        for one, crops, own, reference, background in zip(
            group, cut, pixels, placed or nothing, behind or nothing, strict=True
        ):
            enlarge = None if reference is None else _sharpened(own, reference, background)
            found = self.reintegrator.pieces(own, crops.geometry, one.masks, (height, width), enlarge)
            has_picture = [enlarge is not None and _has_pose(each) for each in one.masks]
            replaced.append(list(zip(found, has_picture, strict=True)))
        return replaced

    def _grids(self, placed: Sequence[AbstractPlaced] | None) -> Tensor | None:
        return None if placed is None else torch.stack([one.grid for one in placed]).to(self.device)

    def _beyond(self, cut: Sequence[Crops], hidden: Tensor) -> Tensor:
        return torch.stack([crops.beyond(*hidden.shape[-2:]) for crops in cut]).to(self.device)

    def _uncovered(self, clip: Clip, people: Sequence[Appearance], cut: Sequence[Crops]) -> Tensor:
        """The crops with the people in them."""
        nothing = torch.zeros(clip.frames.shape[2:], dtype=torch.bool)
        clips = [
            torch.stack(
                [
                    cut_and_hide(clip.frames[at], nothing, nothing, crops.geometry.box(row), self.crops.side)[0]
                    for row, at in enumerate(one.frames)
                ]
            )
            for one, crops in zip(people, cut, strict=True)
        ]
        return torch.stack(clips).to(self.device)


def _has_pose(masks: Sequence[PersonMask]) -> bool:
    return any(mask.pose is not None for mask in masks)


def _in_crops(one: Appearance, crops: Crops, around: Surroundings, masks: ClipMasks, seed: int) -> PersonInCrops:
    poses = [next((mask.pose for mask in own if mask.pose is not None), None) for own in one.masks]
    info = masks.info.get(one.person_id)
    return PersonInCrops(one.person_id, seed, poses, crops, None if info is None else info.replacement, around)


def _sharpened(
    crops: Float[Tensor, "t 3 s s"], reference: AbstractPlaced, background: AbstractPlaced | None
) -> Enlarge:
    """Crops enlarged with the detail of a reference, and of the background beside it."""

    def enlarge(frame: int, part: Box, box: tuple[int, int, int, int]) -> Tensor:
        x0, y0, x1, y1 = box
        where = (x0, y0, x1, y1), y1 - y0, x1 - x0
        picture = reference.picture(frame, *where).cpu()
        behind = None if background is None else background.picture(frame, *where)
        large = enlarged(crops[frame].float(), reference.grid[frame].cpu().float(), picture, part, behind)
        return large + reference.grain(frame, *large.shape[1:])

    return enlarge
