"""Completion by pieces: textures go on, known pixels stay, unknown ones are never looked at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pa_lib.functional.completion import completed
from pa_lib.functional.filling import filled


def with_hole(height: int, width: int, side: int) -> Tensor:
    """What is known of a picture with a square hole in its middle."""
    known = torch.ones(height, width, dtype=torch.bool)
    top, left = (height - side) // 2, (width - side) // 2
    known[top : top + side, left : left + side] = False
    return known


def noise(height: int, width: int) -> Tensor:
    """Leaves, so to say: noise with a spectrum, different in every color."""
    made = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(3))
    soft = torch.nn.functional.avg_pool2d(made, 3, 1, 1)[0]
    return (128 + 40 * soft / soft.std()).clamp(0, 255).byte()


@pytest.mark.parametrize(("down", "across"), [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_stripes_of_any_direction_go_on(down: int, across: int) -> None:
    y, x = torch.arange(72)[:, None], torch.arange(72)
    stripes = ((down * y + across * x) % 8 < 4).byte().mul(180).add(20).expand(3, 72, 72)
    known = with_hole(72, 72, 20)
    found, is_known = completed(torch.where(known, stripes, 0), known, ~known)
    assert bool(is_known.all())
    assert float((found.float() - stripes.float()).abs().mean()) < 2  # 90 in the hole by their mean, 7 of all


def test_an_edge_meets_itself_behind_the_hole() -> None:
    picture = torch.full((3, 64, 80), 30, dtype=torch.uint8)
    picture[:, :, 40:] = 210
    known = with_hole(64, 80, 24)
    found, _ = completed(torch.where(known, picture, 255), known, ~known)
    torch.testing.assert_close(found.float(), picture.float(), atol=3, rtol=0)


def test_texture_keeps_its_contrast_also_in_a_hole_that_is_searched_on_a_coarser_grid() -> None:
    picture, known = noise(330, 330), with_hole(330, 330, 110)  # twice as many pixels as samples
    found, is_known = completed(torch.where(known, picture, 0), known, ~known)
    assert bool(is_known.all())
    inside = found[:, ~known].float()
    smooth = filled(torch.where(known, picture, 0)[None].float(), (~known)[None, None].float())[0][:, ~known]
    expected = picture[:, known].float().std()
    assert 0.85 * expected < float(inside.std()) < 1.1 * expected
    assert float(smooth.std()) < 0.3 * expected  # what it was before
    fine = (found[:, 1:] - found[:, :-1].float()).abs()[:, ~known[1:]].mean()
    assert float(fine) > 0.85 * float((picture[:, 1:] - picture[:, :-1].float()).abs().mean())


def test_known_pixels_stay_and_what_is_not_wanted_stays_unknown() -> None:
    picture, known = noise(60, 60), with_hole(60, 60, 16)
    wanted = ~known
    wanted[:, 30:] = False
    found, is_known = completed(picture, known, wanted)
    assert torch.equal(is_known, known | wanted)
    assert torch.equal(found[:, known], picture[:, known])
    assert torch.equal(found[:, ~is_known], picture[:, ~is_known])


def test_unknown_pixels_are_not_looked_at_and_the_same_picture_is_completed_the_same_way() -> None:
    picture, known = noise(60, 60), with_hole(60, 60, 20)
    other = torch.where(known, picture, 255 - picture)
    first, second, again = (completed(one, known, ~known)[0] for one in (picture, other, picture))
    assert torch.equal(first, second)
    assert torch.equal(first, again)


def test_light_that_falls_off_leaves_no_edge() -> None:
    ramp = torch.linspace(40, 200, 96).expand(3, 64, 96).round().byte()
    known = with_hole(64, 96, 24)
    found, _ = completed(torch.where(known, ramp, 0), known, ~known)
    assert int((found[:, :, 1:].int() - found[:, :, :-1].int()).abs().max()) <= 12  # it changes by 2 a pixel


@pytest.mark.parametrize("n_known", [0, 5])
def test_where_hardly_anything_is_known_nothing_is_completed(n_known: int) -> None:
    known = torch.zeros(40, 40, dtype=torch.bool)
    known[:n_known] = True
    picture = noise(40, 40)
    found, is_known = completed(picture, known, ~known)
    assert torch.equal(found, picture)
    assert torch.equal(is_known, known)


def test_without_a_hole_there_is_nothing_to_do() -> None:
    picture = noise(8, 8)
    known = torch.ones(8, 8, dtype=torch.bool)
    found, is_known = completed(picture, known, known)
    assert torch.equal(found, picture)
    assert torch.equal(is_known, known)
    nowhere, none = completed(picture[:, :0], known[:0], known[:0])
    assert nowhere.shape == (3, 0, 8)
    assert not none.numel()
