"""SCA: what a backbone must see differently to draw passersby, learned from images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pa_lib.errors import PaLibError
from pa_lib.modules.adapters import lora_file
from pa_lib.modules.adapters.scale import checked_scale, checked_width
from pa_lib.modules.backbones.base import AbstractBackbone, AbstractGuest


class _LowRank(nn.Module):
    """B A x beside one projection. Its hook is a bound method, so a deep copy's hook is the copy's own."""

    def __init__(self, name: str, projection: nn.Linear, rank: int) -> None:
        super().__init__()
        weight = projection.weight
        # Over half-precision projections A and B are float32: a step of 1e-4 of a weight is below what half precision
        # resolves, so training would stand still. They are small; the projection stays half.
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.name = name
        self.strength = 1.0
        self.down = nn.Parameter(torch.empty(rank, projection.in_features, device=weight.device, dtype=dtype))
        self.up = nn.Parameter(torch.zeros(projection.out_features, rank, device=weight.device, dtype=dtype))
        nn.init.normal_(self.down, std=1 / rank)
        # In a tuple, for an attribute of its own would make the backbone's weights part of this module's state.
        self._projection = (projection,)
        self._unmerged: Tensor | None = None
        projection.register_forward_hook(self._add)

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the projection."""
        return self.up.shape[0], self.down.shape[1]

    def forward(self, tokens: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        return functional.linear(functional.linear(tokens.to(self.down.dtype), self.down), self.up)

    def _add(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self.strength == 0 or self._unmerged is not None:
            return None  # leaves the output as it is
        # Through __call__ and not forward, so that sharded training sees the layer run and gathers its weights.
        return torch.add(output, self(inputs[0]).to(output.dtype), alpha=self.strength)

    @torch.no_grad()
    def merge(self) -> None:
        (projection,) = self._projection
        weight = projection.weight
        # In main memory: merging is for inference, where an accelerator's memory is what is short.
        self._unmerged = weight.detach().to("cpu", copy=True)
        dtype = torch.promote_types(torch.promote_types(weight.dtype, self.up.dtype), torch.float32)
        with torch.autocast(weight.device.type, enabled=False):
            change = self.up.to(dtype) @ self.down.to(dtype)
        weight.copy_(weight.to(dtype) + self.strength * change.to(weight.device))

    @torch.no_grad()
    def unmerge(self) -> None:
        (projection,) = self._projection
        assert self._unmerged is not None
        projection.weight.copy_(self._unmerged)
        self._unmerged = None


class SpatialContentAdapter(AbstractGuest):
    """SCA: LoRA on the q, k, v and out projections of every spatial self- and cross-attention of a backbone.

    y = W x + scale * (alpha / rank) * B A x

    W stays the backbone's and is not touched; A and B are the adapter's. B begins at zero, so that right after `attach`
    the backbone computes what it did. A begins gaussian with a standard deviation of 1 / rank, as in diffusers' LoRA
    example, whose learning rate of 1e-4 the recipes here take over: a first step of Adam then changes B A x by as much
    at a high rank as at a low one. (With Kaiming's, peft's default, it grows with the rank, and so the rate would have
    to be tuned per rank.)

    It stays on at inference: passersby are the domain that is wanted, unlike AnimateDiff's domain adapter, which learns
    the flaws of its training videos in order to be dropped.

    Its state holds A (``down``) and B (``up``) of every projection; scale and merging are not in it. Weights to share
    go through `save_weights` and `load_weights`, in diffusers' own format.

    Args:
        rank: Of A and B, >= 1; 4 to 128. AnimateDiff's domain adapter has 128 (25.5 M weights on Stable Diffusion 1.5).
        alpha: Finite, > 0; None takes the rank, so that alpha / rank is 1.
        scale: Finite; 1 is full effect, 0 turns it off exactly. Settable at any time, unless merged.

    Raises:
        PaLibError: A setting is out of range.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), section 4.1, equation 3; Guo et al.,
    "AnimateDiff" (2023), section 4.1, for the place. Ours: that the Passersby-Anonymizer's Spatial Content Adapter is
    this; the paper's abstract says only that it adapts to the visual patterns of passersby images.
    """

    def __init__(self, rank: int = 16, alpha: float | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.rank = checked_width(rank, "rank")
        self.alpha = _checked_alpha(self.rank if alpha is None else alpha)
        self._scale = checked_scale(scale)
        self.is_merged = False
        self.layers = nn.ModuleDict()
        self.register_state_dict_pre_hook(_refuse_while_merged)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_refuse_while_merged)  # type: ignore[no-untyped-call]

    @property
    def scale(self) -> float:
        """How strongly the adapter acts: 1 fully, 0 not at all."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        _refuse_while_merged(self)
        self._scale = checked_scale(scale)
        for layer in self._low_ranks():
            layer.strength = self._scale * self._factor

    def attach(self, backbone: AbstractBackbone) -> None:
        """Make A and B for every projection, on its device, and hook them in.

        Raises:
            PaLibError: It is attached already, or the backbone has no spatial attention.
        """
        if self.layers:
            raise PaLibError("this SpatialContentAdapter is attached already; build another one for another backbone")
        projections = backbone.attention_projections()
        if not projections:
            raise PaLibError(
                f"{type(backbone).__name__} has no spatial attention for SpatialContentAdapter; "
                "choose a backbone that has some, or no adapter"
            )
        for name, projection in projections.items():
            layer = _LowRank(name, projection, self.rank)
            layer.strength = self._scale * self._factor
            self.layers[name.replace(".", "-")] = layer  # names of modules cannot have dots, and have no dashes

    def merge(self) -> None:
        """Fold the adapter into the backbone's weights, W + scale * (alpha / rank) * B A: then it costs no time.

        For inference: until `unmerge` the adapter does not train, and neither its state nor its scale can be changed
        or saved, because a backbone saved with an adapter inside would be adapted twice when it is rebuilt.

        Raises:
            PaLibError: It is merged already, or not attached.
        """
        self._check_attached()
        _refuse_while_merged(self)
        for layer in self._low_ranks():
            layer.merge()
        self.is_merged = True

    def unmerge(self) -> None:
        """Undo `merge`: the backbone's weights are again what they were, bit for bit.

        Raises:
            PaLibError: It is not merged.
        """
        if not self.is_merged:
            raise PaLibError("this SpatialContentAdapter is not merged; call merge() before unmerge()")
        for layer in self._low_ranks():
            layer.unmerge()
        self.is_merged = False

    def diffusers_lora(self) -> dict[str, Tensor]:
        """The adapter as a LoRA that diffusers loads: ``pipeline.load_lora_weights``, ``unet.load_lora_adapter``.

        Returns:
            ``unet.<projection>.lora_A.weight`` and ``.lora_B.weight``, copies in main memory. Alpha / rank is in B, for
            diffusers takes alpha = rank from a state dict. The scale is not: it is for whoever loads to choose.

        Raises:
            PaLibError: The adapter is not attached.
        """
        self._check_attached()
        return lora_file.to_keys(
            {
                layer.name: (lora_file.detached(layer.down), lora_file.detached(layer.up, self._factor))
                for layer in self._low_ranks()
            }
        )

    def load_diffusers_lora(self, state: Mapping[str, Tensor], alpha: float | None = None) -> None:
        """Take the weights of a LoRA from diffusers or peft. All or none are taken.

        Args:
            state: With keys as diffusers writes them (``lora_A``, ``lora_B``) or wrote them (``lora.down``,
                ``processor.to_q_lora.down``), each with or without ``unet.``; for all projections of the backbone and
                for nothing else.
            alpha: The alpha that it was trained with, which a state dict does not hold; None for the LoRA's rank.

        Raises:
            PaLibError: A key is missing or unknown, a rank or a width is not this adapter's; it is named. Or the
                adapter is merged, or not attached.
        """
        factor = 1.0 if alpha is None else _checked_alpha(alpha) / self.rank
        self._take(state, factor)

    def save_weights(self, path: str | PathLike[str]) -> None:
        """Write the adapter to one safetensors file, which is a LoRA file of diffusers as well.

        Where alpha / rank is no power of two, B comes back with its last bit rounded.

        Raises:
            PaLibError: The adapter is not attached, or the file cannot be written.
        """
        lora_file.write(Path(path), self.diffusers_lora(), self.rank, self.alpha)

    def load_weights(self, path: str | PathLike[str]) -> None:
        """Read what `save_weights` wrote, or any LoRA file of diffusers for the same projections and rank.

        Raises:
            PaLibError: As `load_diffusers_lora`; or the file is missing or no safetensors file.
        """
        state, factor = lora_file.read(Path(path))
        self._take(state, factor)

    @torch.no_grad()
    def _take(self, state: Mapping[str, Tensor], factor: float) -> None:
        """Copy A, and B such that alpha / rank times it is `factor` times the given one."""
        self._check_attached()
        _refuse_while_merged(self)
        shapes = {layer.name: layer.shape for layer in self._low_ranks()}
        pairs = lora_file.to_pairs(state, shapes, self.rank)
        for layer in self._low_ranks():
            down, up = pairs[layer.name]
            layer.down.copy_(down)
            layer.up.copy_(up.to(layer.up.dtype) * (factor / self._factor))

    @property
    def _factor(self) -> float:
        return self.alpha / self.rank

    def _low_ranks(self) -> Iterator[_LowRank]:
        for layer in self.layers.values():
            assert isinstance(layer, _LowRank)
            yield layer

    def _check_attached(self) -> None:
        if not self.layers:
            raise PaLibError("this SpatialContentAdapter has no weights yet; call attach(backbone) first")


def _refuse_while_merged(adapter: nn.Module, *_: Any) -> None:
    """Also a hook of saving and loading, called with more."""
    assert isinstance(adapter, SpatialContentAdapter)
    if adapter.is_merged:
        raise PaLibError("this SpatialContentAdapter is merged into the backbone's weights; call unmerge() first")


def _checked_alpha(alpha: float) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha <= 0:
        raise PaLibError(f"alpha {alpha!r} of a LoRA is no finite number above 0; leave it out for the rank")
    return float(alpha)
