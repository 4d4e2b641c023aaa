"""What is to be inpainted: clips, what is hidden in them, and from what the result is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class InpaintingRequest:
    """Clips of one size and length in which something is hidden.

    Args:
        frames: The frames, shape b t 3 h w, in [0, 1]. Pixels under `hidden` are blanked before anything is computed
            from them.
        hidden: Mask, shape b t 1 h w: 1 = hidden, and generated; 0 = visible.
        keys: One sequence of whole numbers per clip, e.g. ``(seed, person)``, from which everything random is drawn.
        frame_numbers: Numbers of the t frames of each clip in the video, >= 0, from which the noise of a frame is drawn
            as well; None counts from 0.
        prompts: One per clip; None takes the system's own.
        source: The same clips with nothing hidden, shape b t 3 h w, in [0, 1]: used only by what `looks_at_hidden`.
            None where nothing looks.
        reference: A picture for each frame to go by, in the light of the scene, shape b t 4 h w in [0, 1]: color times
            alpha, and alpha. None where there is none.
        beyond: Mask, shape b t 1 h w: 1 = beyond the frame of the video, where `frames` are black; None where unknown.
        background: Known background under `hidden`, in the form of the reference; None where none is known.
    """

    frames: Float[Tensor, "b t 3 h w"]
    hidden: Float[Tensor, "b t 1 h w"]
    keys: Sequence[Sequence[int]]
    frame_numbers: Sequence[Sequence[int]] | None = None
    prompts: Sequence[str] | None = None
    source: Float[Tensor, "b t 3 h w"] | None = None
    reference: Float[Tensor, "b t 4 h w"] | None = None
    beyond: Float[Tensor, "b t 1 h w"] | None = None
    background: Float[Tensor, "b t 4 h w"] | None = None
