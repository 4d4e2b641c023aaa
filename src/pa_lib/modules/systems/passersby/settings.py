"""Settings of Passersby-Anonymizer that belong together."""

from __future__ import annotations

from dataclasses import dataclass

from pa_lib.modules.crops.mask_augmentation import MaskAugmentation


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
