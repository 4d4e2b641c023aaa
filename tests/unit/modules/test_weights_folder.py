"""Types of weights by name, frozen parts in half precision, and folders of other networks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from _backbones import predict
from pa_lib.errors import SettingError, WeightsError
from pa_lib.modules import ClipText, DiffusersUNet, KLAutoencoder, SpatialContentAdapter, TextCondition
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


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_folder_with_one_variant_only_is_taken(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """As diffusers saves it with ``variant="fp16"``, and as it lies in many folders of downloads."""
    unet = DiffusersUNet(config=UNET, condition_channels=0).unet.half()
    unet.save_pretrained(tmp_path / "unet", variant="fp16", safe_serialization=suffix == ".safetensors")
    assert [file.name for file in (tmp_path / "unet").glob(f"*{suffix}")] == [f"diffusion_pytorch_model.fp16{suffix}"]
    loaded = DiffusersUNet(str(tmp_path), condition_channels=0).unet
    for name, weight in unet.state_dict().items():
        assert torch.equal(loaded.state_dict()[name].half(), weight), name
    assert capfd.readouterr() == ("", "")


def test_of_several_variants_the_usual_one_is_taken(tmp_path: Path) -> None:
    unet = DiffusersUNet(config=UNET, condition_channels=0).unet
    unet.save_pretrained(tmp_path / "unet")
    unet.half().save_pretrained(tmp_path / "unet", variant="fp16")
    assert DiffusersUNet(str(tmp_path), condition_channels=0).unet.dtype == torch.float32


def test_a_folder_without_weights_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    unet = DiffusersUNet(config=UNET, condition_channels=0).unet
    unet.save_config(tmp_path / "unet")
    with pytest.raises(WeightsError, match=r"cannot load a UNet2DConditionModel from .*; save it again"):
        DiffusersUNet(str(tmp_path))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", ["models/sd15", "./models/sd15", "/models/sd15", "~/models/sd15", "sd15", "a/b/sd15"])
def test_a_missing_folder_is_refused_without_a_question(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: pytest.fail("the hub was asked"))
    began = time.monotonic()
    with pytest.raises(WeightsError, match="folder"):
        DiffusersUNet(path)
    with pytest.raises(WeightsError, match="folder"):
        ClipText(path)
    assert time.monotonic() - began < 2
    assert capfd.readouterr() == ("", "")


def test_a_hub_that_cannot_be_reached_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not for half a minute, as its own library does, with a line for each time."""
    asked: list[str] = []

    def fail(self: object, path: str, **settings: object) -> None:
        asked.append(path)
        raise ConnectionError("no connection")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    with pytest.raises(WeightsError, match=r"the hub does not give it \(no connection\)"):
        DiffusersUNet("nowhere/sd15")
    assert asked == ["nowhere/sd15"]
    assert capfd.readouterr() == ("", "")
