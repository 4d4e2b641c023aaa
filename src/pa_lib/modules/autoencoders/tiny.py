"""Distilled autoencoders: a hundredth of the work for pictures that are nearly as good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from jaxtyping import Float
from torch import Tensor

from pa_lib.modules.autoencoders._chunks import check_channels, check_size, checked_chunk, frame_by_frame
from pa_lib.modules.autoencoders.base import AbstractAutoencoder
from pa_lib.modules.weights_folder import load_network


class TinyAutoencoder(AbstractAutoencoder):
    """diffusers' `AutoencoderTiny`, frozen: TAESD for SD 1 and 2, TAESDXL for SDXL; the latents are the big model's.

    ``encode(x) = (e(2 x - 1) - shift) * scale``, shift and scale being those of the weights' config (0 and 1 for the
    published ones, which were distilled from latents that were scaled already). It has no variance, so the same pixels
    give the same latents.

    Give one of `path`, `vae` and `config`.

    Args:
        path: Local folder saved by diffusers or an id on the hub.
        vae: Existing autoencoder. It is used, not copied.
        config: Configuration as diffusers writes it; weights are random.
        subfolder: Subfolder of `path` that holds the autoencoder; the published ones lie at the root.
        chunk: Number of images that are processed at a time, >= 1.

    Raises:
        PaLibError: Not exactly one of the three is given, or it cannot be loaded.

    >>> import torch
    >>> config = dict(encoder_block_out_channels=[8, 8], decoder_block_out_channels=[8, 8], num_encoder_blocks=[1, 1],
    ...               num_decoder_blocks=[1, 1])
    >>> TinyAutoencoder(config=config).encode(torch.zeros(1, 3, 3, 16, 16)).shape
    torch.Size([1, 3, 4, 8, 8])

    Source: TAESD, https://github.com/madebyollin/taesd.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        vae: AutoencoderTiny | None = None,
        config: Mapping[str, Any] | None = None,
        subfolder: str = "",
        chunk: int = 32,
    ) -> None:
        super().__init__()
        self.chunk = checked_chunk(chunk)
        self.comes_from(path)
        self.vae = load_network(AutoencoderTiny, path, vae, config, subfolder).requires_grad_(False)
        settings = self.vae.config
        self.channels = int(settings["latent_channels"])
        self.downscale = 2 ** (len(settings["encoder_block_out_channels"]) - 1)
        self._shift = float(settings.get("shift_factor") or 0.0)
        self._scale = float(settings["scaling_factor"])

    def encode(self, pixels: Float[Tensor, "b t 3 _ _"]) -> Float[Tensor, "b t c _ _"]:
        """Latents; see `AbstractAutoencoder.encode`."""
        check_size(pixels, self.downscale)
        return (frame_by_frame(self._encode, pixels, self.chunk) - self._shift) * self._scale

    def decode(self, latents: Float[Tensor, "b t c _ _"]) -> Float[Tensor, "b t 3 _ _"]:
        """Pixels; see `AbstractAutoencoder.decode`."""
        check_channels(latents, self.channels)
        return frame_by_frame(self._decode, latents / self._scale + self._shift, self.chunk)

    def _encode(self, pixels: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(pixels.to(self.vae.dtype) * 2 - 1, return_dict=False)[0]
        return latents.to(pixels.dtype)

    def _decode(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return (pixels.to(latents.dtype) + 1) / 2
