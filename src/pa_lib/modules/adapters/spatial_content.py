"""SCA: what a backbone must see differently to generate passersby, learned from images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from os import PathLike
from pathlib import Path
from typing import Any, Self, cast

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from torch import Tensor, nn

from pa_lib.errors import SettingError, WeightsError, listed
from pa_lib.modules.adapters import lora_file
from pa_lib.modules.adapters.base import AbstractAdapter, Hook, Network, network_of, projections_of
from pa_lib.modules.adapters.lora import LoraLayer, factor_of, knowing, weights_of, with_lora
from pa_lib.modules.adapters.scale import checked_alpha, checked_scale, checked_share, checked_width
from pa_lib.renamed import current_names

_FIRST = "default"


class SpatialContentAdapter(AbstractAdapter):
    """SCA: LoRA on the q, k, v and out projections of every spatial self- and cross-attention of a backbone.

    y = W x + scale * (alpha / rank) * B A x

    W stays the backbone's and is not touched; A and B are the adapter's, in layers of peft. B begins at zero, so that
    right after `attach` the backbone computes what it did. A begins gaussian with a standard deviation of 1 / rank, as
    in diffusers' LoRA example, whose learning rate of 1e-4 the recipes here take over: a first step of Adam then
    changes B A x by as much at a high rank as at a low one. (With Kaiming's, peft's default, it grows with the rank,
    and so the rate would have to be tuned per rank.)

    It stays on at inference: passersby are the domain that is wanted, unlike AnimateDiff's domain adapter, which learns
    the flaws of its training videos in order to be dropped.

    An adapter can hold several sets of LoRA weights by name: `add` or `load_weights` adds one, `use` chooses which of
    them act. The first one is called ``default``.

    Args:
        rank: Rank of A and B, >= 1; 4 to 128. AnimateDiff's domain adapter has 128 (25.5 M weights on Stable
            Diffusion 1.5).
        alpha: Finite, > 0; None takes the rank, so that alpha / rank is 1.
        scale: Finite; 1 is full effect, 0 turns it off exactly. Settable at any time, unless fused.
        dropout: Share of x that A does not see in training, in [0, 1).
        use_dora: Also learn the length of every row of W + B A (DoRA, Liu et al. 2024). `scale` acts on B A alone.
        use_rslora: Multiply by alpha / sqrt(rank) instead (rank-stabilised LoRA, Kalajdzievski 2023).
        target_modules: Other modules than the projections, linear layers or convolutions: ends of their names as
            ``("to_q", "ff.net.2")``, or a regular expression of whole names, as peft takes them. Needed for networks
            that are no UNets.

    Raises:
        SettingError: A setting is out of range.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), section 4.1, equation 3; Guo et al.,
    "AnimateDiff" (2023), section 4.1, for the place. Ours: that the Passersby-Anonymizer's Spatial Content Adapter is
    this; the paper's abstract says only that it adapts to the visual patterns of passersby images.
    """

    def __init__(
        self,
        rank: int = 16,
        alpha: float | None = None,
        scale: float = 1.0,
        *,
        dropout: float = 0.0,
        use_dora: bool = False,
        use_rslora: bool = False,
        target_modules: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__()
        rank = checked_width(rank, "rank")
        config = LoraConfig(
            r=rank,
            lora_alpha=checked_alpha(rank if alpha is None else alpha),  # type: ignore[arg-type]
            lora_dropout=checked_share(dropout, "dropout"),
            use_dora=use_dora,
            use_rslora=use_rslora,
        )
        self.target_modules = (
            target_modules if target_modules is None or isinstance(target_modules, str) else tuple(target_modules)
        )
        self.configs = {_FIRST: config}
        self._weights = {_FIRST: 1.0}  # of the sets that act
        self._scale = checked_scale(scale)
        self._unfused: dict[str, Tensor] | None = None
        self._from_file: tuple[dict[str, Tensor], LoraConfig] | None = None  # waits for `attach`
        self.register_state_dict_pre_hook(_refuse_while_fused)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_rename_earlier)  # type: ignore[no-untyped-call]

    @classmethod
    def from_file(cls, path: str | PathLike[str], scale: float = 1.0, dropout: float = 0.0) -> Self:
        """An adapter with the weights of a LoRA file, and with its rank, alpha and modules; attach it to the network.

        Args:
            path: File that `save_weights`, diffusers, peft or kohya's scripts wrote.
            scale: Scale of the adapter's effect, see the class.
            dropout: Dropout in training, see the class.

        Raises:
            WeightsError: There is no such file, it is no safetensors file, or it holds more than LoRA or DoRA.
        """
        weights, stored = lora_file.read(Path(path))
        adapter = cls(
            stored.r,
            stored.lora_alpha,
            scale,
            dropout=dropout,
            use_dora=stored.use_dora,
            use_rslora=stored.use_rslora,
            target_modules=sorted(lora_file.modules_in(weights)),
        )
        adapter.configs[_FIRST].rank_pattern = stored.rank_pattern  # alphas of single modules go into B
        adapter._from_file = weights, stored
        return adapter

    @property
    def rank(self) -> int:
        """Rank of the first set of weights."""
        return int(self.configs[_FIRST].r)

    @property
    def alpha(self) -> float:
        """Alpha of the first set of weights."""
        return float(self.configs[_FIRST].lora_alpha)

    @property
    def scale(self) -> float:
        """How strongly the adapter acts: 1 fully, 0 not at all."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        _refuse_while_fused(self)
        self._scale = checked_scale(scale)
        self._apply_scales()

    @property
    def is_fused(self) -> bool:
        """Whether its effect is in the network's own weights now."""
        return self._unfused is not None

    @property
    def active(self) -> dict[str, float]:
        """The sets of weights that act -> how strongly, before `scale`."""
        return dict(self._weights)

    def prepared(self, network: Network) -> Mapping[str, nn.Module]:
        """LoRA layers for every module that is to be changed, on its device; see `AbstractAdapter`."""
        modules = self._targets(network)
        shapes = {_key(name): tuple(cast(Tensor, module.weight).shape) for name, module in modules.items()}
        if self.layers:
            ours = {_key(name): (layer.out_features, layer.in_features) for name, layer in self._lora().items()}
            if {key: shape[:2] for key, shape in shapes.items()} != ours:
                raise SettingError(
                    f"this SpatialContentAdapter has layers for {len(ours)} modules of another network, this one has "
                    f"{len(modules)} that differ in name or width; build another adapter for it"
                )
        else:
            self._add_layers(with_lora(modules, {}, self.configs[_FIRST], _FIRST))
            if self._from_file:
                self._take(_FIRST, *self._from_file)
                self._from_file = None
        return {_key(name): module for name, module in modules.items()}

    def changed(self, hook: Hook, inputs: tuple[Any, ...], output: Any) -> Any:
        """The module's output with the low-rank change; see `AbstractAdapter`."""
        if self.is_fused or self._scale == 0 or not self._weights:
            return None
        layer: LoraLayer = self.layers[hook.name]
        # Through __call__ and not forward, so that sharded training sees the layer run and gathers its weights.
        if layer.lora_variant:  # DoRA looks at W
            with knowing({hook.name: layer}, {hook.name: hook.module}):
                return layer(inputs[0], output)
        return layer(inputs[0], output)

    # -- several sets of weights -----------------------------------------------------------------------------------

    def add(self, name: str, rank: int | None = None, alpha: float | None = None) -> None:
        """Add a set of weights to every layer. It begins without effect and does not act before `use`.

        Args:
            name: Names the set; letters, digits, ``_`` and ``-``.
            rank: Rank of A and B; None takes the first set's.
            alpha: Scale numerator as in the class; None takes the rank.

        Raises:
            SettingError: The name is taken or no name, the adapter is not attached or is fused.
        """
        config = copy(self.configs[_FIRST])
        config.r = checked_width(self.rank if rank is None else rank, "rank")
        config.lora_alpha = checked_alpha(config.r if alpha is None else alpha)  # type: ignore[assignment]
        config.rank_pattern, config.alpha_pattern = {}, {}
        self._add(name, config, set(self._lora()))

    def use(self, names: str | Sequence[str] | Mapping[str, float]) -> None:
        """Let these sets of weights act, and no others. Only sets that act are trained.

        Args:
            names: One name, several, or names -> how strongly each of them acts, beside `scale`.

        Raises:
            SettingError: There is no such set, or the adapter is fused.
        """
        _refuse_while_fused(self)
        names = [names] if isinstance(names, str) else names
        chosen = names if isinstance(names, Mapping) else dict.fromkeys(names, 1.0)
        if unknown := sorted(set(chosen) - set(self.configs)):
            raise SettingError(f"there is no set of weights {listed(unknown)}; there is {listed(self.configs, 9)}")
        self._weights = {name: checked_scale(weight) for name, weight in chosen.items()}
        is_learning = any(weight.requires_grad for weight in self.parameters())
        for layer in self._lora().values():
            layer.set_adapter(list(chosen), inference_mode=not is_learning)
        self._apply_scales()

    def remove(self, name: str) -> None:
        """Delete a set of weights that was added.

        Raises:
            SettingError: There is no such set, it is the first one, it acts, or the adapter is fused.
        """
        _refuse_while_fused(self)
        if name not in self.configs or name == _FIRST or name in self._weights:
            raise SettingError(
                f"cannot remove the set of weights {name!r}; name one of {listed(self.configs, 9)} that does not act "
                f"(use others first) and is not {_FIRST}"
            )
        del self.configs[name]
        for layer in self._lora().values():
            layer.delete_adapter(name)

    # -- fusing ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fuse(self) -> None:
        """Add the change to the network's weights, W + scale * (alpha / rank) * B A: then it costs no time.

        For inference: until `unfuse` the adapter does not train, and neither its state nor its scale can be changed
        or saved, because a network saved with an adapter inside would be adapted twice when it is rebuilt.

        Raises:
            SettingError: It is fused already, or not attached.
        """
        _refuse_while_fused(self)
        modules = self._modules_here()
        layers = self._lora()
        # In main memory: fusing is for inference, where an accelerator's memory is what is short.
        self._unfused = {
            name: cast(Tensor, module.weight).detach().to("cpu", copy=True) for name, module in modules.items()
        }
        if self._scale == 0 or not self._weights:
            return
        device = next(iter(modules.values())).weight.device
        with knowing(layers, modules), torch.autocast(str(device.type), enabled=False):
            for layer in layers.values():
                layer.merge(adapter_names=list(self._weights))

    @torch.no_grad()
    def unfuse(self) -> None:
        """Undo `fuse`: the network's weights are again what they were, bit for bit.

        Raises:
            SettingError: It is not fused.
        """
        if self._unfused is None:
            raise SettingError("this SpatialContentAdapter is not fused; call fuse() before unfuse()")
        modules = self._modules_here()
        for name, layer in self._lora().items():
            cast(Tensor, modules[name].weight).copy_(self._unfused[name])
            layer.merged_adapters.clear()
        self._unfused = None

    def detach(self) -> None:
        """Leave the network, which computes what it did before `attach`, bit for bit. Layers and weights stay here."""
        if self.is_fused:
            self.unfuse()
        super().detach()

    # -- files -----------------------------------------------------------------------------------------------------

    def diffusers_lora(self, name: str = _FIRST) -> dict[str, Tensor]:
        """A set of weights as a LoRA that diffusers loads: ``pipeline.load_lora_weights``, ``unet.load_lora_adapter``.

        Args:
            name: Name of the set.

        Returns:
            ``unet.<module>.lora_A.weight`` and ``.lora_B.weight``, copies in main memory. Alpha / rank is in B, for
            diffusers takes alpha = rank from a state dict. The scale is not: it is chosen on loading.

        Raises:
            SettingError: There is no such set, the adapter has no layers yet or is fused.
        """
        layers = self._set(name)
        factors = {module: factor_of(layer, name) for module, layer in layers.items()}
        state = weights_of(layers, self.configs[name], name)
        for module, factor in factors.items():
            if factor != 1:
                state[f"{module}.lora_B.weight"] *= factor
        return {f"unet.{key}": weight for key, weight in state.items()}

    def load_diffusers_lora(self, state: Mapping[str, Tensor], alpha: float | None = None, name: str = _FIRST) -> None:
        """Take the weights of a LoRA from diffusers, peft or kohya. All or none are taken.

        Args:
            state: Weights with keys in any of their styles, with or without ``unet.``; for all modules that the adapter
                changes and for nothing else.
            alpha: The alpha that it was trained with, which a state dict does not hold; None for the LoRA's rank.
            name: Name of the set that takes them. A set that is not there is added, of the LoRA's own rank.

        Raises:
            WeightsError: A key is missing or unknown, a rank or a width is not this adapter's; it is named.
            SettingError: The adapter is fused, or has no layers yet.
        """
        self._load(name, *lora_file.understood(state, None if alpha is None else checked_alpha(alpha)))

    def save_weights(self, path: str | PathLike[str], name: str = _FIRST) -> None:
        """Write a set of weights to a safetensors file, with its settings, as diffusers does.

        Programs that look at the weights alone take the rank for alpha and know nothing of rslora, as does diffusers
        where it gets the path of the file alone: give it the folder, and the file's name by ``weight_name=``.

        Args:
            path: The file, in a folder that exists.
            name: Name of the set.

        Raises:
            SettingError: There is no such set, or the adapter has no layers yet.
            WeightsError: The file cannot be written.
        """
        layers = self._set(name)
        config = copy(self.configs[name])
        config.target_modules = sorted(layers)
        lora_file.write(Path(path), weights_of(layers, config, name), config)

    def load_weights(self, path: str | PathLike[str], name: str = _FIRST) -> None:
        """Read what `save_weights` wrote, or any LoRA file of diffusers, peft or kohya for the same modules.

        Args:
            path: The file.
            name: Name of the set that takes the weights. A missing set is added, with the file's rank and alpha,
                for the modules that are in the file.

        Raises:
            WeightsError: As `load_diffusers_lora`; or the file is missing or no safetensors file.
            SettingError: The adapter is fused, or has no layers yet.
        """
        self._load(name, *lora_file.read(Path(path)))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _load(self, name: str, weights: Mapping[str, Tensor], config: LoraConfig) -> None:
        _refuse_while_fused(self)
        if name not in self.configs:
            self._add(name, config, lora_file.modules_in(weights))
            try:
                self._take(name, weights, config)
            except WeightsError:
                self.remove(name)
                raise
            return
        self._take(name, weights, config)

    @torch.no_grad()
    def _take(self, name: str, weights: Mapping[str, Tensor], config: LoraConfig) -> None:
        layers = self._set(name)
        lora_file.check_fits(weights, layers, name)
        lora_file.take(weights, config, layers, name)

    def _add(self, name: str, config: LoraConfig, targets: set[str]) -> None:
        _refuse_while_fused(self)
        if not re.fullmatch(r"[\w-]+", name) or name in self.configs:
            raise SettingError(f"a set of weights cannot be added as {name!r}; choose a new name without dots")
        modules = self._modules_here()
        if unknown := sorted(targets - modules.keys()):
            raise WeightsError(
                f"the LoRA has weights for {listed(unknown)}, which this adapter does not change; "
                "build another adapter for it with from_file, or set target_modules"
            )
        wanted = {module: modules[module] for module in modules if module in targets}
        is_learning = any(weight.requires_grad for weight in self.parameters())
        with_lora(wanted, self._lora(), config, name)
        self.configs[name] = config
        for layer in self._lora().values():
            layer.set_adapter(list(self._weights), inference_mode=not is_learning)

    def _add_layers(self, layers: Mapping[str, LoraLayer]) -> None:
        for name, layer in layers.items():
            self.layers[_key(name)] = layer.train(self.training)
        self._apply_scales()

    def _apply_scales(self) -> None:
        for layer in self._lora().values():
            for name, weight in self._weights.items():
                layer.set_scale(name, self._scale * weight)

    def _targets(self, network: Network) -> dict[str, nn.Module]:
        if self.target_modules is None:
            found: dict[str, nn.Module] = dict(projections_of(network))
            if not found:
                raise SettingError(
                    f"{type(network).__name__} has no spatial attention for SpatialContentAdapter; "
                    "choose a backbone that has some, no adapter, or other target_modules"
                )
            return found
        wanted = self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        pattern = LoraConfig(target_modules=wanted)
        found = {
            name: module
            for name, module in network_of(network).named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and check_target_module_exists(pattern, name)
        }
        if self._from_file and (missing := sorted(set(wanted) - found.keys())):
            raise WeightsError(f"{type(network).__name__} has no {listed(missing)}; the LoRA is of another network")
        if not found:
            raise SettingError(
                f"{type(network).__name__} has no linear layer or convolution that ends in {self.target_modules}; "
                "set other target_modules"
            )
        return found

    def _lora(self) -> dict[str, LoraLayer]:
        """Name of a module in the network -> its layer here."""
        return {key.replace("-", "."): layer for key, layer in self.layers.items()}

    def _set(self, name: str) -> dict[str, LoraLayer]:
        """The layers that have a set of weights."""
        _refuse_while_fused(self)
        if not self.layers:
            raise SettingError("this SpatialContentAdapter has no weights yet; call attach(network) first")
        if name not in self.configs:
            raise SettingError(f"there is no set of weights {name!r}; there is {listed(self.configs, 9)}")
        return {module: layer for module, layer in self._lora().items() if name in layer.r}

    def _modules_here(self) -> dict[str, nn.Module]:
        """Name of a module in the network that the adapter is attached to -> the module."""
        if not self.is_attached:
            raise SettingError("this SpatialContentAdapter is not attached; call attach(network) first")
        return {hook.name.replace("-", "."): hook.module for hook in self.hooks()}


def _rename_earlier(adapter: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before loading a state."""
    _refuse_while_fused(adapter)
    for name in [name for name in state if name.startswith(f"{prefix}layers.")]:
        (today,) = current_names({name: None})
        state[today] = state.pop(name)


def _refuse_while_fused(adapter: nn.Module, *_: Any) -> None:
    """Also before saving a state, when more is passed."""
    assert isinstance(adapter, SpatialContentAdapter)
    if adapter.is_fused:
        raise SettingError("this SpatialContentAdapter is fused with the network's weights; call unfuse() first")


def _key(name: str) -> str:
    return name.replace(".", "-")  # names of modules cannot have dots, and have no dashes
