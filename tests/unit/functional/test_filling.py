"""A smooth fill: from what is visible alone, and like what is near."""

from __future__ import annotations

import pytest
import torch

from pa_lib.functional.filling import filled


def hole(height: int = 33, width: int = 20) -> torch.Tensor:
    hidden = torch.zeros(2, 1, height, width)
    hidden[..., 8:20, 5:15] = 1
    return hidden


def test_one_color_stays() -> None:
    pixels = torch.full((2, 3, 33, 20), 0.3)
    torch.testing.assert_close(filled(torch.where(hole() > 0, 9.0, pixels), hole()), pixels)


def test_visible_pixels_stay_and_hidden_ones_do_not_matter() -> None:
    pixels = torch.rand(2, 3, 33, 20)
    one, two = filled(pixels, hole()), filled(torch.where(hole() > 0, 1 - pixels, pixels), hole())
    assert torch.equal(one, two)
    visible = (hole() == 0).expand_as(pixels)
    assert torch.equal(one[visible], pixels[visible])
    assert float(one.min()) >= 0
    assert float(one.max()) <= 1


def test_each_side_is_like_its_neighbours() -> None:
    pixels = torch.zeros(2, 3, 33, 20)
    pixels[..., 10:] = 1
    result = filled(pixels, hole())
    assert float(result[..., 8:20, 5].mean()) < 0.25
    assert float(result[..., 8:20, 14].mean()) > 0.75
    row = result[0, 0, 14, 5:15]
    assert bool((row.diff() > -0.05).all())


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (64, 64)])
def test_nothing_visible_is_grey(size: tuple[int, int]) -> None:
    assert bool((filled(torch.rand(1, 3, *size), torch.ones(1, 1, *size)) == 0.5).all())
