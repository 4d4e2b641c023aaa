"""No temporal layers: the backbone sees each frame by itself."""

from __future__ import annotations

from torch import nn

from pa_lib.errors import PaLibError
from pa_lib.modules.backbones.base import AbstractBackbone, AbstractTemporal


class NoTemporal(AbstractTemporal):
    """Takes the place of a temporal guest and does nothing: for images, and as the ablation "without TCS".

    Attributes:
        is_enabled: As every temporal guest has it. Has no effect.

    >>> sum(parameter.numel() for parameter in NoTemporal().parameters())
    0
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_enabled = True
        self.layers = nn.ModuleDict()
        self._is_attached = False

    def attach(self, backbone: AbstractBackbone) -> None:
        """Nothing to hook in; once, like every guest."""
        if self._is_attached:
            raise PaLibError("this NoTemporal is attached already; make another one for another backbone")
        self._is_attached = True

    def use_gradient_checkpointing(self) -> None:
        """Nothing to compute again."""
