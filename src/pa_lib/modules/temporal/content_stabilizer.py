"""TCS: layers over time, after every spatial block of a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pa_lib.errors import SettingError, WeightsError, listed
from pa_lib.modules.adapters.base import Hook, Network, sites_of
from pa_lib.modules.backbones.base import AbstractBackbone, Site, on_sample
from pa_lib.modules.temporal import motion_adapter as motion
from pa_lib.modules.temporal.attention import TemporalTransformer
from pa_lib.modules.temporal.base import AbstractTemporal
from pa_lib.modules.temporal.convolution import TemporalConvolution
from pa_lib.modules.temporal.layer import largest_divisor
from pa_lib.stored import written_aside

if TYPE_CHECKING:
    from diffusers.models.unets.unet_motion_model import MotionAdapter

Layer = Literal["attention", "convolution"]
_LAYERS: tuple[Layer, ...] = ("attention", "convolution")
_FORMAT = "pa_lib temporal weights 1"
_SETTINGS_OF_OLD_FILES = {"has_position_codes": "True"}  # that they do not state


class TemporalContentStabilizer(AbstractTemporal):
    """Temporal Content Stabilizer (TCS): makes a backbone that sees single frames see clips.

    `attach` makes one layer for every site of a network; each changes the output of its spatial block, and begins by
    changing nothing. Clips may be of any length, and of another one at inference than in training. Weights are named
    after the sites and belong to this module alone.

    A backbone of pa_lib knows how many frames its clips have. A plain UNet of diffusers sees images only: set `frames`
    before it runs, and give it the frames of the clips one after the other.

    In a network in half precision the layers compute in their own precision (float32), unless autocast is on.

    Args:
        layer: ``attention`` (`TemporalTransformer`), or ``convolution`` (`TemporalConvolution`, its ablation).
        heads: Number of attention heads; where they do not divide a site's channels, the largest smaller number that
            does.
        groups: Number of groups of the first norm (of every norm of the convolution), also reduced where they do not
            divide the channels. Stable Diffusion's networks have 32.
        is_norm_per_frame: Whether the norm takes its statistics from each frame, as AnimateDiff was trained; False for
            weights that were trained with diffusers, whose norm takes them from all frames of a clip together.
        has_mid: Whether the middle of the backbone gets a layer (AnimateDiff: version 2 only).
        levels: Resolutions whose sites on the way down and up get layers, each >= 0, 0 = the finest, and all of them
            there in the network; none leaves the middle alone. None = all.
        has_position_codes: Whether attention is given the position of each frame. False is an ablation: the layers
            cannot distinguish the order of frames then. Without effect on convolutions.

    Attributes:
        is_enabled: Set to False, the network computes exactly what it does without TCS.
        frames: Number of frames of each clip, for a plain UNet of diffusers; None for a backbone of pa_lib.
        layers: Site name -> layer; empty until `attach`.

    Raises:
        SettingError: A setting is unknown or out of range.

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
        has_position_codes: bool = True,
    ) -> None:
        super().__init__()
        if layer not in _LAYERS:
            raise SettingError(f"unknown temporal layer {layer!r}; choose {' or '.join(_LAYERS)}")
        if min(heads, groups) < 1:
            raise SettingError(
                f"got {heads} heads and {groups} groups for the temporal layers; choose at least 1 of each"
            )
        if levels is not None and min(levels, default=0) < 0:
            raise SettingError(
                f"levels of the temporal layers: got {list(levels)}, expected numbers from 0, or null = all"
            )
        self.layer: Layer = layer
        self.heads = heads
        self.groups = groups
        self.is_norm_per_frame = is_norm_per_frame
        self.has_mid = has_mid
        self.levels = None if levels is None else tuple(levels)
        self.has_position_codes = has_position_codes
        self.is_enabled = True
        self.frames: int | None = None
        self._site_channels: dict[str, int] = {}
        self._unet_settings: dict[str, Any] = {}  # of the network
        self._is_checkpointing = False

    def prepared(self, network: Network) -> Mapping[str, nn.Module]:
        """A layer for every site that is asked for, in float32 where the site is; see `AbstractAdapter`."""
        sites = sites_of(network)
        levels = 0 if self.levels is None or not sites else _levels_of(sites)
        if self.levels and (unknown := [level for level in self.levels if level >= levels]):
            raise SettingError(
                f"levels of the temporal layers name {listed(unknown)}; the backbone has 0 to {levels - 1}"
            )
        chosen = {site.name: site for site in sites if self._is_chosen(site, sites)}
        if not chosen:
            raise SettingError(
                f"no site for temporal layers with levels {self.levels} and has_mid {self.has_mid}; "
                f"the backbone has {', '.join(site.name for site in sites) or 'none'}"
            )
        if self.layers:
            ours = {name: cast(TemporalTransformer, layer).proj_out.in_features for name, layer in self.layers.items()}
            if ours != {name: site.channels for name, site in chosen.items()}:
                raise SettingError(
                    f"these temporal layers were made for {len(ours)} sites of another network, this one has "
                    f"{len(chosen)} that differ in name or width; build other layers for it"
                )
        else:
            self._site_channels = {site.name: site.channels for site in sites}
            self._unet_settings = motion.unet_settings_of(network)
            self.layers.update({name: self._made_for(site) for name, site in chosen.items()})
        return {name: site.module for name, site in chosen.items()}

    def changed(self, hook: Hook, inputs: tuple[Any, ...], output: Any) -> Any:
        """The site's output after its layer over time; see `AbstractAdapter`."""
        if not self.is_enabled:
            return None
        layer, frames = self.layers[hook.name], self._frames_in(hook.network)

        def over_time(x: Float[Tensor, "bt c h w"]) -> Float[Tensor, "bt c h w"]:
            dtype = next(layer.parameters()).dtype
            is_cast = x.dtype != dtype and not torch.is_autocast_enabled(x.device.type)
            given = x.to(dtype) if is_cast else x
            if self._is_checkpointing and torch.is_grad_enabled():
                result: Tensor = checkpoint(layer, given, frames, use_reentrant=False)
            else:
                result = layer(given, frames)
            return result.to(x.dtype) if is_cast else result

        return on_sample(output, over_time)

    def use_gradient_checkpointing(self) -> None:
        """Recompute the layers in the backward pass instead of keeping their results: less memory, more time."""
        self._is_checkpointing = True

    def save_weights(self, path: str | Path) -> None:
        """Write the layers' weights, and the settings they were trained with, to a safetensors file.

        Raises:
            SettingError: No layers yet.
            WeightsError: The file cannot be written.
        """
        self._check_has_layers()
        path = Path(path)
        if not path.parent.is_dir():
            raise WeightsError(f"cannot write temporal weights to {path}: no such folder; name one that exists")
        state = {name: weight.detach().contiguous() for name, weight in self.layers.state_dict().items()}
        try:
            written_aside(path, lambda staged: save_file(state, staged, metadata=self._metadata()))
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"cannot write temporal weights to {path}: {error}") from error

    def load_weights(self, path: str | Path) -> None:
        """Read what `save_weights` wrote.

        Raises:
            SettingError: No layers yet, or the file was written with other settings.
            WeightsError: The file is missing or of another kind, or its names or shapes are not those of the layers.
        """
        self._check_has_layers()
        if not Path(path).is_file():
            raise WeightsError(f"no temporal weights at {path}; give a file that save_weights wrote")
        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"cannot read temporal weights from {path}: {error}") from error
        if metadata.get("format") != _FORMAT:
            raise WeightsError(f"{path} was not written by save_weights; try load_motion_adapter")
        stated = _SETTINGS_OF_OLD_FILES | metadata
        for setting, ours in self._metadata().items():
            if stated.get(setting) != ours:
                raise SettingError(
                    f"{path} was trained with {setting} {stated.get(setting)}, these layers have {ours}; set {setting}"
                )
        wanted = self.layers.state_dict()
        if unlike := sorted(state.keys() ^ wanted.keys()):
            raise WeightsError(
                f"{path} and the layers here differ in {listed(unlike)}; take the same backbone and levels"
            )
        for name, weight in state.items():
            if weight.shape != wanted[name].shape:
                raise WeightsError(
                    f"{name} in {path} has shape {tuple(weight.shape)}, here it is {tuple(wanted[name].shape)}; "
                    "take weights that were made for this backbone"
                )
        self.layers.load_state_dict(state)

    def motion_adapter(self, max_frames: int = 32, *, allow_different: bool = False) -> MotionAdapter:
        """Copy the weights into a diffusers `MotionAdapter`, which computes the same in a `UNetMotionModel`.

        diffusers takes the statistics of its first norm from all frames of a clip together, in as many groups as the
        UNet's own norms have. Layers that were trained otherwise cannot be converted: the same weights would compute
        something else there, so they are refused.

        Args:
            max_frames: Largest number of frames of a clip that diffusers accepts with it; here there is no limit.
            allow_different: Whether layers that diffusers computes differently are exported all the same.

        Raises:
            SettingError: No layers yet; they are convolutions; diffusers would compute something else; or the stages
                of the backbone are laid out as no `MotionAdapter` can be.
        """
        layers = self._transformers()
        if not allow_different and (found := motion.differences(layers, self._unet_settings)):
            raise SettingError(
                f"diffusers would compute something else with these temporal layers: {'; '.join(found)}; "
                "train with other settings to export, or pass allow_different=True"
            )
        return motion.build_motion_adapter(layers, self._site_channels, self.heads, self.groups, max_frames)

    def load_motion_adapter(self, source: MotionAdapter | Mapping[str, Tensor] | str | Path) -> None:
        """Take the weights of a diffusers `MotionAdapter` or of AnimateDiff's motion module.

        Args:
            source: The adapter; its state, or that of AnimateDiff under its own names; or a path to a folder of
                diffusers, a safetensors file or a .ckpt file.

        Raises:
            SettingError: No layers yet, they are convolutions, or an adapter has other heads or groups.
            WeightsError: The file cannot be read, or weights are missing, left over or of another shape.
        """
        layers = self._transformers()
        if isinstance(source, nn.Module):
            motion.check_same_settings(source, layers)
            state: Mapping[str, Any] = source.state_dict()
        else:
            state = motion.read_motion_weights(Path(source)) if isinstance(source, str | Path) else source
        motion.check_codes(state, self.has_position_codes)
        state = motion.diffusers_names(state)
        self.layers.load_state_dict(motion.weights_by_site(state, layers, self._site_channels))

    def _made_for(self, site: Site) -> nn.Module:
        if self.layer == "convolution":
            made: nn.Module = TemporalConvolution(site.channels, self.groups, self.is_norm_per_frame)
        else:
            heads = largest_divisor(site.channels, self.heads)
            made = TemporalTransformer(
                site.channels, heads, self.groups, self.is_norm_per_frame, self.has_position_codes
            )
        where = next(site.module.parameters(), None)
        if where is None:
            return made
        # At least float32 over half precision, which would lose the steps of a small learning rate
        return made.to(where.device, torch.promote_types(where.dtype, torch.float32))

    def _frames_in(self, network: nn.Module) -> int:
        context = network.running.current if isinstance(network, AbstractBackbone) else None
        frames = self.frames if context is None else context.frames
        if frames is None:
            raise SettingError(
                f"a {type(network).__name__} does not know which images are a clip; set frames of the temporal layers "
                "to the number of frames per clip, as in tcs.frames = 16"
            )
        if self.frames not in (None, frames):
            raise SettingError(
                f"frames of the temporal layers is {self.frames}, but {type(network).__name__} got clips of {frames}; "
                "leave frames None with a backbone that knows them"
            )
        return frames

    def _is_chosen(self, site: Site, sites: Sequence[Site]) -> bool:
        if self.levels is None and self.has_mid:
            return True
        part, stage, _ = motion.place_of(site.name)
        if part == "mid":
            return self.has_mid
        level = stage if part == "down" else _levels_of(sites) - 1 - stage
        return self.levels is None or level in self.levels

    def _transformers(self) -> dict[str, TemporalTransformer]:
        self._check_has_layers()
        if self.layer != "attention":
            raise SettingError(
                f"a MotionAdapter holds attention layers, these are {self.layer}; set layer to attention"
            )
        return cast(dict[str, TemporalTransformer], dict(self.layers.items()))

    def _check_has_layers(self) -> None:
        if not self.layers:
            raise SettingError("the temporal layers are made when they are attached; call attach(backbone) first")

    def _metadata(self) -> dict[str, str]:
        """The format and the settings without which the same weights would compute something else."""
        settings = {"layer": self.layer, "groups": self.groups, "is_norm_per_frame": self.is_norm_per_frame}
        if self.layer == "attention":
            settings |= {"heads": self.heads, "has_position_codes": self.has_position_codes}
        return {"format": _FORMAT} | {name: str(value) for name, value in settings.items()}


def _levels_of(sites: Sequence[Site]) -> int:
    """Number of resolutions of a network."""
    return 1 + max(motion.place_of(site.name)[1] for site in sites)
