"""No adapter: the slot's null object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from pa_lib.modules.adapters.base import AbstractAdapter, Hook, Network


class NoAdapter(AbstractAdapter):
    """Leaves the network as it is, so that an ablation can name "without" like any other choice.

    Args:
        scale: Accepted from configs of earlier versions; has no effect.

    >>> sum(parameter.numel() for parameter in NoAdapter().parameters())
    0
    """

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()

    def prepared(self, network: Network) -> Mapping[str, nn.Module]:
        """There is nothing to hook in."""
        return {}

    def changed(self, hook: Hook, inputs: tuple[Any, ...], output: Any) -> Any:
        """Is never called."""
        raise AssertionError("NoAdapter has no hooks")
