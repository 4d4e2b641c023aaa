"""No temporal layers: the network sees each frame by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from pa_lib.modules.adapters.base import Hook, Network
from pa_lib.modules.temporal.base import AbstractTemporal


class NoTemporal(AbstractTemporal):
    """Takes the place of temporal layers and does nothing: for images, and as the ablation "without TCS".

    Attributes:
        is_enabled: Without effect; all temporal adapters have it.

    >>> sum(parameter.numel() for parameter in NoTemporal().parameters())
    0
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_enabled = True

    def prepared(self, network: Network) -> Mapping[str, nn.Module]:
        """There is nothing to hook in."""
        return {}

    def changed(self, hook: Hook, inputs: tuple[Any, ...], output: Any) -> Any:
        """Is never called."""
        raise AssertionError("NoTemporal has no hooks")

    def use_gradient_checkpointing(self) -> None:
        """There is nothing to recompute."""
