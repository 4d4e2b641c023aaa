"""SCA: nothing at first, the low-rank formula after, its weights its own; fusing and back."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pa_lib.errors import PaLibError
from pa_lib.modules.adapters.spatial_content import SpatialContentAdapter
from pa_lib.modules.backbones.base import AbstractBackbone
from pa_lib.modules.backbones.compact import CompactUNet
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet

Predict = Callable[[AbstractBackbone], Tensor]
Randomize = Callable[[nn.Module], None]

# Stable Diffusion 1.5 as far as the shapes of its attentions go; the rest are diffusers' defaults.
SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}


def a_of(layer: nn.Module) -> Tensor:
    return layer.lora_A["default"].weight


def b_of(layer: nn.Module) -> Tensor:
    return layer.lora_B["default"].weight


def attached(backbone: AbstractBackbone, rank: int = 4, **settings: float) -> SpatialContentAdapter:
    adapter = SpatialContentAdapter(rank, **settings)
    adapter.attach(backbone)
    return adapter


def test_attaching_changes_neither_output_nor_state(backbone: AbstractBackbone, predict: Predict) -> None:
    before, state = predict(backbone), copy.deepcopy(backbone.state_dict())
    attached(backbone)
    assert torch.equal(predict(backbone), before)
    after = backbone.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[key], state[key]) for key in state)


def test_every_projection_of_every_attention_is_adapted(backbone: AbstractBackbone) -> None:
    adapter = attached(backbone)
    names = {name for name, module in backbone.unet.named_modules() if isinstance(module, nn.Linear)}
    wanted = {name for name in names if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0"))}
    assert {name.replace("-", ".") for name in adapter.layers} == wanted
    assert len(adapter.layers) == len(wanted) >= 16


@settings(max_examples=20, deadline=None)
@given(
    rank=st.integers(1, 6),
    alpha=st.floats(0.1, 40),
    scale=st.floats(-2, 2),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
)
def test_a_projection_becomes_wx_plus_scaled_bax(
    rank: int, alpha: float, scale: float, inputs: int, outputs: int
) -> None:
    torch.manual_seed(0)
    projection = nn.Linear(inputs, outputs).double()
    adapter = SpatialContentAdapter(rank, alpha, scale)
    adapter.attach(OneProjection(projection))
    (layer,) = adapter.layers.values()
    nn.init.normal_(b_of(layer))
    tokens = torch.randn(2, 3, inputs, dtype=torch.float64)
    w, b, down, up, x = (
        value.detach().numpy() for value in (projection.weight, projection.bias, a_of(layer), b_of(layer), tokens)
    )
    wanted = np.einsum("oi,nli->nlo", w, x) + b + scale * alpha / rank * np.einsum("or,ri,nli->nlo", up, down, x)
    np.testing.assert_allclose(projection(tokens).detach().numpy(), wanted, atol=1e-12)


class OneProjection(AbstractBackbone):
    """A backbone that offers one projection and computes nothing."""

    def __init__(self, projection: nn.Linear) -> None:
        super().__init__()
        self.projection = projection

    def attention_projections(self) -> dict[str, nn.Linear]:
        return {"mid_block.to_q": self.projection}

    def forward(self, *_: object) -> Tensor:
        raise NotImplementedError

    def sites(self) -> tuple[()]:
        return ()

    def use_gradient_checkpointing(self) -> None:
        raise NotImplementedError


def test_a_begins_gaussian_with_one_over_rank_and_b_at_zero() -> None:
    torch.manual_seed(0)
    adapter = attached(OneProjection(nn.Linear(5000, 3)), rank=8)
    (layer,) = adapter.layers.values()
    assert torch.count_nonzero(b_of(layer)) == 0
    n_weights = 8 * 5000
    assert a_of(layer).std().item() == pytest.approx(1 / 8, abs=5 / 8 / math.sqrt(2 * n_weights))
    assert a_of(layer).mean().item() == pytest.approx(0, abs=5 / 8 / math.sqrt(n_weights))
    share = (a_of(layer).abs() < 1 / 8).float().mean().item()
    assert share == pytest.approx(0.6827, abs=0.02)  # of a normal distribution within one deviation


def test_scale_zero_is_off_exactly_and_scale_acts_between(
    backbone: AbstractBackbone, predict: Predict, randomize: Randomize
) -> None:
    before = predict(backbone)
    adapter = attached(backbone)
    randomize(adapter)
    full = predict(backbone)
    assert not torch.allclose(full, before, atol=1e-2)
    adapter.scale = 0
    assert torch.equal(predict(backbone), before)
    adapter.scale = 1
    assert torch.equal(predict(backbone), full)
    assert attached(copy.deepcopy(backbone), scale=0.25).scale == 0.25


def test_scale_of_the_constructor_is_that_of_the_setter(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize
) -> None:
    other = copy.deepcopy(text_backbone)
    early, late = attached(text_backbone, scale=0.5), attached(other)
    randomize(early)
    randomize(late)
    late.scale = 0.5
    assert torch.equal(predict(text_backbone), predict(other))


def test_gradient_reaches_all_of_the_adapter_and_nothing_of_a_frozen_backbone(
    backbone: AbstractBackbone, predict: Predict, randomize: Randomize
) -> None:
    backbone.requires_grad_(False)
    adapter = attached(backbone)
    randomize(adapter)
    predict(backbone).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in adapter.parameters())
    assert all(weight.grad is None for weight in backbone.parameters())


def test_first_gradient_is_only_that_of_b(text_backbone: DiffusersUNet, predict: Predict) -> None:
    adapter = attached(text_backbone)
    predict(text_backbone).square().sum().backward()
    for layer in adapter.layers.values():
        assert b_of(layer).grad.abs().sum() > 0
        assert a_of(layer).grad.abs().sum() == 0  # B is zero


def test_gradient_checkpointing_gives_the_same_gradients(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize
) -> None:
    text_backbone.requires_grad_(False).train()
    adapter = attached(text_backbone)
    randomize(adapter)

    def gradients() -> list[Tensor]:
        adapter.zero_grad()
        predict(text_backbone).square().sum().backward()
        return [weight.grad.clone() for weight in adapter.parameters()]

    plain = gradients()
    text_backbone.use_gradient_checkpointing()
    for ours, theirs in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_autocast_to_bf16_is_close_and_trains(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize
) -> None:
    text_backbone.requires_grad_(False)
    adapter = attached(text_backbone)
    randomize(adapter)
    exact = predict(text_backbone)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close = predict(text_backbone)
    assert 0 < (close - exact).abs().max() < 0.1 * exact.abs().max()
    close.float().square().sum().backward()
    assert all(weight.grad.dtype == torch.float32 and weight.grad.abs().sum() > 0 for weight in adapter.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_over_half_projections_weights_are_float32(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize, dtype: torch.dtype
) -> None:
    adapter = attached(text_backbone)
    randomize(adapter)
    exact = predict(text_backbone)
    other = copy.deepcopy(text_backbone).to(dtype)
    for projection in other.attention_projections().values():
        projection._forward_hooks.clear()
    cast = attached(other)
    assert {weight.dtype for weight in cast.parameters()} == {torch.promote_types(dtype, torch.float32)}
    randomize(cast)
    found = predict(other)
    assert found.dtype == dtype
    assert (found - exact).abs().max() < 0.1 * exact.abs().max()


class Held(nn.Module):
    """A system, as far as holding goes."""

    def __init__(self, backbone: AbstractBackbone, adapter: SpatialContentAdapter) -> None:
        super().__init__()
        self.backbone, self.adapter = backbone, adapter


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held))])
@pytest.mark.parametrize("is_adapter_first", [False, True])
def test_a_copy_is_hooked_to_its_own(
    backbone: AbstractBackbone,
    predict: Predict,
    randomize: Randomize,
    twin: Callable[[nn.Module], nn.Module],
    is_adapter_first: bool,
) -> None:
    adapter = attached(backbone)
    randomize(adapter)
    before = predict(backbone)
    held = nn.ModuleList([adapter, backbone] if is_adapter_first else [backbone, adapter])
    other = list(twin(held))
    twin_adapter, twin_backbone = other if is_adapter_first else other[::-1]
    assert torch.equal(predict(twin_backbone), before)
    with torch.no_grad():
        for layer in twin_adapter.layers.values():
            b_of(layer).zero_()
    assert torch.equal(predict(backbone), before)
    assert not torch.equal(predict(twin_backbone), before)
    adapter.scale = 0
    assert torch.equal(predict(twin_backbone), predict(backbone))  # B = 0 there, off here
    weights = [projection.weight.clone() for projection in backbone.attention_projections().values()]
    randomize(twin_adapter)
    twin_adapter.fuse()
    torch.testing.assert_close(predict(twin_backbone), before, atol=1e-5, rtol=1e-5)
    for projection, weight in zip(backbone.attention_projections().values(), weights, strict=True):
        assert torch.equal(projection.weight, weight)


def test_state_goes_round(text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize) -> None:
    other = copy.deepcopy(text_backbone)
    system = Held(text_backbone, attached(text_backbone))
    randomize(system.adapter)
    fresh = Held(other, attached(other))
    fresh.load_state_dict(system.state_dict())
    assert torch.equal(predict(other), predict(text_backbone))
    assert {key.partition(".")[0] for key in system.state_dict()} == {"backbone", "adapter"}
    n_adapter = sum(key.startswith("adapter.") for key in system.state_dict())
    assert n_adapter == 2 * len(text_backbone.attention_projections())


def test_fusing_computes_the_same_without_hooks_and_unfusing_restores_every_bit(
    backbone: AbstractBackbone, predict: Predict, randomize: Randomize
) -> None:
    adapter = attached(backbone, alpha=7.0, scale=0.6)
    randomize(adapter)
    with torch.no_grad():
        for projection in backbone.attention_projections().values():
            projection.weight[0, 0] *= 1e7  # what is lost when a change is added and subtracted again
    weights = {name: layer.weight.clone() for name, layer in backbone.attention_projections().items()}
    hooked = predict(backbone)
    adapter.fuse()
    assert adapter.is_fused
    torch.testing.assert_close(predict(backbone), hooked, atol=1e-4, rtol=1e-4)
    for name, layer in backbone.attention_projections().items():
        low_rank = adapter.layers[name.replace(".", "-")]
        wanted = weights[name].double() + 0.6 * 7 / 4 * b_of(low_rank).double() @ a_of(low_rank).double()
        torch.testing.assert_close(layer.weight.double(), wanted, atol=1e-5, rtol=1e-6)
    adapter.unfuse()
    assert not adapter.is_fused
    for name, layer in backbone.attention_projections().items():
        assert torch.equal(layer.weight, weights[name])
    assert torch.equal(predict(backbone), hooked)


def test_fused_hooks_do_nothing(text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize) -> None:
    adapter = attached(text_backbone)
    randomize(adapter)
    adapter.fuse()
    merged = predict(text_backbone)
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.fill_(9)
    assert torch.equal(predict(text_backbone), merged)


def test_a_half_backbone_fuses_and_comes_back(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize
) -> None:
    text_backbone.to(torch.bfloat16)
    adapter = attached(text_backbone)
    randomize(adapter)
    before = [projection.weight.clone() for projection in text_backbone.attention_projections().values()]
    hooked = predict(text_backbone)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adapter.fuse()
    merged = predict(text_backbone)
    assert (merged - hooked).abs().max() < 0.1 * hooked.abs().max()
    adapter.unfuse()
    after = [projection.weight for projection in text_backbone.attention_projections().values()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_what_would_go_wrong_when_fused_is_refused(text_backbone: DiffusersUNet) -> None:
    adapter = attached(text_backbone)
    system = Held(text_backbone, adapter)
    state, lora = system.state_dict(), adapter.diffusers_lora()
    with pytest.raises(PaLibError, match="not fused; call fuse"):
        adapter.unfuse()
    adapter.fuse()
    for refused in (
        adapter.fuse,
        system.state_dict,
        lambda: system.load_state_dict(state),
        lambda: adapter.load_diffusers_lora(lora),
        lambda: setattr(adapter, "scale", 0.5),
    ):
        with pytest.raises(PaLibError, match="call unfuse"):
            refused()
    adapter.unfuse()
    with pytest.raises(PaLibError, match="not fused"):
        adapter.unfuse()
    system.load_state_dict(state)
    adapter.fuse()
    twin = copy.deepcopy(system)  # also its refusals are its own
    twin.adapter.unfuse()
    twin.state_dict()
    with pytest.raises(PaLibError, match="call unfuse"):
        system.state_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank 0"),
        ({"rank": -3}, "rank -3"),
        pytest.param({"rank": 2.0}, "rank 2.0", marks=pytest.mark.wrong_types),
        ({"rank": True}, "rank: got True"),
        ({"scale": math.inf}, "scale inf"),
        ({"scale": math.nan}, "scale nan"),
        pytest.param({"scale": "1"}, "scale: got '1'", marks=pytest.mark.wrong_types),
        ({"alpha": 0.0}, "alpha 0.0"),
        ({"alpha": math.nan}, "alpha nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        SpatialContentAdapter(**settings)


def test_a_scale_that_is_not_finite_is_refused_later_too(text_backbone: DiffusersUNet) -> None:
    adapter = attached(text_backbone)
    with pytest.raises(PaLibError, match="scale -inf"):
        adapter.scale = -math.inf
    assert adapter.scale == 1


def test_attaching_twice_or_to_nothing_is_refused(text_backbone: DiffusersUNet, blind_backbone: CompactUNet) -> None:
    adapter = attached(text_backbone)
    with pytest.raises(PaLibError, match="attached already"):
        adapter.attach(text_backbone)
    with pytest.raises(PaLibError, match="CompactUNet has no spatial attention"):
        attached(blind_backbone)
    loose = SpatialContentAdapter()
    for early in (loose.fuse, loose.diffusers_lora, lambda: loose.load_diffusers_lora({})):
        with pytest.raises(PaLibError, match="call attach"):
            early()


def test_weights_of_rank_128_on_stable_diffusion_are_as_many_as_animatediffs() -> None:
    with torch.device("meta"):
        backbone = DiffusersUNet(unet=UNet2DConditionModel(**SD15))
    adapter = attached(backbone, rank=128)
    assert len(adapter.layers) == 16 * 8
    # Per transformer of c channels 128 x (14 c + 2 x 768): six c -> c and two 768 -> c; c is 320 and 640 five times
    # each and 1280 six times. The published adapter has 97.3 MiB in float32.
    wanted = 128 * (14 * (5 * 320 + 5 * 640 + 6 * 1280) + 16 * 2 * 768)
    assert sum(weight.numel() for weight in adapter.parameters()) == wanted == 25_509_888
    assert round(4 * wanted / 2**20, 1) == 97.3
    assert {weight.device.type for weight in adapter.parameters()} == {"meta"}
