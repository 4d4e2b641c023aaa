"""Tiny backbones with a text condition, their input, and temporal layers that do something."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange
from torch import Tensor, nn

from _backbones import predict
from pa_lib.modules.backbones.context import TextCondition
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet
from pa_lib.modules.temporal.content_stabilizer import TemporalContentStabilizer

WIDTHS, GROUPS, HEADS, TEXT_WIDTH = (16, 32), 8, 4, 12


@dataclass
class Rig:
    """A backbone, and the same two clips for it whatever their length."""

    backbone: DiffusersUNet
    unet: UNet2DConditionModel

    def noisy(self, frames: int = 3) -> Tensor:
        return torch.randn(2, 16, 4, 8, 8, generator=torch.Generator().manual_seed(4))[:, :frames].contiguous()

    timesteps = torch.tensor([5, 900])
    text = TextCondition(torch.randn(2, 7, TEXT_WIDTH, generator=torch.Generator().manual_seed(5)))

    def predict(self, frames: int = 3, backbone: nn.Module | None = None) -> Tensor:
        prediction: Tensor = predict(backbone or self.backbone, self.noisy(frames), self.timesteps, text=self.text)
        return prediction

    def plain(self, frames: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
        """The prediction of the UNet alone, for the frames of both clips one after the other."""
        images = rearrange(self.noisy(frames), "b t c h w -> (b t) c h w").to(dtype)
        states = self.text.states.repeat_interleave(frames, 0).to(dtype)
        prediction: Tensor = self.unet(images, self.timesteps.repeat_interleave(frames), states).sample
        return rearrange(prediction, "(b t) c h w -> b t c h w", t=frames)


@pytest.fixture
def rig() -> Rig:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=WIDTHS,
        layers_per_block=2,
        norm_num_groups=GROUPS,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    return Rig(DiffusersUNet(unet=unet, condition_channels=0), unet)


def stir(stabilizer: TemporalContentStabilizer) -> TemporalContentStabilizer:
    """Give every layer weights that change something."""
    torch.manual_seed(6)
    for parameter in stabilizer.parameters():
        nn.init.normal_(parameter, std=0.2)
    return stabilizer
