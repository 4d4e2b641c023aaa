"""The temporal transformer: diffusers' figures, the original's norm, blindness to order without codes, its weights."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pa_lib.errors import PaLibError
from pa_lib.modules.temporal import attention
from pa_lib.modules.temporal.attention import TemporalTransformer, position_codes
from pa_lib.modules.temporal.layer import largest_divisor

CLIPS, FRAMES, CHANNELS, HEADS, GROUPS = 2, 4, 16, 4, 8
SD15_CHANNELS = [320] * 2 + [640] * 2 + [1280] * 4 + [1280] * 6 + [640] * 3 + [320] * 3  # way down, way up


def pair(is_norm_per_frame: bool = False) -> tuple[AnimateDiffTransformer3D, TemporalTransformer]:
    """diffusers' layer with random weights everywhere, and ours with the same."""
    torch.manual_seed(0)
    theirs = AnimateDiffTransformer3D(
        num_attention_heads=HEADS,
        attention_head_dim=CHANNELS // HEADS,
        in_channels=CHANNELS,
        norm_num_groups=GROUPS,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=32,
    )
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = TemporalTransformer(CHANNELS, HEADS, GROUPS, is_norm_per_frame)
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if "pos_embed" not in name})
    return theirs, ours


def stirred(layer: nn.Module) -> nn.Module:
    """The layer with weights that leave nothing at zero."""
    torch.manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


def pictures(clips: int = CLIPS, frames: int = FRAMES, channels: int = CHANNELS) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(clips * frames, channels, 3, 5, generator=generator) + 0.5


@pytest.mark.parametrize("frames", [1, 4, 8])
def test_with_shared_statistics_it_is_diffusers_layer(frames: int) -> None:
    theirs, ours = pair()
    for_theirs, for_ours = (pictures(1).repeat(2, 1, 1, 1).requires_grad_() for _ in range(2))
    expected, got = theirs(for_theirs, num_frames=frames), ours(for_ours, frames)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    weights = torch.linspace(-1, 1, got.numel()).reshape(got.shape)
    (expected * weights).sum().backward()
    (got * weights).sum().backward()
    torch.testing.assert_close(for_ours.grad, for_theirs.grad, rtol=1e-4, atol=1e-5)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad, rtol=1e-4, atol=1e-4, msg=name)


def test_with_statistics_of_each_frame_it_is_the_original() -> None:
    theirs, ours = pair(is_norm_per_frame=True)
    x = pictures()
    x[0] *= 5  # a frame whose statistics are not its neighbours'
    normed = torch.stack(
        [nn.functional.group_norm(x[i : i + 1], GROUPS, *norm_of(ours), 1e-6)[0] for i in range(len(x))]
    )
    theirs.norm = nn.Identity()
    expected = theirs(normed, num_frames=FRAMES) - normed + x
    torch.testing.assert_close(ours(x, FRAMES), expected, rtol=0, atol=1e-5)
    ours.is_norm_per_frame = False
    assert (ours(x, FRAMES) - expected).abs().max() > 0.01


def norm_of(layer: TemporalTransformer) -> tuple[Tensor, Tensor]:
    return layer.norm.weight, layer.norm.bias


@pytest.mark.parametrize("is_norm_per_frame", [True, False])
@pytest.mark.parametrize("frames", [1, 2, 8])
def test_a_new_layer_changes_nothing(is_norm_per_frame: bool, frames: int) -> None:
    x = pictures()
    assert torch.equal(TemporalTransformer(CHANNELS, is_norm_per_frame=is_norm_per_frame)(x, frames), x)


@pytest.mark.parametrize("is_norm_per_frame", [True, False])
def test_only_the_codes_tell_the_order_of_frames(is_norm_per_frame: bool) -> None:
    order = torch.tensor([2, 0, 3, 1])

    def permuted(x: Tensor) -> Tensor:
        return rearrange(rearrange(x, "(b t) ... -> b t ...", t=FRAMES)[:, order], "b t ... -> (b t) ...")

    blind = stirred(TemporalTransformer(CHANNELS, HEADS, GROUPS, is_norm_per_frame, has_position_codes=False))
    seeing = stirred(TemporalTransformer(CHANNELS, HEADS, GROUPS, is_norm_per_frame))
    x = pictures()
    torch.testing.assert_close(blind(permuted(x), FRAMES), permuted(blind(x, FRAMES)), rtol=0, atol=1e-5)
    assert (seeing(permuted(x), FRAMES) - permuted(seeing(x, FRAMES))).abs().max() > 0.01


def test_clips_do_not_see_each_other_and_frames_do() -> None:
    layer = stirred(TemporalTransformer(CHANNELS, HEADS, GROUPS))
    x = pictures()
    whole = layer(x, FRAMES)
    torch.testing.assert_close(whole[FRAMES:], layer(x[FRAMES:], FRAMES), rtol=0, atol=1e-5)
    x[0] += torch.linspace(0, 3, 5)
    assert all((layer(x, FRAMES)[i] - whole[i]).abs().max() > 1e-3 for i in range(FRAMES))


@pytest.mark.parametrize(("frames", "channels"), [(1, 2), (24, 16), (32, 320), (100, 6)])
def test_codes_are_diffusers_for_any_number_of_frames(frames: int, channels: int) -> None:
    assert torch.equal(position_codes(frames, channels), SinusoidalPositionalEmbedding(channels, frames).pe[0])


def test_codes_of_an_odd_number_of_channels() -> None:
    codes = position_codes(4, 3)
    assert codes.shape == (4, 3)
    last = [math.sin(frame * 10000 ** (-2 / 3)) for frame in range(4)]
    torch.testing.assert_close(codes[:, 2], torch.tensor(last), rtol=0, atol=1e-6)


def test_gradient_reaches_every_weight_of_a_layer_in_use_and_the_output_alone_of_a_new_one() -> None:
    used = stirred(TemporalTransformer(CHANNELS, HEADS, GROUPS))
    used(pictures(), FRAMES).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in used.parameters())
    fresh = TemporalTransformer(CHANNELS)
    fresh(pictures(), FRAMES).square().sum().backward()
    moved = {name for name, p in fresh.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {"proj_out.weight", "proj_out.bias"}


def test_the_gate_has_the_gradient_of_what_it_computes() -> None:
    torch.manual_seed(3)
    both = torch.randn(3, 2, 8, dtype=torch.float64, requires_grad=True)
    value, gate = both.chunk(2, -1)
    assert torch.equal(attention._GateByGelu.apply(both), value * nn.functional.gelu(gate))
    assert torch.autograd.gradcheck(attention._GateByGelu.apply, both)


@pytest.mark.parametrize("is_norm_per_frame", [True, False])
def test_half_precision_is_near(is_norm_per_frame: bool) -> None:
    layer = stirred(TemporalTransformer(CHANNELS, HEADS, GROUPS, is_norm_per_frame))
    x = pictures()
    expected = layer(x, FRAMES)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, FRAMES)
    mixed.square().sum().backward()
    assert mixed.dtype == torch.float32
    scale = expected.abs().max()
    assert (mixed - expected).abs().max() / scale < 0.03
    assert (layer.bfloat16()(x.bfloat16(), FRAMES).float() - expected).abs().max() / scale < 0.03


@pytest.mark.wrong_types
@pytest.mark.parametrize("is_norm_per_frame", [True, False])
def test_a_compiler_takes_it_whole(is_norm_per_frame: bool) -> None:
    layer = stirred(TemporalTransformer(CHANNELS, HEADS, GROUPS, is_norm_per_frame))
    for_layer, for_compiled = (pictures().requires_grad_() for _ in range(2))
    expected = layer(for_layer, FRAMES)
    got = torch.compile(layer, backend="aot_eager", fullgraph=True)(for_compiled, FRAMES)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    expected.sum().backward()
    got.sum().backward()
    torch.testing.assert_close(for_compiled.grad, for_layer.grad, rtol=1e-4, atol=1e-4)


def test_very_many_positions_go_through_attention_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = stirred(TemporalTransformer(CHANNELS, HEADS, GROUPS))
    x = pictures()
    whole = layer(x, FRAMES)
    monkeypatch.setattr(attention, "_MOST_SEQUENCES", 7)  # of 30
    torch.testing.assert_close(layer(x, FRAMES), whole, rtol=0, atol=1e-6)


def test_projections_together_are_projections_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = stirred(TemporalTransformer(CHANNELS, HEADS, GROUPS))
    together = layer(pictures(), FRAMES)
    monkeypatch.setattr(attention, "_TOKENS_PER_CHANNEL", 8)  # 120 tokens to 16 channels are fewer
    torch.testing.assert_close(layer(pictures(), FRAMES), together, rtol=0, atol=1e-5)


def test_a_projection_that_was_replaced_is_used() -> None:
    class Twice(nn.Linear):
        def forward(self, tokens: Tensor) -> Tensor:
            return 2 * super().forward(tokens)

    layer = stirred(TemporalTransformer(CHANNELS, HEADS, GROUPS))
    twin = copy.deepcopy(layer)
    values = twin.transformer_blocks[0].attn1.to_v
    twin.transformer_blocks[0].attn1.to_v = Twice(CHANNELS, CHANNELS, bias=False)
    twin.transformer_blocks[0].attn1.to_v.load_state_dict(values.state_dict())
    with torch.no_grad():
        layer.transformer_blocks[0].attn1.to_v.weight.mul_(2)
    torch.testing.assert_close(twin(pictures(), FRAMES), layer(pictures(), FRAMES), rtol=0, atol=1e-5)


def test_weights_are_as_many_as_animatediff_has() -> None:
    def count(channels: int) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in TemporalTransformer(channels).parameters())

    assert count(320) == 22 * 320**2 + 21 * 320
    total = sum(map(count, SD15_CHANNELS))
    assert len(SD15_CHANNELS) == 20
    assert round(total / 1e6, 1) == 417.1
    assert round((total + count(1280)) / 1e6, 1) == 453.2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PaLibError, match=r"3 heads .* of 16 channels"):
        TemporalTransformer(16, heads=3)
    with pytest.raises(PaLibError, match="0 groups"):
        TemporalTransformer(16, groups=0)
    with pytest.raises(PaLibError, match="8 images are not whole clips of 3 frames"):
        TemporalTransformer(CHANNELS)(pictures(), 3)
    with pytest.raises(PaLibError, match="clips of 0 frames"):
        TemporalTransformer(CHANNELS)(pictures(), 0)


@given(st.integers(1, 2000), st.integers(1, 64))
@settings(max_examples=100, deadline=None)
def test_largest_divisor(number: int, limit: int) -> None:
    found = largest_divisor(number, limit)
    assert found == max(divisor for divisor in range(1, limit + 1) if number % divisor == 0)
