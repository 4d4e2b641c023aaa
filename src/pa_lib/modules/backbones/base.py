"""What a backbone computes, and what it offers to the adapters that work inside it without belonging to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
from jaxtyping import Float
from torch import Tensor, nn

from pa_lib.modules.backbones.context import ForwardContext, RunningContext
from pa_lib.modules.fit import Fitting, Requirement
from pa_lib.modules.slot import Slot


@dataclass(frozen=True, eq=False)
class Site:
    """A place after one spatial block of a backbone (ResNet and attention, or ResNet alone), before any resampling.

    Args:
        name: Name of the site, ``down_0_1``, ``mid_0``, ``up_3_2``: stage, level, layer, counted as diffusers does.
            Adapters name their layers after it.
        module: The module whose output is the block's: a tensor n c h w, or a diffusers output that holds one.
        channels: Number of channels c at this site.
        has_attention: Whether the block ends in spatial attention.
    """

    name: str
    module: nn.Module
    channels: int
    has_attention: bool


@dataclass(frozen=True)
class TrainedWith:
    """What weights were trained with, as their folder says.

    Args:
        weights: Folder or id of the weights.
        scheduler: Content of its ``scheduler_config.json``.
    """

    weights: str
    scheduler: Mapping[str, Any]


class AbstractBackbone(Slot, Fitting, lightning.LightningModule, ABC):
    """Predicts from noisy latents, frame by frame; adapters inside it may make it see more.

    Attributes:
        channels: Number of channels c of the latents that it denoises.
        condition_channels: Number of channels k that it takes beside them (`ForwardContext.concat`); 0 for none.
        text_width: Width d of the text states that it takes; None if it takes no text.
        running: The context of the forward pass that runs right now, shared with the adapters inside it.
        trained_with: The noise that the weights were trained with; None where it is unknown.
    """

    channels: int
    condition_channels: int
    text_width: int | None
    running: RunningContext
    trained_with: TrainedWith | None = None

    def __init__(self) -> None:
        super().__init__()
        self.running = RunningContext()

    @property
    def is_text_optional(self) -> bool:
        """Whether it runs without text."""
        return self.text_width is None

    def provides(self) -> Mapping[str, Any]:
        """What its weights were trained with, as ``trained_with``."""
        return {"trained_with": self.trained_with}

    def requirements(self) -> Sequence[Requirement]:
        """As many channels of latents and of condition, and text as wide, as it takes."""
        return (
            Requirement("latent_channels", self._problem_with_latents),
            Requirement("condition_channels", self._problem_with_condition),
            Requirement("text_width", self._problem_with_text),
        )

    def _problem_with_latents(self, channels: int) -> str | None:
        if channels == self.channels:
            return None
        return (
            f"the backbone denoises {self.channels} channels, the autoencoder's latents have "
            f"{channels}; choose two that belong together (module/backbone, module/autoencoder)"
        )

    def _problem_with_condition(self, channels: int) -> str | None:
        if self.condition_channels in (0, channels):
            return None
        return (
            f"the backbone takes {self.condition_channels} channels of condition, expected "
            f"{channels}: the mask, the background's latents, and those of further conditions (or 0 for none)"
        )

    def _problem_with_text(self, width: int | None) -> str | None:
        if self.text_width is None:
            has_text = "there is a text encoder, but the backbone reads no text; choose module/text=none"
            return None if width is None else has_text
        if width == self.text_width or (width is None and self.is_text_optional):
            return None
        if width is None:
            return (
                f"the backbone wants text of width {self.text_width} and got none; choose module/text=clip, from the "
                "backbone's own folder"
            )
        return (
            f"the backbone takes text of width {self.text_width}, the text encoder gives {width}; "
            "choose the one from the backbone's own folder (module/text=clip module.text.path=...)"
        )

    @property
    def context(self) -> ForwardContext | None:
        """The context of the forward pass that runs right now; None between two passes."""
        return self.running.current

    @abstractmethod
    def forward(self, noisy: Float[Tensor, "b t c h w"], context: ForwardContext) -> Float[Tensor, "b t c h w"]:
        """The prediction (noise, velocity or clean latents, as it was trained) for every frame.

        Sets `context` while it runs.

        Args:
            noisy: Latents at the noise levels ``context.timesteps``.
            context: Conditions of the prediction: all that it depends on beside the latents.
        """

    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """The places after every spatial block, in the order in which they run."""

    @abstractmethod
    def attention_projections(self) -> dict[str, nn.Linear]:
        """Module name in the backbone's network -> the q, k, v and out projections of every spatial attention.

        Names are diffusers' (``down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q``), so that weights travel.
        """

    @abstractmethod
    def use_gradient_checkpointing(self) -> None:
        """Recompute blocks in the backward pass instead of keeping activations: less memory, a third more time."""


def on_sample(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to the n c h w tensor of a module's output, whatever diffusers wraps it in."""
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    if isinstance(output, Tensor):
        return change(output)
    return type(output)(sample=change(output.sample))
