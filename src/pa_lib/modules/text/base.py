"""The one interface of what turns prompts into conditions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import lightning

from pa_lib.modules.backbones.context import TextCondition
from pa_lib.modules.slot import Slot


class AbstractText(Slot, lightning.LightningModule, ABC):
    """Prompts to conditions. Frozen.

    Attributes:
        width: d of the states; None where there is no text at all.
    """

    width: int | None

    @abstractmethod
    def forward(self, prompts: Sequence[str]) -> TextCondition | None:
        """One condition per prompt; the empty prompt is the unconditional one. None where there is no text at all."""
