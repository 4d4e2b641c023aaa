"""LoRA weights as diffusers writes them: names of the keys, old and new, and the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pa_lib import __version__
from pa_lib.errors import PaLibError

_PREFIX = "unet."
_DIFFUSERS_METADATA = "lora_adapter_metadata"  # where diffusers keeps peft's configuration, as JSON
_N_NAMED = 3  # how many keys an error lists

# As in diffusers' attention processors of 2023, where `to_out` was a list and its LoRA was not.
_PROCESSOR_KEY = re.compile(r"(?:\.processor)?\.to_(q|k|v|out)_lora\.(down|up)\.weight$")
_LAYER_KEY = re.compile(r"(?:\.processor)?\.lora\.(down|up)\.weight$")
_LETTER = {"down": "A", "up": "B"}


def modern_key(key: str) -> str:
    """The key in today's style, without ``unet.``; unchanged where no style of LoRA keys matches.

    >>> modern_key("mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight")
    'mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_B.weight'
    >>> modern_key("unet.mid_block.attentions.0.to_q.lora.down.weight")
    'mid_block.attentions.0.to_q.lora_A.weight'
    """
    key = key.removeprefix(_PREFIX)
    key = _PROCESSOR_KEY.sub(
        lambda found: f".to_{found[1]}{'.0' if found[1] == 'out' else ''}.lora_{_LETTER[found[2]]}.weight", key
    )
    return _LAYER_KEY.sub(lambda found: f".lora_{_LETTER[found[1]]}.weight", key)


def to_keys(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Projection name -> (A, B), as the state dict that diffusers loads."""
    state: dict[str, Tensor] = {}
    for name, (down, up) in pairs.items():
        state[f"{_PREFIX}{name}.lora_A.weight"] = down
        state[f"{_PREFIX}{name}.lora_B.weight"] = up
    return state


def to_pairs(
    state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]], rank: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """A state dict in any of diffusers' styles, as projection name -> (A, B).

    Args:
        state: Weights to read.
        shapes: Projection name -> (outputs, inputs); exactly these must be in `state`.
        rank: The rank that they must have.

    Raises:
        PaLibError: A key is missing, unknown or there twice; a rank or a width differs. It is named.
    """
    modern: dict[str, Tensor] = {}
    for key, weight in state.items():
        if modern_key(key) in modern:
            raise PaLibError(f"the LoRA holds {modern_key(key)} twice, once as {key}; keep one of them")
        modern[modern_key(key)] = weight
    wanted = {f"{name}.lora_{letter}.weight" for name in shapes for letter in "AB"}
    missing, unknown = sorted(wanted - modern.keys()), sorted(modern.keys() - wanted)
    if missing or unknown:
        told = [f"lacks {_named(missing)}"] * bool(missing) + [f"has unknown {_named(unknown)}"] * bool(unknown)
        raise PaLibError(
            f"the LoRA {' and '.join(told)}; expected lora_A and lora_B of the {len(shapes)} attention projections "
            "of this backbone, nothing else"
        )
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, (n_outputs, n_inputs) in shapes.items():
        down, up = modern[f"{name}.lora_A.weight"], modern[f"{name}.lora_B.weight"]
        _check_pair(name, down, up, (n_outputs, n_inputs), rank)
        pairs[name] = down, up
    return pairs


def _check_pair(name: str, down: Tensor, up: Tensor, shape: tuple[int, int], rank: int) -> None:
    n_outputs, n_inputs = shape
    if down.ndim != 2 or up.ndim != 2 or (down.shape[1], up.shape[0]) != (n_inputs, n_outputs):
        raise PaLibError(
            f"the LoRA's {name} is {tuple(up.shape)} x {tuple(down.shape)}, this backbone's projection is "
            f"{n_outputs} x {n_inputs}; it was made for another backbone"
        )
    if (down.shape[0], up.shape[1]) != (rank, rank):
        raise PaLibError(
            f"the LoRA's {name} has rank {down.shape[0]} (A) and {up.shape[1]} (B), this adapter has rank {rank}; "
            f"build it with rank={down.shape[0]}"
        )
    if not (down.isfinite().all() and up.isfinite().all()):
        raise PaLibError(
            f"the LoRA's {name} holds values that are not finite; the file is damaged, or its training was"
        )


def _named(keys: list[str]) -> str:
    rest = len(keys) - _N_NAMED
    return ", ".join(keys[:_N_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def write(path: Path, state: Mapping[str, Tensor], rank: int, alpha: float) -> None:
    """Write a safetensors file that diffusers reads too.

    Rank and alpha are told in words of ours, not in diffusers' own metadata: diffusers would multiply by alpha / rank
    again, and the weights have it in them.

    Raises:
        PaLibError: The folder is missing or cannot be written to.
    """
    told = {"format": "pt", "pa_lib": __version__, "rank": str(rank), "alpha": repr(alpha)}
    try:
        save_file(dict(state), path, metadata=told)
    except (OSError, SafetensorError) as error:
        raise PaLibError(
            f"cannot write LoRA weights to {path} ({error}); name a file in a folder that exists"
        ) from error


def read(path: Path) -> tuple[dict[str, Tensor], float]:
    """The state dict of a LoRA file, and the factor alpha / rank that is not yet in its weights.

    The factor is 1 without diffusers' metadata: then it is in the weights already, or alpha was the rank.

    Raises:
        PaLibError: There is no such file, it is no safetensors file, or its metadata ask for what is not LoRA proper.
    """
    if not path.is_file():
        raise PaLibError(f"there is no file {path} with LoRA weights; name a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise PaLibError(f"{path} is no safetensors file ({error}); convert it, or load its state dict") from error
    return state, _factor(told.get(_DIFFUSERS_METADATA), path)


def _factor(metadata: str | None, path: Path) -> float:
    """Alpha / rank, as peft's configuration inside of diffusers' metadata has it."""
    if metadata is None:
        return 1.0
    try:
        told: dict[str, Any] = {key.removeprefix(_PREFIX): value for key, value in json.loads(metadata).items()}
        rank, alpha = float(told.get("r", 1)), float(told.get("lora_alpha", told.get("r", 1)))
    except (AttributeError, TypeError, ValueError) as error:
        raise PaLibError(f"the metadata of {path} are damaged ({error}); load its state dict instead") from error
    odd = [name for name in ("alpha_pattern", "rank_pattern", "use_rslora", "use_dora", "lora_bias") if told.get(name)]
    if odd or rank < 1:
        raise PaLibError(
            f"{path} is a LoRA of rank {rank:g} with {', '.join(odd) or 'nothing else'}; "
            "expected one rank >= 1 and one alpha for all projections, and plain LoRA"
        )
    return alpha / rank


def detached(weight: Tensor, factor: float = 1.0) -> Tensor:
    """A copy of its own in main memory, times a factor: safe to write, whatever becomes of the module."""
    weight = weight.detach().to("cpu", copy=True)
    return (weight if factor == 1 else torch.mul(weight, factor)).contiguous()
