"""Settings of Passersby-Anonymizer that belong together, and whether its parts do."""

from __future__ import annotations

from dataclasses import dataclass

from pa_lib.errors import PaLibError
from pa_lib.modules.autoencoders.base import AbstractAutoencoder
from pa_lib.modules.backbones.base import AbstractBackbone
from pa_lib.modules.crops.aligner import CropAligner
from pa_lib.modules.crops.mask_augmentation import MaskAugmentation
from pa_lib.modules.text.base import AbstractText


@dataclass(frozen=True)
class MaskAwareTraining:
    """The switches of mask-aware training, each ablated by itself; the fourth, loss weighting, is the loss's slot.

    Args:
        has_condition: Mask and blanked background go into the backbone beside the noisy latents.
        augmentation: Widens masks in training, so that the silhouette is not copied exactly; None leaves them.
        has_compositing: While sampling, what lies outside the mask is held at the (blanked) source's latents.

    Source: the paper names mask-aware training and its aim; the four switches are our reconstruction.
    """

    has_condition: bool = True
    augmentation: MaskAugmentation | None = None
    has_compositing: bool = True


@dataclass(frozen=True)
class Windows:
    """How long clips are cut.

    Args:
        frames: How many frames the backbone sees at a time.
        overlap: How many of them the next window sees again; the predictions are averaged there, in every step.
        chunk: How many frames are held in memory at a time when a video is anonymized.
        chunk_overlap: How many of them the next chunk paints again; the pictures are cross-faded there.
        crops: How many crops (people times frames) are denoised in one batch.
    """

    frames: int = 16
    overlap: int = 8
    chunk: int = 48
    chunk_overlap: int = 8
    crops: int = 256

    def __post_init__(self) -> None:
        for window, overlap in ((self.frames, self.overlap), (self.chunk, self.chunk_overlap)):
            if not 0 <= overlap < window:
                raise PaLibError(f"windows of {window} frames cannot overlap by {overlap}; expected 0 to {window - 1}")
        if self.crops < 1:
            raise PaLibError(f"windows.crops is {self.crops}, expected at least 1")


def check_fit(
    backbone: AbstractBackbone, autoencoder: AbstractAutoencoder, text: AbstractText, crops: CropAligner
) -> None:
    """Whether the slots of the system fit each other.

    Raises:
        PaLibError: Two of them do not; says which, and which to choose.
    """
    if backbone.channels != autoencoder.channels:
        raise PaLibError(
            f"the backbone denoises {backbone.channels} channels, the autoencoder's latents have "
            f"{autoencoder.channels}; choose two that belong together (module/backbone, module/autoencoder)"
        )
    if backbone.condition_channels not in (0, 1 + autoencoder.channels):
        raise PaLibError(
            f"the backbone takes {backbone.condition_channels} channels of condition, expected "
            f"{1 + autoencoder.channels}: the mask and the background's latents (or 0 for none)"
        )
    if crops.side % autoencoder.downscale:
        raise PaLibError(
            f"crops of {crops.side} px cannot be encoded, {autoencoder.downscale} px to a latent; "
            f"choose a multiple of {autoencoder.downscale} for module.crops.side"
        )
    if backbone.text_width is None and text.width is not None:
        raise PaLibError("there is a text encoder, but the backbone reads no text; choose module/text=none")
    if backbone.text_width is not None and text.width is None and not getattr(backbone, "is_text_optional", True):
        raise PaLibError(
            f"the backbone wants text of width {backbone.text_width} and got none; choose module/text=clip, from the "
            "backbone's own folder"
        )
    if backbone.text_width is not None and text.width is not None and backbone.text_width != text.width:
        raise PaLibError(
            f"the backbone takes text of width {backbone.text_width}, the text encoder gives {text.width}; "
            "choose the one from the backbone's own folder (module/text=clip module.text.path=...)"
        )
