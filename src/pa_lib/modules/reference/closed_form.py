"""A light in closed form: colors of the reference get mean and spread of what is visible around it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from kornia.color import lab_to_rgb, rgb_to_lab
from torch import Tensor
from torch.nn.functional import max_pool2d

from pa_lib.errors import SettingError
from pa_lib.functional.skin import skin_hue
from pa_lib.modules.reference.light import AbstractLight, LightScene

_LEAST_CHROMA = 8.0  # below it a hue means little
_REST = 0.05  # weight of what does not look like skin, which counts where no skin is seen
_UNIT_SPREAD = 4.0  # of Lab, which both spreads have more: an even color says nothing about contrast


class ClosedFormLight(AbstractLight):
    r"""Mean and spread in Lab, taken from a ring around the hidden part; skin there counts most.

    .. math:: y = \mu_s + g\,(x - \mu_s) + \lambda\,(\mu_r - \mu_s), \quad
        g = \min\!\left(\max\!\left(\tfrac{\sigma_r + 4}{\sigma_s + 4}, g_0\right), g_1\right)

    with means :math:`\mu` and spreads :math:`\sigma` of the reference (s) and of the ring (r), weighted by how much a
    color looks like skin (plus 0.05). Pixels that are exactly black are not counted: beyond the frame all are.

    Args:
        reach: Width of the ring as a share of the picture's side, in (0, 1].
        share: Share :math:`\lambda` of the difference of the means that is made up for, in [0, 1].
        least_gain, most_gain: Limits :math:`g_0, g_1` of the change of contrast, > 0.

    Raises:
        SettingError: A setting is out of range.

    Source: Reinhard et al. 2001, Color transfer between images, section 2. Differs: CIELAB, weights, limits.
    """

    def __init__(
        self, reach: float = 0.15, share: float = 0.8, least_gain: float = 0.6, most_gain: float = 1.2
    ) -> None:
        if not (0 < reach <= 1 and 0 <= share <= 1 and 0 < least_gain <= most_gain):
            raise SettingError(
                f"closed-form light: reach {reach}, share {share}, gain {least_gain} to {most_gain}: expected shares "
                "up to 1, and the least and the most gain, above 0"
            )
        self.reach = reach
        self.share = share
        self.least_gain = least_gain
        self.most_gain = most_gain

    def numbers(self, scene: LightScene) -> Float[Tensor, "n p"]:
        """Factor and offset of L, a and b; the identity where nothing is visible, or nothing is to be lit."""
        reach = max(1, round(self.reach * scene.pixels.shape[-1]))
        near = max_pool2d(scene.hidden, 2 * reach + 1, 1, reach)
        is_seen = (scene.visible > 0).any(1, keepdim=True)
        ring_mean, ring_spread, ring_mass = _statistics(scene.visible, (near - scene.hidden) * is_seen)
        own_mean, own_spread, own_mass = _statistics(scene.colors, scene.alpha)
        gain = (ring_spread + _UNIT_SPREAD) / (own_spread + _UNIT_SPREAD)
        gain = gain.clamp(self.least_gain, self.most_gain)
        offset = (1 - gain) * own_mean + self.share * (ring_mean - own_mean)
        is_known = ((ring_mass > 0) & (own_mass > 0))[:, None]
        return torch.cat([torch.where(is_known, gain, 1.0), torch.where(is_known, offset, 0.0)], 1)

    def lit(
        self, numbers: Float[Tensor, "n p"], colors: Float[Tensor, "n 3 h w"], chart: Float[Tensor, "n 2 h w"]
    ) -> Float[Tensor, "n 3 h w"]:
        """Colors in this light; it is the same all over the head."""
        gain, offset = numbers[:, :3, None, None], numbers[:, 3:, None, None]
        lit: Tensor = lab_to_rgb(gain * rgb_to_lab(colors) + offset, clip=True)
        return lit.clamp(0, 1)


def _statistics(
    pixels: Float[Tensor, "n 3 h w"], weight: Float[Tensor, "n 1 h w"]
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    """Mean and standard deviation in Lab, and the sum of the weights."""
    lab = rgb_to_lab(pixels)
    hue, chroma = skin_hue(lab)
    skin = hue * torch.sigmoid((chroma - _LEAST_CHROMA) / 2)
    weight = weight * (skin + _REST)
    mass = weight.sum((1, 2, 3))
    shares = weight / mass.clamp(min=1e-6)[:, None, None, None]
    mean = (lab * shares).sum((2, 3))
    variance = ((lab - mean[:, :, None, None]) ** 2 * shares).sum((2, 3))
    return mean, variance.sqrt(), mass
