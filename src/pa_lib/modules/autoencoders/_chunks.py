"""A few images at a time through an autoencoder of diffusers, between our range of pixels and its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError


def frame_by_frame(
    run: Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n d y x"]], clips: Float[Tensor, "b t c h w"], chunk: int
) -> Float[Tensor, "b t d y x"]:
    """Apply a function of images to `chunk` frames at a time: its working memory does not grow with their number."""
    images = rearrange(clips, "b t c h w -> (b t) c h w")
    changed = torch.cat([run(part) for part in torch.split(images, chunk)])
    return rearrange(changed, "(b t) c h w -> b t c h w", b=len(clips))


def checked_chunk(chunk: int) -> int:
    """The same number.

    Raises:
        SettingError: It is not a positive whole number.
    """
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise SettingError(f"chunk {chunk!r} of the autoencoder; expected a whole number of images from 1")
    return chunk


def check_size(pixels: Float[Tensor, "b t _ h w"], multiple: int) -> None:
    """Refuse clips whose sides an autoencoder would round.

    Raises:
        SettingError: They are no clips, have not 3 channels, or sides that are no multiples.
    """
    if pixels.ndim != 5:
        raise SettingError(f"the autoencoder got pixels of shape {tuple(pixels.shape)}, expected clips b t 3 h w")
    channels, height, width = pixels.shape[-3:]
    if channels != 3 or height % multiple or width % multiple:
        raise SettingError(
            f"the autoencoder got {channels} channels of {width} x {height} px, expected 3 and multiples of "
            f"{multiple} px; choose another crop size or another autoencoder"
        )


def check_channels(latents: Float[Tensor, "b t _ h w"], channels: int) -> None:
    """Refuse latents of another autoencoder.

    Raises:
        SettingError: They are no clips, or have another number of channels.
    """
    if latents.ndim != 5:
        raise SettingError(f"the autoencoder got latents of shape {tuple(latents.shape)}, expected clips b t c h w")
    if latents.shape[2] != channels:
        raise SettingError(
            f"the autoencoder got latents of {latents.shape[2]} channels, expected {channels}; "
            "choose a backbone and an autoencoder with the same number of latent channels"
        )
