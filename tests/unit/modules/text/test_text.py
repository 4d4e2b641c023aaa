"""CLIP text from tiny random networks, against transformers and the recipes of diffusers' pipelines."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pa_lib.errors import PaLibError
from pa_lib.modules.text.clip import ClipText
from pa_lib.modules.text.none import NoText

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTH = 8


def tokenizer() -> CLIPTokenizer:
    names = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    return CLIPTokenizer({name: index for index, name in enumerate(names)}, [], model_max_length=LENGTH)


def config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=2 + 2 * len(LETTERS),
        hidden_size=width,
        intermediate_size=16,
        projection_dim=6,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def encoder(seed: int = 0) -> CLIPTextModel:
    torch.manual_seed(seed)
    return CLIPTextModel(config(8)).eval()


def encoder_2(seed: int = 1) -> CLIPTextModelWithProjection:
    torch.manual_seed(seed)
    return CLIPTextModelWithProjection(config(12)).eval()


def ids(*letters: str) -> Tensor:
    """Start, the letters of one-letter words, end, and ends as padding."""
    tokens = [0, *(2 + len(LETTERS) + LETTERS.index(letter) for letter in letters)]
    return torch.tensor([tokens + [1] * (LENGTH - len(tokens))])


def test_one_encoder_gives_its_last_state() -> None:
    clip = ClipText(encoder=encoder(), tokenizer=tokenizer())
    condition = clip(["a b", ""])
    with torch.no_grad():
        expected = encoder()(torch.cat([ids("a", "b"), ids()])).last_hidden_state
    torch.testing.assert_close(condition.states, expected, atol=1e-6, rtol=1e-5)
    assert condition.pooled is None
    assert clip.width == 8


def test_two_encoders_as_in_sdxl() -> None:
    clip = ClipText(encoder=encoder(), tokenizer=tokenizer(), encoder_2=encoder_2(), tokenizer_2=tokenizer())
    condition = clip(["q"])
    with torch.no_grad():
        first = encoder()(ids("q"), output_hidden_states=True)
        second = encoder_2()(ids("q"), output_hidden_states=True)
    expected = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
    torch.testing.assert_close(condition.states, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(condition.pooled, second.text_embeds, atol=1e-6, rtol=1e-5)
    assert clip.width == 20


def test_repeated_prompts_are_encoded_once_and_long_ones_are_cut() -> None:
    clip = ClipText(encoder=encoder(), tokenizer=tokenizer())
    calls: list[Any] = []
    clip.encoder.register_forward_hook(lambda *_: calls.append(1))
    first = clip(["a", "b", "a"])
    assert torch.equal(clip(["a"]).states[0], first.states[2])
    assert len(calls) == 2
    assert clip([" ".join(LETTERS)]).states.shape == (1, LENGTH, 8)


def test_an_embedding_does_not_depend_on_its_batch_or_on_what_ran_first() -> None:
    alone = ClipText(encoder=encoder(), tokenizer=tokenizer())(["a"]).states[0]
    clip = ClipText(encoder=encoder(), tokenizer=tokenizer())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(clip(["b", "a"]).states[1], alone)
    assert torch.equal(clip(["a", "c"]).states[0], alone)


def test_what_validation_kept_can_be_trained_with() -> None:
    clip = ClipText(encoder=encoder(), tokenizer=tokenizer())
    with torch.inference_mode():
        clip(["a"])
    weight = torch.ones(8, requires_grad=True)
    (clip(["a"]).states * weight).sum().backward()
    assert weight.grad is not None


def test_other_weights_give_other_embeddings() -> None:
    clip, other = (ClipText(encoder=encoder(seed), tokenizer=tokenizer()) for seed in (0, 5))
    clip(["a"])
    clip.load_state_dict(other.state_dict())
    assert torch.equal(clip(["a"]).states, other(["a"]).states)
    twin = copy.deepcopy(clip).bfloat16()
    assert twin(["a"]).states.dtype == torch.bfloat16
    assert clip(["a"]).states.dtype == torch.float32


def test_it_is_frozen() -> None:
    clip = ClipText(encoder=encoder(), tokenizer=tokenizer()).train()
    assert not any(module.training for module in clip.modules())
    assert not any(weight.requires_grad for weight in clip.parameters())
    assert not clip(["a"]).states.requires_grad


def saved(folder: Path, is_sdxl: bool) -> str:
    encoder().save_pretrained(folder / "text_encoder")
    tokenizer().save_pretrained(folder / "tokenizer")
    index: dict[str, Any] = {"text_encoder": ["transformers", "CLIPTextModel"]}
    if is_sdxl:
        encoder_2().save_pretrained(folder / "text_encoder_2")
        tokenizer().save_pretrained(folder / "tokenizer_2")
        second = ["transformers", "CLIPTextModelWithProjection"]
        index |= {"text_encoder_2": second, "force_zeros_for_empty_prompt": True}
    (folder / "model_index.json").write_text(json.dumps(index))
    return str(folder)


@pytest.mark.parametrize("is_sdxl", [False, True])
def test_loads_from_a_folder(tmp_path: Path, is_sdxl: bool) -> None:
    clip = ClipText(saved(tmp_path, is_sdxl))
    second = {"encoder_2": encoder_2(), "tokenizer_2": tokenizer()} if is_sdxl else {}
    given = ClipText(encoder=encoder(), tokenizer=tokenizer(), **second)
    torch.testing.assert_close(clip(["a c"]).states, given(["a c"]).states)
    empty = clip([""])
    assert bool((empty.states == 0).all()) == is_sdxl
    if is_sdxl:
        assert empty.pooled is not None
        assert (empty.pooled == 0).all()


def test_folders_that_lack_something(tmp_path: Path) -> None:
    with pytest.raises(PaLibError, match=r"no readable model_index.json in .*set path") as caught:
        ClipText(str(tmp_path))
    assert "\n" not in str(caught.value)
    saved(tmp_path, is_sdxl=False)
    (tmp_path / "model_index.json").write_text("[]")
    with pytest.raises(PaLibError, match="holds a list, expected a JSON object"):
        ClipText(str(tmp_path))
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(PaLibError, match=r"no tokenizer_config.json in"):
        ClipText(str(tmp_path))


def test_hub_out_of_reach() -> None:
    with pytest.raises(PaLibError, match=r"no readable model_index.json in nobody/nothing: "):
        ClipText("nobody/nothing")


@pytest.mark.parametrize("which", [{}, {"encoder"}, {"encoder", "tokenizer", "encoder_2"}, {"path", "encoder"}])
def test_wrong_sources(which: set[str]) -> None:
    parts = {"encoder": encoder(), "tokenizer": tokenizer(), "encoder_2": encoder_2(), "path": "a/b"}
    with pytest.raises(PaLibError, match="expected either path"):
        ClipText(**{name: parts[name] for name in which})


@pytest.mark.parametrize("prompts", [[], "a person"])
def test_wrong_prompts(prompts: Any) -> None:
    with pytest.raises(PaLibError, match="expected a list of prompts"):
        ClipText(encoder=encoder(), tokenizer=tokenizer())(prompts)


def test_no_text() -> None:
    assert NoText()(["a", "b"]) is None
    assert NoText().width is None
