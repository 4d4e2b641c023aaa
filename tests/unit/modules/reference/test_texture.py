"""Blur and grain that a reference lacks, from film whose blur and grain are known."""

from __future__ import annotations

import pytest
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from pa_lib.contracts import Box, HeadPose, PersonMask
from pa_lib.modules import AbstractPlaced, CropAligner, PersonInCrops
from pa_lib.modules.reference.base import Surroundings
from pa_lib.modules.reference.texture import Texture, missing_texture

SIDE = 160


def film(blur: float, noise: float) -> Tensor:
    """Checks of 16 px."""
    at = torch.arange(SIDE) // 16 % 2
    checks = 0.2 + 0.5 * (at[None] ^ at[:, None]).float()
    soft = gaussian_blur2d(checks.expand(1, 3, SIDE, SIDE), 17, (blur, blur))
    grain = noise * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    return ((soft + grain).clamp(0, 1) * 255).round().byte()


class Checked(AbstractPlaced):
    """Is opaque, and as blurred as it is told."""

    def __init__(self, blur: float) -> None:
        self.frame = film(blur, 0.0)[0] / 255

    def picture(self, frame: int, box: Box, height: int, width: int) -> Tensor:
        x0, y0, *_ = (int(value) for value in box)
        part = self.frame[:, y0 : y0 + height, x0 : x0 + width]
        return torch.cat([part, torch.ones_like(part[:1])])


def person(frames: Tensor) -> PersonInCrops:
    mask = PersonMask(3, 0, 60, 60, torch.ones(40, 40), "face")
    hidden = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    hidden[:, 60:100, 60:100] = True
    crops = CropAligner(32, 3.0).align(frames, [mask], hidden)
    return PersonInCrops(3, 1, [HeadPose(80, 80, 10)], crops, around=Surroundings(frames, hidden, [0], 7))


@pytest.mark.parametrize(("blur", "own"), [(2.0, 0.8), (1.5, 0.7)])
def test_blurs_add_up(blur: float, own: float) -> None:
    missing = missing_texture(person(film(blur, 0.0)), Checked(own))
    assert missing.blur == pytest.approx((blur**2 - own**2) ** 0.5, rel=0.3)
    assert missing.noise < 3e-3


def test_what_is_soft_stays_as_it_is() -> None:
    assert missing_texture(person(film(0.7, 0.0)), Checked(2.0)).blur == 0


def test_grain_is_as_strong_as_the_film_s() -> None:
    missing = missing_texture(person(film(1.0, 0.02)), Checked(1.0))
    assert missing.noise == pytest.approx(0.02, rel=0.15)
    drawn = missing.grain(0, 200, 200)
    assert float(drawn.std()) == pytest.approx(missing.noise, rel=0.05)
    assert torch.equal(drawn, missing.grain(0, 200, 200))
    assert missing.keys == [(1, 3, 7)]


def test_hidden_pixels_are_not_measured() -> None:
    frames = film(1.2, 0.01)
    changed = frames.clone()
    changed[:, :, 60:100, 60:100] = torch.randint(0, 256, (1, 3, 40, 40)).byte()
    assert missing_texture(person(frames), Checked(0.7)) == missing_texture(person(changed), Checked(0.7))


def test_without_surroundings_nothing_is_missing() -> None:
    given = person(film(1.2, 0.01))
    alone = PersonInCrops(3, 1, given.poses, given.crops)
    assert missing_texture(alone, Checked(0.7)) == Texture()
    picture = torch.rand(1, 4, 9, 9)
    assert torch.equal(Texture().blurred(picture), picture)
