"""Text prompts as a condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pa_lib.modules.backbones.context import ForwardContext
from pa_lib.modules.conditioners.base import AbstractConditioner, Scene
from pa_lib.modules.text.base import AbstractText


class Prompt(AbstractConditioner):
    """Prompts through a text encoder; the empty prompt where it is left out.

    Args:
        encoder: Encoder from prompts to text conditions.
        default: Prompt for clips without a prompt of their own.
        dropout: Share of training clips whose prompt is left out, in [0, 1].
    """

    name = "prompt"
    needs = frozenset({"prompts"})

    def __init__(self, encoder: AbstractText, default: str = "A person is walking", dropout: float = 0.1) -> None:
        self.encoder = encoder
        self.default = default
        self.dropout = dropout

    @property
    def draws_from(self) -> int:
        """A number of its own; it was there before there were other conditioners."""
        return 0x7E87

    def condition(self, scene: Scene, context: ForwardContext, left_out: Sequence[bool]) -> ForwardContext:
        """The context with encoded prompts; as it was where the encoder reads none."""
        prompts = [self.default] * scene.n_clips if scene.prompts is None else scene.prompts
        texts = ["" if is_out else prompt for prompt, is_out in zip(prompts, left_out, strict=True)]
        return replace(context, text=self.encoder(texts))
