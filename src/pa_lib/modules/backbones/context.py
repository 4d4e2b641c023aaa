"""What a backbone is given beside noisy latents: one object for a forward pass, which adapters inside it read too."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float, Int, Num
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TextCondition:
    """What a text encoder makes of the prompts of a batch.

    Args:
        states: One vector per token, shape b l d.
        pooled: One vector per prompt, shape b p, for backbones that take it (SDXL); None otherwise.
    """

    states: Float[Tensor, "b l d"]
    pooled: Float[Tensor, "b p"] | None = None


@dataclass(frozen=True, eq=False)
class Residuals:
    """What a control network adds to a UNet's skip connections and to its middle block.

    Args:
        down: One tensor b t c h w per skip connection, in the order in which the UNet makes them.
        mid: Residual that is added to the output of the middle block, shape b t c h w.
    """

    down: tuple[Float[Tensor, "b t _ _ _"], ...]
    mid: Float[Tensor, "b t _ _ _"]

    def window(self, frames: slice) -> Residuals:
        """The same for a part of the frames."""
        return Residuals(tuple(skip[:, frames] for skip in self.down), self.mid[:, frames])


@dataclass(frozen=True, eq=False)
class ForwardContext:
    """Everything that one forward pass of a backbone is conditioned on.

    Args:
        frames: Number of frames t of every clip in the batch, >= 1.
        timesteps: Noise level of each clip, shape b, as the noise process counts them; the frames of a clip share it.
        text: Encoded prompts, one per clip; its frames share it.
        concat: Channels that are concatenated behind the noisy latents, shape b t k h w: mask first, background latents
            after it.
        residuals: Residuals of control networks, which are added inside the backbone.
        tokens: Further tokens, shape b n d, one set per clip. Backbones ignore them; adapters read them.
        frame_positions: Number of each frame in its video, shape b t, for temporal layers that look at it.

    >>> import torch
    >>> ForwardContext(frames=4, timesteps=torch.tensor([5])).window(slice(1, 3)).frames
    2
    """

    frames: int
    timesteps: Num[Tensor, " b"]
    text: TextCondition | None = None
    concat: Float[Tensor, "b t _ _ _"] | None = None
    residuals: Residuals | None = None
    tokens: Float[Tensor, "b _ _"] | None = None
    frame_positions: Int[Tensor, "b t"] | None = None

    def window(self, frames: slice) -> ForwardContext:
        """The context of a part of the frames."""
        return replace(
            self,
            frames=len(range(*frames.indices(self.frames))),
            concat=None if self.concat is None else self.concat[:, frames],
            residuals=None if self.residuals is None else self.residuals.window(frames),
            frame_positions=None if self.frame_positions is None else self.frame_positions[:, frames],
        )

    def at(self, timesteps: Num[Tensor, " b"]) -> ForwardContext:
        """The same context at other noise levels."""
        return replace(self, timesteps=timesteps)


@dataclass
class RunningContext:
    """The context of the forward pass that runs right now: a backbone sets it, adapters inside it read it.

    Adapters keep this object and not the backbone, so that a copy of an adapter does not copy the backbone. Between
    forward passes it is empty, so no tensor outlives its pass.

    Attributes:
        current: None while no forward pass runs.
    """

    current: ForwardContext | None = None
