"""The blocks of a diffusers UNet: where they end, what attends in them, how clips go through them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pa_lib.errors import SettingError, WeightsError
from pa_lib.modules.backbones.base import Site
from pa_lib.modules.backbones.context import ForwardContext, RunningContext

_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


def block_sites(unet: nn.Module) -> tuple[Site, ...]:
    """The place after every spatial block, in the order in which they run.

    It is the attention where a block has one, the ResNet where it has none. In the mid block it is the attention and
    not the ResNet behind it, as in diffusers' motion UNet: ResNet, attention, (adapter), ResNet.

    Args:
        unet: A diffusers UNet: ``down_blocks``, ``mid_block`` and ``up_blocks`` of ``resnets`` and ``attentions``.

    Raises:
        WeightsError: A block is of a kind in which ResNets and attentions do not pair up.
    """
    return tuple(_walk(unet))


def _walk(unet: Any) -> Iterator[Site]:
    for level, block in enumerate(unet.down_blocks):
        yield from _stage(block, f"down_{level}", len(_resnets(block)))
    if unet.mid_block is not None:
        yield from _stage(unet.mid_block, "mid", max(len(_resnets(unet.mid_block)) - 1, 1))
    for level, block in enumerate(unet.up_blocks):
        yield from _stage(block, f"up_{level}", len(_resnets(block)))


def _stage(block: nn.Module, name: str, layers: int) -> Iterator[Site]:
    attentions: Sequence[nn.Module | None] = list(getattr(block, "attentions", ())) or [None] * layers
    if len(attentions) != layers:
        raise WeightsError(
            f"block {name} of the UNet is a {type(block).__name__} with {len(attentions)} attentions for {layers} "
            "ResNets; choose a UNet whose blocks have one attention per ResNet, or none"
        )
    for layer, (resnet, attention) in enumerate(zip(_resnets(block), attentions, strict=False)):
        module = resnet if attention is None else attention
        yield Site(f"{name}_{layer}", module, int(resnet.out_channels), attention is not None)


def _resnets(block: Any) -> Sequence[Any]:
    return list(block.resnets)


def spatial_projections(unet: nn.Module) -> dict[str, nn.Linear]:
    """Module name -> q, k, v and out projection of every attention in the blocks, in the order of the modules.

    Only what stands under ``attentions`` of a block counts, so attentions of other kinds are not mistaken for it.
    """
    found = {}
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and ".attentions." in f".{name}.":
            for projection in _PROJECTIONS:
                layer = module.get_submodule(projection)
                if isinstance(layer, nn.Linear):
                    found[f"{name}.{projection}"] = layer
    return found


def text_widths(unet: nn.Module) -> set[int]:
    """The widths d of the text states that the network's cross-attentions look at; empty where there are none."""
    attentions = (module for module in unet.modules() if isinstance(module, Attention))
    return {int(attention.cross_attention_dim) for attention in attentions if attention.is_cross_attention}


def flat_input(
    noisy: Float[Tensor, "b t c h w"], context: ForwardContext, channels: int, condition_channels: int
) -> Float[Tensor, "bt _ h w"]:
    """Latents with the condition behind them, every frame an image of its own.

    Raises:
        SettingError: Shapes do not fit each other, the context or the backbone.
    """
    condition = context.concat
    if noisy.ndim != 5 or noisy.shape[2] != channels:
        raise SettingError(
            f"the backbone got latents of shape {tuple(noisy.shape)}, expected b t {channels} h w; "
            "choose an autoencoder and a backbone with the same number of latent channels"
        )
    if (len(noisy), noisy.shape[1]) != (len(context.timesteps), context.frames):
        raise SettingError(
            f"the backbone got {len(noisy)} clips of {noisy.shape[1]} frames with a context of "
            f"{len(context.timesteps)} clips of {context.frames} frames; give both the same clips"
        )
    given = 0 if condition is None else condition.shape[2]
    if given != condition_channels:
        raise SettingError(
            f"the backbone got {given} condition channels, expected {condition_channels} (mask and background); "
            "set condition_channels of the backbone to what the system gives"
        )
    if condition is not None:
        if condition.shape[:2] != noisy.shape[:2] or condition.shape[3:] != noisy.shape[3:]:
            raise SettingError(
                f"the condition has shape {tuple(condition.shape)}, the latents {tuple(noisy.shape)}; "
                "give both the same clips, frames and size"
            )
        noisy = torch.cat([noisy, condition.to(noisy.dtype)], dim=2)
    return rearrange(noisy, "b t c h w -> (b t) c h w")


def recomputed(running: RunningContext, module: nn.Module, *arguments: Any) -> Any:
    """Run a module without keeping its activations; the backward pass recomputes them.

    The context is put back first: by the time of the backward pass the forward pass is over.
    """
    context = running.current

    def run(*arguments: Any) -> Any:
        before, running.current = running.current, context
        try:
            return module(*arguments)
        finally:
            running.current = before

    return checkpoint(run, *arguments, use_reentrant=False)
