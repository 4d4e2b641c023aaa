"""Every adapter: attached to our backbones and to diffusers' UNets, detached again, copied alone and together."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from _backbones import predict
from pa_lib.errors import SettingError
from pa_lib.modules.adapters.base import AbstractAdapter
from pa_lib.modules.adapters.bottleneck import BottleneckContentAdapter
from pa_lib.modules.adapters.none import NoAdapter
from pa_lib.modules.adapters.spatial_content import SpatialContentAdapter
from pa_lib.modules.backbones.compact import CompactUNet
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet
from pa_lib.modules.temporal.content_stabilizer import TemporalContentStabilizer
from pa_lib.modules.temporal.none import NoTemporal

from .conftest import UNET

Randomize = Callable[[nn.Module], None]


def stabilizer(**settings: Any) -> TemporalContentStabilizer:
    made = TemporalContentStabilizer(heads=2, groups=4, **settings)
    made.frames = 2
    return made


KINDS: dict[str, Callable[[], AbstractAdapter]] = {
    "sca": lambda: SpatialContentAdapter(2),
    "dora": lambda: SpatialContentAdapter(2, use_dora=True),
    "bottleneck": lambda: BottleneckContentAdapter(4),
    "tcs": stabilizer,
    "convolution": lambda: stabilizer(layer="convolution"),
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "UNet2DConditionModel": lambda: UNet2DConditionModel(**UNET),
    "UNet2DModel": lambda: UNet2DModel(
        in_channels=9,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ),
    "DiffusersUNet": lambda: DiffusersUNet(config=UNET, null_tokens=2),
    "CompactUNet": lambda: CompactUNet(4, 5, widths=(8, 16), layers=1, attention_levels=(1,), head_width=8),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = NETWORKS[request.param]()
    return made.eval()


@pytest.fixture(params=KINDS)
def adapter(request: pytest.FixtureRequest) -> AbstractAdapter:
    made: AbstractAdapter = KINDS[request.param]()
    return made


def run(network: nn.Module) -> Tensor:
    """The prediction for the same two clips of two frames each time."""
    draw = torch.Generator().manual_seed(1)
    images, states = torch.randn(4, 9, 8, 8, generator=draw), torch.randn(4, 3, 8, generator=draw)
    if isinstance(network, DiffusersUNet | CompactUNet):
        clips = images.unflatten(0, (2, 2))
        found = predict(network, clips[:, :, :4], torch.tensor([3, 3]), clips[:, :, 4:])
        return found.flatten(0, 1)
    return network(images, 3, *([states] if isinstance(network, UNet2DConditionModel) else ())).sample


def hooks_in(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_detached_it_has_left_no_trace(network: nn.Module, adapter: AbstractAdapter, randomize: Randomize) -> None:
    before, state = run(network), copy.deepcopy(network.state_dict())
    learning = [weight.requires_grad for weight in network.parameters()]
    adapter.attach(network)
    assert adapter.is_attached
    is_dora = isinstance(adapter, SpatialContentAdapter) and adapter.configs["default"].use_dora
    assert is_dora or torch.equal(run(network), before)  # DoRA scales W by lengths over themselves, which round
    torch.testing.assert_close(run(network), before, rtol=0, atol=1e-5)
    randomize(adapter)
    inside = run(network)
    assert (inside - before).abs().max() > 0.01
    adapter.detach()
    assert not adapter.is_attached
    assert torch.equal(run(network), before)
    assert hooks_in(network) == 0
    after = network.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[name], state[name]) for name in state)
    assert [weight.requires_grad for weight in network.parameters()] == learning
    adapter.attach(network)  # with the weights that it has
    assert torch.equal(run(network), inside)


def test_attached_twice_is_refused_and_two_of_a_kind_act_both(
    network: nn.Module, adapter: AbstractAdapter, randomize: Randomize
) -> None:
    adapter.attach(network)
    with pytest.raises(SettingError, match="is attached already; call detach"):
        adapter.attach(network)
    randomize(adapter)
    one = run(network)
    other = copy.deepcopy(adapter)
    other.attach(network)
    assert not torch.equal(run(network), one)
    other.detach()
    assert torch.equal(run(network), one)


def test_a_copy_of_an_adapter_alone_takes_nothing_of_the_network(
    network: nn.Module, adapter: AbstractAdapter, randomize: Randomize
) -> None:
    network.add_module("ballast", nn.Linear(1000, 1000))
    adapter.attach(network)
    randomize(adapter)
    expected = run(network)
    size = sum(weight.numel() * weight.element_size() for weight in adapter.parameters())
    assert len(pickle.dumps(adapter)) < 2 * size + 100_000 < 4_000_000
    for twin in (copy.deepcopy(adapter), pickle.loads(pickle.dumps(adapter))):
        assert not twin.is_attached
        assert adapter.is_attached
        assert torch.equal(run(network), expected)
        adapter.detach()
        twin.attach(network)
        assert torch.equal(run(network), expected)
        twin.detach()
        adapter.attach(network)


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("is_adapter_first", [False, True])
def test_a_copy_of_both_is_a_pair_of_its_own(
    network: nn.Module,
    adapter: AbstractAdapter,
    randomize: Randomize,
    twin_of: Callable[[nn.Module], nn.Module],
    is_adapter_first: bool,
) -> None:
    before = run(network)
    adapter.attach(network)
    randomize(adapter)
    inside = run(network)
    order = ["adapter", "network"] if is_adapter_first else ["network", "adapter"]
    twin: Any = twin_of(nn.ModuleDict({name: {"adapter": adapter, "network": network}[name] for name in order}))
    assert twin["adapter"].is_attached
    assert torch.equal(run(twin["network"]), inside)
    twin["adapter"].detach()
    assert torch.equal(run(twin["network"]), before)
    assert torch.equal(run(network), inside)
    twin["adapter"].attach(twin["network"])
    adapter.detach()
    assert torch.equal(run(network), before)
    assert torch.equal(run(twin["network"]), inside)


def test_a_network_that_is_gone_leaves_the_adapter_free(adapter: AbstractAdapter) -> None:
    network = UNet2DConditionModel(**UNET)
    adapter.attach(network)
    del network
    gc.collect()
    assert not adapter.is_attached
    adapter.attach(UNet2DConditionModel(**UNET))


def test_layers_of_another_network_do_not_fit(adapter: AbstractAdapter) -> None:
    adapter.attach(UNet2DConditionModel(**UNET))
    adapter.detach()
    with pytest.raises(SettingError, match=r"of another network, this one has .*build"):
        adapter.attach(UNet2DConditionModel(**{**UNET, "block_out_channels": [16, 32]}))


@pytest.mark.parametrize("kind", ["sca", "bottleneck", "tcs"])
def test_what_is_no_unet_is_named(kind: str) -> None:
    with pytest.raises(SettingError, match=r"Sequential.* is no UNet"):
        KINDS[kind]().attach(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize("kind", [NoAdapter, NoTemporal])
def test_null_objects_attach_and_detach(kind: type[AbstractAdapter], network: nn.Module) -> None:
    nothing = kind()
    before = run(network)
    nothing.attach(network)
    assert nothing.is_attached
    assert hooks_in(network) == 0
    assert torch.equal(run(network), before)
    nothing.detach()
    assert not nothing.is_attached


def test_hooks_say_whose_they_are(network: nn.Module) -> None:
    adapter = KINDS["bottleneck"]()
    adapter.attach(network)
    names = {repr(hook) for module in network.modules() for hook in module._forward_hooks.values()}
    assert names == {f"BottleneckContentAdapter at {name}" for name in adapter.layers}
