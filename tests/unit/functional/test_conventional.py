"""Blur, mosaic, fill and noise: the right amount of each, and nothing from where nothing may come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pa_lib.functional import blur, fill, mean_outside, mosaic, noise, region_size


def random_crop(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


def smooth_crop(height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 5, width), indexing="ij")
    return torch.stack([127 + 120 * torch.sin(x + y), 127 + 120 * torch.cos(2 * x), 25 * x + 20 * y]).round().byte()


@pytest.mark.parametrize("sigma", [1.5, 4.0, 9.0, 20.0])
def test_blur_is_a_gaussian(sigma: float) -> None:
    crop = smooth_crop(120, 90)
    expected = np.stack([gaussian_filter(channel.astype(float), sigma, mode="reflect") for channel in crop.numpy()])
    assert np.abs(blur(crop, sigma).numpy() - expected).max() < 4  # grey levels of 255


def test_a_blur_spreads_a_line_by_its_sigma() -> None:
    crop = torch.zeros(3, 201, 201, dtype=torch.uint8)
    crop[:, :, 95:106] = 250
    profile = blur(crop, 12.0)[0, 100].double()
    x = torch.arange(201, dtype=torch.float64) - 100
    variance = float((profile * x**2).sum() / profile.sum())
    assert variance**0.5 == pytest.approx((12**2 + 11**2 / 12) ** 0.5, rel=0.1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.3, 60))
def test_any_crop_and_strength_gives_the_same_shape_and_leaves_the_input(height: int, width: int, size: float) -> None:
    crop = random_crop(height, width)
    before = crop.clone()
    for result in (blur(crop, size), mosaic(crop, size), noise(crop, (1,)), fill(crop, (1, 2, 3))):
        assert result.shape == crop.shape
        assert result.dtype == torch.uint8
    assert torch.equal(crop, before)


def test_decoded_frames_and_their_crops_need_no_copy_and_give_the_same() -> None:
    frame = random_crop(60, 50).permute(1, 2, 0).contiguous().permute(2, 0, 1)
    crop = frame[:, 10:40, 5:45]
    for act in (lambda c: blur(c, 5.0), lambda c: mosaic(c, 5.0)):
        assert torch.equal(act(crop), act(crop.contiguous()))


def test_mosaic_cells_are_means_of_whole_cells() -> None:
    crop = random_crop(12, 20)
    means = crop.double().reshape(3, 3, 4, 5, 4).mean((2, 4))
    expected = means.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert float((mosaic(crop, 4.0).double() - expected).abs().max()) <= 0.51


def test_a_mosaic_coarser_than_the_crop_is_one_colour() -> None:
    result = mosaic(random_crop(7, 9), 100.0)
    assert len(result.flatten(1).unique(dim=1).T) == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999))
def test_the_mean_outside_takes_no_hidden_pixel(seed: int) -> None:
    crop, changed = random_crop(9, 8, seed), random_crop(9, 8, seed + 1)
    hidden = torch.from_numpy(np.random.default_rng(seed).random((9, 8)) < 0.7)
    changed[:, ~hidden] = crop[:, ~hidden]
    assert mean_outside(crop, hidden) == mean_outside(changed, hidden)
    if not bool(hidden.all()):
        expected = crop[:, ~hidden].double().mean(1)
        assert np.abs(np.array(mean_outside(crop, hidden)) - expected.numpy()).max() <= 0.501


def test_the_mean_outside_of_nothing_is_grey() -> None:
    assert mean_outside(random_crop(3, 3), torch.ones(3, 3).bool()) == (128, 128, 128)


def test_noise_is_uniform_seeded_and_bound_to_the_frame() -> None:
    crop = torch.zeros(3, 300, 310, dtype=torch.uint8)
    sample = noise(crop, (0, 1))
    counts = torch.bincount(sample.flatten().int(), minlength=256).double()
    assert float((counts / counts.mean() - 1).abs().max()) < 0.3  # each grey level about 1/256 of 279,000 samples
    assert torch.equal(sample, noise(crop, (0, 1)))
    assert not torch.equal(sample, noise(crop, (0, 2)))
    assert not torch.equal(sample, noise(crop, (1, 1)))
    assert torch.equal(sample[:, 20:50, 7:80], noise(crop[:, 20:50, 7:80], (0, 1), origin=(20, 7)))


def test_noise_has_no_relation_to_the_crop() -> None:
    assert torch.equal(noise(random_crop(5, 6), (3,)), noise(random_crop(5, 6, seed=9), (3,)))


def test_region_size() -> None:
    assert region_size(40, 90) == 60
