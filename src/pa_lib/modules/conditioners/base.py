"""The one interface of what a prediction is conditioned on."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pa_lib.modules.backbones.context import ForwardContext
from pa_lib.modules.slot import Recorded

Need = Literal["pixels", "masks", "prompts", "tracks", "attributes", "reference"]


@dataclass(frozen=True, eq=False)
class Scene:
    """What a batch of crops offers to conditioners.

    Args:
        pixels: The crops, shape b t 3 h w in [0, 1]. Hidden pixels are blanked.
        hidden: Mask of all hidden people, shape b t 1 h w, 1 = hidden, 0 = visible.
        latent_mask: Mask of all hidden people on the grid of the latents, shape b t 1 y x: 1 where a cell holds a
            hidden pixel.
        background: Latents of `pixels`, shape b t c y x.
        prompts: One prompt per clip; None where there are none.
        frame_numbers: Number of each frame in its video, shape b t; None where it is unknown.
        attributes: Known attributes of each person, one mapping per clip; None where nothing is known.
        source: The crops with nothing blanked, shape b t 3 h w in [0, 1]. None for every conditioner that does not
            declare that it looks at hidden pixels, so that it cannot look at them.
        reference: Latents of the picture to go by, and behind them its alpha on their grid, shape b t c+1 y x. The
            picture is blank where it is transparent or, with a base, stands before its background. None where no
            conditioner needs it.
        base: Latents of the picture that what is generated is the difference from, shape b t c y x; None where it is
            all of the picture.
    """

    pixels: Float[Tensor, "b t 3 _ _"]
    hidden: Float[Tensor, "b t 1 _ _"]
    latent_mask: Float[Tensor, "b t 1 _ _"]
    background: Float[Tensor, "b t _ _ _"]
    prompts: Sequence[str] | None = None
    frame_numbers: Int[Tensor, "b t"] | None = None
    attributes: Sequence[Mapping[str, Any]] | None = None
    source: Float[Tensor, "b t 3 _ _"] | None = None
    reference: Float[Tensor, "b t _ _ _"] | None = None
    base: Float[Tensor, "b t _ _ _"] | None = None

    @property
    def n_clips(self) -> int:
        """Number of clips b."""
        return len(self.pixels)


class AbstractConditioner(Recorded, ABC):
    """Adds its part to the context in which the network predicts. One with weights is a `torch.nn.Module` as well.

    Attributes:
        name: Unique in a system; guidance leaves it out by this name.
        needs: What of the scene it uses.
        looks_at_hidden: Whether it is computed from pixels that are hidden (say, the pose of the hidden person). The
            system is not non-interfering then.
        dropout: Share of training clips for which it is left out, in [0, 1].
        notes: What a report says about it, one line each.
    """

    name: str
    needs: frozenset[Need]
    looks_at_hidden: bool = False
    dropout: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def draws_from(self) -> int:
        """Last key of the draws of its dropout; differs from conditioner to conditioner."""
        return zlib.crc32(self.name.encode())

    def n_channels(self, latent_channels: int) -> int:
        """How many channels it concatenates to noisy latents of this number of channels."""
        return 0

    @abstractmethod
    def condition(self, scene: Scene, context: ForwardContext, left_out: Sequence[bool]) -> ForwardContext:
        """The context with this condition in it.

        Args:
            scene: The scene to condition on.
            context: Context that the conditioners before this one made.
            left_out: Whether the condition of each clip is left out (dropout, guidance): what stands in for it holds no
                information.
        """


def with_channels(context: ForwardContext, channels: Float[Tensor, "b t _ _ _"]) -> ForwardContext:
    """The context with further channels behind those that are concatenated to the noisy latents."""
    concat = channels if context.concat is None else torch.cat([context.concat, channels], dim=2)
    return replace(context, concat=concat)
