"""What every temporal adapter shares: layers that make a network of single frames see clips."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pa_lib.modules.adapters.base import AbstractAdapter


class AbstractTemporal(AbstractAdapter, ABC):
    """An adapter whose layers look at several frames.

    Attributes:
        is_enabled: False: the network computes exactly what it does without them.
    """

    is_enabled: bool

    @abstractmethod
    def use_gradient_checkpointing(self) -> None:
        """Recompute the layers in the backward pass instead of keeping their results."""
