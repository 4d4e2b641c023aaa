"""The one interface of guidance: what makes sampling go beyond, or away from, what the network predicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from pa_lib.modules.backbones.context import ForwardContext
from pa_lib.modules.diffusion.base import AbstractNoiseProcess
from pa_lib.modules.fit import Fitting, Requirement

Combine = Callable[[Tensor, Tensor], Tensor]
"""From the prediction so far and the one from another context to the guided prediction, for a window of frames."""
Correct = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From a prediction for whole clips, their noisy latents and their levels to the corrected prediction."""


@dataclass(frozen=True, eq=False)
class SamplingStart:
    """What guidance may use when a batch of clips begins to be sampled.

    Args:
        process: The noise process that is reversed.
        decode: Differentiable function from latents b t c h w to pixels b t 3 s s in [0, 1].
        without: Function from names of conditioners to the context in which they are left out; None where none of them
            has a part in the context, so that it would be the same.
        crop_expansion: Ratio of the side length of the crops to the longer side of the person's mask.
        source: The crops with the people in them, b t 3 s s in [0, 1]; None unless guidance looks at hidden pixels.
    """

    process: AbstractNoiseProcess
    decode: Callable[[Float[Tensor, "b t c h w"]], Float[Tensor, "b t 3 s s"]]
    without: Callable[[Collection[str]], ForwardContext | None]
    crop_expansion: float = 1.0
    source: Float[Tensor, "b t 3 s s"] | None = None


@dataclass(frozen=True, eq=False)
class PreparedGuidance:
    """What guidance does to the batch that it was prepared for.

    Args:
        context: Another context, in which the network is evaluated as well for every window; None for none.
        combine: Function that combines the two predictions of a window.
        correct: Function that corrects the prediction for the whole clips in every step but the last, whose prediction
            stays as the network gives it.
    """

    context: ForwardContext | None = None
    combine: Combine | None = None
    correct: Correct | None = None


class AbstractGuidance(Fitting, ABC):
    """Changes what the network predicts while a clip is sampled.

    Attributes:
        looks_at_hidden: Whether what is sampled becomes a function of hidden pixels; the system is not non-interfering
            then.
        needs_pure_noise: Whether it only works where sampling begins with pure noise (``init_strength`` 1).
        order: Corrections run from the smallest to the largest.
        notes: What a report says about it, one line each.
    """

    looks_at_hidden: bool = False
    needs_pure_noise: bool = False
    order: ClassVar[int] = 0
    notes: tuple[str, ...] = ()

    def requirements(self) -> Sequence[Requirement]:
        """A beginning in pure noise, where it needs one."""

        def problem(init_strength: float) -> str | None:
            if init_strength == 1 or not (self.needs_pure_noise and self.is_active):
                return None
            return (
                f"{type(self).__name__} begins at the prediction from pure noise, and sampler.init_strength "
                f"{init_strength} does not begin there; set init_strength to 1, or turn the guidance off"
            )

        return [Requirement("init_strength", problem)]

    @property
    @abstractmethod
    def is_active(self) -> bool:
        """Whether it changes anything, as it is set."""

    @abstractmethod
    def prepare(self, start: SamplingStart) -> PreparedGuidance:
        """What it does to a batch of clips. Only called where it is active.

        Raises:
            PaLibError: Something that it needs is not there.
        """
