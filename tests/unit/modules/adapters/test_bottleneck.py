"""The bottleneck variant of SCA: nothing at first, its formula after, its weights its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModelOutput
from torch import Tensor, nn

from pa_lib.errors import PaLibError
from pa_lib.modules.adapters.bottleneck import BottleneckContentAdapter
from pa_lib.modules.backbones.base import AbstractBackbone, Site
from pa_lib.modules.backbones.compact import CompactUNet
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet

Predict = Callable[[AbstractBackbone], Tensor]
Randomize = Callable[[nn.Module], None]


class OneSite(AbstractBackbone):
    """A backbone with one block that gives back what it gets, wrapped as asked for."""

    def __init__(self, wrap: Callable[[Tensor], object] = lambda sample: sample) -> None:
        super().__init__()
        self.block = nn.Identity()
        self.wrap = wrap
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.block.register_forward_hook(lambda module, inputs, output: wrap(output))

    def sites(self) -> tuple[Site, ...]:
        return (Site("mid_0", self.block, 6, has_attention=True),)

    def attention_projections(self) -> dict[str, nn.Linear]:
        return {}

    def forward(self, *_: object) -> Tensor:
        raise NotImplementedError

    def use_gradient_checkpointing(self) -> None:
        raise NotImplementedError


def attached(backbone: AbstractBackbone, width: int = 4, scale: float = 1.0) -> BottleneckContentAdapter:
    adapter = BottleneckContentAdapter(width, scale)
    adapter.attach(backbone)
    return adapter


def test_attaching_changes_neither_output_nor_state(backbone: AbstractBackbone, predict: Predict) -> None:
    before, keys = predict(backbone), list(backbone.state_dict())
    attached(backbone)
    assert torch.equal(predict(backbone), before)
    assert list(backbone.state_dict()) == keys


def test_blocks_with_attention_have_one_each(backbone: AbstractBackbone) -> None:
    adapter = attached(backbone)
    assert set(adapter.layers) == {site.name for site in backbone.sites() if site.has_attention}
    assert len(adapter.layers) == 4  # down, mid, up and up; the level without attention has none
    widths = [site.channels for site in backbone.sites() if site.has_attention]
    wanted = sum(2 * c * 4 + 4 + c + 2 * c for c in widths)  # two matrices, their biases, and the norm's two
    assert sum(weight.numel() for weight in adapter.parameters()) == wanted


@pytest.mark.parametrize(
    "wrap", [lambda sample: sample, lambda sample: (sample, "rest"), lambda sample: Transformer2DModelOutput(sample)]
)
def test_formula(wrap: Callable[[Tensor], object], randomize: Randomize) -> None:
    backbone = OneSite(wrap)
    adapter = attached(backbone, scale=0.7)
    randomize(adapter)
    layer = adapter.layers["mid_0"]
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    found = backbone.block(x)
    assert type(found) is type(wrap(x))
    if isinstance(found, tuple):
        assert found[1] == "rest"
    centred = x - x.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    normed = normed * layer.norm.weight[:, None, None] + layer.norm.bias[:, None, None]
    low = torch.einsum("wc,nchx->nwhx", layer.down.weight, normed) + layer.down.bias[:, None, None]
    high = torch.einsum("cw,nwhx->nchx", layer.up.weight, low * low.sigmoid()) + layer.up.bias[:, None, None]
    sample = found if isinstance(found, Tensor) else found[0]
    torch.testing.assert_close(sample, x + 0.7 * high)


def test_scale_zero_is_off_exactly(backbone: AbstractBackbone, predict: Predict, randomize: Randomize) -> None:
    before = predict(backbone)
    adapter = attached(backbone)
    randomize(adapter)
    full = predict(backbone)
    assert not torch.allclose(full, before, atol=1e-2)
    adapter.scale = 0
    assert torch.equal(predict(backbone), before)
    adapter.scale = 1
    assert torch.equal(predict(backbone), full)


def test_gradient_reaches_all_of_the_adapter_and_nothing_of_a_frozen_backbone(
    backbone: AbstractBackbone, predict: Predict, randomize: Randomize
) -> None:
    backbone.requires_grad_(False)
    adapter = attached(backbone)
    randomize(adapter)
    predict(backbone).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in adapter.parameters())
    assert all(weight.grad is None for weight in backbone.parameters())


def test_gradient_checkpointing_and_autocast(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize
) -> None:
    text_backbone.requires_grad_(False).train()
    adapter = attached(text_backbone)
    randomize(adapter)
    exact = predict(text_backbone)
    exact.square().sum().backward()
    plain = [weight.grad.clone() for weight in adapter.parameters()]
    text_backbone.use_gradient_checkpointing()
    adapter.zero_grad()
    predict(text_backbone).square().sum().backward()
    for weight, wanted in zip(adapter.parameters(), plain, strict=True):
        torch.testing.assert_close(weight.grad, wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close = predict(text_backbone)
    assert 0 < (close - exact).abs().max() < 0.1 * exact.abs().max()


def test_over_a_half_backbone_weights_are_float32(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize
) -> None:
    adapter = attached(text_backbone.to(torch.bfloat16))
    randomize(adapter)
    assert {weight.dtype for weight in adapter.parameters()} == {torch.float32}
    assert predict(text_backbone).dtype == torch.bfloat16


def test_a_copy_is_hooked_to_its_own(backbone: AbstractBackbone, predict: Predict, randomize: Randomize) -> None:
    adapter = attached(backbone)
    randomize(adapter)
    before = predict(backbone)
    twin_backbone, twin = copy.deepcopy(nn.ModuleList([backbone, adapter]))
    assert torch.equal(predict(twin_backbone), before)
    twin.scale = 0
    assert torch.equal(predict(backbone), before)
    assert not torch.equal(predict(twin_backbone), before)


def test_state_goes_round(text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize) -> None:
    other = copy.deepcopy(text_backbone)
    adapter, fresh = attached(text_backbone), attached(other)
    randomize(adapter)
    fresh.load_state_dict(adapter.state_dict())
    assert torch.equal(predict(other), predict(text_backbone))


@pytest.mark.wrong_types
def test_settings_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(PaLibError, match="width"):
        BottleneckContentAdapter(1.5)
    with pytest.raises(PaLibError, match="scale"):
        BottleneckContentAdapter(scale=None)


def test_bad_settings_and_attachments_are_refused(text_backbone: DiffusersUNet, blind_backbone: CompactUNet) -> None:
    for width in (0, -1, True):
        with pytest.raises(PaLibError, match="width"):
            BottleneckContentAdapter(width)
    for scale in (math.nan, math.inf):
        with pytest.raises(PaLibError, match="scale"):
            BottleneckContentAdapter(scale=scale)
    adapter = attached(text_backbone)
    with pytest.raises(PaLibError, match="scale nan"):
        adapter.scale = math.nan
    with pytest.raises(PaLibError, match="attached already"):
        adapter.attach(text_backbone)
    with pytest.raises(PaLibError, match="CompactUNet has no block with spatial attention"):
        attached(blind_backbone)
