"""SSIM of kept windows against scikit-image's map, and against a published value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pa_lib.functional import unmasked_ssim

skimage_metrics = pytest.importorskip("skimage.metrics")
RADIUS = 5  # of the window


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _skimage_map(x: Tensor, y: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Values at window centres, channels last; the strip whose windows leave the picture is not to be used."""
    _, values = skimage_metrics.structural_similarity(
        x.double().numpy(),
        y.double().numpy(),
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    return np.asarray(values)


@settings(max_examples=15)
@given(st.integers(0, 2**16), st.floats(0, 0.03), st.floats(0, 1))
def test_averages_scikit_images_map_where_the_whole_window_is_kept(seed: int, share: float, noise: float) -> None:
    source = _random(1, 1, 3, 24, 29, seed=seed)
    other = (1 - noise) * source + noise * _random(1, 1, 3, 24, 29, seed=seed + 1)
    masks = (_random(1, 1, 1, 24, 29, seed=seed + 2) < share) * 0.3
    values, kept = _skimage_map(source[0, 0], other[0, 0]), masks[0, 0, 0].numpy() == 0
    picked = [
        values[:, row, column].mean()
        for row in range(RADIUS, 24 - RADIUS)
        for column in range(RADIUS, 29 - RADIUS)
        if kept[row - RADIUS : row + RADIUS + 1, column - RADIUS : column + RADIUS + 1].all()
    ]
    told = float(unmasked_ssim(source, other, masks))
    assert told == pytest.approx(float(np.mean(picked)), abs=1e-5) if picked else math.isnan(told)


def test_a_real_picture_is_as_scikit_image_has_it() -> None:
    """Smooth areas are where float32 moments are weakest."""
    picture = torch.from_numpy(np.array(pytest.importorskip("skimage.data").astronaut()[:256, :256]))
    source = picture.permute(2, 0, 1)[None, None]
    other = (source.int() + torch.randint(-3, 4, source.shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 255
    )
    values = _skimage_map(source[0, 0] / 255, other[0, 0] / 255)[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
    told = unmasked_ssim(source, other.byte(), torch.zeros(1, 1, 1, 256, 256))
    assert float(told) == pytest.approx(values.mean(), abs=1e-5)


def test_black_against_white_is_the_published_value() -> None:
    """0.0001 / 1.0001, as JunyaoHu/common_metrics_on_video_quality prints it."""
    black = torch.zeros(2, 3, 3, 64, 64)
    told = unmasked_ssim(black, black + 1, torch.zeros(2, 3, 1, 64, 64))
    assert told.shape == (2, 3)
    assert told.flatten().tolist() == pytest.approx([9.999000099990664e-05] * 6, abs=1e-8)


def test_nothing_hidden_has_a_part_in_it() -> None:
    source, other = _random(1, 2, 3, 30, 30), _random(1, 2, 3, 30, 30, seed=1)
    masks = torch.zeros(1, 2, 1, 30, 30)
    masks[..., 12:15, 20:] = 0.01
    ruined = torch.where(masks > 0, 1 - other, other)
    assert torch.equal(unmasked_ssim(source, other, masks), unmasked_ssim(source, ruined, masks))
    restored = torch.where(masks > 0, other, source)
    assert unmasked_ssim(source, restored, masks).tolist() == [[1.0, 1.0]]


def test_8_bit_is_the_same_as_floats() -> None:
    source, other = ((_random(1, 1, 3, 20, 20, seed=seed) * 255).byte() for seed in (0, 1))
    masks = torch.zeros(1, 1, 1, 20, 20)
    assert torch.equal(unmasked_ssim(source, other, masks), unmasked_ssim(source / 255, other / 255, masks))


def test_a_frame_without_a_kept_window_is_nan() -> None:
    source, masks = _random(1, 2, 3, 20, 20), torch.zeros(1, 2, 1, 20, 20)
    masks[0, :, 0, 8, 10] = 1  # windows of the rows 9 to 19 do without it
    masks[0, 1, 0, 10, 10] = 1  # none of the 11 x 11 windows of a 20 x 20 picture does
    assert unmasked_ssim(source, source, masks)[0].isnan().tolist() == [False, True]


@pytest.mark.wrong_types
def test_refuses_shapes_that_do_not_fit() -> None:
    source, masks = _random(1, 1, 3, 20, 20), torch.zeros(1, 1, 1, 20, 20)
    with pytest.raises(ValueError, match="expected both b t c h w"):
        unmasked_ssim(source, source[..., 1:], masks)
    with pytest.raises(ValueError, match=r"masks have shape \(1, 1, 1, 20, 19\)"):
        unmasked_ssim(source, source, masks[..., 1:])


def test_refuses_small_frames_and_values_out_of_range() -> None:
    source, masks = _random(1, 1, 3, 20, 20), torch.zeros(1, 1, 1, 20, 20)
    with pytest.raises(ValueError, match="frames are 20 x 10 px, expected at least 11 px"):
        unmasked_ssim(source[..., :10], source[..., :10], masks[..., :10])
    with pytest.raises(ValueError, match="float pixels lie in"):
        unmasked_ssim(source, source * 255, masks)
