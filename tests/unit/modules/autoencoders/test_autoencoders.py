"""Autoencoders against diffusers' own classes, and space-to-depth against indexing by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pa_lib.errors import PaLibError
from pa_lib.modules.autoencoders.base import AbstractAutoencoder
from pa_lib.modules.autoencoders.kl import KLAutoencoder
from pa_lib.modules.autoencoders.patchify import Patchify
from pa_lib.modules.autoencoders.tiny import TinyAutoencoder

KL: dict[str, Any] = {
    "block_out_channels": [8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
}
TINY: dict[str, Any] = {
    "encoder_block_out_channels": [8, 8],
    "decoder_block_out_channels": [8, 8],
    "num_encoder_blocks": [1, 1],
    "num_decoder_blocks": [1, 1],
}


def images(n: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(1, n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 999))
def test_patchify_is_lossless_and_puts_pixels_where_they_belong(patch: int, rows: int, columns: int, seed: int) -> None:
    autoencoder = Patchify(patch)
    draw = np.random.default_rng(seed)
    pixels = torch.from_numpy(draw.random((1, 2, 3, rows * patch, columns * patch), dtype=np.float32))
    latents = autoencoder.encode(pixels)
    assert latents.shape == (1, 2, autoencoder.channels, rows, columns)
    assert latents.min() >= -1
    assert latents.max() <= 1
    torch.testing.assert_close(autoencoder.decode(latents), pixels, atol=1e-6, rtol=0)
    row, column = int(draw.integers(rows * patch)), int(draw.integers(columns * patch))
    for colour in range(3):
        channel = colour * patch**2 + (row % patch) * patch + column % patch
        expected = pixels[0, 0, colour, row, column] * 2 - 1
        assert latents[0, 0, channel, row // patch, column // patch] == expected


def test_patchify_beyond_the_range_is_not_clamped() -> None:
    latents = torch.full((1, 1, 12, 2, 2), 3.0)
    assert torch.equal(Patchify(2).decode(latents), torch.full((1, 1, 3, 4, 4), 2.0))


@pytest.mark.parametrize("patch", [0, -1, pytest.param(1.5, marks=pytest.mark.wrong_types), True])
def test_patchify_refuses_strange_patches(patch: Any) -> None:
    with pytest.raises(PaLibError, match=r"whole number|valid integer"):
        Patchify(patch)


@pytest.mark.parametrize("shift", [None, 0.3])
def test_kl_is_the_scaled_mean_of_diffusers(shift: float | None) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(**KL, scaling_factor=0.5, shift_factor=shift).eval()
    autoencoder = KLAutoencoder(vae=vae, chunk=2)
    pixels = images()
    mean = vae.encode(pixels[0] * 2 - 1).latent_dist.mean
    expected = (mean - (shift or 0.0)) * 0.5
    latents = autoencoder.encode(pixels)
    torch.testing.assert_close(latents[0], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(autoencoder.decode(latents)[0], (vae.decode(mean).sample + 1) / 2, atol=1e-5, rtol=1e-4)
    assert (autoencoder.channels, autoencoder.downscale, latents.shape) == (4, 4, (1, 3, 4, 4, 4))


def test_kl_with_statistics_per_channel() -> None:
    torch.manual_seed(0)
    mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 4.0, 8.0]
    vae = AutoencoderKL(**KL, scaling_factor=0.5, latents_mean=mean, latents_std=std)
    raw = vae.encode(images()[0] * 2 - 1).latent_dist.mean
    expected = torch.stack([(raw[:, c] - mean[c]) * 0.5 / std[c] for c in range(4)], 1)
    torch.testing.assert_close(KLAutoencoder(vae=vae).encode(images())[0], expected, atol=1e-6, rtol=1e-5)


def test_tiny_is_diffusers_with_its_own_scale() -> None:
    torch.manual_seed(0)
    vae = AutoencoderTiny(**TINY, scaling_factor=0.5, shift_factor=0.25).eval()
    autoencoder = TinyAutoencoder(vae=vae, chunk=2)
    latents = autoencoder.encode(images())
    raw = vae.encode(images()[0] * 2 - 1).latents
    torch.testing.assert_close(latents[0], (raw - 0.25) * 0.5, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(autoencoder.decode(latents)[0], (vae.decode(raw).sample + 1) / 2, atol=1e-5, rtol=1e-4)
    assert (autoencoder.channels, autoencoder.downscale, latents.shape) == (4, 2, (1, 3, 4, 8, 8))


def made() -> list[AbstractAutoencoder]:
    torch.manual_seed(0)
    return [KLAutoencoder(config=KL, chunk=2), TinyAutoencoder(config=TINY, chunk=2), Patchify(2)]


@pytest.mark.parametrize("index", range(3))
def test_every_autoencoder(index: int) -> None:
    autoencoder = made()[index].eval()
    latents = autoencoder.encode(images())
    assert torch.equal(latents, autoencoder.encode(images()))
    assert autoencoder.time_downscale == 1
    clips = images(n=4).unflatten(1, (2, 2))[0]  # two clips of two frames: every frame by itself
    torch.testing.assert_close(autoencoder.encode(clips).flatten(0, 1)[None], autoencoder.encode(images(n=4)))
    twin = copy.deepcopy(autoencoder)
    twin.load_state_dict(autoencoder.state_dict())
    assert torch.equal(twin.decode(latents), autoencoder.decode(latents))
    assert not any(weight.requires_grad for weight in autoencoder.parameters())
    assert not latents.requires_grad
    pixels = images().requires_grad_()
    autoencoder.decode(autoencoder.encode(pixels)).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    half = autoencoder.bfloat16().encode(images().bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - latents).norm() / latents.norm() < 0.05
    with pytest.raises(PaLibError, match="expected 3 and multiples of"):
        autoencoder.encode(torch.zeros(1, 1, 3, 16, 17))
    with pytest.raises(PaLibError, match=f"expected {autoencoder.channels}"):
        autoencoder.decode(torch.zeros(1, 1, 5, 4, 4))


@pytest.mark.wrong_types
@pytest.mark.parametrize("index", range(3))
def test_single_pictures_are_refused(index: int) -> None:
    autoencoder = made()[index].eval()
    for refused in (autoencoder.encode, autoencoder.decode):
        with pytest.raises(PaLibError, match="expected clips b t"):
            refused(images()[0])


@pytest.mark.parametrize("index", range(2))
def test_no_more_than_a_chunk_goes_through_at_a_time(index: int) -> None:
    autoencoder = made()[index]
    sizes: list[int] = []
    for part in (autoencoder.vae.encoder, autoencoder.vae.decoder):  # type: ignore[attr-defined]
        part.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    with torch.no_grad():
        autoencoder.decode(autoencoder.encode(images(n=5)))
        assert not torch.is_grad_enabled()
    assert sizes == [2, 2, 1] * 2


def test_kl_stays_in_full_precision_where_half_overflows() -> None:
    seen: list[torch.dtype] = []
    for force, expected in ((True, torch.float32), (False, torch.float16)):
        autoencoder = KLAutoencoder(config=KL | {"force_upcast": force})
        autoencoder.vae.encoder.conv_in.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
        with torch.autocast("cpu", dtype=torch.float16), torch.no_grad():
            autoencoder.encode(images())
        assert seen.pop() == expected


def test_load_from_folders(tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoencoderKL(**KL).save_pretrained(tmp_path / "vae")
    AutoencoderTiny(**TINY).save_pretrained(tmp_path / "taesd")
    assert KLAutoencoder(str(tmp_path)).channels == 4
    assert TinyAutoencoder(str(tmp_path / "taesd")).downscale == 2
    with pytest.raises(PaLibError, match=r"no config.json in"):
        TinyAutoencoder(str(tmp_path))
    with pytest.raises(PaLibError, match="sources given, expected one"):
        KLAutoencoder()
    with pytest.raises(PaLibError, match="chunk 0"):
        KLAutoencoder(config=KL, chunk=0)
