"""TCS: layers over time, after every spatial block of a backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pa_lib.errors import PaLibError, listed
from pa_lib.modules.backbones.base import AbstractBackbone, AbstractTemporal, Site, on_sample
from pa_lib.modules.backbones.context import RunningContext
from pa_lib.modules.temporal import motion_adapter as motion
from pa_lib.modules.temporal.attention import TemporalTransformer, largest_divisor
from pa_lib.modules.temporal.convolution import TemporalConvolution

if TYPE_CHECKING:
    from diffusers.models.unets.unet_motion_model import MotionAdapter

Layer = Literal["attention", "convolution"]
_LAYERS: tuple[Layer, ...] = ("attention", "convolution")
_FORMAT = "pa_lib temporal weights 1"


class TemporalContentStabilizer(AbstractTemporal):
    """Temporal Content Stabilizer (TCS): makes a backbone that sees single frames see clips.

    `attach` makes one layer for every site of a backbone; each changes what its spatial block hands on, and begins by
    changing nothing. The layers ask the backbone how many frames the clips have, so training and inference may use
    different numbers. Weights are named after the sites and belong to this module alone.

    Args:
        layer: ``attention`` (`TemporalTransformer`), or ``convolution`` (`TemporalConvolution`, its ablation).
        heads: Of attention; where they do not divide a site's channels, the largest smaller number that does.
        groups: Of the first norm (of every norm of the convolution), reduced likewise. SD's networks have 32.
        is_norm_per_frame: True as AnimateDiff was trained; False for weights that were trained with diffusers, whose
            norm takes its statistics from all frames of a clip together.
        has_mid: Whether the middle of the backbone gets a layer (AnimateDiff: version 2 only).
        levels: Resolutions whose sites on the way down and up get layers, 0 = the finest; None = all.

    Attributes:
        is_enabled: Set to False, the backbone computes exactly what it does without TCS.
        layers: Site name -> layer; empty until `attach`.

    Raises:
        PaLibError: A setting is unknown or out of range.

    >>> stabilizer = TemporalContentStabilizer(levels=(0, 1))
    >>> stabilizer.is_enabled, len(stabilizer.layers)
    (True, 0)

    Source: HappyDeepLearning/Passersby-Anonymizer names TCS and its purpose. Ours: that it is AnimateDiff's motion
    module (Guo et al., 2023), placed as there.
    """

    def __init__(
        self,
        layer: Layer = "attention",
        heads: int = 8,
        groups: int = 32,
        is_norm_per_frame: bool = True,
        has_mid: bool = True,
        levels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if layer not in _LAYERS:
            raise PaLibError(f"unknown temporal layer {layer!r}; choose {' or '.join(_LAYERS)}")
        if min(heads, groups) < 1:
            raise PaLibError(
                f"got {heads} heads and {groups} groups for the temporal layers; choose at least 1 of each"
            )
        self.layer: Layer = layer
        self.heads = heads
        self.groups = groups
        self.is_norm_per_frame = is_norm_per_frame
        self.has_mid = has_mid
        self.levels = None if levels is None else tuple(levels)
        self.is_enabled = True
        self.layers = nn.ModuleDict()
        self._running = RunningContext()
        self._site_channels: dict[str, int] = {}
        self._is_checkpointing = False

    def attach(self, backbone: AbstractBackbone) -> None:
        """Make a layer for every site that is asked for, in float32 where the site is, and hook it in.

        Raises:
            PaLibError: Attached before; or the backbone has no such sites.
        """
        if self.layers:
            raise PaLibError("these temporal layers are attached already; make new ones for another backbone")
        sites = backbone.sites()
        chosen = [site for site in sites if self._is_chosen(site, sites)]
        if not chosen:
            raise PaLibError(
                f"no site for temporal layers with levels {self.levels} and has_mid {self.has_mid}; "
                f"the backbone has {', '.join(site.name for site in sites) or 'none'}"
            )
        self._running = backbone.running
        self._site_channels = {site.name: site.channels for site in sites}
        for site in chosen:
            self.layers[site.name] = self._made_for(site)
            site.module.register_forward_hook(_Hook(self, site.name))

    def use_gradient_checkpointing(self) -> None:
        """Compute the layers again in the backward pass instead of keeping what they made: less memory, more time."""
        self._is_checkpointing = True

    def save_weights(self, path: str | Path) -> None:
        """Write the layers' weights, and the settings they were trained with, to a safetensors file.

        Raises:
            PaLibError: Nothing is attached yet, or the file cannot be written.
        """
        self._check_attached()
        state = {name: weight.detach().contiguous() for name, weight in self.layers.state_dict().items()}
        try:
            save_file(state, str(path), metadata=self._metadata())
        except (SafetensorError, OSError) as error:
            raise PaLibError(f"cannot write temporal weights to {path}: {error}") from error

    def load_weights(self, path: str | Path) -> None:
        """Read what `save_weights` wrote.

        Raises:
            PaLibError: Nothing is attached yet; the file is missing, of another kind or made with other settings; or
                names or shapes differ from those of the layers here.
        """
        self._check_attached()
        if not Path(path).is_file():
            raise PaLibError(f"no temporal weights at {path}; give a file that save_weights wrote")
        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise PaLibError(f"cannot read temporal weights from {path}: {error}") from error
        if metadata.get("format") != _FORMAT:
            raise PaLibError(f"{path} was not written by save_weights; try load_motion_adapter")
        for setting, ours in self._metadata().items():
            if metadata.get(setting) != ours:
                raise PaLibError(
                    f"{path} was trained with {setting} {metadata.get(setting)}, these layers have {ours}; "
                    f"set {setting}"
                )
        wanted = self.layers.state_dict()
        if unlike := sorted(state.keys() ^ wanted.keys()):
            raise PaLibError(
                f"{path} and the layers here differ in {listed(unlike)}; take the same backbone and levels"
            )
        for name, weight in state.items():
            if weight.shape != wanted[name].shape:
                raise PaLibError(
                    f"{name} in {path} has shape {tuple(weight.shape)}, here it is {tuple(wanted[name].shape)}; "
                    "take weights that were made for this backbone"
                )
        self.layers.load_state_dict(state)

    def motion_adapter(self, max_frames: int = 32) -> MotionAdapter:
        """Copy the weights into a diffusers `MotionAdapter`.

        diffusers computes with the statistics of all frames: outputs are equal where `is_norm_per_frame` is False, and
        where the diffusers UNet norms as many groups as `groups` says, for it takes its own number, not the adapter's.

        Args:
            max_frames: The longest clip that diffusers shall accept with it; here there is no limit.

        Raises:
            PaLibError: Nothing is attached yet, the layers are convolutions, or the backbone's stages are laid out as
                no `MotionAdapter` can be.
        """
        layers = self._transformers()
        return motion.build_motion_adapter(layers, self._site_channels, self.heads, self.groups, max_frames)

    def load_motion_adapter(self, source: MotionAdapter | Mapping[str, Tensor] | str | Path) -> None:
        """Take the weights of a diffusers `MotionAdapter` or of AnimateDiff's motion module.

        Args:
            source: The adapter; its state, or that of AnimateDiff under its own names; or a path to a folder of
                diffusers, a safetensors file or a .ckpt file.

        Raises:
            PaLibError: Nothing is attached yet, the layers are convolutions, the file cannot be read, weights are
                missing, left over or of another shape, or an adapter has other heads or groups.
        """
        layers = self._transformers()
        if isinstance(source, str | Path):
            state = motion.read_motion_weights(Path(source))
        elif isinstance(source, nn.Module):
            motion.check_same_settings(source, layers)
            state = motion.diffusers_names(source.state_dict())
        else:
            state = motion.diffusers_names(source)
        self.layers.load_state_dict(motion.weights_by_site(state, layers, self._site_channels))

    def _made_for(self, site: Site) -> nn.Module:
        if self.layer == "convolution":
            made: nn.Module = TemporalConvolution(site.channels, self.groups, self.is_norm_per_frame)
        else:
            heads = largest_divisor(site.channels, self.heads)
            made = TemporalTransformer(site.channels, heads, self.groups, self.is_norm_per_frame)
        where = next(site.module.parameters(), None)
        return made if where is None else made.to(where.device)

    def _is_chosen(self, site: Site, sites: Sequence[Site]) -> bool:
        if self.levels is None and self.has_mid:
            return True
        part, stage, _ = motion.place_of(site.name)
        if part == "mid":
            return self.has_mid
        n_levels = 1 + max(motion.place_of(other.name)[1] for other in sites)
        level = stage if part == "down" else n_levels - 1 - stage
        return self.levels is None or level in self.levels

    def _transformers(self) -> dict[str, TemporalTransformer]:
        self._check_attached()
        if self.layer != "attention":
            raise PaLibError(f"a MotionAdapter holds attention layers, these are {self.layer}; set layer to attention")
        return cast(dict[str, TemporalTransformer], dict(self.layers.items()))

    def _check_attached(self) -> None:
        if not self.layers:
            raise PaLibError("the temporal layers are made when they are attached; call attach(backbone) first")

    def _metadata(self) -> dict[str, str]:
        """The format and the settings without which the same weights would mean something else."""
        settings = {"layer": self.layer, "groups": self.groups, "is_norm_per_frame": self.is_norm_per_frame}
        if self.layer == "attention":
            settings["heads"] = self.heads
        return {"format": _FORMAT} | {name: str(value) for name, value in settings.items()}


@dataclass(frozen=True, eq=False)
class _Hook:
    """What a site's module calls. It knows the guest and no module of the backbone, so deep copies hold together."""

    guest: TemporalContentStabilizer
    site: str

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        return on_sample(output, self._changed) if self.guest.is_enabled else None

    def _changed(self, x: Float[Tensor, "bt c h w"]) -> Float[Tensor, "bt c h w"]:
        layer: Callable[..., Tensor] = self.guest.layers[self.site]
        context = self.guest._running.current
        frames = 1 if context is None else context.frames
        if self.guest._is_checkpointing and torch.is_grad_enabled():
            changed: Tensor = checkpoint(layer, x, frames, use_reentrant=False)
            return changed
        return layer(x, frames)
