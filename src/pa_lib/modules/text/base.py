"""The one interface of what turns prompts into conditions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import lightning

from pa_lib.modules.backbones.context import TextCondition
from pa_lib.modules.fit import Fitting
from pa_lib.modules.slot import Slot


class AbstractText(Slot, Fitting, lightning.LightningModule, ABC):
    """Prompts to conditions. Frozen.

    Attributes:
        width: d of the states; None where there is no text at all.
    """

    width: int | None

    def provides(self) -> Mapping[str, Any]:
        """The width of its states, as ``text_width``."""
        return {"text_width": self.width}

    @abstractmethod
    def forward(self, prompts: Sequence[str]) -> TextCondition | None:
        """One condition per prompt; the empty prompt is the unconditional one. None where there is no text at all."""
