"""Identity guidance: away from the identity of the person who is replaced, by the gradient of a face network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from pa_lib.errors import SettingError
from pa_lib.modules.guidance.base import AbstractGuidance, PreparedGuidance, SamplingStart
from pa_lib.pretrained import FaceIdentity

Decode = Callable[[Tensor], Tensor]
"""Latents b t c h w to pixels b t 3 s s in [0, 1]."""

DEPENDS = (
    "faces are moved away from the people who are replaced: what is generated depends on the person it hides "
    "(guidance.identity)"
)
_FACE = 0.61  # of a head's height, the middle square that dlib's chips show of it
_FRAMES = 4  # of a clip, that are looked at: its frames show one face and are moved alike


class IdentityGuidance(AbstractGuidance):
    """Moves predicted clean latents of a clip until the face in them is far from the source's.

    All frames of a clip are moved alike, so that the new face stays the same; clips that are far enough are left alone.
    The result depends on the face that it hides: **what is sampled with it is not non-interfering**. The last step
    stays as the network predicts it: it takes back what only the face network sees.

    Args:
        strength: Root mean square of the move in one step of the sampler; latents have a spread of about 1. 0.1 is
            usual, 0 = no guidance.
        expansion: Ratio of the side length of the crops to the longer side of the person's mask; None takes that of the
            system's crops.
        distance: Distance between identities beyond which latents are no longer moved; see `FaceIdentity`. Between
            strangers it is 0.8 on average.

    Raises:
        SettingError: The strength is out of range.

    Source: universal guidance, its forward form (Bansal et al. 2023): the gradient goes through decoder and face
    network, not through the denoiser. Ours: one move for all frames, its fixed length, and the distance it ends at.
    The face is expected in the middle of the crop, where a mask of a head puts it; no landmarks are used.
    """

    def __init__(self, strength: float = 0.1, expansion: float | None = None, distance: float = 1.0) -> None:
        if not 0 <= strength < float("inf"):
            raise SettingError(
                f"strength of identity guidance is {strength}, expected at least 0 (0.1 is usual; 0 leaves it out)"
            )
        self.strength = strength
        self.expansion = expansion
        self.distance = distance
        self._network = FaceIdentity() if strength else None

    @property
    def is_active(self) -> bool:
        """Whether the strength is above 0."""
        return self.strength > 0

    @property
    def looks_at_hidden(self) -> bool:  # type: ignore[override]
        """Whether it is active: it looks at the face that is replaced."""
        return self.is_active

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """That the result depends on the people who are hidden, where it does."""
        return (DEPENDS,) if self.is_active else ()

    def prepare(self, start: SamplingStart) -> PreparedGuidance:
        """Finds the faces to move away from.

        Raises:
            SettingError: There are no crops with the people in them.
        """
        if start.source is None:
            raise SettingError(
                "identity guidance moves away from the people who are replaced, but no source was given: "
                "pass source, or set strength=0"
            )
        process = start.process
        move = self.away_from(start.source, start.decode, start.crop_expansion)

        def correct(prediction: Tensor, noisy: Tensor, levels: Tensor) -> Tensor:
            return process.prediction_of(move(process.clean_from(prediction, noisy, levels)), noisy, levels)

        return PreparedGuidance(correct=correct)

    def identities(self, pixels: Float[Tensor, "b t 3 s s"], expansion: float = 1.0) -> Float[Tensor, "b t 128"]:
        """Identities of the faces in the middle of crops with values in [0, 1], see `FaceIdentity`."""
        assert self._network is not None
        side = pixels.shape[-1]
        face = max(1, round(side * _FACE / (self.expansion or expansion)))
        at = (side - face) // 2
        middle = pixels[..., at : at + face, at : at + face].clamp(0, 1)
        chip_px = FaceIdentity.chip_px
        chips = interpolate(
            rearrange(middle, "b t c h w -> (b t) c h w"), (chip_px, chip_px), mode="bilinear", antialias=True
        )
        identities: Tensor = self._network.to(chips.device)(chips.float())
        return rearrange(identities, "(b t) d -> b t d", b=len(pixels))

    def away_from(
        self, source: Float[Tensor, "b t 3 s s"], decode: Decode, expansion: float = 1.0
    ) -> Callable[[Tensor], Tensor]:
        """What moves the clean latents b t c h w of the same clips away from the people in `source`.

        Args:
            source: The crops with the people in them, in [0, 1].
            decode: Differentiable function from latents to pixels.
            expansion: Expansion of the crops, where this guidance has none of its own.
        """
        with torch.no_grad():
            theirs = self.identities(_some(source), expansion).mean(1, keepdim=True)

        def moved(clean: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
            with torch.inference_mode(False), torch.enable_grad():
                some = _some(clean).detach().clone().requires_grad_()
                away = (self.identities(decode(some), expansion) - theirs.clone()).norm(dim=-1)
                (gradient,) = torch.autograd.grad((self.distance - away).clamp_min(0).sum(), some)
            move = -gradient.mean(1, keepdim=True)
            size = move.square().mean((2, 3, 4), keepdim=True).sqrt()
            return clean + torch.where(size > 0, self.strength * move / size.clamp_min(1e-12), 0.0).to(clean)

        return moved


def _some(clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b some c h w"]:
    n_frames = clips.shape[1]
    return clips[:, torch.linspace(0, n_frames - 1, min(n_frames, _FRAMES)).round().long().tolist()]
