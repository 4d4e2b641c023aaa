"""A light that is learned: a small network sees what is around a head, and says what its light does to colors."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from pa_lib.errors import SettingError, WeightsError
from pa_lib.modules.reference.light import AbstractLight, LightScene
from pa_lib.paths import path_of
from pa_lib.pretrained import asset_path
from pa_lib.stored import read
from pa_lib.weights_fit import load_weights

ASSET = "doubles_light.safetensors"
SHIPPED = "shipped"
_IN_SYSTEM = "reference.light."  # how its weights are named in checkpoints of systems
_OF_COLOR = 7  # r g b, their squares, 1
_OF_PLACE = 3  # 1 x y
_POOLED = (1, 6)  # grids that the network's view ends in: as a whole, and what is where
_N_PLANES = 8  # of a scene: visible colors, what is hidden, the reference with its alpha
_GROUPS = 4


class LightTransform(AbstractLight, nn.Module):
    r"""Light as a polynomial of a pixel's color and its place on the head, whose coefficients a network predicts.

    .. math:: y_c = x_c + \sum_f K_{cf}\, \phi_f, \quad
        \phi = (r, g, b, r^2, g^2, b^2, 1) \otimes (1, x, y), \quad K = \mathrm{net}(\text{scene})

    So it is a function of single pixels and their places, the same at any resolution: a head keeps its detail. It
    begins as the identity. Dim, hazy, coloured and one-sided light are all within its reach.

    Args:
        width: Channels of the first level of the network, a multiple of 4; the next two have twice and four times as
            many.
        side: Side of the picture that the network sees, in pixels, at least 16. Larger and smaller ones are resampled.
        path: A checkpoint of a system with such a light, whose weights it takes: ``shipped`` for those that come with
            pa_lib (they fit the other two settings as they are). None begins with random weights.
        share: Share of the predicted change that is made when it is not training, in [0, 1].

    Raises:
        SettingError: A setting is out of range.
        WeightsError: The file is missing or damaged, or holds no weights of such a light.

    Ours. With these numbers 1.6 M weights and about 3 ms a head.
    """

    def __init__(self, width: int = 32, side: int = 48, path: str | None = None, share: float = 1.0) -> None:
        super().__init__()
        if width < _GROUPS or width % _GROUPS or side < 16:
            raise SettingError(f"light: width {width}, side {side}: expected a multiple of {_GROUPS}, and at least 16")
        if not 0 <= share <= 1:
            raise SettingError(f"share of the light is {share}, expected a number in [0, 1]")
        self.side = side
        self.share = share
        widths = (width, 2 * width, 4 * width)
        self.view = nn.Sequential(*(_level(old, new) for old, new in zip((_N_PLANES, *widths), widths, strict=False)))
        n_seen = (widths[-1] + _N_PLANES) * sum(grid**2 for grid in _POOLED)
        self.coefficients = nn.Sequential(
            nn.Linear(n_seen, 8 * width), nn.SiLU(), nn.Linear(8 * width, 3 * _OF_COLOR * _OF_PLACE)
        )
        last = self.coefficients[-1]
        for weight in last.parameters():
            nn.init.zeros_(weight)
        if path is not None:
            self._load(asset_path(ASSET) if path == SHIPPED else path_of(path))
            self.comes_from(path)

    def _load(self, path: Path) -> None:
        weights = {
            name.removeprefix(_IN_SYSTEM): tensor
            for name, tensor in read(path).weights.items()
            if name.startswith(_IN_SYSTEM)
        }
        if not weights:
            raise WeightsError(f"{path}: holds no weights of {_IN_SYSTEM[:-1]}; give a system with a learned light")
        load_weights(self, weights, path, slots=None, missing_ok=())

    def numbers(self, scene: LightScene) -> Float[Tensor, "n p"]:
        """The coefficients, 63 of each picture."""
        seen = torch.cat([scene.visible - 0.5 * (1 - scene.hidden), scene.hidden, scene.reference], 1)
        if seen.shape[-1] != self.side:
            seen = interpolate(seen, (self.side, self.side), mode="bilinear", antialias=True)
        # The scene as it is beside what the levels make of it: their normalization takes the colors of the light away
        views = (self.view(seen), seen)
        pooled = [adaptive_avg_pool2d(view, grid).flatten(1) for view in views for grid in _POOLED]
        numbers: Tensor = self.coefficients(torch.cat(pooled, 1))
        return numbers if self.training else self.share * numbers

    def lit(
        self, numbers: Float[Tensor, "n p"], colors: Float[Tensor, "n 3 h w"], chart: Float[Tensor, "n 2 h w"]
    ) -> Float[Tensor, "n 3 h w"]:
        """Colors in this light, in [0, 1]; without limits while it learns, so that it learns where it burns out."""
        one = torch.ones_like(colors[:, :1])
        of_color = torch.cat([colors, colors**2, one], 1)
        of_place = torch.cat([one, chart], 1)
        # One place after the other: nine large products instead of one tensor of 21 planes, which 4K would feel.
        weights = rearrange(numbers, "n (c f g) -> g n c f", c=3, g=_OF_PLACE)
        change = sum(
            torch.einsum("ncf,nfhw->nchw", own, of_color) * of_place[:, at, None] for at, own in enumerate(weights)
        )
        lit: Tensor = colors + change
        return lit if self.training else lit.clamp(0, 1)


def _level(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, 2, 1),
        nn.GroupNorm(_GROUPS, n_out),
        nn.SiLU(),
        nn.Conv2d(n_out, n_out, 3, 1, 1),
        nn.GroupNorm(_GROUPS, n_out),
        nn.SiLU(),
    )
