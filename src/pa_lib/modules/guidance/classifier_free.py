"""Classifier-free guidance: beyond the unconditional prediction."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.modules.guidance.base import AbstractGuidance, PreparedGuidance, SamplingStart


class ClassifierFreeGuidance(AbstractGuidance):
    """``p = p_without + scale (p_with - p_without)``: away from what the network predicts without some conditioners.

    It evaluates the network twice in every step. Where none of the conditioners that are left out has a part in the
    context (a backbone without text, say), it does nothing.

    Args:
        scale: Guidance scale, >= 0; 1 = no guidance, 7.5 is usual with text, 0 leaves the condition out.
        leaves_out: Names of the conditioners that the unconditional prediction leaves out.

    Raises:
        SettingError: A setting is out of range.

    Source: Ho and Salimans 2022, https://arxiv.org/abs/2207.12598, eq. 6, with scale = 1 + w.
    """

    def __init__(self, scale: float = 7.5, leaves_out: Sequence[str] = ("prompt",)) -> None:
        if not 0 <= scale < float("inf"):
            raise SettingError(f"scale of classifier-free guidance is {scale}, expected at least 0 (1 = none)")
        if isinstance(leaves_out, str) or not leaves_out:
            raise SettingError(f"leaves_out of classifier-free guidance is {leaves_out!r}, expected names, as [prompt]")
        self.scale = scale
        self.leaves_out = tuple(leaves_out)

    @property
    def is_active(self) -> bool:
        """Whether the scale is not 1."""
        return self.scale != 1

    def prepare(self, start: SamplingStart) -> PreparedGuidance:
        """The second context, and the sum."""
        return PreparedGuidance(start.without(self.leaves_out), self._combine)

    def _combine(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        return unconditional + self.scale * (conditional - unconditional)
