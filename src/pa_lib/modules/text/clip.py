"""The text encoders of Stable Diffusion: one CLIP, or two in SDXL."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pa_lib.errors import SettingError
from pa_lib.modules.backbones.context import TextCondition
from pa_lib.modules.text.base import AbstractText
from pa_lib.modules.weights_folder import from_folder, settings_file, torch_dtype

_MOST_KEPT = 256  # embeddings; 60 MB of SD 1.5's


class ClipText(AbstractText):
    """Prompts through the backbone's own CLIP, frozen; embeddings of repeated prompts are cached.

    SD 1 and 2: the last hidden state after its norm. SDXL: the last but one of both encoders side by side, and the
    projected summary of the second as `pooled`. Longer prompts are cut at the encoder's length (77 tokens). Every
    prompt is encoded alone, so what it turns into does not depend on the others of its batch.

    Give `path`, or `encoder` and `tokenizer` (and both again with ``_2`` for SDXL).

    Args:
        path: Local folder of a whole pipeline saved by diffusers, or an id on the hub. Whether it has a second
            encoder, and whether the empty prompt is zeros there, is read from its model_index.json.
        encoder, tokenizer: Existing encoder and tokenizer. They are used, not copied.
        encoder_2, tokenizer_2: Existing second encoder and tokenizer, of SDXL.
        dtype: Type of the weights: ``bfloat16``, ``float16``, ``float32`` or a `torch.dtype`; None keeps their own.
        variant: Variant of the files in `path`, e.g. ``fp16``.

    Raises:
        SettingError, WeightsError: Neither is given, or both; or it cannot be loaded.

    Source: diffusers' `StableDiffusionPipeline` and `StableDiffusionXLPipeline`, ``encode_prompt``.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        encoder: CLIPTextModel | None = None,
        tokenizer: CLIPTokenizer | None = None,
        encoder_2: CLIPTextModelWithProjection | None = None,
        tokenizer_2: CLIPTokenizer | None = None,
        dtype: str | torch.dtype | None = None,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        self.comes_from(path)
        self._is_empty_zero = False
        if path is not None and (encoder, tokenizer, encoder_2, tokenizer_2) == (None,) * 4:
            index = settings_file(path, "model_index.json")
            self._is_empty_zero = bool(index.get("force_zeros_for_empty_prompt"))
            encoder, tokenizer = _loaded(CLIPTextModel, path, "", variant)
            if any(index.get("text_encoder_2") or ()):
                encoder_2, tokenizer_2 = _loaded(CLIPTextModelWithProjection, path, "_2", variant)
        elif path is not None or encoder is None or tokenizer is None or (encoder_2 is None) != (tokenizer_2 is None):
            raise SettingError(
                "clip text: expected either path (folder or hub id), or encoder and tokenizer (and encoder_2 and "
                "tokenizer_2 together for SDXL)"
            )
        self.encoder, self.tokenizer = encoder, tokenizer
        self.encoder_2, self.tokenizer_2 = encoder_2, tokenizer_2
        self.width = sum(int(one.config.hidden_size) for one in (encoder, encoder_2) if one is not None)
        self._kept: OrderedDict[tuple[str, torch.device, torch.dtype], _Embedding] = OrderedDict()
        if dtype is not None:
            self.to(torch_dtype(dtype))
        self.requires_grad_(False).eval()
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: it is frozen, and dropout would make embeddings differ."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, prompts: Sequence[str]) -> TextCondition:
        """One condition per prompt; see `AbstractText.forward`.

        Raises:
            SettingError: There is no prompt, or it is one string instead of several.
        """
        if isinstance(prompts, str) or not prompts:
            raise SettingError(f"clip text got {prompts!r}, expected a list of prompts, one per clip")
        embeddings = [self._embedding(prompt) for prompt in prompts]
        states = torch.stack([states for states, _ in embeddings])
        pooled = [pooled for _, pooled in embeddings if pooled is not None]
        return TextCondition(states, torch.stack(pooled) if pooled else None)

    def _embedding(self, prompt: str) -> _Embedding:
        key = (prompt, self.encoder.device, self.encoder.dtype)
        if key not in self._kept:
            # not in the precision of whatever happened to run first: the same prompt is the same condition always
            with torch.autocast(self.encoder.device.type, enabled=False):
                self._kept[key] = self._encode(prompt)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _encode(self, prompt: str) -> _Embedding:
        if self.encoder_2 is None:
            return self.encoder(_tokens(self.tokenizer, self.encoder, prompt)).last_hidden_state[0], None
        first = self.encoder(_tokens(self.tokenizer, self.encoder, prompt), output_hidden_states=True)
        second = self.encoder_2(_tokens(self.tokenizer_2, self.encoder_2, prompt), output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2][0], second.hidden_states[-2][0]], dim=-1)
        pooled = second.text_embeds[0]
        if not prompt and self._is_empty_zero:
            return torch.zeros_like(states), torch.zeros_like(pooled)
        return states, pooled


_Embedding = tuple[Float[Tensor, "l d"], Float[Tensor, " p"] | None]


def _loaded(kind: type[nn.Module], path: str, suffix: str, variant: str | None) -> tuple[Any, Any]:
    encoder = from_folder(kind, path, f"text_encoder{suffix}", variant=variant)
    return encoder, from_folder(CLIPTokenizer, path, f"tokenizer{suffix}", named="tokenizer_config.json")


def _tokens(tokenizer: Any, encoder: Any, prompt: str) -> Tensor:
    longest = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer(prompt, padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
    ids: Tensor = tokens.input_ids
    return ids.to(encoder.device)


def _forget(module: nn.Module, _: object) -> None:
    """Other weights, other embeddings."""
    assert isinstance(module, ClipText)
    module._kept.clear()
