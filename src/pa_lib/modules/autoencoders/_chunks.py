"""A few images at a time through an autoencoder of diffusers, between our range of pixels and its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import PaLibError


def in_chunks(
    run: Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n d y x"]], images: Float[Tensor, "n c h w"], chunk: int
) -> Float[Tensor, "n d y x"]:
    """Apply a function to `chunk` images at a time, so that its working memory does not grow with their number."""
    return torch.cat([run(part) for part in torch.split(images, chunk)])


def checked_chunk(chunk: int) -> int:
    """The same number.

    Raises:
        PaLibError: It is not a positive whole number.
    """
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise PaLibError(f"chunk {chunk!r} of the autoencoder; expected a whole number of images from 1")
    return chunk


def check_size(pixels: Float[Tensor, "n 3 h w"], multiple: int) -> None:
    """Refuse images whose sides an autoencoder would round.

    Raises:
        PaLibError: They have not 3 channels, or sides that are no multiples.
    """
    channels, height, width = pixels.shape[-3:]
    if channels != 3 or height % multiple or width % multiple:
        raise PaLibError(
            f"the autoencoder got {channels} channels of {width} x {height} px, expected 3 and multiples of "
            f"{multiple} px; choose another crop size or another autoencoder"
        )


def check_channels(latents: Float[Tensor, "n c h w"], channels: int) -> None:
    """Refuse latents of another autoencoder.

    Raises:
        PaLibError: They have another number of channels.
    """
    if latents.shape[1] != channels:
        raise PaLibError(
            f"the autoencoder got latents of {latents.shape[1]} channels, expected {channels}; "
            "choose a backbone and an autoencoder with the same number of latent channels"
        )
