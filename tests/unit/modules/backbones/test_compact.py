"""CompactUNet: its network, its hooks and what it refuses."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from _backbones import predict
from pa_lib.errors import PaLibError
from pa_lib.modules.backbones.base import on_sample
from pa_lib.modules.backbones.compact import CompactUNet
from pa_lib.modules.backbones.context import TextCondition

SMALL: dict[str, Any] = {"widths": (8, 16), "layers": 1, "attention_levels": (1,), "head_width": 8}


def small(**changes: Any) -> CompactUNet:
    torch.manual_seed(0)
    return CompactUNet(**({"channels": 4, "condition_channels": 5} | SMALL | changes))


def clips(frames: int = 3, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, frames, 4, size, size, generator=draw)
    return noisy, torch.tensor([7, 900]), torch.randn(2, frames, 5, size, size, generator=draw)


def test_frames_go_through_one_by_one() -> None:
    backbone = small()
    noisy, steps, condition = clips()
    with torch.no_grad():
        predicted = predict(backbone, noisy, steps, condition)
        for clip in range(2):
            for frame in range(3):
                image = torch.cat([noisy[clip, frame], condition[clip, frame]])[None]
                alone = backbone.unet(image, steps[clip]).sample[0]
                torch.testing.assert_close(predicted[clip, frame], alone, atol=1e-6, rtol=1e-5)
    assert backbone.context is None  # between two passes
    assert (backbone.text_width, backbone.is_text_optional) == (None, True)


def test_default_size() -> None:
    with torch.device("meta"):
        backbone = CompactUNet(48, 49)
    assert sum(weight.numel() for weight in backbone.parameters()) == 13_616_624
    down, up = [96, 96, 160, 160, 192, 192], [192] * 3 + [160] * 3 + [96] * 3
    assert [site.channels for site in backbone.sites()] == [*down, 192, *up]
    assert [site.has_attention for site in backbone.sites()] == [False] * 2 + [True] * 11 + [False] * 3
    assert len(backbone.attention_projections()) == 4 * (4 + 1 + 6)


def test_projections_are_named_as_in_the_network() -> None:
    backbone = small()
    projections = backbone.attention_projections()
    for name, layer in projections.items():
        assert backbone.unet.get_submodule(name) is layer
    attentions = ["down_blocks.1.attentions.0", "up_blocks.0.attentions.0", "up_blocks.0.attentions.1"]
    kinds = ["to_q", "to_k", "to_v", "to_out.0"]
    assert sorted(projections) == sorted(f"{at}.{to}" for at in [*attentions, "mid_block.attentions.0"] for to in kinds)


def test_sites_run_in_their_order_and_have_their_channels() -> None:
    backbone = small()
    ran: list[tuple[str, int]] = []
    for site in backbone.sites():
        site.module.register_forward_hook(
            lambda _, __, output, name=site.name: on_sample(output, lambda x: ran.append((name, x.shape[1])) or x)
        )
    predict(backbone, *clips())
    assert ran == [(site.name, site.channels) for site in backbone.sites()]
    assert [name for name, _ in ran] == ["down_0_0", "down_1_0", "mid_0", "up_0_0", "up_0_1", "up_1_0", "up_1_1"]


def test_every_weight_gets_a_gradient_and_bf16_is_close() -> None:
    backbone = small()
    noisy, steps, condition = clips()
    full = predict(backbone, noisy, steps, condition)
    full.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in backbone.parameters())
    half = predict(backbone.bfloat16(), noisy.bfloat16(), steps, condition.bfloat16())
    assert (half.float() - full).norm() / full.norm() < 0.05


def test_state_round_trip_and_no_attention_at_all() -> None:
    first, second = small(attention_levels=()), small(attention_levels=()).requires_grad_(False)
    assert first.attention_projections() == {}
    assert not any(site.has_attention for site in first.sites())
    assert "mid_0" in [site.name for site in first.sites()]
    nn.init.normal_(first.unet.conv_in.weight)
    second.load_state_dict(first.state_dict())
    assert torch.equal(predict(first, *clips()), predict(second, *clips()))


def test_gradient_checkpointing_gives_the_same_gradient() -> None:
    gradients = []
    for is_checkpointing in (False, True):
        backbone = small()
        if is_checkpointing:
            backbone.use_gradient_checkpointing()
            backbone = copy.deepcopy(backbone)
        predict(backbone, *clips()).square().mean().backward()
        gradients.append([weight.grad for weight in backbone.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-5)


def test_a_constant_shift_of_the_input_is_seen() -> None:
    """Groups of several channels keep what normalization of single channels would remove: the mean of an image."""
    backbone = small()
    noisy, steps, condition = clips()
    assert not torch.allclose(
        predict(backbone, noisy, steps, condition), predict(backbone, noisy + 1, steps, condition), atol=1e-3
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=3), st.integers(1, 16))
def test_widths_either_divide_or_are_refused_in_one_line(widths: list[int], head_width: int) -> None:
    if math.gcd(*widths) < 4 or widths[-1] % head_width:
        with pytest.raises(PaLibError, match=r"^compact backbone: .*; choose [^\n]*$"):
            CompactUNet(4, 5, widths, 1, (len(widths) - 1,), head_width)
        return
    with torch.device("meta"):
        backbone = CompactUNet(4, 5, widths, 1, (len(widths) - 1,), head_width)
    for module in backbone.modules():
        if isinstance(module, nn.GroupNorm):
            assert module.num_channels % module.num_groups == 0
            assert module.num_channels // module.num_groups >= 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (9, 16)}, r"widths \[9, 16\] have no common divisor of 4"),
        ({"widths": ()}, r"widths \[\]"),
        ({"head_width": 5}, r"head_width 5 does not divide the attending widths \[16\]"),
        ({"attention_levels": (2,)}, r"attention_levels \[2\] name levels"),
        ({"layers": 0}, "layers 0"),
        ({"channels": 0}, "channels 0"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        small(**changes)


def test_inputs_that_do_not_fit() -> None:
    backbone = small()
    noisy, steps, condition = clips()
    with pytest.raises(PaLibError, match="takes no text"):
        predict(backbone, noisy, steps, condition, TextCondition(torch.zeros(2, 1, 8)))
    with pytest.raises(PaLibError, match="7 x 7, expected multiples of 2"):
        predict(backbone, *clips(size=7))
    with pytest.raises(PaLibError, match="got 4 condition channels, expected 5"):
        predict(backbone, noisy, steps, condition[:, :, 1:])
