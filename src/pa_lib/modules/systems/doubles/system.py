"""Doubles before the background: what a reference shows of a person is the result, and no network is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pa_lib.contracts import ClipMasks, PersonInfo
from pa_lib.errors import SettingError
from pa_lib.modules.crops.aligner import CropAligner, Reintegrator
from pa_lib.modules.inpainting.composite import composite
from pa_lib.modules.inpainting.request import InpaintingRequest
from pa_lib.modules.reference.base import AbstractPlaced, AbstractReference, NoReference, PersonInCrops
from pa_lib.modules.slot import Recorded, outermost_slots
from pa_lib.modules.systems.bodies import KEPT, Body, checked_body
from pa_lib.modules.systems.cropwise import CropwiseAnonymizer

_WITHOUT_NETWORK = "doubles stand before an inpainted background: no network joins them to the scene"


class DoublesAnonymizer(Recorded, nn.Module, CropwiseAnonymizer):
    """Replaces heads by the pictures that a reference gives, before the background behind them.

    Where no frame shows that background it is inpainted, and where a person has no picture, the fill is all there is.
    The weights are those of the reference's light. It learns in a `PassersbyAnonymizer`, not here.

    Args:
        reference: Gives each person a picture to take their place.
        crops: Cuts people out of frames.
        body: Treatment of masks of kind ``body``, see `PassersbyAnonymizer`; ``generate`` inpaints them as well.
        chunk: Number of frames that are held in memory at a time, >= 1.
        chunk_overlap: Number of frames that neighbouring chunks share, where their pictures are cross-faded; >= 0,
            < `chunk`.

    Raises:
        SettingError: A setting is out of range, or there is no reference.

    Ours.
    """

    def __init__(
        self,
        *,
        reference: AbstractReference,
        crops: CropAligner,
        body: Body = "keep",
        chunk: int = 48,
        chunk_overlap: int = 8,
    ) -> None:
        super().__init__()
        if isinstance(reference, NoReference):
            raise SettingError("DoublesAnonymizer shows what a reference gives; choose module/reference=doubles")
        if not 0 <= chunk_overlap < chunk:
            raise SettingError(f"chunks of {chunk} frames cannot overlap by {chunk_overlap}; expected 0 to {chunk - 1}")
        self.reference = reference
        self.crops = crops
        self.reintegrator = Reintegrator()
        self.body = checked_body(body)
        self.chunk = chunk
        self.chunk_overlap = chunk_overlap
        self.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU where there are none."""
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

    @property
    def window_frames(self) -> int:
        """Frames that are held in memory at a time."""
        return self.chunk

    @property
    def overlap_frames(self) -> int:
        """Frames that the next window has again."""
        return self.chunk_overlap

    @property
    def crops_per_batch(self) -> int:
        """One person at a time: there is no network that more of them would feed."""
        return 1

    @property
    def has_clean_plate(self) -> bool:
        """As the reference says."""
        return self.reference.has_clean_plate

    @property
    def looks_at_hidden(self) -> bool:
        """As the reference says."""
        return self.reference.looks_at_hidden

    @property
    def notes(self) -> tuple[str, ...]:
        """That bodies are kept, what the reference says of itself, and that no network is asked."""
        return (*((KEPT,) if self.body == "keep" else ()), *self.reference.notes, _WITHOUT_NETWORK)

    def untrained_slots(self) -> set[str]:
        """The reference, where its light has random weights."""
        return {name for name, slot in outermost_slots(self).items() if slot.is_random}

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        """Names of what takes each person's place, where the reference has names."""
        return self.reference.replacements(people, seed=seed)

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> ClipMasks:
        """The masks with all that the references cover."""
        return self.reference.extended(masks, seed=seed)

    def place(self, people: Sequence[PersonInCrops]) -> Sequence[AbstractPlaced]:
        """The picture of each person."""
        return [self.reference.place(one) for one in people]

    def generate(self, request: InpaintingRequest) -> Float[Tensor, "b t 3 h w"]:
        """The pictures before their background; see `composite`."""
        return composite(request)
