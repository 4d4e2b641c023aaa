"""Pixels as latents, without a network: lossless, for small crops and for examining the other parts of a system."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.modules.autoencoders._chunks import check_channels, check_size
from pa_lib.modules.autoencoders.base import AbstractAutoencoder


class Patchify(AbstractAutoencoder):
    """Space to depth: every square of pixels becomes one latent, red, green, blue after each other.

    ``encode(x) = 2 x - 1``, rearranged; `decode` is its inverse to float exactness, at every value.

    Args:
        patch: Side length of the square in pixels, >= 1. Latents have 3 patch^2 channels.

    Raises:
        SettingError: `patch` is not a positive whole number.

    >>> import torch
    >>> latents = Patchify(2).encode(torch.full((1, 1, 3, 4, 6), 0.75))
    >>> latents.shape, latents.unique().tolist()
    (torch.Size([1, 1, 12, 2, 3]), [0.5])
    """

    def __init__(self, patch: int = 4) -> None:
        super().__init__()
        if isinstance(patch, bool) or not isinstance(patch, int) or patch < 1:
            raise SettingError(f"patch {patch!r} of the patchify autoencoder; expected a whole number of pixels from 1")
        self.channels = 3 * patch**2
        self.downscale = patch

    def encode(self, pixels: Float[Tensor, "b t 3 _ _"]) -> Float[Tensor, "b t c _ _"]:
        """Latents in [-1, 1]; see `AbstractAutoencoder.encode`."""
        check_size(pixels, self.downscale)
        patch = self.downscale
        return rearrange(pixels * 2 - 1, "b t c (h y) (w x) -> b t (c y x) h w", y=patch, x=patch)

    def decode(self, latents: Float[Tensor, "b t c _ _"]) -> Float[Tensor, "b t 3 _ _"]:
        """Pixels; see `AbstractAutoencoder.decode`."""
        check_channels(latents, self.channels)
        patch = self.downscale
        return (rearrange(latents, "b t (c y x) h w -> b t c (h y) (w x)", c=3, y=patch, x=patch) + 1) / 2
