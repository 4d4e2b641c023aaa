"""Blur and grain: of edges and noise that are known."""

from __future__ import annotations

import pytest
import torch

from pa_lib.functional.texture import REACH_PX, blur_px, grain

SIDE = 96
EVERYWHERE = torch.ones(SIDE, SIDE, dtype=torch.bool)


def edges(sigma: float) -> torch.Tensor:
    """Bars with edges of a Gaussian blur: differences of normal distribution functions."""
    x = torch.arange(SIDE) + 0.5
    bar = sum(
        0.3 * torch.special.ndtr((x - start) / sigma) - 0.3 * torch.special.ndtr((x - start - 24) / sigma)
        for start in (12.2, 60.7)
    )
    return (0.2 + bar).expand(SIDE, SIDE).float()


@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.5])
def test_blur_of_known_edges(sigma: float) -> None:
    found = blur_px(edges(sigma), EVERYWHERE)
    assert found == pytest.approx(sigma, rel=0.25)


def test_where_there_is_no_edge_there_is_no_blur() -> None:
    assert blur_px(torch.full((SIDE, SIDE), 0.4), EVERYWHERE) is None
    assert blur_px(edges(1.0), ~EVERYWHERE) is None


@pytest.mark.parametrize("sigma", [0.005, 0.02])
def test_grain_of_known_noise_on_edges_and_ramps(sigma: float) -> None:
    noise = sigma * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(0, 0.3, SIDE)[:, None]
    assert grain(edges(1.5) + ramp + noise, EVERYWHERE) == pytest.approx(sigma, rel=0.1)
    assert grain(edges(1.5) + ramp, EVERYWHERE) < 1e-3
    assert grain(noise, ~EVERYWHERE) == 0


def test_pixels_out_of_reach_do_not_matter() -> None:
    where = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    where[:, : SIDE // 2 - REACH_PX] = True
    one = edges(1.2) + 0.01 * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    two = one.clone()
    two[:, SIDE // 2 :] = 9
    assert blur_px(one, where) == blur_px(two, where)
    assert grain(one, where) == grain(two, where)
