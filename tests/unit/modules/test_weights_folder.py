"""Types of weights by name, frozen parts in half precision, and folders of other networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from _backbones import predict
from pa_lib.errors import SettingError, WeightsError
from pa_lib.modules import DiffusersUNet, KLAutoencoder, SpatialContentAdapter, TextCondition
from pa_lib.modules.weights_folder import scheduler_settings, torch_dtype

UNET: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": 8,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}
VAE: dict[str, Any] = {
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}


@pytest.mark.parametrize("name", ["bfloat16", "torch.bfloat16", torch.bfloat16])
def test_types_have_names(name: Any) -> None:
    assert torch_dtype(name) == torch.bfloat16


@pytest.mark.parametrize("name", ["half precision", "int8", "Tensor"])
def test_other_types_are_refused(name: str) -> None:
    with pytest.raises(SettingError, match="choose float32, bfloat16 or float16"):
        torch_dtype(name)


def test_a_frozen_unet_in_half_precision_takes_and_gives_full_latents() -> None:
    torch.manual_seed(0)
    full = DiffusersUNet(config=UNET, condition_channels=0).eval()
    half = DiffusersUNet(config=UNET, condition_channels=0, dtype="bfloat16").eval()
    half.load_state_dict(full.state_dict())
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    adapter = SpatialContentAdapter(rank=2)
    half.requires_grad_(False)
    adapter.attach(half)
    noisy, text = torch.randn(1, 2, 4, 8, 8), TextCondition(torch.randn(1, 3, 8))
    found = predict(half, noisy, torch.tensor([5]), text=text)
    assert found.dtype == torch.float32
    expected = predict(full, noisy, torch.tensor([5]), text=text)
    assert float(((found - expected).norm() / expected.norm()).detach()) < 0.05
    found.square().sum().backward()
    assert all(weight.grad is not None and weight.dtype == torch.float32 for weight in adapter.parameters())


def test_a_frozen_autoencoder_in_half_precision_gives_full_latents() -> None:
    autoencoder = KLAutoencoder(config=VAE, dtype="bfloat16")
    assert {weight.dtype for weight in autoencoder.parameters()} == {torch.bfloat16}
    latents = autoencoder.encode(torch.rand(1, 2, 3, 16, 16))
    assert latents.dtype == torch.float32
    assert autoencoder.decode(latents).dtype == torch.float32


@pytest.mark.parametrize(
    ("pipeline", "network"),
    [
        ("StableDiffusion3Pipeline", "SD3Transformer2DModel"),
        ("FluxPipeline", "FluxTransformer2DModel"),
        ("WanPipeline", "WanTransformer3DModel"),
    ],
)
def test_transformers_are_named_for_what_they_are(pipeline: str, network: str, tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"_class_name": network}))
    with pytest.raises(WeightsError, match=rf"is a {pipeline} of diffusers, whose network is a transformer; UNet2DCon"):
        DiffusersUNet(str(tmp_path))


def test_a_transformers_own_folder_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"_class_name": "DiTTransformer2DModel"}))
    with pytest.raises(WeightsError, match="is a DiTTransformer2DModel of diffusers"):
        DiffusersUNet(str(tmp_path))


def test_a_hub_without_a_connection_says_nothing_of_schedulers() -> None:
    assert scheduler_settings("nobody/nothing") is None
