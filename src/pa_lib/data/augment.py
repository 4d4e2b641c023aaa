"""Augmentation of whole clips: drawn once for a clip, the same for all of its frames, from a generator of its own.

The operations are kornia's functional ones. Its random modules would draw from torch's global generator, and what came
out would depend on everything else that drew from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from kornia.enhance import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    jpeg_codec_differentiable,
)
from kornia.filters import gaussian_blur2d
from kornia.geometry import get_rotation_matrix2d, warp_affine
from torch import Tensor
from torch.nn.functional import interpolate

from pa_lib.data.base import Sample
from pa_lib.errors import SettingError

_N_NUMBERS = 20  # drawn for every clip, whatever is switched on: one option does not change what another draws


@dataclass(frozen=True)
class ClipAugmentation:
    """Flip, geometry, color, blur, lost resolution, compression and light, each with a probability and a strength.

    Masks and references go through flip and geometry with the frames; all else is of the frames alone. The flow is
    dropped: it would no longer be that of the frames.

    Args:
        flip_p: Probability of a mirrored clip.
        geometry_p: Probability of a turn, zoom and shift.
        rotation_deg: Largest turn to either side in degrees.
        zoom: Largest relative change of size: 0.1 gives factors from 1 / 1.1 to 1.1.
        shift: Largest shift as a share of the side, in [0, 0.5].
        color_p: Probability of other brightness, contrast, saturation and hue.
        color: Largest relative change of brightness, contrast and saturation, in [0, 0.9]; the hue turns by at most a
            tenth of it, as a share of a full circle.
        blur_p: Probability of a Gaussian blur.
        blur_px: Largest standard deviation of the blur in pixels.
        downscale_p: Probability of a loss of resolution: shrunk and enlarged again.
        downscale: Largest factor of the loss of resolution, >= 1.
        jpeg_p: Probability of compression like JPEG.
        jpeg_quality: Lowest quality on JPEG's usual scale, 1 to 95; the highest is 95.
        haze_p: Probability of the dim or hazy light of a room or a street, which portraits lack.
        haze: Largest loss of contrast, as a share in [0, 0.9]. A random part of it, none to half, comes back as light
            spread evenly over the picture: 0.6 leaves at least 0.4 of the range, which begins at 0 to 0.3.

    Raises:
        SettingError: A probability outside [0, 1] or a strength out of its range.

    >>> clip = Sample(torch.rand(2, 3, 16, 16), torch.ones(2, 1, 16, 16), clip_id=0)
    >>> ClipAugmentation()(clip, torch.Generator().manual_seed(0)).frames.shape
    torch.Size([2, 3, 16, 16])
    """

    flip_p: float = 0.5
    geometry_p: float = 0.5
    rotation_deg: float = 8.0
    zoom: float = 0.1
    shift: float = 0.05
    color_p: float = 0.5
    color: float = 0.2
    blur_p: float = 0.1
    blur_px: float = 1.0
    downscale_p: float = 0.1
    downscale: float = 2.0
    jpeg_p: float = 0.1
    jpeg_quality: float = 40.0
    haze_p: float = 0.0
    haze: float = 0.6

    def __post_init__(self) -> None:
        least = {"downscale": 1.0, "jpeg_quality": 1.0}
        most = {"jpeg_quality": 95.0, "color": 0.9, "shift": 0.5, "haze": 0.9}
        for name in (field.name for field in fields(self)):
            low, high = least.get(name, 0.0), 1.0 if name.endswith("_p") else most.get(name, math.inf)
            if not low <= getattr(self, name) <= high:
                raise SettingError(f"augmentation {name} {getattr(self, name)}: expected {low:g} to {high:g}")

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """The clip, changed. Shapes and ranges stay.

        Args:
            sample: The clip; it is not changed itself.
            generator: Source of randomness, from which every call takes as many numbers.
        """
        chance, extent = torch.rand(2, _N_NUMBERS, generator=generator).tolist()
        span = [2 * value - 1 for value in extent]  # in [-1, 1]
        planes = [sample.frames, sample.mask, *(() if sample.reference is None else (sample.reference,))]
        if chance[0] < self.flip_p:
            planes = [plane.flip(-1) for plane in planes]
        if chance[1] < self.geometry_p:
            warped = self._warped(torch.cat(planes, 1), span[0:4])
            planes = [warped[:, :3], warped[:, 3:4], *(() if sample.reference is None else (warped[:, 4:],))]
        frames, mask, *reference = planes
        # As it comes about in a video: the scene, its light, the lens, the file.
        changes: tuple[tuple[float, float, Callable[[Tensor, list[float]], Tensor], list[float]], ...] = (
            (chance[2], self.color_p, self._recolored, span[4:8]),
            (chance[6], self.haze_p, self._hazed, extent[11:13]),
            (chance[3], self.blur_p, self._blurred, extent[8:9]),
            (chance[4], self.downscale_p, self._coarsened, extent[9:10]),
            (chance[5], self.jpeg_p, self._compressed, extent[10:11]),
        )
        for drawn, probability, change, by in changes:
            if drawn < probability:
                frames = change(frames, by)
        return replace(
            sample,
            frames=frames.clamp(0, 1).contiguous(),
            mask=mask.clamp(0, 1).contiguous(),
            flow=None,
            reference=reference[0].clamp(0, 1).contiguous() if reference else None,
        )

    def _warped(self, planes: Float[Tensor, "t c h w"], by: list[float]) -> Float[Tensor, "t c h w"]:
        height, width = planes.shape[-2:]
        centre = torch.tensor([[(width - 1) / 2, (height - 1) / 2]])
        factor = math.exp(by[1] * math.log1p(self.zoom))
        matrix = get_rotation_matrix2d(centre, torch.tensor([by[0] * self.rotation_deg]), torch.full((1, 2), factor))
        matrix[:, :, 2] += torch.tensor([[by[2] * self.shift * width, by[3] * self.shift * height]])
        # Mirrored at the border, masks as well: a person who is mirrored into the picture is one.
        warped: Tensor = warp_affine(
            planes, matrix.expand(len(planes), 2, 3), (height, width), padding_mode="reflection", align_corners=True
        )
        return warped

    def _recolored(self, frames: Tensor, by: list[float]) -> Tensor:
        frames = adjust_brightness(frames, 0.5 * self.color * by[0])
        frames = adjust_contrast(frames, 1 + self.color * by[1])
        frames = adjust_saturation(frames, 1 + self.color * by[2])
        recolored: Tensor = adjust_hue(frames, 2 * math.pi * 0.1 * self.color * by[3])
        return recolored

    def _hazed(self, frames: Tensor, by: list[float]) -> Tensor:
        lost = self.haze * by[0]
        return frames * (1 - lost) + 0.5 * lost * by[1]

    def _blurred(self, frames: Tensor, by: list[float]) -> Tensor:
        sigma = max(by[0] * self.blur_px, 1e-3)
        # Reflected at the border, so the kernel must be smaller than the frame.
        radius = min(math.ceil(3 * sigma), min(frames.shape[-2:]) - 1)
        blurred: Tensor = gaussian_blur2d(frames, 2 * radius + 1, (sigma, sigma))
        return blurred

    def _coarsened(self, frames: Tensor, by: list[float]) -> Tensor:
        height, width = frames.shape[-2:]
        factor = 1 + by[0] * (self.downscale - 1)
        small = interpolate(
            frames, (max(1, round(height / factor)), max(1, round(width / factor))), mode="bilinear", antialias=True
        )
        return interpolate(small, (height, width), mode="bilinear")

    def _compressed(self, frames: Tensor, by: list[float]) -> Tensor:
        quality = self.jpeg_quality + by[0] * (95 - self.jpeg_quality)
        compressed: Tensor = jpeg_codec_differentiable(frames, torch.full((len(frames),), quality))
        return compressed
