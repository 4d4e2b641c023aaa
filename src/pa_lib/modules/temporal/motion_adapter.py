"""Temporal weights as a `MotionAdapter` of diffusers and back, and from AnimateDiff's released files."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pa_lib.errors import SettingError, WeightsError, first_line, listed
from pa_lib.modules.temporal.attention import TemporalTransformer, position_codes
from pa_lib.modules.temporal.layer import largest_divisor

if TYPE_CHECKING:
    from diffusers.models.unets.unet_motion_model import MotionAdapter

_PLACE = re.compile(r"(down|mid|up)_(\d+)(?:_(\d+))?")
_RENAMES = (  # AnimateDiff's names -> diffusers'
    (".temporal_transformer.", "."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
)
_CARRIED = {  # settings of a UNet that `UNetMotionModel.from_unet2d` takes over, or that change no result
    *("sample_size", "in_channels", "out_channels", "down_block_types", "up_block_types", "block_out_channels"),
    *("layers_per_block", "downsample_padding", "mid_block_scale_factor", "norm_num_groups", "norm_eps"),
    *("cross_attention_dim", "transformer_layers_per_block", "reverse_transformer_layers_per_block"),
    *("attention_head_dim", "num_attention_heads", "use_linear_projection", "addition_time_embed_dim"),
    *("projection_class_embeddings_input_dim", "time_cond_proj_dim", "dropout", "upcast_attention"),
}
_OTHERS: dict[str, tuple[Any, ...]] = {  # other values that come to the same as the usual one, or are taken over
    "addition_embed_type": (None, "text_time"),
    "encoder_hid_dim_type": (None, "ip_image_proj"),
    "mid_block_only_cross_attention": (None, False),
}
_BLOCKS = {
    "down_block_types": {"CrossAttnDownBlock2D", "DownBlock2D"},
    "up_block_types": {"CrossAttnUpBlock2D", "UpBlock2D"},
}
_COMPUTED = (".pos_encoder.pe", ".pos_embed.pe")


def place_of(site: str) -> tuple[str, int, int]:
    """Part of the U, stage and layer of a site, from its name.

    >>> place_of("up_3_2"), place_of("mid_0")
    (('up', 3, 2), ('mid', 0, 0))

    Raises:
        SettingError: The name is not made as `Site` says.
    """
    match = _PLACE.fullmatch(site)
    if match is None:
        raise SettingError(
            f"site {site!r} of the backbone does not name its stage, as down_0_1 or mid_0 would; "
            "use every site (levels null, has_mid true) and no MotionAdapter with this backbone"
        )
    return match[1], int(match[2]), int(match[3] or 0)


def prefix_of(site: str) -> str:
    """What the names of a site's weights begin with in a `MotionAdapter`.

    >>> prefix_of("up_3_2"), prefix_of("mid_0")
    ('up_blocks.3.motion_modules.2.', 'mid_block.motion_modules.0.')
    """
    part, stage, layer = place_of(site)
    return f"mid_block.motion_modules.{stage}." if part == "mid" else f"{part}_blocks.{stage}.motion_modules.{layer}."


def diffusers_names(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights under diffusers' names, without position codes, from diffusers' or AnimateDiff's own.

    Args:
        state: Names and tensors; also as AnimateDiff's trainer leaves them, below ``state_dict``, behind ``module.``.
    """
    state = state.get("state_dict", state)
    renamed = {}
    for name, weight in state.items():
        if name.endswith(_COMPUTED):
            continue
        name = name.removeprefix("module.")
        for old, new in _RENAMES:
            name = name.replace(old, new)
        renamed[name] = weight
    return renamed


def read_motion_weights(path: Path) -> dict[str, Any]:
    """Weights from a folder that diffusers saved, a safetensors file, or AnimateDiff's .ckpt (tensors only).

    Raises:
        WeightsError: There is no such file, or it holds no weights.
    """
    file = path / "diffusion_pytorch_model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(f"no motion weights at {file}; give a folder of diffusers, a .safetensors or a .ckpt file")
    try:
        state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsError(f"cannot read motion weights from {file}: {first_line(error)}") from error
    except Exception as error:
        # torch and pickle raise what they like on files that are none, or that hold more than tensors
        raise WeightsError(f"{file} is no file of weights that can be loaded safely: {type(error).__name__}") from error
    weights: dict[str, Any] = state
    return weights


def weights_by_site(
    state: Mapping[str, Tensor], layers: Mapping[str, nn.Module], sites: Mapping[str, int]
) -> dict[str, Tensor]:
    """Pick each layer's weights out of a `MotionAdapter`'s.

    Args:
        state: Weights under diffusers' names.
        layers: Layers that get the weights, by name of the site.
        sites: Number of channels of every site: weights for a site that has no layer are named as such.

    Returns:
        Site name, dot, name in the layer -> weight.

    Raises:
        WeightsError: Weights are missing, left over or of another shape.
    """
    wanted = {
        f"{prefix_of(site)}{name}": (f"{site}.{name}", weight)
        for site, layer in layers.items()
        for name, weight in layer.state_dict().items()
    }
    if missing := [name for name in wanted if name not in state]:
        raise WeightsError(
            f"the motion weights lack {listed(missing)}; "
            "leave out sites that they do not have (has_mid, levels) or take weights of the same backbone"
        )
    if extra := [name for name in state if name not in wanted]:
        without_layer = sorted(site for site in sites if site not in layers and _has_any(extra, prefix_of(site)))
        reason = f" (no layer at {', '.join(without_layer)}: set has_mid and levels)" if without_layer else ""
        raise WeightsError(f"the motion weights hold {listed(extra)}, for which there is no place{reason}")
    for name, (_, ours) in wanted.items():
        if state[name].shape != ours.shape:
            raise WeightsError(
                f"motion weight {name} has shape {tuple(state[name].shape)}, the backbone needs {tuple(ours.shape)}; "
                "take weights that were made for this backbone"
            )
    return {ours: state[name] for name, (ours, _) in wanted.items()}


def check_codes(state: Mapping[str, Any], has_position_codes: bool) -> None:
    """Check that the position codes among motion weights are the ones that the layers compute, or zero for no codes.

    Args:
        state: Weights under diffusers' or AnimateDiff's names.
        has_position_codes: Whether the layers that are to take the weights have position codes.

    Raises:
        SettingError: The codes are others: the weights would fit, and compute something else.
    """
    for name, codes in state.get("state_dict", state).items():
        if not name.endswith(_COMPUTED):
            continue
        table = codes.reshape(codes.shape[-2:]).float()
        ours = position_codes(*table.shape).to(table) if has_position_codes else torch.zeros_like(table)
        if not torch.allclose(table, ours, rtol=0, atol=0.01):  # published files are in half precision
            found = "no position codes" if not table.any() else "position codes"
            raise SettingError(
                f"the motion weights have {found} at {name} that these layers do not compute "
                f"(has_position_codes {has_position_codes}); set has_position_codes, or take other weights"
            )


def unet_settings_of(network: nn.Module) -> dict[str, Any]:
    """Settings of the UNet of diffusers that a network is or has; empty where there is none."""
    return dict(getattr(getattr(network, "unet", network), "config", None) or {})


def lost_settings(unet: Mapping[str, Any]) -> list[str]:
    """Settings of a UNet that diffusers' motion UNet does not take over: ``name=value``, where it computes otherwise.

    It takes those in ``_CARRIED``; of all others it computes what `UNet2DConditionModel` does by default.

    Args:
        unet: Settings of the UNet, see `unet_settings_of`.

    >>> lost_settings({"center_input_sample": True, "norm_num_groups": 8, "freq_shift": 0})
    ['center_input_sample=True']
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    usual = {name: one.default for name, one in inspect.signature(UNet2DConditionModel).parameters.items()}
    lost = {
        name: unet[name]
        for name in usual.keys() & unet.keys() - _CARRIED
        if _single(unet[name]) not in _OTHERS.get(name, (usual[name],))
    }
    lost |= {name: unet[name] for name, known in _BLOCKS.items() if not known.issuperset(unet.get(name) or ())}
    return [f"{name}={value}" for name, value in sorted(lost.items())]


def differences(layers: Mapping[str, TemporalTransformer], unet: Mapping[str, Any]) -> list[str]:
    """In which ways diffusers' motion UNet would compute something else with the same weights; empty for none.

    Args:
        layers: Layers by name of the site.
        unet: Settings of the UNet, see `unet_settings_of`. Diffusers takes the number of groups of its norms for the
            temporal layers too, whatever the adapter's config states.
    """
    found = []
    norm_groups = unet.get("norm_num_groups")
    if lost := lost_settings(unet):
        found.append(f"it does not take over {', '.join(lost)} of the UNet")
    if any(layer.is_norm_per_frame for layer in layers.values()):
        found.append("it norms all frames of a clip together, these layers each frame (is_norm_per_frame)")
    others = {layer.groups for layer in layers.values()} - {norm_groups}
    if norm_groups is not None and others:
        found.append(
            f"it norms {norm_groups} groups as in the UNet, these layers {', '.join(map(str, sorted(others)))} (groups)"
        )
    return found


def check_same_settings(adapter: MotionAdapter, layers: Mapping[str, TemporalTransformer]) -> None:
    """Raise `SettingError` where an adapter's heads or groups differ: its weights fit, but would act differently."""
    config: Any = adapter.config
    n_stages = len(config.block_out_channels)
    heads = config.motion_num_attention_heads
    heads = [heads] * n_stages if isinstance(heads, int) else list(heads)
    for site, layer in layers.items():
        part, stage, _ = place_of(site)
        level = {"down": stage, "mid": n_stages - 1, "up": n_stages - 1 - stage}[part]
        if not 0 <= level < n_stages:
            continue  # its weights will be found missing, which says more
        if layer.heads != heads[level]:
            raise SettingError(
                f"the MotionAdapter has {heads[level]} heads at {site}, this has {layer.heads}; set heads"
            )
        if layer.groups != config.motion_norm_num_groups:
            raise SettingError(
                f"the MotionAdapter norms {config.motion_norm_num_groups} groups, this {layer.groups} at {site}; "
                "set groups"
            )


def build_motion_adapter(
    layers: Mapping[str, TemporalTransformer], sites: Mapping[str, int], heads: int, groups: int, max_frames: int
) -> MotionAdapter:
    """A `MotionAdapter` with copies of the layers' weights; sites without a layer get one that changes nothing.

    Args:
        layers: Layers by name of the site.
        sites: Number of channels of all sites of the backbone, by name.
        heads: Number of attention heads; fewer where they do not divide the channels.
        groups: Number of groups of the norm; also fewer where they do not divide the channels.
        max_frames: Length of the table of position codes that diffusers needs.

    Raises:
        SettingError: The backbone's stages are laid out as no `MotionAdapter` can be.
    """
    from diffusers.models.unets.unet_motion_model import MotionAdapter

    channels, depths = _stages(sites)
    counts = {largest_divisor(width, groups) for width in channels}
    if len(counts) > 1:
        raise SettingError(
            f"a MotionAdapter norms the same number of groups everywhere, this {sorted(counts)}; "
            f"set groups to a divisor of {', '.join(map(str, channels))}"
        )
    has_mid = any(place_of(site)[0] == "mid" for site in layers)
    with torch.device("meta"):  # nothing is drawn or filled only to be replaced
        adapter: MotionAdapter = MotionAdapter(
            block_out_channels=channels,
            motion_layers_per_block=depths,
            motion_mid_block_layers_per_block=1,
            motion_num_attention_heads=_one_if_equal([largest_divisor(width, heads) for width in channels]),
            motion_norm_num_groups=counts.pop(),
            motion_max_seq_length=max_frames,
            use_motion_mid_block=has_mid,
        )
    has_codes = all(layer.has_position_codes for layer in layers.values())
    like = next(weight for layer in layers.values() for weight in layer.parameters())
    state: dict[str, Tensor] = {}
    for site, width in sites.items():
        if place_of(site)[0] == "mid" and not has_mid:
            continue
        layer = layers.get(site) or _layer_without_effect(width, like)
        codes = position_codes(max_frames, width, like.device).to(like.dtype)
        codes = codes if has_codes else torch.zeros_like(codes)
        weights = layer.state_dict() | {"transformer_blocks.0.pos_embed.pe": codes[None]}
        state |= {f"{prefix_of(site)}{name}": weight.detach().clone() for name, weight in weights.items()}
    adapter.load_state_dict(state, assign=True)
    return adapter


def _layer_without_effect(channels: int, like: Tensor) -> TemporalTransformer:
    with torch.random.fork_rng(devices=[]):  # saving in the middle of a training must not change how it goes on
        return TemporalTransformer(channels, heads=1).to(like)


def _stages(sites: Mapping[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and number of layers of every stage on the way down; raises where the way up does not mirror them."""
    widths: dict[str, dict[int, list[int]]] = {"down": {}, "mid": {}, "up": {}}
    for site, width in sites.items():
        part, stage, _ = place_of(site)
        widths[part].setdefault(stage, []).append(width)
    down = [widths["down"][stage] for stage in sorted(widths["down"])]
    up = [widths["up"][stage] for stage in sorted(widths["up"])]
    mirrored = [[stage[0]] * (len(stage) + 1) for stage in reversed(down)]
    is_even = all(len(set(stage)) == 1 for stage in down)
    if not is_even or up != mirrored or widths["mid"] not in ({}, {0: [down[-1][0]]}):
        raise SettingError(
            f"sites {', '.join(f'{site} ({width})' for site, width in sites.items())} are not laid out as in a "
            "MotionAdapter (stages of one width, one layer more on the way up); use save_weights"
        )
    return tuple(stage[0] for stage in down), tuple(len(stage) for stage in down)


def _one_if_equal(numbers: Sequence[int]) -> int | tuple[int, ...]:
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def _single(value: Any) -> Any:
    """The value that all stages have, where a setting states it for each."""
    return value[0] if isinstance(value, list | tuple) and len(set(value)) == 1 else value


def _has_any(names: Sequence[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)
