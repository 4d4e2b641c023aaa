"""Tiny backbones with and without text, and what to run them on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from _backbones import predict as predict_with
from pa_lib.modules.backbones.base import AbstractBackbone
from pa_lib.modules.backbones.compact import CompactUNet
from pa_lib.modules.backbones.context import TextCondition
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet

UNET = {
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": 8,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}


@pytest.fixture
def text_backbone() -> DiffusersUNet:
    """Four transformers (down, mid, up and up) of two attentions each."""
    torch.manual_seed(0)
    return DiffusersUNet(config=UNET).eval()


@pytest.fixture
def compact_backbone() -> CompactUNet:
    torch.manual_seed(0)
    return CompactUNet(4, 5, widths=(8, 16), layers=1, attention_levels=(1,), head_width=8).eval()


@pytest.fixture(params=["text_backbone", "compact_backbone"])
def backbone(request: pytest.FixtureRequest) -> AbstractBackbone:
    found: AbstractBackbone = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def blind_backbone() -> CompactUNet:
    """Without any attention."""
    return CompactUNet(4, 5, widths=(8, 16), layers=1, attention_levels=(), head_width=8)


@pytest.fixture
def predict() -> Callable[[AbstractBackbone], Tensor]:
    """The prediction of a backbone for the same two clips of two frames each time."""
    draw = torch.Generator().manual_seed(1)
    noisy, condition = torch.randn(2, 2, 4, 8, 8, generator=draw), torch.randn(2, 2, 5, 8, 8, generator=draw)
    states, timesteps = torch.randn(2, 3, 8, generator=draw), torch.tensor([3, 500])

    def run(backbone: AbstractBackbone) -> Tensor:
        dtype = next(backbone.parameters()).dtype
        text = None if backbone.text_width is None else TextCondition(states.to(dtype))
        found: Tensor = predict_with(backbone, noisy.to(dtype), timesteps, condition.to(dtype), text)
        return found

    return run


@pytest.fixture
def randomize() -> Callable[[nn.Module], None]:
    """Give an adapter weights as training might: none of them zero."""

    def run(adapter: nn.Module) -> None:
        draw = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for weight in adapter.parameters():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=draw))

    return run
