"""PSNR of kept pixels against closed forms, against scikit-image, and against a loop in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pa_lib.functional import halo, kept_pixels, psnr_db, region_errors, unmasked_psnr

skimage_metrics = pytest.importorskip("skimage.metrics")


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _bytes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _open(b: int, t: int, h: int, w: int) -> Tensor:
    return torch.zeros(b, t, 1, h, w)


@pytest.mark.parametrize(("difference", "expected"), [(0.1, 20.0), (1 / 255, 48.1308), (1.0, 0.0)])
def test_published_closed_forms(difference: float, expected: float) -> None:
    source = torch.zeros(1, 2, 3, 6, 5, dtype=torch.float64)
    told = unmasked_psnr(source, source + difference, _open(1, 2, 6, 5))
    assert told.shape == (1, 2)
    assert told.flatten().tolist() == pytest.approx([expected] * 2, abs=5e-5)


def test_one_step_of_8_bit_is_48_1308_db_and_the_same_as_floats() -> None:
    source = _bytes(1, 1, 3, 6, 5).clamp(max=254)
    told = float(unmasked_psnr(source, source + 1, _open(1, 1, 6, 5)))
    assert told == pytest.approx(48.1308, abs=5e-5)
    assert told == pytest.approx(20 * math.log10(255), abs=1e-12)
    floats = float(unmasked_psnr(source.double() / 255, (source + 1).double() / 255, _open(1, 1, 6, 5)))
    assert floats == pytest.approx(told, abs=1e-10)


def test_two_poolings_of_two_frames() -> None:
    source = torch.zeros(1, 2, 3, 4, 4, dtype=torch.float64)
    other = source + torch.tensor([1e-2, 1e-1], dtype=torch.float64).view(1, 2, 1, 1, 1)  # MSE 1e-4 and 1e-2
    assert float(unmasked_psnr(source, other, _open(1, 2, 4, 4)).mean()) == pytest.approx(30.0, abs=1e-9)
    pooled = float(unmasked_psnr(source, other, _open(1, 2, 4, 4), pooling="clip"))
    assert pooled == pytest.approx(-10 * math.log10((1e-4 + 1e-2) / 2), abs=1e-9)
    assert pooled == pytest.approx(22.967, abs=5e-4)


@pytest.mark.parametrize("hidden", [0.25, 0.3, 0.5])
def test_hidden_pixels_do_not_flatter(hidden: float) -> None:
    """The mistake of blackening them and dividing by all pixels adds 10 log10(1 / 0.7) = 1.549 dB at 30 %."""
    masks = _open(1, 1, 1, 20)
    masks[..., : int(20 * hidden)] = 1
    source = torch.zeros(1, 1, 3, 1, 20, dtype=torch.float64)
    other = torch.where(masks > 0, 0.9, source + 0.1)
    told = float(unmasked_psnr(source, other, masks))
    assert told == pytest.approx(20.0, abs=1e-9)
    mistaken = -10 * math.log10(float(((source - other) * (masks == 0)).square().mean()))
    assert mistaken - told == pytest.approx(10 * math.log10(1 / (1 - hidden)), abs=1e-9)
    if hidden == 0.3:
        assert mistaken - told == pytest.approx(1.549, abs=5e-4)


def test_without_a_mask_it_is_scikit_image() -> None:
    source, other = _bytes(2, 2, 3, 17, 23), _bytes(2, 2, 3, 17, 23, seed=1)
    told = unmasked_psnr(source, other, _open(2, 2, 17, 23))
    for clip in range(2):
        for frame in range(2):
            expected = skimage_metrics.peak_signal_noise_ratio(
                source[clip, frame].numpy(), other[clip, frame].numpy(), data_range=255
            )
            assert float(told[clip, frame]) == pytest.approx(expected, abs=1e-10)
    expected = skimage_metrics.peak_signal_noise_ratio(source[1].numpy(), other[1].numpy(), data_range=255)
    assert float(unmasked_psnr(source, other, _open(2, 2, 17, 23), pooling="clip")[1]) == pytest.approx(expected)


@given(st.integers(0, 2**16), st.floats(0.0, 1.0), st.booleans())
def test_any_mask_is_as_a_loop_in_numpy(seed: int, share: float, is_byte: bool) -> None:
    source, other = (_bytes(1, 2, 3, 5, 4, seed=seed + part) for part in (0, 1))
    other[..., :2] = source[..., :2]
    masks = (_random(1, 2, 1, 5, 4, seed=seed) < share).float() * 0.25
    regions = kept_pixels(masks)[None]
    if not is_byte:
        source, other = source.double() / 255, other.double() / 255
    told = region_errors(source, other, regions)
    x, y, kept = (np.asarray(part, np.float64) for part in (source[0], other[0], regions[0, 0]))
    for frame in range(2):
        squares = values = same = 0.0
        for row in range(5):
            for column in range(4):
                if kept[frame, 0, row, column]:
                    difference = (x[frame, :, row, column] - y[frame, :, row, column]) / (255 if is_byte else 1)
                    squares += float((difference**2).sum())
                    values += 3
                    same += float(not difference.any())
        assert [float(part[0, 0, frame]) for part in told] == pytest.approx([squares, values, same, values / 3])


def test_identical_is_infinite_and_nothing_kept_is_nan() -> None:
    source = _bytes(1, 3, 3, 4, 4)
    other = source.clone()
    other[0, 1, 0, 0, 0] += 1
    masks = _open(1, 3, 4, 4)
    masks[0, 2] = 1
    told = unmasked_psnr(source, other, masks)[0].tolist()
    assert told[0] == math.inf
    assert told[1] == pytest.approx(20 * math.log10(255) + 10 * math.log10(48))
    assert math.isnan(told[2])
    assert psnr_db(torch.tensor(0.0), torch.tensor(0.0)).isnan()


def test_data_range_adds_its_decibels() -> None:
    source, other, masks = _random(1, 1, 3, 4, 4), _random(1, 1, 3, 4, 4, seed=1), _open(1, 1, 4, 4)
    wide, narrow = (float(unmasked_psnr(source, other, masks, data_range)) for data_range in (1.0, 0.5))
    assert wide - narrow == pytest.approx(20 * math.log10(2))


def test_only_a_mask_of_exactly_zero_is_kept() -> None:
    masks = torch.tensor([0.0, 1e-6, 0.5, 1.0])
    assert kept_pixels(masks.view(1, 1, 1, 1, 4)).flatten().tolist() == [True, False, False, False]
    for value in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"expected \[0, 1\] with 1 = anonymize"):
            kept_pixels(torch.tensor([0.0, value]).view(1, 1, 1, 1, 2))


@given(st.integers(0, 2**16), st.integers(1, 5))
def test_the_halo_is_what_a_loop_finds(seed: int, width: int) -> None:
    kept = _random(1, 1, 1, 9, 11, seed=seed) > 0.05
    hidden = (~kept[0, 0, 0]).nonzero().tolist()
    told = halo(kept, width)[0, 0, 0]
    for row in range(9):
        for column in range(11):
            is_near = any((row - y) ** 2 + (column - x) ** 2 <= width**2 for y, x in hidden)
            assert bool(told[row, column]) == (bool(kept[0, 0, 0, row, column]) and is_near)


@pytest.mark.wrong_types
def test_refuses_shapes_and_words_that_do_not_fit() -> None:
    source, masks = _random(1, 2, 3, 4, 4), _open(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"anonymized \(1, 2, 3, 4, 5\), expected both b t c h w"):
        unmasked_psnr(source, _random(1, 2, 3, 4, 5), masks)
    with pytest.raises(ValueError, match=r"masks have shape \(1, 1, 1, 4, 4\), expected \(1, 2, 1, 4, 4\)"):
        unmasked_psnr(source, source, masks[:, :1])
    with pytest.raises(ValueError, match="pooling is 'video'"):
        unmasked_psnr(source, source, masks, pooling="video")  # type: ignore[arg-type]


def test_refuses_values_out_of_range() -> None:
    source, masks = _random(1, 2, 3, 4, 4), _open(1, 2, 4, 4)
    with pytest.raises(ValueError, match="data_range is 0"):
        unmasked_psnr(source, source, masks, data_range=0)
    with pytest.raises(ValueError, match=r"float pixels lie in \[0, 255\]"):
        unmasked_psnr(source, torch.full_like(source, 255).index_fill(3, torch.tensor([0]), 0), masks)
