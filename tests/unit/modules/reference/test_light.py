"""Light: where heads lie, what a learned transform can say, and what the closed form makes of known colors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.modules import ClosedFormLight, HeadPlaces, LightScene, LightTransform, NoLight

SIDE = 48


def disc(x: float, y: float, radius: float) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    return (((columns - x) ** 2 + (rows - y) ** 2) < radius**2).float()[None, None]


def flat(color: tuple[float, float, float]) -> Tensor:
    return torch.tensor(color).view(1, 3, 1, 1).expand(1, 3, SIDE, SIDE).clone()


def scene(around: Tensor, head: Tensor) -> LightScene:
    alpha, hidden = disc(24, 24, 9), disc(24, 24, 13)
    return LightScene(around * (1 - hidden), hidden, torch.cat([head * alpha, alpha], 1))


def noise(seed: int, n: int = 3) -> LightScene:
    values = torch.rand(n, 8, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    hidden = (values[:, 3:4] > 0.5).float()
    return LightScene(values[:, :3], hidden, torch.cat([values[:, 4:7] * values[:, 7:], values[:, 7:]], 1))


def moved(light: LightTransform) -> LightTransform:
    """With a last layer that says something."""
    with torch.no_grad():
        for weight in light.coefficients[-1].parameters():
            weight.copy_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)))
    return light.eval()


def test_places_of_a_disc() -> None:
    places = HeadPlaces.of(torch.cat([disc(20, 30, 9), torch.zeros(1, 1, SIDE, SIDE)]))
    torch.testing.assert_close(places.centre[0], torch.tensor([20.0, 30.0]) / SIDE, atol=1e-3, rtol=0)
    assert float(places.radius[0]) == pytest.approx(9 / SIDE, rel=0.01)
    assert places.centre[1].tolist() == [0.5, 0.5]
    chart = places.chart(SIDE, SIDE)
    assert chart[0, 0, 30, 28].item() == pytest.approx(8.5 / 9, rel=0.02)  # the pixel's middle is 8.5 px to the right
    part = places.chart(24, 12, (0.25, 0.5, 0.5, 1.0))
    torch.testing.assert_close(part, chart[:, :, 24:, 12:24])
    assert float(chart.abs().max()) == 1.5


def test_a_new_light_changes_nothing() -> None:
    given = noise(0)
    light = LightTransform().eval()
    opaque = given.alpha > 0.01
    with torch.no_grad():
        difference = (light.relit(given) - given.reference)[:, :3].abs() * opaque
    assert float(difference.max()) < 1e-6


def test_coefficients_say_any_affine_change_of_colors_that_varies_over_the_head() -> None:
    torch.manual_seed(2)
    matrix, offset, slope = torch.randn(3, 3) / 6, torch.randn(3) / 20, torch.randn(3, 2) / 30
    colors = 0.3 + 0.4 * torch.rand(1, 3, SIDE, SIDE)
    chart = HeadPlaces.of(disc(24, 24, 9)).chart(SIDE, SIDE)
    expected = torch.einsum("cd,ndhw->nchw", matrix, colors) + offset.view(1, 3, 1, 1)
    expected = expected + torch.einsum("cp,nphw->nchw", slope, chart)
    numbers = torch.zeros(3, 7, 3)
    numbers[:, :3, 0] = matrix - torch.eye(3)
    numbers[:, 6, 0] = offset
    numbers[:, 6, 1:] = slope
    light = LightTransform().train()
    torch.testing.assert_close(light.lit(numbers.view(1, 63), colors, chart), expected, atol=1e-5, rtol=0)
    limited = light.eval().lit(numbers.view(1, 63), colors, chart)
    torch.testing.assert_close(limited, expected.clamp(0, 1), atol=1e-5, rtol=0)


def test_squares_are_there_too() -> None:
    numbers = torch.zeros(3, 7, 3)
    numbers[1, 3, 0] = 0.5  # green gets half of red squared
    colors = torch.rand(1, 3, 8, 8)
    lit = LightTransform().train().lit(numbers.view(1, 63), colors, torch.zeros(1, 2, 8, 8))
    torch.testing.assert_close(lit[:, 1], colors[:, 1] + 0.5 * colors[:, 0] ** 2)
    assert torch.equal(lit[:, 2], colors[:, 2])


@pytest.mark.parametrize("light", [moved(LightTransform()), ClosedFormLight()], ids=["learned", "closed_form"])
def test_hidden_pixels_say_nothing(light: LightTransform | ClosedFormLight) -> None:
    given = noise(1)
    other = torch.where(given.hidden > 0, 1 - given.pixels, given.pixels)
    with torch.no_grad():
        one, two = (
            light.numbers(LightScene(pixels, given.hidden, given.reference)) for pixels in (given.pixels, other)
        )
        assert torch.equal(one, two)
        seen = light.numbers(LightScene(0.5 * given.pixels, given.hidden, given.reference))
    assert not torch.equal(one, seen)


def test_the_network_learns_a_dim_hall() -> None:
    torch.manual_seed(0)
    light = LightTransform(width=8, side=24)
    optimizer = torch.optim.Adam(light.parameters(), 3e-3)
    errors = []
    for step in range(60):
        gains = torch.rand(8, 1, 1, 1) * 0.7 + 0.2
        heads = 0.2 + 0.6 * torch.rand(8, 3, 1, 1).expand(8, 3, SIDE, SIDE)
        scenes = [scene(gain * flat((0.8, 0.7, 0.6)), head[None]) for gain, head in zip(gains, heads, strict=True)]
        given = LightScene(
            *(torch.cat(parts) for parts in zip(*((s.pixels, s.hidden, s.reference) for s in scenes), strict=True))
        )
        error = (light.relit(given)[:, :3] - gains * heads * given.alpha).abs().sum() / given.alpha.sum() / 3
        optimizer.zero_grad()
        error.backward()
        if step:
            assert all(weight.grad is not None and bool(weight.grad.any()) for weight in light.parameters())
        optimizer.step()
        errors.append(float(error.detach()))
    assert sum(errors[-5:]) < 0.5 * sum(errors[:5])


def test_an_empty_picture_is_no_fault() -> None:
    empty = LightScene(torch.zeros(1, 3, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE), torch.zeros(1, 4, SIDE, SIDE))
    for light in (moved(LightTransform()), ClosedFormLight(), NoLight()):
        assert bool((light.relit(empty) == 0).all())


def test_a_head_of_one_color_gets_the_color_of_the_skin_around_it() -> None:
    skin = (0.42, 0.3, 0.25)
    lit = ClosedFormLight(share=1.0).relit(scene(flat(skin), flat((0.9, 0.65, 0.5))))
    expected = torch.tensor(skin).view(1, 3, 1, 1)
    alpha = lit[:, 3:]
    torch.testing.assert_close(lit[:, :3], expected * alpha, atol=2e-3, rtol=0)


def test_skin_counts_more_than_a_wall() -> None:
    around = flat((0.2, 0.3, 0.7))
    skin = (0.42, 0.3, 0.25)
    around[:, :, 24:] = flat(skin)[:, :, 24:]
    lit = ClosedFormLight(share=1.0).relit(scene(around, flat((0.9, 0.65, 0.5))))
    color = lit[0, :3, 24, 24]
    assert float((color - torch.tensor(skin)).abs().max()) < 0.08


def test_what_lies_beyond_the_frame_is_not_dark() -> None:
    around = flat((0.42, 0.3, 0.25))
    around[..., :24] = 0
    cut, whole = (
        ClosedFormLight().numbers(scene(pixels, flat((0.9, 0.65, 0.5)))) for pixels in (around, flat((0.42, 0.3, 0.25)))
    )
    torch.testing.assert_close(cut, whole, atol=1e-3, rtol=0)


def test_contrast_is_limited() -> None:
    around = flat((0.42, 0.3, 0.25))
    stripes = flat((0.9, 0.65, 0.5))
    stripes[:, :, ::2] *= 0.2
    gain = ClosedFormLight(least_gain=0.6).numbers(scene(around, stripes))[0, :3]
    assert float(gain[0]) == pytest.approx(0.6)  # an even wall would take all contrast away


def test_nothing_visible_changes_nothing() -> None:
    given = scene(flat((0.0, 0.0, 0.0)), flat((0.9, 0.65, 0.5)))
    torch.testing.assert_close(ClosedFormLight().relit(given), given.reference, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "make", [lambda: LightTransform(width=30), lambda: LightTransform(side=8), lambda: ClosedFormLight(share=2)]
)
def test_out_of_range(make: type) -> None:
    with pytest.raises(SettingError, match="expected"):
        make()


def test_a_picture_that_is_transparent_has_no_color() -> None:
    assert not math.isnan(float(noise(5).colors.sum()))


def test_a_share_of_the_change_is_made_but_not_while_it_learns() -> None:
    whole, half, none = (moved(LightTransform(8, 16, share=share)) for share in (1.0, 0.5, 0.0))
    half.load_state_dict(whole.state_dict())
    none.load_state_dict(whole.state_dict())
    given = noise(3)
    whole.requires_grad_(False), half.requires_grad_(False), none.requires_grad_(False)
    changes = [light.eval().relit(given)[:, :3] - given.colors * given.alpha for light in (whole, half, none)]
    assert float(changes[0].abs().max()) > 0
    assert float(changes[2].abs().max()) < 1e-6
    numbers = [light.numbers(given) for light in (whole, half)]
    torch.testing.assert_close(numbers[1], numbers[0] / 2)
    assert torch.equal(half.train().numbers(given), whole.train().numbers(given))
    with pytest.raises(SettingError, match="share of the light"):
        LightTransform(share=1.5)
