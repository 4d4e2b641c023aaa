"""The shipped settings of backbones, autoencoders and text fit together and make what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from _backbones import predict
from pa_lib.cli.compose import config_folder
from pa_lib.modules import AbstractAutoencoder, AbstractBackbone

ROOMS = ("backbone", "autoencoder", "text")


def module(*choices: str, **changes: str) -> Any:
    overrides = [f"+module/{room}={choice}" for room, choice in zip(ROOMS, choices, strict=True)]
    with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
        config = compose(None, [*overrides, *(f"module.{key}={value}" for key, value in changes.items())])
    OmegaConf.resolve(config)
    return config.module


@pytest.mark.parametrize("choice", ["compact", "tiny"])
def test_backbones_without_a_download_run_on_patches(choice: str) -> None:
    config = module(choice, "patchify", "none")
    backbone: AbstractBackbone = instantiate(config.backbone, _convert_="all")
    autoencoder: AbstractAutoencoder = instantiate(config.autoencoder, _convert_="all")
    latents = autoencoder.encode(torch.rand(1, 2, 3, 64, 64))
    condition = torch.cat([torch.ones(1, 2, 1, 16, 16), latents], 2)
    text = instantiate(config.text)(["a person"])
    with torch.no_grad():
        assert predict(backbone, latents, torch.tensor([5]), condition, text).shape == latents.shape
    weights = sum(weight.numel() for weight in backbone.parameters())
    assert weights < (15e6 if choice == "compact" else 2e6)
    assert backbone.attention_projections()
    assert all(site.channels % 32 == 0 for site in backbone.sites())  # temporal layers normalize in 32 groups


@pytest.mark.parametrize("choice", ["sd15", "sd15_inpaint", "sd2_inpaint", "sdxl_inpaint"])
def test_one_path_serves_the_whole_model(choice: str, tmp_path: Path) -> None:
    config = module(choice, "kl", "clip", **{"backbone.path": str(tmp_path)})
    assert config.autoencoder.path == config.text.path == str(tmp_path)
    shipped = module(choice, "kl", "clip")
    assert shipped.autoencoder.path == shipped.text.path == shipped.backbone.path
    assert shipped.backbone.path.count("/") == 1
    assert shipped.backbone.condition_channels == 1 + 4


def test_without_a_path_the_autoencoder_has_its_own() -> None:
    config = module("compact", "kl", "clip")
    assert config.autoencoder.path == config.text.path == "stable-diffusion-v1-5/stable-diffusion-inpainting"
