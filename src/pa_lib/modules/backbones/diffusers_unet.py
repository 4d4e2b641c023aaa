"""Any text-conditional UNet of diffusers as a backbone: SD 1.5, SD 2, SDXL, and their inpainting variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pa_lib.errors import SettingError, WeightsError
from pa_lib.modules.backbones._blocks import flat_input, text_widths
from pa_lib.modules.backbones.base import TrainedWith
from pa_lib.modules.backbones.context import ForwardContext, Residuals, TextCondition
from pa_lib.modules.backbones.unet import AbstractUNetBackbone
from pa_lib.modules.weights_folder import load_network, scheduler_settings

_PIXELS_PER_LATENT = 8  # of every autoencoder that SDXL was trained with; its size conditions count pixels


class DiffusersUNet(AbstractUNetBackbone):
    """A `UNet2DConditionModel` that takes clips: every frame is an image to it, and adapters make it see more.

    Give one of `path`, `unet` and `config`. A UNet without an input for masks (4 channels in, 4 out) gets further
    input channels for the condition with weights of zero: training starts as the base model, whatever the condition
    is. One that was trained for inpainting (4 + 5 in, 4 out) is kept as it is. Channel order is that of diffusers'
    inpainting models: noisy, mask, background.

    Args:
        path: Local folder saved by diffusers, of the whole pipeline or of the UNet alone, or an id on the hub.
        unet: Existing UNet. It is used, not copied.
        config: Configuration as diffusers writes it; weights are random.
        condition_channels: Number of channels k of the condition, mask and background together; 0 for none.
        subfolder: Subfolder of `path` that holds the UNet.
        null_tokens: Number of learned tokens that stand in for the text where none is given, of unit variance at first.
            With 0 a UNet with cross-attention refuses to run without text. Ours, for networks that are trained from
            scratch; one that was trained with text needs its own empty prompt.
        dtype: Type of the weights: ``bfloat16``, ``float16``, ``float32`` or a `torch.dtype`; None keeps their own.
            Half precision is for a frozen UNet: half the memory, and adapters stay in float32.
        variant: Variant of the files in `path`, e.g. ``fp16``.
        is_noise_checked: Whether a noise process is refused that contradicts the scheduler in the folder. False for
            weights that learn another one (AnimateDiff trains on linear betas over Stable Diffusion).

    Raises:
        SettingError: Not exactly one of the three is given, or another setting is out of range.
        WeightsError: Nothing can be loaded, the UNet wants a condition that we do not have (classes, images), or its
            channels fit neither way.

    >>> config = dict(block_out_channels=[8, 16], layers_per_block=1, norm_num_groups=4, attention_head_dim=2,
    ...               cross_attention_dim=8, down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
    ...               up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"])
    >>> backbone = DiffusersUNet(config=config, null_tokens=1)
    >>> noisy, condition = torch.zeros(1, 2, 4, 8, 8), torch.zeros(1, 2, 5, 8, 8)
    >>> backbone(noisy, ForwardContext(frames=2, timesteps=torch.tensor([3]), concat=condition)).shape
    torch.Size([1, 2, 4, 8, 8])

    Source: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, for the network and the nine channels of its
    inpainting variant; zero weights for new input channels follow diffusers' inpainting training.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        unet: UNet2DConditionModel | None = None,
        config: Mapping[str, Any] | None = None,
        condition_channels: int = 5,
        subfolder: str = "unet",
        null_tokens: int = 0,
        dtype: str | torch.dtype | None = None,
        variant: str | None = None,
        is_noise_checked: bool = True,
    ) -> None:
        super().__init__()
        self.unet: UNet2DConditionModel
        self.comes_from(path)
        self.unet = load_network(UNet2DConditionModel, path, unet, config, subfolder, dtype=dtype, variant=variant)
        if path is not None and is_noise_checked and (scheduler := scheduler_settings(path)):
            self.trained_with = TrainedWith(path, scheduler)
        _refuse_other_conditions(self.unet)
        self.channels = int(self.unet.config["out_channels"])
        self.condition_channels = condition_channels
        _widen_input(self.unet, self.channels, condition_channels)
        self.text_width = _text_width(self.unet)
        self._wants_pooled = self.unet.config["addition_embed_type"] == "text_time"
        self.null_text = self._stand_in(null_tokens)

    @property
    def is_text_optional(self) -> bool:
        """Whether it runs without text: it has no cross-attention, or tokens that stand in."""
        return self.text_width is None or self.null_text is not None

    def forward(self, noisy: Float[Tensor, "b t c h w"], context: ForwardContext) -> Float[Tensor, "b t c h w"]:
        """The prediction for every frame; see `AbstractBackbone.forward`.

        Raises:
            SettingError: Channels or sizes do not fit; text is missing, or not as wide as the UNet's.
        """
        images = flat_input(noisy, context, self.channels, self.condition_channels).to(self.unet.dtype)
        states = self._states(context.text, len(noisy))
        before, self.running.current = self.running.current, context
        try:
            predicted: Tensor = self.unet(
                images,
                context.timesteps.repeat_interleave(context.frames),
                None if states is None else states.to(images.dtype).repeat_interleave(context.frames, 0),
                added_cond_kwargs=self._added_conditions(context.text, noisy.to(images.dtype)),
                return_dict=False,
                **_flat_residuals(context.residuals, images.dtype),
            )[0]
        finally:
            self.running.current = before
        if images.dtype != noisy.dtype:  # half-precision weights: the latents stay what they are
            predicted = predicted.to(noisy.dtype)
        return rearrange(predicted, "(b t) c h w -> b t c h w", t=context.frames)

    def _stand_in(self, tokens: int) -> nn.Parameter | None:
        if tokens and (self.text_width is None or self._wants_pooled):
            why = "also wants pooled text" if self._wants_pooled else "has no cross-attention"
            raise SettingError(f"null_tokens is {tokens} but this UNet {why}; set null_tokens to 0")
        return nn.Parameter(torch.randn(1, tokens, self.text_width or 0)) if tokens else None

    def _states(self, text: TextCondition | None, clips: int) -> Float[Tensor, "b l d"] | None:
        if self.text_width is None:
            return None  # diffusers' networks without cross-attention look at no states
        if text is None:
            if self.null_text is None:
                raise SettingError(
                    f"the UNet wants text of width {self.text_width} and got none; choose module/text=clip "
                    "(the empty prompt is the unconditional one), or set null_tokens of a UNet trained from nothing"
                )
            return self.null_text.expand(clips, -1, -1)
        if text.states.shape[0] != clips or text.states.shape[-1] != self.text_width:
            raise SettingError(
                f"the UNet got text of shape {tuple(text.states.shape)}, expected {clips} l {self.text_width}; "
                "use the text encoder of the same model (module.text.path) and one prompt per clip"
            )
        return text.states

    def _added_conditions(
        self, text: TextCondition | None, noisy: Float[Tensor, "b t c h w"]
    ) -> dict[str, Tensor] | None:
        """SDXL's: pooled text, and original size, crop corner, target size in pixels: the crop's own, uncropped."""
        if not self._wants_pooled:
            return None
        if text is None or text.pooled is None:
            raise SettingError("the UNet wants pooled text and got none; use the text encoders of the same SDXL model")
        clips, frames, _, height, width = noisy.shape
        size = (height * _PIXELS_PER_LATENT, width * _PIXELS_PER_LATENT)
        time_ids = torch.tensor([*size, 0, 0, *size], dtype=noisy.dtype, device=noisy.device)
        pooled = text.pooled.to(noisy.dtype).repeat_interleave(frames, 0)
        return {"text_embeds": pooled, "time_ids": time_ids.expand(clips * frames, -1)}


def _flat_residuals(residuals: Residuals | None, dtype: torch.dtype) -> dict[str, Any]:
    """As diffusers' UNet takes them: every frame an image of its own."""
    if residuals is None:
        return {}
    down = tuple(rearrange(skip, "b t c h w -> (b t) c h w").to(dtype) for skip in residuals.down)
    mid = rearrange(residuals.mid, "b t c h w -> (b t) c h w").to(dtype)
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}


def _refuse_other_conditions(unet: UNet2DConditionModel) -> None:
    config = unet.config
    added = config["addition_embed_type"]
    unknown = [
        name for name in ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type") if config[name] is not None
    ]
    if unknown or added not in (None, "text_time"):
        names = ", ".join(f"{name}={config[name]}" for name in unknown) or f"addition_embed_type={added}"
        raise WeightsError(
            f"this UNet wants conditions that we do not have ({names}); choose an SD 1, SD 2 or SDXL one"
        )


def _text_width(unet: UNet2DConditionModel) -> int | None:
    widths = text_widths(unet)
    if len(widths) > 1:
        raise WeightsError(
            f"this UNet's blocks want text of {len(widths)} widths {sorted(widths)}; choose one with one"
        )
    return widths.pop() if widths else None


def _widen_input(unet: UNet2DConditionModel, channels: int, condition_channels: int) -> None:
    """Make `conv_in` take the condition too, with zero weights for it, unless it does so already."""
    old = unet.conv_in
    wanted = channels + condition_channels
    if old.in_channels == wanted:
        return
    if old.in_channels != channels:
        raise WeightsError(
            f"this UNet takes {old.in_channels} channels and predicts {channels}, expected it to take {channels} (it is"
            f" widened then) or {wanted} (with the condition); choose another UNet, or another condition_channels than "
            f"{condition_channels}"
        )
    new = nn.Conv2d(
        wanted,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        device=old.weight.device,
        dtype=old.weight.dtype,
    )
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :channels].copy_(old.weight)
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=wanted)  # type: ignore[no-untyped-call]
