"""The embedded default backbone: a small UNet without text, for a CPU and small crops."""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffusers.models.unets.unet_2d import UNet2DModel
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.modules.backbones._blocks import flat_input
from pa_lib.modules.backbones.context import ForwardContext
from pa_lib.modules.backbones.unet import AbstractUNetBackbone

_MOST_GROUPS = 32  # Wu and He 2018, and what Stable Diffusion has
_LEAST_PER_GROUP = 4  # ours: a group of one channel is instance normalization, which forgets colours


class CompactUNet(AbstractUNetBackbone):
    """A `UNet2DModel` of diffusers that takes clips: every frame is an image to it, and adapters make it see more.

    For training from scratch on small grids (16 x 16 or 8 x 8 latents, such as `Patchify` makes). Channel order of the
    input: noisy, mask, background.

    Args:
        channels: Number of channels c of the latents.
        condition_channels: Number of channels k of the condition, mask and background together; 0 for none.
        widths: Number of channels of each level, finest first; the resolution halves from one to the next.
        layers: Number of ResNets per level on the way down; one more on the way up.
        attention_levels: Levels with attention, 0 = the finest. The middle has attention where any level has.
        head_width: Number of channels per attention head; divides the widths of the levels with attention, and the last
            one.

    Raises:
        SettingError: A setting is out of range, or widths do not divide.

    >>> import torch
    >>> backbone = CompactUNet(channels=4, condition_channels=5, widths=(8, 16), layers=1, attention_levels=(1,),
    ...                        head_width=8)
    >>> noisy, condition = torch.zeros(1, 2, 4, 8, 8), torch.zeros(1, 2, 5, 8, 8)
    >>> backbone(noisy, ForwardContext(frames=2, timesteps=torch.tensor([3]), concat=condition)).shape
    torch.Size([1, 2, 4, 8, 8])

    Ours: sizes and the choice of groups. With the default sizes, 48 channels and 49 of condition it has 13.6 million
    weights; eight 16 x 16 frames forward and backward take 0.6 s on one core.
    Source: Ho et al. 2020, https://arxiv.org/abs/2006.11239, for the network.
    """

    def __init__(
        self,
        channels: int,
        condition_channels: int,
        widths: Sequence[int] = (96, 160, 192),
        layers: int = 2,
        attention_levels: Sequence[int] = (1, 2),
        head_width: int = 32,
    ) -> None:
        super().__init__()
        widths, attending = tuple(widths), set(attention_levels)
        _check(channels, condition_channels, widths, layers, attending, head_width)
        down = ["AttnDownBlock2D" if level in attending else "DownBlock2D" for level in range(len(widths))]
        up = ["AttnUpBlock2D" if level in attending else "UpBlock2D" for level in reversed(range(len(widths)))]
        self.channels = channels
        self.condition_channels = condition_channels
        self.text_width = None
        self.unet = UNet2DModel(
            in_channels=channels + condition_channels,
            out_channels=channels,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            block_out_channels=widths,
            layers_per_block=layers,
            attention_head_dim=head_width,
            norm_num_groups=_groups(widths),
            add_attention=bool(attending),
        )
        self._multiple = 2 ** (len(widths) - 1)

    @property
    def is_text_optional(self) -> bool:
        """Whether it runs without text; it runs only without."""
        return True

    def forward(self, noisy: Float[Tensor, "b t c h w"], context: ForwardContext) -> Float[Tensor, "b t c h w"]:
        """The prediction for every frame; see `AbstractBackbone.forward`.

        Raises:
            SettingError: Channels or sizes do not fit, or text or residuals are given.
        """
        if context.text is not None:
            raise SettingError("the compact backbone takes no text and got some; choose module/text=none")
        if context.residuals is not None:
            raise SettingError(
                "the compact backbone takes no residuals of a control network; choose a UNet of diffusers"
            )
        images = flat_input(noisy, context, self.channels, self.condition_channels)
        if images.shape[-2] % self._multiple or images.shape[-1] % self._multiple:
            raise SettingError(
                f"the compact backbone got latents of {images.shape[-1]} x {images.shape[-2]}, expected multiples of "
                f"{self._multiple}; choose another crop size or fewer widths"
            )
        before, self.running.current = self.running.current, context
        try:
            predicted: Tensor = self.unet(
                images, context.timesteps.repeat_interleave(context.frames), return_dict=False
            )[0]
        finally:
            self.running.current = before
        return rearrange(predicted, "(b t) c h w -> b t c h w", t=context.frames)


def _groups(widths: tuple[int, ...]) -> int:
    """The most groups that divide every width and leave each group enough channels."""
    common = math.gcd(*widths)
    most = min(_MOST_GROUPS, common // _LEAST_PER_GROUP)
    return max(count for count in range(1, most + 1) if common % count == 0)


def _check(
    channels: int,
    condition_channels: int,
    widths: tuple[int, ...],
    layers: int,
    attending: set[int],
    head_width: int,
) -> None:
    if channels < 1 or condition_channels < 0 or layers < 1 or head_width < 1:
        raise SettingError(
            f"compact backbone: channels {channels}, condition_channels {condition_channels}, layers {layers} and "
            f"head_width {head_width} must be at least 1, 0, 1 and 1"
        )
    if not widths or min(widths) < 1 or math.gcd(*widths) < _LEAST_PER_GROUP:
        raise SettingError(
            f"compact backbone: widths {list(widths)} have no common divisor of {_LEAST_PER_GROUP} or more, which "
            "group normalization needs; choose multiples of 8, better of 32"
        )
    if not attending <= set(range(len(widths))):
        raise SettingError(
            f"compact backbone: attention_levels {sorted(attending)} name levels that {len(widths)} widths do not "
            f"have; choose from 0 to {len(widths) - 1}"
        )
    undivided = [widths[level] for level in sorted(attending | {len(widths) - 1}) if widths[level] % head_width]
    if attending and undivided:
        raise SettingError(
            f"compact backbone: head_width {head_width} does not divide the attending widths {undivided}; "
            "choose a head_width that divides them all"
        )
