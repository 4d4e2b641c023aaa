"""Blur, sharpness and grain that a reference lacks, from film whose blur and grain are known."""

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


@pytest.mark.parametrize(("blur", "own"), [(0.7, 0.9), (0.7, 2.0)])
def test_what_is_softer_than_the_film_is_sharpened_within_limits(blur: float, own: float) -> None:
    missing = missing_texture(person(film(blur, 0.0)), Checked(own))
    assert missing.blur == 0
    assert missing.sharpening == pytest.approx(min((own**2 - blur**2) ** 0.5, 0.6), rel=0.3)


def test_sharpening_undoes_a_blur_and_keeps_what_is_flat() -> None:
    sharp = torch.cat([film(0.8, 0.0) / 255, torch.ones(1, 1, SIDE, SIDE)], 1)
    soft = gaussian_blur2d(sharp, (7, 7), (0.5, 0.5), "replicate")
    again = Texture(sharpening=0.5).sharp_as_film(soft)
    inside = (..., slice(8, -8), slice(8, -8))
    assert float((again - sharp)[inside].abs().mean()) < 0.2 * float((soft - sharp)[inside].abs().mean())
    flat = torch.full((1, 4, 20, 20), 0.5)
    torch.testing.assert_close(Texture(sharpening=0.6).sharp_as_film(flat)[..., 4:-4, 4:-4], flat[..., 4:-4, 4:-4])


def test_colors_never_exceed_alpha() -> None:
    picture = torch.rand(1, 4, 30, 30, generator=torch.Generator().manual_seed(1))
    picture[:, :3] *= picture[:, 3:]
    for texture in (Texture(sharpening=0.6), Texture(blur=1.0)):
        made = texture.sharp_as_film(picture)
        assert float(made.min()) >= 0
        assert bool((made[:, :3] <= made[:, 3:]).all())


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
    assert torch.equal(Texture().sharp_as_film(picture), picture)
