"""SCA's settings beyond plain LoRA: DoRA, rank-stabilised, dropout, modules by name, several sets of weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pa_lib.errors import SettingError
from pa_lib.modules.adapters.spatial_content import SpatialContentAdapter
from pa_lib.modules.backbones.base import AbstractBackbone
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet
from pa_lib.renamed import current_names

Predict = Callable[[AbstractBackbone], Tensor]
Randomize = Callable[[nn.Module], None]


class Attention(nn.Module):
    """A network that is no UNet: two projections and a convolution, called by the test."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.to_q, self.to_k = nn.Linear(6, 5).double(), nn.Linear(6, 5).double()
        self.conv = nn.Conv2d(3, 4, 3, padding=1).double()


def weights(layer: nn.Module, name: str = "default") -> tuple[Tensor, Tensor]:
    return layer.lora_A[name].weight, layer.lora_B[name].weight


def attached(network: nn.Module, **settings: object) -> SpatialContentAdapter:
    adapter = SpatialContentAdapter(2, **{"target_modules": ["to_q"]} | settings)
    adapter.attach(network)
    return adapter


def test_dora_is_lengths_times_directions(randomize: Randomize) -> None:
    network = Attention()
    w, bias, x = network.to_q.weight.detach(), network.to_q.bias.detach(), torch.randn(3, 6, dtype=torch.float64)
    before = network.to_q(x)
    adapter = attached(network, alpha=3.0, use_dora=True)
    torch.testing.assert_close(network.to_q(x), before)
    layer = adapter.layers["to_q"]
    torch.testing.assert_close(layer.lora_magnitude_vector["default"].weight, w.norm(dim=1))
    randomize(adapter)
    (a, b), lengths = weights(layer), layer.lora_magnitude_vector["default"].weight
    direction = w + 3 / 2 * b @ a
    expected = x @ (lengths[:, None] * direction / direction.norm(dim=1, keepdim=True)).T + bias
    torch.testing.assert_close(network.to_q(x), expected)
    network.to_q(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in adapter.parameters())
    adapter.fuse()
    torch.testing.assert_close(nn.functional.linear(x, network.to_q.weight, bias), expected)
    adapter.detach()
    assert torch.equal(network.to_q.weight, w)
    assert torch.equal(network.to_q(x), before)


def test_rank_stabilised_divides_by_the_root_of_the_rank(randomize: Randomize) -> None:
    network, x = Attention(), torch.randn(3, 6, dtype=torch.float64)
    before = network.to_q(x)
    adapter = attached(network, alpha=3.0, use_rslora=True, scale=0.5)
    randomize(adapter)
    a, b = weights(adapter.layers["to_q"])
    torch.testing.assert_close(network.to_q(x), before + 0.5 * 3 / 2**0.5 * x @ a.T @ b.T)


def test_dropout_acts_in_training_only_and_on_the_change_alone(randomize: Randomize) -> None:
    network, x = Attention(), torch.ones(2000, 6, dtype=torch.float64)
    before = network.to_q(x)
    adapter = attached(network, dropout=0.25)
    assert torch.equal(network.to_q(x), before)
    randomize(adapter)
    a, b = weights(adapter.layers["to_q"])
    change = x @ a.T @ b.T
    adapter.eval()
    torch.testing.assert_close(network.to_q(x), before + change)
    adapter.train()
    dropped = network.to_q(x) - before
    assert dropped.std(dim=0).min() > 0
    torch.testing.assert_close(dropped.mean(dim=0), change[0], rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [(["to_q", "to_k"], {"to_q", "to_k"}), ("to_.*", {"to_q", "to_k"}), (["conv"], {"conv"}), (".*o.*", None)],
)
def test_modules_by_name(targets: list[str] | str, expected: set[str] | None, randomize: Randomize) -> None:
    network, image = Attention(), torch.randn(1, 3, 4, 4, dtype=torch.float64)
    before = network.conv(image)
    adapter = attached(network, target_modules=targets)
    assert set(adapter.layers) == (expected or {"to_q", "to_k", "conv"})
    randomize(adapter)
    assert torch.equal(network.conv(image), before) is ("conv" not in adapter.layers)


def test_a_convolution_gets_a_convolution_of_few_channels(randomize: Randomize) -> None:
    network, image = Attention(), torch.randn(1, 3, 4, 4, dtype=torch.float64)
    before = network.conv(image)
    adapter = attached(network, target_modules=["conv"])
    randomize(adapter)
    a, b = weights(adapter.layers["conv"])
    change = nn.functional.conv2d(nn.functional.conv2d(image, a, padding=1), b)
    torch.testing.assert_close(network.conv(image), before + change)
    adapter.fuse()
    torch.testing.assert_close(network.conv(image), before + change)
    adapter.unfuse()
    adapter.detach()
    assert torch.equal(network.conv(image), before)


def test_names_that_match_nothing_are_refused() -> None:
    with pytest.raises(SettingError, match=r"Attention has no linear layer or convolution that ends in \('to_v',\)"):
        attached(Attention(), target_modules=["to_v"])
    with pytest.raises(SettingError, match=r"a Attention is no UNet, .* target_modules"):
        SpatialContentAdapter().attach(Attention())


def test_sets_of_weights_act_as_they_are_chosen(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize
) -> None:
    before = predict(text_backbone)
    adapter = SpatialContentAdapter(4)
    adapter.attach(text_backbone)
    adapter.add("style", rank=2, alpha=6)
    assert torch.equal(predict(text_backbone), before)
    randomize(adapter)
    one = predict(text_backbone)
    adapter.use("style")
    other = predict(text_backbone)
    assert not torch.equal(one, other)
    adapter.use({"default": 1.0, "style": 0.0})
    assert torch.equal(predict(text_backbone), one)
    adapter.use({"default": 0.7, "style": 0.4})
    adapter.scale = 0.5
    assert adapter.active == {"default": 0.7, "style": 0.4}
    x = torch.randn(3, 16)
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    projection, layer = text_backbone.unet.get_submodule(name), adapter.layers[name.replace(".", "-")]
    (a, b), (c, d) = weights(layer), weights(layer, "style")
    expected = nn.functional.linear(x, projection.weight) + 0.5 * (0.7 * x @ a.T @ b.T + 0.4 * 3 * x @ c.T @ d.T)
    torch.testing.assert_close(projection(x), expected, rtol=1e-4, atol=1e-5)
    hooked = predict(text_backbone)
    adapter.fuse()
    torch.testing.assert_close(predict(text_backbone), hooked, rtol=1e-4, atol=1e-4)
    adapter.unfuse()
    assert torch.equal(predict(text_backbone), hooked)
    adapter.use([])
    assert torch.equal(predict(text_backbone), before)
    adapter.scale = 1
    adapter.use("default")
    adapter.remove("style")
    assert torch.equal(predict(text_backbone), one)
    assert not any("style" in name for name in adapter.state_dict())


def test_only_what_acts_learns_and_a_frozen_adapter_stays_frozen(text_backbone: DiffusersUNet) -> None:
    adapter = SpatialContentAdapter(4)
    adapter.attach(text_backbone)
    adapter.add("style")

    def learning() -> set[str]:
        return {name.split(".")[3] for name, weight in adapter.named_parameters() if weight.requires_grad}

    assert learning() == {"default"}
    adapter.use("style")
    assert learning() == {"style"}
    adapter.requires_grad_(False)
    adapter.use(["default", "style"])
    adapter.add("more")
    assert learning() == set()


def test_sets_that_are_not_there_are_named(text_backbone: DiffusersUNet) -> None:
    adapter = SpatialContentAdapter(4)
    with pytest.raises(SettingError, match="not attached; call attach"):
        adapter.add("style")
    adapter.attach(text_backbone)
    adapter.add("style")
    for taken in ("style", "a.b", ""):
        with pytest.raises(SettingError, match="cannot be added as"):
            adapter.add(taken)
    with pytest.raises(SettingError, match="no set of weights other; there is default, style"):
        adapter.use("other")
    with pytest.raises(SettingError, match="no set of weights 'other'; there is default, style"):
        adapter.diffusers_lora("other")
    for kept in ("default", "other"):
        with pytest.raises(SettingError, match=f"cannot remove the set of weights '{kept}'"):
            adapter.remove(kept)
    adapter.use("style")
    with pytest.raises(SettingError, match="cannot remove"):
        adapter.remove("style")
    adapter.fuse()
    for refused in (lambda: adapter.use("default"), lambda: adapter.add("x"), lambda: adapter.remove("style")):
        with pytest.raises(SettingError, match="call unfuse"):
            refused()


def test_random_numbers_are_drawn_as_in_earlier_versions(backbone: AbstractBackbone) -> None:
    """One normal draw per projection and nothing else, so that a seed gives the weights that it gave."""
    torch.manual_seed(3)
    adapter = SpatialContentAdapter(4)
    adapter.attach(backbone)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    for layer, projection in zip(adapter.layers.values(), backbone.attention_projections().values(), strict=True):
        assert torch.equal(weights(layer)[0], torch.empty(4, projection.in_features).normal_(std=1 / 4))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_state_of_earlier_versions_loads(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize
) -> None:
    adapter = SpatialContentAdapter(4)
    adapter.attach(text_backbone)
    randomize(adapter)
    expected, today = predict(text_backbone), adapter.state_dict()
    earlier = {
        name.replace("lora_A.default.weight", "down").replace("lora_B.default.weight", "up"): weight.clone()
        for name, weight in today.items()
    }
    assert "layers.mid_block-attentions-0-transformer_blocks-0-attn1-to_q.down" in earlier
    assert list(current_names(earlier)) == list(today) == [name for name, _ in adapter.named_parameters()]
    system = nn.ModuleDict({"adapter": adapter, "backbone": text_backbone})
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.zero_()
    rest = {f"backbone.{name}": weight for name, weight in text_backbone.state_dict().items()}
    system.load_state_dict({f"adapter.{name}": weight for name, weight in earlier.items()} | rest)
    assert torch.equal(predict(text_backbone), expected)


def test_dora_over_half_precision_computes_in_float32(randomize: Randomize) -> None:
    network = Attention().to(torch.bfloat16)
    x = torch.randn(50, 6).to(torch.bfloat16)
    adapter = attached(network, use_dora=True)
    randomize(adapter)
    layer = adapter.layers["to_q"]
    assert {weight.dtype for weight in adapter.parameters()} == {torch.float32}
    (a, b), lengths = weights(layer), layer.lora_magnitude_vector["default"].weight
    direction = network.to_q.weight.double() + b.double() @ a.double()
    exact = x.double() @ (lengths.double()[:, None] * direction / direction.norm(dim=1, keepdim=True)).T
    exact += network.to_q.bias.double()
    found = network.to_q(x)
    assert found.dtype == torch.bfloat16
    assert (found.double() - exact).abs().max() < 2 * 2**-8 * exact.abs().max()  # bfloat16 rounds to 2^-9


def test_dora_in_a_copy_looks_at_the_copys_weights(
    text_backbone: DiffusersUNet, predict: Predict, randomize: Randomize
) -> None:
    adapter = SpatialContentAdapter(4, use_dora=True)
    adapter.attach(text_backbone)
    randomize(adapter)
    expected = predict(text_backbone)
    twin = copy.deepcopy(nn.ModuleList([adapter, text_backbone]))
    with torch.no_grad():
        for projection in text_backbone.attention_projections().values():
            projection.weight.zero_()
    assert torch.equal(predict(twin[1]), expected)
    assert not torch.equal(predict(text_backbone), expected)
