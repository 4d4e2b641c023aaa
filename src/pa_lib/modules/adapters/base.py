"""What every adapter shares: it works inside a network through named hooks, and its weights stay its own.

They are not in the network's state, so an adapter is frozen, trained, saved and shipped on its own, and a network that
it has left again is exactly the one that it came to.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import lightning
from torch import nn

from pa_lib.errors import SettingError
from pa_lib.modules.backbones.base import AbstractBackbone, Site
from pa_lib.modules.slot import Slot

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

Network: TypeAlias = Union[AbstractBackbone, "UNet2DConditionModel", "UNet2DModel", nn.Module]


class Hook:
    """One adapter's hold on the output of one module. The module keeps it; the adapter refers to it weakly.

    So a deep copy (or a pickle) of a network and its adapter is hooked to its own copies: the hook is copied with the
    module and makes itself known to the adapter's copy. A copy of an adapter alone takes nothing of the network along.

    Attributes:
        adapter: What changes the output.
        name: Names the place among the adapter's, as its layers are named.
        module: The module whose output is changed.
        network: What the adapter was attached to.
    """

    def __init__(self, adapter: AbstractAdapter, name: str, module: nn.Module, network: nn.Module) -> None:
        self.adapter, self.name, self.module, self.network = adapter, name, module, network
        self._handle = module.register_forward_hook(self)
        adapter.note(self)

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """Hand the module's output to the adapter; for torch."""
        return self.adapter.changed(self, inputs, output)

    def __repr__(self) -> str:
        return f"{type(self.adapter).__name__} at {self.name}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.adapter.note(self)

    def remove(self) -> None:
        """Let go of the module."""
        self._handle.remove()


class AbstractAdapter(Slot, lightning.LightningModule, ABC):
    """Layers that work inside a network. Right after `attach` the network's output is what it was before.

    Attributes:
        layers: What runs inside the network, each called as a module; empty before the first `attach`.
    """

    layers: nn.ModuleDict

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self._hooks: dict[str, weakref.ref[Hook]] | None = None  # None: not attached

    @property
    def is_random(self) -> bool:
        """False: whatever its weights are, the network computes at first what it did without them."""
        return False

    @property
    def is_attached(self) -> bool:
        """Whether it works inside a network now."""
        return self._hooks is not None and (not self._hooks or any(True for _ in self.hooks()))

    def attach(self, network: Network) -> None:
        """Make the layers that this network needs and hook them in, each on the device of the module that it changes.

        An adapter that has layers from an earlier network keeps them, with their weights, if they fit this one.
        Adapters attach before temporal layers: at one module hooks run in the order in which they came.

        Args:
            network: A backbone of pa_lib, or a `UNet2DConditionModel` or `UNet2DModel` of diffusers.

        Raises:
            SettingError: It is attached already, or the network has no place for it.
        """
        if self.is_attached:
            name = type(self).__name__
            raise SettingError(
                f"this {name} is attached already; call detach() first, or build another {name} for another network"
            )
        places = self.prepared(network)
        self._hooks = {}
        for name, module in places.items():
            Hook(self, name, module, network)

    def detach(self) -> None:
        """Leave the network, which computes what it did before `attach`, bit for bit. Layers and weights stay here."""
        for hook in list(self.hooks()):
            hook.remove()
        self._hooks = None

    @abstractmethod
    def prepared(self, network: Network) -> Mapping[str, nn.Module]:
        """Make `layers` for a network, or check that those that are there fit it.

        Returns:
            Name of the place -> the module of the network whose output `changed` is given.

        Raises:
            SettingError: The network has no such places, or others than the layers were made for.
        """

    @abstractmethod
    def changed(self, hook: Hook, inputs: tuple[Any, ...], output: Any) -> Any:
        """What goes on in the place of a module's output; None leaves it as it is.

        Args:
            hook: The place.
            inputs: Positional arguments that the module was called with.
            output: Output of the module.
        """

    def hooks(self) -> Iterator[Hook]:
        """The hooks in the network that it is attached to."""
        for reference in (self._hooks or {}).values():
            hook = reference()
            if hook is not None:
                yield hook

    def note(self, hook: Hook) -> None:
        """Take note of a hook that works for this adapter; called by the hook."""
        self._hooks = (self._hooks or {}) | {hook.name: weakref.ref(hook)}

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_hooks": None}  # copies of the hooks, if any, refer to their own


def sites_of(network: Network) -> tuple[Site, ...]:
    """The places after every spatial block of a backbone or of a UNet of diffusers.

    Raises:
        SettingError: It is neither, or a UNet whose blocks are of another kind.
    """
    if isinstance(network, AbstractBackbone):
        return network.sites()
    if not all(hasattr(network, blocks) for blocks in ("down_blocks", "mid_block", "up_blocks")):
        raise SettingError(
            f"got a {type(network).__name__}, which is no UNet; expected a backbone of pa_lib, or a "
            "UNet2DConditionModel or UNet2DModel of diffusers"
        )
    from pa_lib.modules.backbones._blocks import block_sites

    return block_sites(network)


def projections_of(network: Network) -> dict[str, nn.Linear]:
    """Name in the network -> q, k, v and out projection of every spatial attention of a backbone or UNet.

    Raises:
        SettingError: It is neither.
    """
    if isinstance(network, AbstractBackbone):
        return network.attention_projections()
    if not hasattr(network, "down_blocks"):
        raise SettingError(
            f"a {type(network).__name__} is no UNet, and which of its modules to change is not known; "
            "name them with target_modules"
        )
    from pa_lib.modules.backbones._blocks import spatial_projections

    return spatial_projections(network)


def network_of(network: Network) -> nn.Module:
    """The module that names of projections count from: a UNet itself, or the one in a backbone."""
    if isinstance(network, AbstractBackbone):
        places = {module: name for name, module in network.named_modules()}
        for name, projection in network.attention_projections().items():
            return network.get_submodule(places[projection].removesuffix(name).rstrip("."))
    return network
