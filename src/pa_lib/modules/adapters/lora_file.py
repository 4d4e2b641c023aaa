"""Files of LoRA weights: diffusers', peft's and kohya's are read, diffusers' are written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pa_lib.errors import WeightsError, first_line, listed
from pa_lib.modules.adapters.lora import LoraLayer, factor_of
from pa_lib.stored import written_aside

_SETTINGS = "lora_adapter_metadata"  # where diffusers keeps peft's settings, as JSON
_PREFIXES = ("unet.", "transformer.", "base_model.model.")
_UNDERSTOOD = {"r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_dora", "use_rslora"}
_WITHOUT_EFFECT = {  # on what trained weights compute
    *("target_modules", "exclude_modules", "lora_dropout", "init_lora_weights", "inference_mode", "peft_version"),
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "auto_mapping", "layers_to_transform"),
    *("layers_pattern", "runtime_config", "megatron_config", "megatron_core", "qalora_group_size"),
}


def read(path: Path) -> tuple[dict[str, Tensor], LoraConfig]:
    """Weights of a safetensors file under peft's names, and the settings that they were trained with.

    Raises:
        WeightsError: There is no such file, it is no safetensors file, or it holds more than LoRA or DoRA.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path} with LoRA weights; name a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            settings = (file.metadata() or {}).get(_SETTINGS)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is no safetensors file ({error}); convert it, or load its state dict") from error
    weights, alphas = in_peft_names(state)
    return weights, _config(weights, alphas) if settings is None else _stored_config(settings, path)


def understood(state: Mapping[str, Tensor], alpha: float | None) -> tuple[dict[str, Tensor], LoraConfig]:
    """A state dict under peft's names, and its settings as far as it shows them.

    Args:
        state: Keys in any style of diffusers, of peft or of kohya, with or without ``unet.``.
        alpha: Alpha of all modules; None takes kohya's alphas where there are some, the ranks otherwise.
    """
    weights, alphas = in_peft_names(state)
    return weights, _config(weights, alphas, alpha)


def in_peft_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Weights as ``<module>.lora_A.weight``, and module -> alpha where the names are kohya's.

    >>> import torch
    >>> state = {"unet.mid_block.attentions.0.to_q.lora.down.weight": torch.zeros(2, 4)}
    >>> list(in_peft_names(state)[0])
    ['mid_block.attentions.0.to_q.lora_A.weight']

    Raises:
        WeightsError: Two keys name the same weight.
    """
    if not state:
        return {}, {}
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(dict(state))
    plain = {_without_prefix(key): weight for key, weight in state.items()}
    weights: dict[str, Tensor] = convert_unet_state_dict_to_peft(plain)  # type: ignore[no-untyped-call]
    if len(weights) < len(state):
        twice = [key for key, n in Counter(map(_one_name, state)).items() if n > 1]
        raise WeightsError(f"the LoRA holds {listed(twice)} twice, under two names; keep one of them")
    by_module = {_one_name(key.removesuffix(".alpha")).rpartition(".lora_")[0]: a for key, a in (alphas or {}).items()}
    return weights, {module: float(alpha) for module, alpha in by_module.items()}


def modules_in(weights: Mapping[str, Tensor]) -> set[str]:
    """Names of the modules that weights under peft's names belong to.

    >>> import torch
    >>> modules_in({"mid.to_q.lora_A.weight": torch.zeros(2, 4), "mid.to_q.lora_B.weight": torch.zeros(4, 2)})
    {'mid.to_q'}
    """
    return {name.rpartition(".lora_")[0] for name in weights}


def write(path: Path, weights: Mapping[str, Tensor], config: LoraConfig) -> None:
    """Write weights under peft's names, with their settings, to a file that diffusers' loaders read.

    Raises:
        WeightsError: The file cannot be written.
    """
    if not path.parent.is_dir():
        raise WeightsError(f"cannot write LoRA weights to {path}: no such folder; name a file in a folder that exists")
    stored: dict[str, Any] = config.to_dict()  # type: ignore[no-untyped-call]
    settings = {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in stored.items()
        if name in _UNDERSTOOD | _WITHOUT_EFFECT
    }
    try:
        written_aside(
            path,
            lambda staged: StableDiffusionLoraLoaderMixin.save_lora_weights(
                save_directory=str(staged.parent),
                unet_lora_layers=dict(weights),
                weight_name=staged.name,
                unet_lora_adapter_metadata=settings,
            ),
        )
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write LoRA weights to {path}: {first_line(error)}") from error


def check_fits(weights: Mapping[str, Tensor], layers: Mapping[str, LoraLayer], adapter: str) -> None:
    """Check weights under peft's names against the layers that are to take them.

    Raises:
        WeightsError: A name is missing or unknown, a shape or a rank differs, or values are not finite.
    """
    wanted = {
        f"{name}.{kind}": weight.shape
        for name, layer in layers.items()
        for kind, weight in _own(layer, adapter).items()
    }
    missing, unknown = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    if missing or unknown:
        parts = [f"lacks {listed(missing)}"] * bool(missing) + [f"has unknown {listed(unknown)}"] * bool(unknown)
        raise WeightsError(
            f"the LoRA {' and '.join(parts)}; expected lora_A and lora_B of the {len(layers)} modules that this "
            "adapter changes, nothing else"
        )
    for key, weight in weights.items():
        name, _, kind = key.rpartition(".lora_")
        rank = layers[name].r[adapter]
        if weight.shape != wanted[key]:
            ranks = {weight.shape[0] if kind.startswith("A") else weight.shape[-1] if weight.ndim > 1 else 0}
            if weight.ndim == len(wanted[key]) and ranks != {rank} and kind[0] in "AB":
                raise WeightsError(
                    f"the LoRA's {key} has shape {tuple(weight.shape)}, so rank {ranks.pop()}, this adapter has rank "
                    f"{rank}; build it with from_file, or load the file under a name of its own"
                )
            raise WeightsError(
                f"the LoRA's {key} has shape {tuple(weight.shape)}, expected {tuple(wanted[key])}; it was made for "
                "another backbone"
            )
        if not weight.isfinite().all():
            raise WeightsError(
                f"the LoRA's {key} holds values that are not finite; the file is damaged, or its training was"
            )


def take(weights: Mapping[str, Tensor], config: LoraConfig, layers: Mapping[str, LoraLayer], adapter: str) -> None:
    """Copy weights into layers that they fit, so that they compute there what they did with their own alpha."""
    for name, layer in layers.items():
        factor = _factor(config, name) / factor_of(layer, adapter)
        for kind, own in _own(layer, adapter).items():
            given = weights[f"{name}.{kind}"]
            own.copy_(given if factor == 1 or kind != "lora_B.weight" else given.to(own.dtype) * factor)


def _own(layer: LoraLayer, adapter: str) -> dict[str, Tensor]:
    """A layer's weights of one name, under peft's names without the module's."""
    own = {"lora_A.weight": layer.lora_A[adapter].weight.data, "lora_B.weight": layer.lora_B[adapter].weight.data}
    if adapter in layer.lora_magnitude_vector:
        own["lora_magnitude_vector"] = layer.lora_magnitude_vector[adapter].weight.data
    return own


def _without_prefix(key: str) -> str:
    return next((key.removeprefix(prefix) for prefix in _PREFIXES if key.startswith(prefix)), key)


def _one_name(key: str) -> str:
    (name,) = convert_unet_state_dict_to_peft({_without_prefix(key): None})  # type: ignore[no-untyped-call]
    return str(name)


def _factor(config: LoraConfig, module: str) -> float:
    """What B A of a module is multiplied by, as peft finds it."""
    ranks, alphas = config.rank_pattern or {}, config.alpha_pattern or {}
    rank = ranks.get(get_pattern_key(list(ranks), module), config.r)
    alpha = alphas.get(get_pattern_key(list(alphas), module), config.lora_alpha)
    return float(alpha / (rank**0.5 if config.use_rslora else rank))


def _config(weights: Mapping[str, Tensor], alphas: Mapping[str, float], alpha: float | None = None) -> LoraConfig:
    """Settings that weights show: ranks, and where alpha is not given, an alpha that is the rank (diffusers' rule)."""
    ends = ".lora_B.weight"
    ranks = {key.removesuffix(ends): weight.shape[1] for key, weight in weights.items() if key.endswith(ends)}
    rank = Counter(ranks.values()).most_common(1)[0][0] if ranks else 1
    others = {f"^{name}": own for name, own in ranks.items() if own != rank}
    by_module: dict[str, float] = {f"^{name}": own for name, own in alphas.items()} or dict(others)
    return LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type]  # peft takes fractions too
        rank_pattern=others,
        alpha_pattern={} if alpha is not None else by_module,
        use_dora=any("lora_magnitude_vector" in key for key in weights),
        target_modules=sorted(modules_in(weights)),
    )


def _stored_config(settings: str, path: Path) -> LoraConfig:
    """The settings in a file's metadata."""
    usual: dict[str, Any] = LoraConfig().to_dict()  # type: ignore[no-untyped-call]
    try:
        stored: dict[str, Any] = {_without_prefix(key): value for key, value in json.loads(settings).items()}
        odd = [
            name
            for name, value in stored.items()
            if name not in _UNDERSTOOD | _WITHOUT_EFFECT and value and value != usual.get(name)
        ]
        config = LoraConfig(**{name: stored[name] for name in _UNDERSTOOD & stored.keys()})
        config.r = int(config.r)
        config.lora_alpha = float(stored.get("lora_alpha", config.r))  # type: ignore[assignment]
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"the metadata of {path} are damaged ({error}); load its state dict instead") from error
    if odd or config.r < 1:
        raise WeightsError(
            f"{path} is a LoRA of rank {config.r} with {listed(odd) or 'nothing else'}; expected rank >= 1, and LoRA "
            "or DoRA without further changes"
        )
    return config
