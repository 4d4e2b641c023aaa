"""A backbone called with everything by itself, as tests have it, instead of in a context."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pa_lib.modules import ForwardContext, TextCondition


def predict(
    backbone: Any, noisy: Tensor, timesteps: Tensor, concat: Tensor | None = None, text: TextCondition | None = None
) -> Tensor:
    """The backbone's prediction for clips b t c h w at one noise level per clip."""
    context = ForwardContext(frames=noisy.shape[1], timesteps=timesteps, text=text, concat=concat)
    prediction: Tensor = backbone(noisy, context)
    return prediction
