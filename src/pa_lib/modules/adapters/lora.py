"""peft's LoRA layers beside the modules that they change, which stay in their network untouched.

peft puts a LoRA layer in the place of a module, and makes the module a part of it. Here the module stays where it is,
a hook hands its output to the LoRA layer, and the layer belongs to the adapter alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeAlias

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

LoraLayer: TypeAlias = Any  # an nn.Module that is also peft's LoraLayer; peft has no class for both


class _Beside:
    """In the place of a LoRA layer's base layer: the module has computed already, and belongs to its network.

    Attributes:
        base_layer: The module, only while peft needs its weights; so that a copy of the layer does not copy it.
    """

    def __init__(self) -> None:
        self.base_layer: nn.Module | None = None

    def __call__(self, inputs: Tensor, output: Tensor) -> Tensor:
        return output


@contextmanager
def knowing(layers: Mapping[str, LoraLayer], modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Let peft see the modules that layers change, by their names, for as long as the context lasts."""
    for name, layer in layers.items():
        layer.base_layer.base_layer = modules[name]
    try:
        yield
    finally:
        for layer in layers.values():
            layer.base_layer.base_layer = None


def with_lora(
    modules: Mapping[str, nn.Module], layers: Mapping[str, LoraLayer], config: LoraConfig, adapter: str
) -> dict[str, LoraLayer]:
    """Give each module a set of LoRA weights: in its layer where it has one already, in a new layer otherwise.

    A begins gaussian with a standard deviation of 1 / rank, B at zero. The weights lie where the module's lie, in
    float32 or wider: a step of 1e-4 of a weight is below what half precision resolves, so training would stand still.

    Args:
        modules: Name in the network -> linear layer or convolution.
        layers: Names of some of these -> the LoRA layers that they have.
        config: The settings; names and types of modules in it are not looked at.
        adapter: Name of the set of weights.

    Returns:
        Name -> layer, of all modules.
    """
    there = {name: layers[name] for name in modules if name in layers}
    tree = _tree({**modules, **there})
    config = copy(config)
    config.target_modules = sorted(modules)
    config.init_lora_weights = "gaussian"
    frozen = [(weight, weight.requires_grad) for module in modules.values() for weight in module.parameters()]
    with torch.random.fork_rng(devices=[]), knowing(there, modules):
        inject_adapter_in_model(config, tree, adapter)
    for weight, was_learning in frozen:  # peft freezes what it changes
        weight.requires_grad_(was_learning)
    made: dict[str, LoraLayer] = {name: tree.get_submodule(name) for name in modules}
    for name, layer in made.items():
        dtype = torch.promote_types(next(modules[name].parameters()).dtype, torch.float32)
        for part in (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector):
            if adapter in part:
                part[adapter].to(dtype)
        # Drawn again from the state of the random numbers at the call: those of peft depend on layers that it drops.
        nn.init.normal_(layer.lora_A[adapter].weight, std=1 / layer.r[adapter])
        if name not in there:
            del layer.base_layer
            layer.base_layer = _Beside()
    return made


def weights_of(layers: Mapping[str, LoraLayer], config: LoraConfig, adapter: str) -> dict[str, Tensor]:
    """A set of LoRA weights under peft's names, ``<module>.lora_A.weight``: copies in main memory."""
    tree = _tree(layers)
    tree.peft_config = {adapter: config}  # type: ignore[assignment]
    state = get_peft_model_state_dict(tree, adapter_name=adapter, save_embedding_layers=False)
    return {name: weight.detach().to("cpu", copy=True).contiguous() for name, weight in state.items()}


def factor_of(layer: LoraLayer, adapter: str) -> float:
    """What B A is multiplied by at full scale: alpha / rank, or alpha / sqrt(rank) where it is rank-stabilised."""
    rank: int = layer.r[adapter]
    return float(layer.lora_alpha[adapter] / (rank**0.5 if layer.use_rslora[adapter] else rank))


def _tree(leaves: Mapping[str, nn.Module]) -> nn.Module:
    """A module that has others under their dotted names, and nothing else: what peft takes for the whole network."""
    root = nn.Module()
    for name, leaf in leaves.items():
        *path, last = name.split(".")
        parent = root
        for part in path:
            children = dict(parent.named_children())
            if part not in children:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, leaf)
    return root
