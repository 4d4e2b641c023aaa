"""No adapter: the slot's null object."""

from __future__ import annotations

from torch import nn

from pa_lib.errors import PaLibError
from pa_lib.modules.adapters.scale import checked_scale
from pa_lib.modules.backbones.base import AbstractBackbone, AbstractGuest


class NoAdapter(AbstractGuest):
    """Leaves the backbone as it is, so that an ablation can name "without" like any other choice.

    Args:
        scale: Taken and kept, without effect, so that a sweep over scales runs through here too.

    Raises:
        PaLibError: The scale is not finite.

    >>> sum(parameter.numel() for parameter in NoAdapter().parameters())
    0
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.ModuleDict()
        self._is_attached = False

    @property
    def scale(self) -> float:
        """Any finite number; 1 at first. Has no effect."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        self._scale = checked_scale(scale)

    def attach(self, backbone: AbstractBackbone) -> None:
        """Nothing to hook in; once, like every guest."""
        if self._is_attached:
            raise PaLibError("this NoAdapter is attached already; build another one for another backbone")
        self._is_attached = True
