"""Crops enlarged with the detail of a reference."""

from __future__ import annotations

import torch
from torch import Tensor

from pa_lib.functional.crops import resample
from pa_lib.modules.reference.detail import enlarged

SIDE, LARGE = 16, 64


def head(radius: float = 0.3) -> Tensor:
    """A disc with fine stripes, color times alpha and alpha, at full size."""
    at = (torch.arange(LARGE) + 0.5) / LARGE
    alpha = (((at[None] - 0.5) ** 2 + (at[:, None] - 0.5) ** 2) < radius**2).float()
    color = 0.5 + 0.3 * (torch.arange(LARGE) % 2)[None, None].expand(3, LARGE, LARGE)
    return torch.cat([color * alpha, alpha[None]])


def small(picture: Tensor) -> Tensor:
    n = LARGE // SIDE
    return picture.unfold(1, n, n).unfold(2, n, n).mean((-1, -2))


def test_a_network_that_gives_the_reference_back_gives_it_back_sharp() -> None:
    picture = head()
    grid = small(picture)
    wall = torch.tensor([0.1, 0.6, 0.2])[:, None, None]
    crop = grid[:3] + (1 - grid[3:]) * wall
    large = enlarged(crop, grid, picture, (0.0, 0.0, SIDE, SIDE))
    expected = picture[:3] + (1 - picture[3:]) * wall
    error = (large - expected).abs()
    assert float(error.mean()) < 5e-3
    assert float(error.max()) < 0.2  # in cells of the edge, which mix head and wall
    plain = resample(crop, (0.0, 0.0, SIDE, SIDE), LARGE, LARGE, "bicubic")
    assert float((plain - expected).abs().mean()) > 5 * float(error.mean())


def test_the_low_band_is_the_network_s() -> None:
    picture = head()
    grid = small(picture)
    crop = grid[:3] - 0.2 * grid[3:]
    darker = enlarged(crop, grid, picture, (0.0, 0.0, SIDE, SIDE))
    inside = slice(24, 40)
    torch.testing.assert_close(darker[:, inside, inside], picture[:3, inside, inside] - 0.2, atol=1e-4, rtol=0)


def test_without_a_reference_it_is_a_plain_resampling() -> None:
    crop = torch.rand(3, SIDE, SIDE)
    part = (2.5, 3.0, 12.5, 13.0)
    large = enlarged(crop, torch.zeros(4, SIDE, SIDE), torch.zeros(4, 40, 40), part)
    torch.testing.assert_close(large, resample(crop, part, 40, 40, "bilinear"))
