from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from _backbones import predict
from pa_lib.errors import PaLibError
from pa_lib.modules import CompactUNet, DiffusersUNet, ForwardContext, Residuals, TextCondition

CONFIG = {
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": 8,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(-12, 12), st.integers(-12, 12))
def test_a_window_holds_what_slicing_every_tensor_gives(frames: int, start: int, stop: int) -> None:
    concat, positions = torch.randn(2, frames, 3, 4, 4), torch.arange(2 * frames).reshape(2, frames)
    skip = torch.randn(2, frames, 5, 2, 2)
    whole = ForwardContext(
        frames, torch.tensor([1, 2]), concat=concat, residuals=Residuals((skip,), skip), frame_positions=positions
    )
    part = whole.window(slice(start, stop))
    expected = positions[:, start:stop]
    assert part.frames == expected.shape[1]
    assert part.frame_positions is not None
    assert torch.equal(part.frame_positions, expected)
    assert part.concat is not None
    assert torch.equal(part.concat, concat[:, start:stop])
    assert part.residuals is not None
    assert torch.equal(part.residuals.down[0], skip[:, start:stop])
    assert torch.equal(part.residuals.mid, skip[:, start:stop])
    assert part.text is None
    assert part.tokens is None


def test_residuals_reach_the_unet_frame_by_frame() -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**CONFIG)
    noisy, steps = torch.randn(2, 3, 4, 8, 8), torch.tensor([3, 700])
    states = torch.randn(2, 5, 8)
    shapes = [(8, 8), (8, 8), (8, 4), (16, 4)]  # channels and side of conv_in, a block, its downsampling, a block
    down = tuple(torch.randn(2, 3, channels, side, side) for channels, side in shapes)
    mid = torch.randn(2, 3, 16, 4, 4)
    backbone = DiffusersUNet(unet=unet, condition_channels=0)
    context = ForwardContext(3, steps, TextCondition(states), residuals=Residuals(down, mid))
    with torch.no_grad():
        given = backbone(noisy, context)
        for frame in range(3):
            alone = unet(
                noisy[:, frame],
                steps,
                states,
                down_block_additional_residuals=tuple(skip[:, frame] for skip in down),
                mid_block_additional_residual=mid[:, frame],
            ).sample
            torch.testing.assert_close(given[:, frame], alone, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(given, predict(backbone, noisy, steps, text=TextCondition(states)), atol=1e-2)


def small() -> CompactUNet:
    return CompactUNet(4, 0, widths=(8, 16), layers=1, attention_levels=(1,), head_width=8)


def test_adapters_see_the_context_of_the_running_pass_and_nothing_outlives_it() -> None:
    backbone = small()
    seen: list[ForwardContext | None] = []
    backbone.sites()[0].module.register_forward_hook(lambda *_: seen.append(backbone.context))
    context = ForwardContext(2, torch.tensor([3]), tokens=torch.zeros(1, 2, 3))
    backbone(torch.randn(1, 2, 4, 8, 8), context)
    assert seen == [context]
    assert backbone.context is None


def test_a_pass_that_fails_leaves_no_context() -> None:
    backbone = small()

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    backbone.sites()[0].module.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="no"):
        predict(backbone, torch.randn(1, 2, 4, 8, 8), torch.tensor([3]))
    assert backbone.context is None


@pytest.mark.parametrize(
    ("noisy", "steps"), [(torch.zeros(1, 3, 4, 8, 8), [5]), (torch.zeros(2, 2, 4, 8, 8), [5])], ids=["frames", "clips"]
)
def test_a_context_of_other_clips_is_refused(noisy: Tensor, steps: list[int]) -> None:
    with pytest.raises(PaLibError, match="with a context of 1 clips of 2 frames; give both the same clips"):
        small()(noisy, ForwardContext(2, torch.tensor(steps)))


def test_a_compact_backbone_takes_no_residuals() -> None:
    residuals = Residuals((), torch.zeros(1, 1, 1, 1, 1))
    with pytest.raises(PaLibError, match="takes no residuals"):
        small()(torch.zeros(1, 1, 4, 8, 8), ForwardContext(1, torch.tensor([5]), residuals=residuals))
