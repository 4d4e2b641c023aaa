"""A smooth fill: from what is visible alone, and like what is near."""

from __future__ import annotations

import pytest
import torch

from pa_lib.functional.filling import filled, inpainted


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


def test_inpainted_goes_by_visible_pixels_alone() -> None:
    pixels = torch.rand(2, 3, 33, 20)
    one, two = inpainted(pixels, hole()), inpainted(torch.where(hole() > 0, 1 - pixels, pixels), hole())
    assert torch.equal(one, two)
    visible = (hole() == 0).expand_as(pixels)
    assert torch.equal(one[visible], pixels[visible])
    assert torch.equal(inpainted(pixels, torch.ones_like(hole())), torch.full_like(pixels, 0.5))


def test_inpainted_edges_go_on() -> None:
    """Two walls that meet behind a hole: nearer to what is there than a smooth fill is."""
    pixels = torch.zeros(2, 3, 33, 20)
    pixels[..., 10:] = 1
    hidden = (hole() > 0).expand_as(pixels)
    errors = [float((fill(pixels, hole()) - pixels)[hidden].abs().mean()) for fill in (inpainted, filled)]
    assert errors[0] < 0.9 * errors[1]
