"""The autoencoders of Stable Diffusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from pa_lib.modules.autoencoders._chunks import check_channels, check_size, checked_chunk, frame_by_frame
from pa_lib.modules.autoencoders.base import AbstractAutoencoder
from pa_lib.modules.weights_folder import load_network


class KLAutoencoder(AbstractAutoencoder):
    """diffusers' `AutoencoderKL`, frozen: 8 x 8 pixels to 4 channels in the Stable Diffusion family.

    ``encode(x) = (mean(q(z | 2 x - 1)) - shift) * scale``. The mean and not a sample: the same pixels give the same
    latents, which reproducible training and non-interference need. Shift and scale are the weights' own.

    Give one of `path`, `vae` and `config`.

    Args:
        path: Local folder saved by diffusers, of the whole pipeline or of the autoencoder alone, or an id on the hub.
        vae: Existing autoencoder. It is used, not copied.
        config: Configuration as diffusers writes it; weights are random.
        subfolder: Subfolder of `path` that holds the autoencoder.
        chunk: Number of images that are processed at a time, >= 1: it bounds the memory, however long the clip is, as
            long as no gradient is needed.
        dtype: Type of the weights: ``bfloat16``, ``float16``, ``float32`` or a `torch.dtype`; None keeps their own.
        variant: Variant of the files in `path`, e.g. ``fp16``.

    Raises:
        PaLibError: Not exactly one of the three is given, or it cannot be loaded.

    >>> config = dict(block_out_channels=[8, 8], layers_per_block=1, norm_num_groups=4, latent_channels=4,
    ...               down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2)
    >>> KLAutoencoder(config=config).encode(torch.zeros(1, 3, 3, 16, 16)).shape
    torch.Size([1, 3, 4, 8, 8])

    Source: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, sections 3.1 and D.1.
    Differs: the mean stands for the sample that Stable Diffusion was trained on.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        path: str | None = None,
        *,
        vae: AutoencoderKL | None = None,
        config: Mapping[str, Any] | None = None,
        subfolder: str = "vae",
        chunk: int = 8,
        dtype: str | torch.dtype | None = None,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        self.chunk = checked_chunk(chunk)
        self.comes_from(path)
        self.vae = load_network(AutoencoderKL, path, vae, config, subfolder, dtype=dtype, variant=variant)
        self.vae.requires_grad_(False)
        settings = self.vae.config
        self.channels = int(settings["latent_channels"])
        self.downscale = 2 ** (len(settings["block_out_channels"]) - 1)
        shift = settings.get("latents_mean") or [settings.get("shift_factor") or 0.0]
        spread = settings.get("latents_std") or [1.0]
        # not in the state: they belong to the config of the weights, and old checkpoints lack them
        self.register_buffer("shift", torch.tensor(shift).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", settings["scaling_factor"] / torch.tensor(spread).reshape(1, -1, 1, 1), False)

    def encode(self, pixels: Float[Tensor, "b t 3 _ _"]) -> Float[Tensor, "b t c _ _"]:
        """Latents; see `AbstractAutoencoder.encode`."""
        check_size(pixels, self.downscale)
        means = frame_by_frame(
            self._run(lambda part: self.vae.encode(part * 2 - 1).latent_dist.mean), pixels, self.chunk
        )
        return (means - self.shift.to(means.dtype)) * self.scale.to(means.dtype)

    def decode(self, latents: Float[Tensor, "b t c _ _"]) -> Float[Tensor, "b t 3 _ _"]:
        """Pixels; see `AbstractAutoencoder.decode`."""
        check_channels(latents, self.channels)
        latents = latents / self.scale.to(latents.dtype) + self.shift.to(latents.dtype)
        return frame_by_frame(self._run(lambda part: (self.vae.decode(part).sample + 1) / 2), latents, self.chunk)

    def _run(self, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """In the precision of the weights, except where half precision overflows: then in full precision, as set."""

        def run(images: Tensor) -> Tensor:
            device = images.device.type
            is_half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
            with torch.autocast(device, enabled=False) if is_half and self._overflows else nullcontext():
                return change(images.to(self.vae.dtype)).to(images.dtype)

        return run

    @property
    def _overflows(self) -> bool:
        return bool(self.vae.config.get("force_upcast"))
